//! Server-sent events, read from the body of a response: each one bounded, unknown fields ignored.

use bytes::Bytes;

/// The largest event that is read, as for a message of any server.
const MAX_EVENT: usize = super::super::wire::MAX_LINE;

/// One event. Comments and events without data are skipped, but their `id` and `retry` count.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Its type; empty means `message`.
    pub(super) name: String,
    /// Its data, lines joined.
    pub(super) data: String,
}

/// Why there are no more events.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// One is too long.
    TooLong,
    /// The connection failed.
    Connection,
}

/// The events of a response, and what is needed to go on where they broke off.
#[derive(Debug)]
pub(super) struct Events {
    response: reqwest::Response,
    parser: Parser,
}

impl Events {
    /// Reads the body of a response.
    pub(super) fn new(response: reqwest::Response) -> Self {
        Self { response, parser: Parser::default() }
    }

    /// The next event; none at the end of the body. Safe to drop.
    ///
    /// # Errors
    /// [`Broken`]; nothing more can be read then.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, Broken> {
        loop {
            if let Some(event) = self.parser.next()? {
                return Ok(Some(event));
            }
            match self.response.chunk().await {
                Ok(Some(bytes)) => self.parser.feed(bytes),
                // An event that the end cuts off does not count.
                Ok(None) => return Ok(None),
                Err(_) => return Err(Broken::Connection),
            }
        }
    }

    /// The id of the last event that had one.
    pub(super) fn last_id(&self) -> Option<&str> {
        self.parser.last_id.as_deref()
    }

    /// After how many milliseconds the server wants to be asked again.
    pub(super) fn retry(&self) -> Option<u64> {
        self.parser.retry
    }
}

#[derive(Debug, Default)]
struct Parser {
    input: Bytes,
    line: Vec<u8>,
    after_return: bool,
    is_started: bool,
    event: Event,
    has_data: bool,
    last_id: Option<String>,
    retry: Option<u64>,
}

impl Parser {
    /// Takes more bytes; those before are used up.
    fn feed(&mut self, bytes: Bytes) {
        self.input = bytes;
    }

    /// The next event that is complete.
    fn next(&mut self) -> Result<Option<Event>, Broken> {
        while !self.input.is_empty() {
            if std::mem::take(&mut self.after_return) && self.input.first() == Some(&b'\n') {
                // The second half of a line end that was split between pieces.
                let _ = self.input.split_to(1);
                continue;
            }
            let end = self.input.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let taken = self.input.split_to(end.unwrap_or(self.input.len()));
            if self.line.len() + taken.len() + self.event.data.len() > MAX_EVENT {
                return Err(Broken::TooLong);
            }
            self.line.extend_from_slice(&taken);
            if end.is_some() {
                self.after_return = self.input.split_to(1).first() == Some(&b'\r');
                let line = std::mem::take(&mut self.line);
                if let Some(event) = self.take_line(&line) {
                    return Ok(Some(event));
                }
            }
        }
        Ok(None)
    }

    fn take_line(&mut self, line: &[u8]) -> Option<Event> {
        let line = String::from_utf8_lossy(line);
        let mut line = line.as_ref();
        if !std::mem::replace(&mut self.is_started, true) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.event.name = value.to_owned(),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "id" if !value.contains('\0') => self.last_id = Some(value.to_owned()).filter(|id| !id.is_empty()),
            "retry" => self.retry = value.parse().ok().or(self.retry),
            // Comments and fields of the future.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, size: usize) -> (Vec<(String, String)>, Option<String>, Option<u64>) {
        let mut parser = Parser::default();
        let mut events = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            parser.feed(Bytes::copy_from_slice(piece));
            while let Some(Event { name, data }) = parser.next().unwrap() {
                events.push((name, data));
            }
        }
        (events, parser.last_id, parser.retry)
    }

    #[test]
    fn events_are_put_together_however_they_arrive() {
        let text = "\u{feff}event: endpoint\r\ndata: /m?s=1\r\n\r\n: comment\n\nid: 7\nretry: 250\ndata:{\"a\":1}\n\
                    data: second\nunknown: x\nalone\n\ndata\n\nevent: nothing\n\nid: 8\n\ndata: cut off";
        let expected = [("endpoint", "/m?s=1"), ("", "{\"a\":1}\nsecond"), ("", "")];
        for size in [1, 2, 3, 7, 1000] {
            let (events, last_id, retry) = read(text, size);
            let events: Vec<_> = events.iter().map(|(name, data)| (name.as_str(), data.as_str())).collect();
            assert_eq!(events, expected, "in pieces of {size}");
            assert_eq!((last_id.as_deref(), retry), (Some("8"), Some(250)));
        }
        assert_eq!(read("data: a\r\rdata: b\r\r", 3).0.len(), 2);
    }

    #[test]
    fn an_event_without_end_is_given_up() {
        for line in ["data: ".to_owned() + &"x".repeat(1 << 20), format!("data: {}\n", "x".repeat(1 << 20))] {
            let mut parser = Parser::default();
            let outcome = (0..17).find_map(|_| {
                parser.feed(Bytes::copy_from_slice(line.as_bytes()));
                parser.next().err()
            });
            assert_eq!(outcome, Some(Broken::TooLong));
        }
    }
}
