//! Records as JSON, written member by member where they are made: nothing is put together only to be written.

use std::fmt::Display;

use serde::Serialize;

use super::text::{Room, more};

/// The name of a member, with what stands around it in JSON: there are a hundred of them in the records of an operation.
#[derive(Clone, Copy, Debug)]
pub struct Name(&'static str);

macro_rules! names {
    ($($constant:ident $name:literal)*) => {
        /// The names of members that are written where records are made.
        #[allow(missing_docs, reason = "docs/audit.md describes the members")]
        pub mod name {
            use super::Name;
            $(pub const $constant: Name = Name(concat!(",\"", $name, "\":"));)*
        }
    };
}
names! {
    ARGUMENTS "arguments"
    CALL "call"
    CALLS "calls"
    COMMAND "command"
    COMPONENT "component"
    CONTAINER "container"
    CPU_MILLIS "cpu_millis"
    CUT "cut"
    DECISION "decision"
    DIGEST "digest"
    DURATION_US "duration_us"
    ENTRIES "entries"
    ENVIRONMENT "environment"
    ERROR "error"
    EVENT "event"
    FILE "file"
    FILES "files"
    FUNCTION "function"
    GAVE "gave"
    HOSTS "hosts"
    IMAGE "image"
    INTERCEPTOR "interceptor"
    INTERFACE "interface"
    LABELS "labels"
    LEVEL "level"
    LINE "line"
    MEMORY_BYTES "memory_bytes"
    MESSAGE "message"
    NETWORK "network"
    OPERATION "operation"
    OUTCOME "outcome"
    RULE "rule"
    SECURITY "security"
    SERVER "server"
    TASK "task"
    TEXT "text"
    TOOL "tool"
    UNLISTED "unlisted"
    USED "used"
    USER "user"
    VOLUMES "volumes"
}

/// The members of an object, as they are written.
pub struct Members<'a> {
    line: &'a mut Vec<u8>,
    room: &'a mut Room,
}

impl<'a> Members<'a> {
    /// Those of an object that is left open in `line`.
    pub(super) fn of(line: &'a mut Vec<u8>, room: &'a mut Room) -> Self {
        Self { line, room }
    }

    /// A word of the gateway's own: it has nothing that JSON escapes.
    pub fn word(&mut self, name: Name, word: &str) {
        debug_assert!(!word.contains(['"', '\\']) && !word.contains(char::is_control));
        self.name(name);
        self.line.push(b'"');
        self.line.extend_from_slice(word.as_bytes());
        self.line.push(b'"');
    }

    /// A text of strangers.
    pub fn text(&mut self, name: Name, text: impl Display) {
        self.shown(name, &text);
    }

    fn shown(&mut self, name: Name, text: &dyn Display) {
        self.name(name);
        self.room.write(self.line, text);
    }

    /// A number.
    pub fn number(&mut self, name: Name, number: u64) {
        self.name(name);
        digits(self.line, number);
    }

    /// Texts of strangers until there is no more room; a last one then says how many are missing. Nothing if there
    /// are none.
    pub fn texts<T: Display>(&mut self, name: Name, texts: impl IntoIterator<Item = T>) {
        let mut texts = texts.into_iter().peekable();
        if texts.peek().is_some() {
            self.name(name);
            self.line.push(b'[');
            Texts::of(self.line, self.room).extend(texts);
            self.line.push(b']');
        }
    }

    /// Anything that is JSON.
    pub fn json(&mut self, name: Name, json: impl Serialize) {
        self.name(name);
        let from = self.line.len();
        if serde_json::to_writer(&mut *self.line, &json).is_err() {
            self.line.truncate(from);
            self.line.extend_from_slice(b"null");
        }
    }

    /// How often a function of an interface was called: its name has both.
    pub(super) fn number_of(&mut self, interface: &'static str, function: &'static str, number: u64) {
        separate(self.line);
        for part in ["\"", interface, ".", function, "\":"] {
            self.line.extend_from_slice(part.as_bytes());
        }
        digits(self.line, number);
    }

    /// An object of further members.
    pub(super) fn object(&mut self, name: Name, members: impl FnOnce(&mut Members<'_>)) {
        self.name(name);
        self.line.push(b'{');
        members(self);
        self.line.push(b'}');
    }

    /// Members that are JSON already.
    pub(super) fn joined(&mut self, json: &[u8]) {
        if !json.is_empty() {
            separate(self.line);
            self.line.extend_from_slice(json);
        }
    }

    /// What is in an object or a list, and JSON already; nothing if it is empty.
    pub(super) fn enclosed(&mut self, name: Name, brackets: [u8; 2], json: &[u8]) {
        if !json.is_empty() {
            self.name(name);
            self.line.push(brackets[0]);
            self.line.extend_from_slice(json);
            self.line.push(brackets[1]);
        }
    }

    fn name(&mut self, name: Name) {
        let Name(text) = name;
        let text = if is_first(self.line) { text.get(1..).unwrap_or_default() } else { text };
        self.line.extend_from_slice(text.as_bytes());
    }
}

/// Texts of a list, as they are written.
pub struct Texts<'a> {
    line: &'a mut Vec<u8>,
    room: &'a mut Room,
}

impl<'a> Texts<'a> {
    /// Those of a list that is left open in `line`.
    pub(super) fn of(line: &'a mut Vec<u8>, room: &'a mut Room) -> Self {
        Self { line, room }
    }

    /// One that is there whatever the room.
    pub fn push(&mut self, text: impl Display) {
        self.shown(&text);
    }

    fn shown(&mut self, text: &dyn Display) {
        separate(self.line);
        self.room.write(self.line, text);
    }

    /// All of them, until there is no more room; a last one then says how many are missing.
    pub fn extend<T: Display>(&mut self, texts: impl IntoIterator<Item = T>) {
        let mut missing = 0;
        for text in texts {
            if self.room.is_left() {
                self.push(text);
            } else {
                missing += 1;
                self.room.leave_out(text);
            }
        }
        if missing > 0 {
            separate(self.line);
            // Writing a text to memory cannot fail.
            drop(serde_json::to_writer(&mut *self.line, &more(missing)));
        }
    }
}

fn digits(line: &mut Vec<u8>, number: u64) {
    // Writing a number to memory cannot fail.
    drop(serde_json::to_writer(line, &number));
}

/// A comma, unless nothing is there yet.
fn separate(line: &mut Vec<u8>) {
    if !is_first(line) {
        line.push(b',');
    }
}

/// Whether nothing stands before what comes next in its object or list.
fn is_first(line: &[u8]) -> bool {
    matches!(line.last(), None | Some(b'{' | b'['))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn members_are_those_of_an_object() {
        let (mut line, mut room) = (b"{".to_vec(), Room::default());
        let mut members = Members::of(&mut line, &mut room);
        members.word(Name(",\"word\":"), "ok");
        members.text(Name(",\"text\":"), "a \"b\"\n");
        members.texts(Name(",\"none\":"), [""; 0]);
        members.texts(Name(",\"texts\":"), ["a", "", "ä"]);
        members.json(Name(",\"json\":"), Some(7));
        members.json(Name(",\"number\":"), u64::MAX);
        members.object(Name(",\"object\":"), |members| members.number_of("a", "b", 1));
        members.enclosed(Name(",\"nothing\":"), *b"{}", b"");
        members.enclosed(Name(",\"rendered\":"), *b"{}", b"\"a\":1");
        members.joined(b"");
        members.joined(b"\"joined\":2");
        members.number(Name(",\"last\":"), 3);
        line.push(b'}');
        let read: Value = serde_json::from_slice(&line).unwrap();
        let expected = json!({
            "word": "ok", "text": "a \"b\"\\n", "texts": ["a", "", "ä"], "json": 7, "number": u64::MAX,
            "object": {"a.b": 1}, "rendered": {"a": 1}, "joined": 2, "last": 3,
        });
        assert_eq!(read, expected);
    }

    #[test]
    fn texts_without_room_are_counted() {
        let texts: Vec<String> = (0..1000).map(|number| format!("{number:0>100}")).collect();
        let (mut line, mut room) = (b"[".to_vec(), Room::default());
        Texts::of(&mut line, &mut room).extend(&texts);
        line.push(b']');
        let read: Vec<String> = serde_json::from_slice(&line).unwrap();
        assert_eq!(read, Room::default().lines(&texts));
        assert!(room.cut().is_some());
    }
}
