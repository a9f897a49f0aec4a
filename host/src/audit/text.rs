//! Text of strangers as it may stand in a record: of one line, and all of a record together bounded.

use std::fmt::{self, Display, Write as _};

use provisioning_core::text::one_line;

/// How many characters one text has at most.
const LINE: usize = 400;
/// How many bytes all texts of a record have together, about.
const RECORD: usize = 6000;

/// The room that a record has for text.
#[derive(Debug)]
pub struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Self(RECORD)
    }
}

impl Room {
    /// A text as it is recorded: control characters are escaped, and what does not fit is left out and `…` put there.
    pub fn line(&mut self, text: &str) -> String {
        let line = one_line(text, LINE.min(self.0));
        self.0 = self.0.saturating_sub(line.len());
        line
    }

    /// Likewise for what can be shown. A long text is not put together first.
    pub fn shown(&mut self, thing: impl Display) -> String {
        let mut cut = Cut { text: String::new(), room: 4 * LINE };
        // Fails when there is enough.
        let _ = write!(cut, "{thing}");
        self.line(&cut.text)
    }

    /// Texts until there is no more room; a last one then says how many are missing.
    pub fn lines<T: Display>(&mut self, things: impl IntoIterator<Item = T>) -> Vec<String> {
        let mut lines = Vec::new();
        let mut left = 0_u64;
        for thing in things {
            match self.0 {
                0 => left += 1,
                _ => lines.push(self.shown(thing)),
            }
        }
        if left > 0 {
            lines.push(format!("… {left} more"));
        }
        lines
    }
}

/// Takes text until it is full.
struct Cut {
    text: String,
    room: usize,
}

impl fmt::Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let taken = text.floor_char_boundary(self.room);
        self.text.push_str(text.get(..taken).unwrap_or_default());
        self.room -= taken;
        if taken < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_stays_small_and_of_one_line_whatever_is_put_into_it() {
        let mut room = Room::default();
        let evil = "\u{1b}]0;\n\u{202e}é".repeat(1 << 20);
        let line = room.shown(&evil);
        assert!(line.len() < 12 * LINE && !line.contains(char::is_control) && line.ends_with('…'), "{line}");
        let lines = room.lines((0..100_000).map(|number| format!("{number}{evil:.500}")));
        assert!(lines.len() < 20 && lines.last().unwrap().ends_with(" more"), "{lines:?}");
        assert!(lines.iter().map(String::len).sum::<usize>() < 3 * RECORD);
    }

    #[test]
    fn short_texts_stay_as_they_are() {
        assert_eq!(Room::default().lines(["TOKEN=<secret:s.token>", "ä"]), ["TOKEN=<secret:s.token>", "ä"]);
    }
}
