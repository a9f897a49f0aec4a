//! JSON-RPC messages over byte streams: one message a line, each line bounded, and lines that are no messages
//! noticed.
//!
//! It deliberately does not know what the messages mean; that is the business of [`super::connection`].

mod skim;

use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

pub(crate) use self::skim::Skim;
use super::room::Place;

/// The longest line that is read.
pub(crate) const MAX_LINE: usize = 16 << 20;
/// How much of a line that is too long is skipped before its end is no longer expected.
const MAX_SKIPPED: usize = 256 << 20;
/// How much of the room for a line is kept for the next one.
const KEPT_ROOM: usize = 1 << 20;

/// How many characters of a line that is no message are shown.
const EXCERPT: usize = 80;

/// What was read.
#[derive(Debug, PartialEq)]
pub(crate) enum Line {
    /// A JSON object or array of them.
    Message(Value),
    /// What was to be a message with this id, and why it cannot be read.
    Unreadable(Value, String),
    /// Something else, the beginning of which is given, fit to be shown.
    Garbage(String),
    /// A line longer than [`MAX_LINE`].
    TooLong,
    /// The stream ended, possibly in the middle of a line.
    End,
    /// The stream failed.
    Failed(String),
}

/// What was read, not looked into.
#[derive(Debug, PartialEq)]
pub(crate) enum RawLine {
    /// A line; see [`LineReader::line`].
    Line,
    /// A line longer than [`MAX_LINE`], with the id of the message if it was skipped up to its end.
    TooLong(Option<Value>),
    /// The stream ended.
    End,
    /// The stream failed.
    Failed(String),
}

/// What to do about lines that are too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooLong {
    /// Say so at once; there is nothing more to read.
    Fail,
    /// Skip to the end of the line, looking for the id of the message.
    Skip,
}

/// Reads lines. Dropping a read loses nothing.
#[derive(Debug)]
pub(crate) struct LineReader<R> {
    stream: R,
    line: Vec<u8>,
    is_complete: bool,
    too_long: TooLong,
    skipping: Option<(Skim, usize)>,
}

impl<R: AsyncBufRead + Unpin> LineReader<R> {
    /// Reads from the start of a line.
    pub(crate) fn new(stream: R, too_long: TooLong) -> Self {
        Self { stream, line: Vec::new(), is_complete: false, too_long, skipping: None }
    }

    /// The next line that is not empty, as a message.
    #[cfg(test)]
    pub(crate) async fn next(&mut self) -> Line {
        let line = self.next_line().await;
        self.parse(line)
    }

    /// What was read last, as a message.
    pub(crate) fn parse(&self, line: RawLine) -> Line {
        match line {
            RawLine::TooLong(_) => Line::TooLong,
            RawLine::End => Line::End,
            RawLine::Failed(reason) => Line::Failed(reason),
            RawLine::Line => match serde_json::from_slice(self.line()) {
                Ok(message @ (Value::Object(_) | Value::Array(_))) => Line::Message(message),
                Ok(_) => Line::Garbage(excerpt(self.line())),
                Err(error) => match Skim::id_of(self.line()) {
                    Some(id) => Line::Unreadable(id, error.to_string()),
                    None => Line::Garbage(excerpt(self.line())),
                },
            },
        }
    }

    /// The line that was read last, without white space around it.
    pub(crate) fn line(&self) -> &[u8] {
        self.line.trim_ascii()
    }

    /// The next line that is not empty.
    pub(crate) async fn next_line(&mut self) -> RawLine {
        loop {
            if self.is_complete {
                self.is_complete = false;
                self.line.clear();
                self.line.shrink_to(KEPT_ROOM);
            }
            let available = match self.stream.fill_buf().await {
                Ok(available) => available,
                Err(error) => return RawLine::Failed(error.to_string()),
            };
            if available.is_empty() {
                // A last line without its end counts if there is one: some servers write so before they leave.
                self.is_complete = true;
                return if self.line().is_empty() { RawLine::End } else { RawLine::Line };
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let (taken, used) = match end {
                Some(end) => (available.get(..end).unwrap_or_default(), end + 1),
                None => (available, available.len()),
            };
            if self.skipping.is_none() && self.line.len() + taken.len() > MAX_LINE {
                if self.too_long == TooLong::Fail {
                    return RawLine::TooLong(None);
                }
                let mut skim = Skim::default();
                skim.feed(&std::mem::take(&mut self.line));
                self.skipping = Some((skim, 0));
            }
            if let Some((skim, skipped)) = &mut self.skipping {
                skim.feed(taken);
                *skipped += taken.len();
                let is_endless = *skipped > MAX_SKIPPED;
                self.stream.consume(used);
                if is_endless {
                    return RawLine::End;
                }
                if end.is_some() {
                    return RawLine::TooLong(self.skipping.take().and_then(|(skim, _)| skim.into_id()));
                }
                continue;
            }
            self.line.extend_from_slice(taken);
            self.stream.consume(used);
            if end.is_some() {
                self.is_complete = true;
                if !self.line().is_empty() {
                    return RawLine::Line;
                }
            }
        }
    }
}

/// The beginning of a line, without control characters.
fn excerpt(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line.get(..EXCERPT * 4).unwrap_or(line));
    text.chars().filter(|c| !c.is_control()).take(EXCERPT).collect()
}

/// Writes messages until every sender is gone or the stream fails, then closes the stream.
pub(crate) async fn write_messages(mut stream: impl AsyncWrite + Unpin, mut messages: mpsc::Receiver<(Value, Place)>) {
    while let Some((message, _place)) = messages.recv().await {
        let mut line = message.to_string().into_bytes();
        drop(message);
        line.push(b'\n');
        if stream.write_all(&line).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
    // The peer may be gone already; there is nobody to tell.
    let _ = stream.shutdown().await;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn messages_and_garbage_are_told_apart() {
        let input = b"\n  {\"a\":1}\r\nStarting up\x1b[0m...\n42\n[1]\n{\"last\":true}";
        let mut lines = LineReader::new(&input[..], TooLong::Fail);
        assert_eq!(lines.next().await, Line::Message(json!({"a": 1})));
        assert_eq!(lines.next().await, Line::Garbage("Starting up[0m...".to_owned()));
        assert_eq!(lines.next().await, Line::Garbage("42".to_owned()));
        assert_eq!(lines.next().await, Line::Message(json!([1])));
        assert_eq!(lines.next().await, Line::Message(json!({"last": true})));
        assert_eq!(lines.next().await, Line::End);
    }

    #[tokio::test]
    async fn an_excerpt_of_garbage_is_short_and_printable() {
        let input = "\u{7}".repeat(10) + &"é".repeat(500) + "\n";
        let mut lines = LineReader::new(input.as_bytes(), TooLong::Fail);
        assert_eq!(lines.next().await, Line::Garbage("é".repeat(80)));
    }

    #[tokio::test]
    async fn a_stream_that_fails_is_told_from_one_that_ends() {
        let failing = tokio_util::io::StreamReader::new(futures::stream::iter([
            Ok(&b"{\"a\":1}\n{\"b\""[..]),
            Err(std::io::Error::other("it broke")),
        ]));
        let mut lines = LineReader::new(failing, TooLong::Fail);
        assert_eq!(lines.next().await, Line::Message(json!({"a": 1})));
        assert_eq!(lines.next().await, Line::Failed("it broke".to_owned()));
    }

    #[tokio::test]
    async fn a_line_that_never_ends_is_given_up() {
        let mut lines = LineReader::new(tokio::io::BufReader::new(tokio::io::repeat(b'x')), TooLong::Fail);
        assert_eq!(lines.next().await, Line::TooLong);
    }

    #[tokio::test]
    async fn a_message_that_cannot_be_read_still_has_its_id() {
        let deep = format!("{{\"id\":3,\"result\":{}{}}}\n", "[".repeat(10_000), "]".repeat(10_000));
        let mut lines = LineReader::new(deep.as_bytes(), TooLong::Fail);
        match lines.next().await {
            Line::Unreadable(id, reason) => assert!(id == 3 && reason.starts_with("recursion limit"), "{reason}"),
            other => panic!("{other:?}"),
        }
        let mut lines = LineReader::new(&b"{\"id\":\"x\",\"result\":\"\xff\"}\n"[..], TooLong::Fail);
        assert!(matches!(lines.next().await, Line::Unreadable(id, _) if id == "x"));
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_can_be_skipped_and_takes_no_room() {
        let mut input = b"{\"params\":\"".to_vec();
        input.extend(vec![b'x'; MAX_LINE]);
        input.extend(b"\",\"id\":9}\n{\"next\":1}\n");
        let mut lines = LineReader::new(tokio::io::BufReader::new(&input[..]), TooLong::Skip);
        assert_eq!(lines.next_line().await, RawLine::TooLong(Some(json!(9))));
        assert_eq!(lines.next().await, Line::Message(json!({"next": 1})));
        assert!(lines.line.capacity() <= KEPT_ROOM, "{}", lines.line.capacity());
        let mut lines = LineReader::new(tokio::io::BufReader::new(tokio::io::repeat(b'x')), TooLong::Skip);
        assert_eq!(lines.next_line().await, RawLine::End);
    }
}
