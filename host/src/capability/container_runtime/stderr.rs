//! What a server writes to standard error: lines for the log and for messages, safe to show on a terminal, and no more of
//! them than the log can bear.

use tokio::time::Instant;

use crate::capability::container_runtime::StderrTail;

/// How many bytes of a line are kept; the rest is dropped.
const LINE_BYTES: usize = 4096;
/// How many bytes of one server are logged at once.
const BURST: u64 = 256 << 10;
/// How many bytes of one server are logged in each second on average.
const PER_SECOND: u64 = 64 << 10;

/// Splits standard error into lines.
pub(in crate::capability::container_runtime) struct StderrLog {
    server: String,
    tail: StderrTail,
    line: Vec<u8>,
    cut: bool,
    budget: Budget,
}

/// How much of a server may still be logged, and what was not.
struct Budget {
    /// Bytes.
    left: u64,
    /// When that was so.
    at: Instant,
    /// The last line was dropped.
    is_flooded: bool,
    dropped_lines: u64,
    dropped_bytes: u64,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self { left: BURST, at: now, is_flooded: false, dropped_lines: 0, dropped_bytes: 0 }
    }

    /// Takes a line from the budget. False if it is to be dropped.
    fn admit(&mut self, bytes: usize, now: Instant) -> bool {
        let bytes = bytes as u64;
        let passed = u64::try_from(now.saturating_duration_since(self.at).as_millis()).unwrap_or(u64::MAX);
        if passed > 0 {
            self.left = self.left.saturating_add(passed.saturating_mul(PER_SECOND) / 1000).min(BURST);
            self.at = now;
        }
        // After a flood there must be room for more than a line, or the log would be single lines between reports.
        let needed = if self.is_flooded { bytes.max(PER_SECOND) } else { bytes };
        self.is_flooded = self.left < needed;
        if self.is_flooded {
            self.dropped_lines += 1;
            self.dropped_bytes += bytes;
        } else {
            self.left -= bytes;
        }
        !self.is_flooded
    }

    /// The lines and bytes that were dropped since this was asked; none if none were.
    fn dropped(&mut self) -> Option<(u64, u64)> {
        let dropped = (std::mem::take(&mut self.dropped_lines), std::mem::take(&mut self.dropped_bytes));
        Some(dropped).filter(|(lines, _)| *lines > 0)
    }
}

impl StderrLog {
    pub(in crate::capability::container_runtime) fn new(server: &str, tail: StderrTail) -> Self {
        Self { server: server.to_owned(), tail, line: Vec::new(), cut: false, budget: Budget::new(Instant::now()) }
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
        self.report();
    }

    /// Says how much was dropped.
    fn report(&mut self) {
        if let Some((lines, bytes)) = self.budget.dropped() {
            let (server, rate) = (&self.server, PER_SECOND >> 10);
            tracing::warn!(target: "server", server, lines, bytes, "dropped standard error beyond {rate} KiB a second");
        }
    }

    fn emit(&mut self) {
        let mut line = printable(String::from_utf8_lossy(&self.line).trim_end());
        if self.cut {
            line.push('…');
        }
        if !line.is_empty() {
            if self.budget.admit(line.len(), Instant::now()) {
                self.report();
                tracing::info!(target: "server", server = self.server, "{line}");
            }
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
    fn a_flood_is_cut_and_counted_and_what_comes_slowly_is_not() {
        let start = Instant::now();
        let after = |seconds| start + std::time::Duration::from_secs(seconds);
        let mut budget = Budget::new(start);
        let admitted = (0..10_000).filter(|_| budget.admit(100, start)).count() as u64;
        assert_eq!(admitted, BURST / 100);
        assert_eq!(budget.dropped(), Some((10_000 - admitted, (10_000 - admitted) * 100)));
        assert_eq!(budget.dropped(), None);
        // In the next second there is room for what a second has.
        let admitted = (0..10_000).filter(|_| budget.admit(100, after(1))).count() as u64;
        assert!(admitted.abs_diff(PER_SECOND / 100) <= 2, "{admitted}");
        budget.dropped();
        for second in 100..200 {
            assert!(budget.admit(60_000, after(second)));
        }
        assert_eq!(budget.dropped(), None);
    }

    // On a clock that stands still: a slow machine must not make two floods of one.
    #[tokio::test(start_paused = true)]
    async fn the_last_lines_of_a_flood_are_kept_for_messages_and_its_size_is_logged() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let kept = tracing::subscriber::with_default(subscriber, || {
            lines(&[format!("{}\n", "x".repeat(99)).repeat(20_000).as_bytes(), b"the end\n"])
        });
        assert_eq!(kept.last().map(String::as_str), Some("the end"));
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(text.len() < 2 << 20, "{}", text.len());
        assert_eq!(
            text.lines().filter(|line| line.contains("dropped standard error beyond 64 KiB a second")).count(),
            1
        );
    }

    #[derive(Clone, Default)]
    struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn control_characters_are_escaped_and_long_lines_cut() {
        assert_eq!(lines(&[b"\x1b[2Jgone\n"]), ["\\u{1b}[2Jgone"]);
        let long = lines(&[&[b'x'; 10_000], b"y\n", b"next"]);
        assert_eq!(long.len(), 2);
        assert_eq!(long[1], "next");
    }
}
