//! Finding the `id` of a message that is not parsed as a whole, because it is too long, too deep or not valid, so that
//! whoever waits for it can be told.
//!
//! It looks at every byte once, keeps a few of them, and does not nest.

use serde_json::Value;

/// The longest `id` that is recognised, in bytes.
const MAX_ID: usize = 256;

/// Looks for the `id` at the top level of an object. Feed it the bytes of the message in pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct Skim {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// Whether the next text at the top level is the name of a member.
    at_name: bool,
    at_id: bool,
    token: Vec<u8>,
    id: Option<Value>,
}

impl Skim {
    /// The `id` of a whole message: text or a number.
    pub(crate) fn id_of(message: &[u8]) -> Option<Value> {
        let mut skim = Self::default();
        skim.feed(message);
        skim.id
    }

    /// Looks at the next bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.step(*byte);
        }
    }

    /// The `id`, if there was one.
    pub(crate) fn into_id(self) -> Option<Value> {
        self.id
    }

    fn step(&mut self, byte: u8) {
        if self.in_string {
            self.keep(byte);
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => {
                self.in_string = true;
                self.keep(byte);
            }
            b'{' | b'[' => {
                self.depth += 1;
                self.at_name = self.depth == 1 && byte == b'{';
            }
            b'}' | b']' => {
                self.end_of_member();
                self.depth = self.depth.saturating_sub(1);
            }
            b':' if self.depth == 1 && self.at_name => {
                self.at_id = self.token == b"\"id\"";
                self.at_name = false;
                self.token.clear();
            }
            b',' if self.depth == 1 => {
                self.end_of_member();
                self.at_name = true;
            }
            byte if !byte.is_ascii_whitespace() => self.keep(byte),
            _ => {}
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.depth == 1 && (self.at_name || self.at_id) && self.token.len() <= MAX_ID {
            self.token.push(byte);
        }
    }

    fn end_of_member(&mut self) {
        if self.depth != 1 {
            return;
        }
        if self.at_id && self.token.len() <= MAX_ID {
            let id = serde_json::from_slice::<Value>(&self.token).ok();
            self.id = self.id.take().or(id.filter(|id| id.is_string() || id.is_number()));
        }
        self.at_id = false;
        self.token.clear();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_id_is_found_wherever_it_stands() {
        for (message, id) in [
            (r#"{"jsonrpc":"2.0","id":7,"method":"x"}"#, Some(json!(7))),
            (r#"{"method":"x","params":{"id":1,"a":[{"id":2}]}, "id" : "a\"b" }"#, Some(json!("a\"b"))),
            (r#"{"a":"\"id\":3,","b":"{","id":-4}"#, Some(json!(-4))),
            (r#"{"id":{"id":5},"x":1}"#, None),
            (r#"{"id":null}"#, None),
            (r#"[{"id":6}]"#, None),
            ("garbage", None),
            ("}}}]]],,,:::\"", None),
        ] {
            assert_eq!(Skim::id_of(message.as_bytes()), id, "{message}");
        }
    }

    #[test]
    fn pieces_depth_and_bytes_that_are_no_text_do_not_matter() {
        let mut message = b"{\"params\":".to_vec();
        message.extend(vec![b'['; 100_000]);
        message.extend(b"\"\xff\xfe\"");
        message.extend(vec![b']'; 100_000]);
        message.extend(b",\"id\":\"last\"}");
        let mut skim = Skim::default();
        for piece in message.chunks(7) {
            skim.feed(piece);
        }
        assert_eq!(skim.into_id(), Some(json!("last")));
    }

    #[test]
    fn an_endless_id_is_not_kept() {
        let mut skim = Skim::default();
        skim.feed(b"{\"id\":\"");
        skim.feed(&vec![b'x'; 1 << 20]);
        assert!(skim.token.capacity() <= 4 * MAX_ID);
        skim.feed(b"\"}");
        assert_eq!(skim.into_id(), None);
    }
}
