//! Text of strangers as it may stand in a record: of one line, and all of a record together bounded.

use std::fmt::{self, Display, Write as _};

use provisioning_core::text::one_line;
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

/// How many characters one text has at most.
const LINE: usize = 400;
/// How many bytes all texts of a record have together, about.
const RECORD: usize = 6000;
/// How much of one text is looked at to show it: more than `LINE` of the longest characters.
const LOOKED_AT: usize = 4 * (LINE + 1);

/// The room that a record has for text.
#[derive(Debug)]
pub struct Room {
    left: usize,
    whole: Whole,
    is_cut: bool,
}

impl Default for Room {
    fn default() -> Self {
        Self { left: RECORD, whole: Whole::default(), is_cut: false }
    }
}

impl Room {
    /// A text as it is recorded: control characters are escaped, and what does not fit is left out and `…` put there.
    pub fn line(&mut self, text: &str) -> String {
        self.shown(text)
    }

    /// Likewise for what can be shown. A long text is not put together first.
    pub fn shown(&mut self, thing: impl Display) -> String {
        let mut begin = Begin { text: String::new(), whole: &mut self.whole };
        // Neither part of it can fail.
        let _ = write!(begin, "{thing}");
        let text = begin.text;
        self.whole.end_text();
        let most = LINE.min(self.left);
        self.is_cut |= text.chars().nth(most).is_some();
        let line = one_line(&text, most);
        self.left = self.left.saturating_sub(line.len());
        line
    }

    /// Texts until there is no more room; a last one then says how many are missing.
    pub fn lines<T: Display>(&mut self, things: impl IntoIterator<Item = T>) -> Vec<String> {
        let mut lines = Vec::new();
        let mut missing = 0_u64;
        for thing in things {
            if self.left > 0 {
                lines.push(self.shown(thing));
            } else {
                missing += 1;
                let _ = write!(self.whole, "{thing}");
                self.whole.end_text();
            }
        }
        if missing > 0 {
            self.is_cut = true;
            lines.push(format!("… {missing} more"));
        }
        lines
    }

    /// If anything was left out: how long all the texts are, and their hash, each of them with a line feed after it.
    /// Whoever has the whole can so show that it is what was asked for.
    pub fn cut(self) -> Option<Json> {
        self.is_cut.then(|| json!({ "bytes": self.whole.bytes, "sha256": self.whole.hash() }))
    }
}

/// Takes the beginning of a text, and tells the whole of all of it.
struct Begin<'a> {
    text: String,
    whole: &'a mut Whole,
}

impl fmt::Write for Begin<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let taken = text.floor_char_boundary(LOOKED_AT.saturating_sub(self.text.len()));
        self.text.push_str(text.get(..taken).unwrap_or_default());
        self.whole.write_str(text)
    }
}

/// All texts as they are. Hashing begins when there is more than is ever recorded whole, so that most records cost none.
#[derive(Debug, Default)]
struct Whole {
    bytes: u64,
    kept: String,
    hashed: Option<Sha256>,
}

impl Whole {
    fn end_text(&mut self) {
        // Cannot fail.
        let _ = self.write_str("\n");
    }

    fn hash(self) -> String {
        let hashed = self.hashed.unwrap_or_else(|| Sha256::new_with_prefix(&self.kept));
        format!("{:x}", hashed.finalize())
    }
}

impl fmt::Write for Whole {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes += text.len() as u64;
        match &mut self.hashed {
            Some(hashed) => hashed.update(text),
            None if self.kept.len() + text.len() <= 2 * RECORD => self.kept.push_str(text),
            None => {
                let mut hashed = Sha256::new_with_prefix(&self.kept);
                hashed.update(text);
                self.hashed = Some(hashed);
            }
        }
        Ok(())
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
        let mut room = Room::default();
        assert_eq!(room.lines(["TOKEN=<secret:s.token>", "ä"]), ["TOKEN=<secret:s.token>", "ä"]);
        assert_eq!(room.cut(), None);
        let mut room = Room::default();
        room.line(&"😀".repeat(LINE));
        assert_eq!(room.cut(), None);
    }

    #[test]
    fn what_is_left_out_can_be_shown_to_be_what_was_asked_for() {
        let long = "😀".repeat(LINE + 1);
        let many: Vec<String> = (0..1000).map(|number| format!("--{number}={}", "x".repeat(200))).collect();
        let huge = vec!["a\nb".repeat(1 << 20)];
        for texts in [vec![long], many, huge] {
            let mut room = Room::default();
            let lines = room.lines(&texts);
            assert!(lines.iter().any(|line| line.contains('…')), "{lines:?}");
            let whole: String = texts.iter().map(|text| format!("{text}\n")).collect();
            let hash = crate::sandbox::contract::digest(whole.as_bytes());
            assert_eq!(room.cut(), Some(json!({ "bytes": whole.len(), "sha256": hash })));
        }
    }
}
