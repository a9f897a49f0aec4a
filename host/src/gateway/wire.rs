//! JSON-RPC messages over byte streams: one message a line, each line bounded, and lines that are no messages
//! noticed.
//!
//! It deliberately does not know what the messages mean; that is the business of [`super::connection`].

use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// The longest line that is read. Longer ones fail the connection.
pub(crate) const MAX_LINE: usize = 16 << 20;

/// How many characters of a line that is no message are shown.
const EXCERPT: usize = 80;

/// What was read.
#[derive(Debug, PartialEq)]
pub(crate) enum Line {
    /// A JSON object or array of them.
    Message(Value),
    /// Something else, the beginning of which is given, fit to be shown.
    Garbage(String),
    /// A line longer than [`MAX_LINE`].
    TooLong,
    /// The stream ended, possibly in the middle of a line, or failed.
    End,
}

/// Reads lines. Not safe to drop while reading: use it from one task.
#[derive(Debug)]
pub(crate) struct LineReader<R> {
    stream: R,
    line: Vec<u8>,
}

impl<R: AsyncBufRead + Unpin> LineReader<R> {
    /// Reads from the start of a line.
    pub(crate) fn new(stream: R) -> Self {
        Self { stream, line: Vec::new() }
    }

    /// The next line that is not empty.
    pub(crate) async fn next(&mut self) -> Line {
        loop {
            self.line.clear();
            match self.read_line().await {
                Ok(Some(())) => {}
                Ok(None) => return Line::TooLong,
                Err(_) => return Line::End,
            }
            let text = self.line.trim_ascii();
            if text.is_empty() {
                continue;
            }
            return match serde_json::from_slice(text) {
                Ok(message @ (Value::Object(_) | Value::Array(_))) => Line::Message(message),
                _ => Line::Garbage(excerpt(text)),
            };
        }
    }

    /// `None` if the line is too long.
    async fn read_line(&mut self) -> std::io::Result<Option<()>> {
        loop {
            let available = self.stream.fill_buf().await?;
            if available.is_empty() {
                // A last line without its end counts if there is one: some servers write so before they leave.
                return if self.line.is_empty() { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(Some(())) };
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let (taken, used) = match end {
                Some(end) => (available.get(..end).unwrap_or_default(), end + 1),
                None => (available, available.len()),
            };
            if self.line.len() + taken.len() > MAX_LINE {
                return Ok(None);
            }
            self.line.extend_from_slice(taken);
            self.stream.consume(used);
            if end.is_some() {
                return Ok(Some(()));
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
pub(crate) async fn write_messages(mut stream: impl AsyncWrite + Unpin, mut messages: mpsc::Receiver<Value>) {
    while let Some(message) = messages.recv().await {
        let mut line = message.to_string().into_bytes();
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
        let mut lines = LineReader::new(&input[..]);
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
        let mut lines = LineReader::new(input.as_bytes());
        assert_eq!(lines.next().await, Line::Garbage("é".repeat(80)));
    }

    #[tokio::test]
    async fn a_line_that_never_ends_is_given_up() {
        let mut lines = LineReader::new(tokio::io::BufReader::new(tokio::io::repeat(b'x')));
        assert_eq!(lines.next().await, Line::TooLong);
    }
}
