//! What a server writes to standard error: lines for the log and for messages, safe to show on a terminal.

use crate::capability::container_runtime::StderrTail;

/// How many bytes of a line are kept; the rest is dropped.
const LINE_BYTES: usize = 4096;

/// Splits standard error into lines.
pub(in crate::capability::container_runtime) struct StderrLog {
    server: String,
    tail: StderrTail,
    line: Vec<u8>,
    cut: bool,
}

impl StderrLog {
    pub(in crate::capability::container_runtime) fn new(server: &str, tail: StderrTail) -> Self {
        Self { server: server.to_owned(), tail, line: Vec::new(), cut: false }
    }

    /// Takes bytes in, and logs the lines that they complete.
    pub(in crate::capability::container_runtime) fn extend(&mut self, bytes: &[u8]) {
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            let room = LINE_BYTES.saturating_sub(self.line.len());
            self.cut |= piece.len() > room;
            self.line.extend(piece.iter().take(room));
            if pieces.peek().is_some() {
                self.emit();
            }
        }
    }

    /// Logs a last line that has no end.
    pub(in crate::capability::container_runtime) fn finish(mut self) {
        if !self.line.is_empty() {
            self.emit();
        }
    }

    fn emit(&mut self) {
        let mut line = printable(String::from_utf8_lossy(&self.line).trim_end());
        if self.cut {
            line.push('…');
        }
        if !line.is_empty() {
            tracing::info!(target: "server", server = self.server, "{line}");
            self.tail.push(&line);
        }
        self.line.clear();
        self.cut = false;
    }
}

/// Escapes control characters, which could rewrite the reader's terminal, and those that reorder text.
fn printable(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    for character in line.chars() {
        let reorders = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || reorders || matches!(character, '\u{2028}' | '\u{2029}') {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let tail = StderrTail::default();
        let mut log = StderrLog::new("s", tail.clone());
        pieces.iter().for_each(|piece| log.extend(piece));
        log.finish();
        tail.lines()
    }

    #[test]
    fn lines_are_put_together_however_they_arrive() {
        assert_eq!(lines(&[b"on", b"e\r\ntwo\n\nthr", b"ee"]), ["one", "two", "three"]);
    }

    #[test]
    fn control_characters_are_escaped_and_long_lines_cut() {
        assert_eq!(lines(&[b"\x1b[2Jgone\n"]), ["\\u{1b}[2Jgone"]);
        let long = lines(&[&[b'x'; 10_000], b"y\n", b"next"]);
        assert_eq!(long.len(), 2);
        assert_eq!(long[1], "next");
    }
}
