//! Text of strangers as it may stand in a record: of one line, and all of a record together bounded.

use std::fmt::{self, Display, Write as _};

use provisioning_core::text::one_line;
use serde::Serialize;
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
    is_cut: bool,
    whole: Whole,
    /// The beginning of the text that is being recorded; kept for its memory.
    text: String,
}

impl Default for Room {
    fn default() -> Self {
        Self { left: RECORD, is_cut: false, whole: Whole::default(), text: String::new() }
    }
}

impl Room {
    /// All the room again, for another record.
    pub(super) fn clear(&mut self) {
        self.clear_to(None);
    }

    /// So much room, for another record; all of it if no number is given.
    pub(super) fn clear_to(&mut self, bytes: Option<usize>) {
        (self.left, self.is_cut) = (bytes.unwrap_or(RECORD), false);
        self.whole.clear();
    }

    /// Whether there is any left.
    pub(super) fn is_left(&self) -> bool {
        self.left > 0
    }

    /// A text as it is recorded: control characters are escaped, and what does not fit is left out and `…` put there.
    /// A long text is not put together first.
    pub fn line(&mut self, thing: impl Display) -> String {
        match self.take(&thing) {
            Taken::Plain(text) => text.to_owned(),
            Taken::Other(line) => line,
        }
    }

    /// Texts until there is no more room; a last one then says how many are missing.
    pub fn lines<T: Display>(&mut self, things: impl IntoIterator<Item = T>) -> Vec<String> {
        let mut lines = Vec::new();
        let mut missing = 0;
        for thing in things {
            if self.is_left() {
                lines.push(self.line(thing));
            } else {
                missing += 1;
                self.leave_out(thing);
            }
        }
        lines.extend((missing > 0).then(|| more(missing)));
        lines
    }

    /// Writes a text as JSON.
    pub(super) fn write(&mut self, line: &mut Vec<u8>, thing: &dyn Display) {
        match self.take(thing) {
            Taken::Plain(text) => {
                line.push(b'"');
                line.extend_from_slice(text.as_bytes());
                line.push(b'"');
            }
            // Writing a text to memory cannot fail.
            Taken::Other(text) => drop(serde_json::to_writer(line, &text)),
        }
    }

    /// A text that there is no room for.
    pub(super) fn leave_out(&mut self, thing: impl Display) {
        let _ = write!(self.whole, "{thing}");
        self.whole.end_text();
        self.is_cut = true;
    }

    /// If anything was left out: how long all the texts are, and their hash, each of them with a line feed after it.
    /// Whoever has the whole can so show that it is what was asked for.
    pub fn cut(&self) -> Option<Cut> {
        self.is_cut.then(|| Cut { bytes: self.whole.bytes, sha256: self.whole.hash() })
    }

    fn take(&mut self, thing: &dyn Display) -> Taken<'_> {
        self.text.clear();
        let mut begin = Begin { text: &mut self.text, whole: &mut self.whole, is_told: false };
        // Neither part of it can fail.
        let _ = write!(begin, "{thing}");
        if !begin.is_told {
            let _ = self.whole.write_str(&self.text);
        }
        self.whole.end_text();
        let most = LINE.min(self.left);
        if self.text.len() <= most && is_plain(&self.text) {
            self.left -= self.text.len();
            return Taken::Plain(&self.text);
        }
        self.is_cut |= self.text.chars().nth(most).is_some();
        let line = one_line(&self.text, most);
        self.left = self.left.saturating_sub(line.len());
        Taken::Other(line)
    }
}

/// What stands for texts that there was no room for.
pub(super) fn more(missing: u64) -> String {
    format!("… {missing} more")
}

/// What is known of texts that are not recorded whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// How long they are in bytes.
    pub bytes: u64,
    /// Their SHA-256.
    pub sha256: String,
}

/// A text as it is recorded.
enum Taken<'a> {
    /// It is the same in a message, in JSON and by itself.
    Plain(&'a str),
    Other(String),
}

/// Whether a text has printable ASCII only, and nothing that JSON escapes. Without a branch for each byte: most texts are.
fn is_plain(text: &str) -> bool {
    text.bytes().fold(true, |plain, byte| plain & (b' '..=b'~').contains(&byte) & (byte != b'"') & (byte != b'\\'))
}

/// Takes the beginning of a text, and tells the whole of all of it once it is more than that.
struct Begin<'a> {
    text: &'a mut String,
    whole: &'a mut Whole,
    /// The whole knows what came until now.
    is_told: bool,
}

impl fmt::Write for Begin<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LOOKED_AT.saturating_sub(self.text.len());
        if text.len() > room && !self.is_told {
            self.is_told = true;
            self.whole.write_str(self.text)?;
        }
        self.text.push_str(text.get(..text.floor_char_boundary(room)).unwrap_or_default());
        if self.is_told { self.whole.write_str(text) } else { Ok(()) }
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
    fn clear(&mut self) {
        self.bytes = 0;
        self.kept.clear();
        self.hashed = None;
    }

    fn end_text(&mut self) {
        // Cannot fail.
        let _ = self.write_str("\n");
    }

    fn hash(&self) -> String {
        let hashed = self.hashed.clone().unwrap_or_else(|| Sha256::new_with_prefix(&self.kept));
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
        let line = room.line(&evil);
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
        room.line("😀".repeat(LINE));
        assert_eq!(room.cut(), None);
    }

    #[test]
    fn a_text_is_the_same_in_json() {
        for text in ["", "plain", "a \"b\" \\ c", "ä\u{202e}\n", "~ \u{7f}", &"x".repeat(LINE + 1)] {
            let mut json = Vec::new();
            Room::default().write(&mut json, &text);
            assert_eq!(serde_json::from_slice::<String>(&json).unwrap(), Room::default().line(text));
        }
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
            assert_eq!(room.cut(), Some(Cut { bytes: whole.len() as u64, sha256: hash }));
            room.clear();
            assert_eq!((room.line("short"), room.cut()), ("short".to_owned(), None));
        }
    }
}
