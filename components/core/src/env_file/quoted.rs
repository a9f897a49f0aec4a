//! Values in quotes.

use zeroize::Zeroizing;

/// What stands where a value begins with a quote.
pub(super) enum Quoted<'a> {
    /// Text that only looks quoted: something follows the closing quote on the same line.
    No,
    /// A quoted value without an end.
    Open,
    /// A quoted value.
    Value {
        /// The value.
        value: Zeroizing<String>,
        /// How many line breaks it holds.
        lines: usize,
        /// The text from the line after it.
        rest: &'a str,
    },
}

/// Reads a value from its opening quote.
pub(super) fn read(text: &str) -> Quoted<'_> {
    let mut characters = text.chars();
    let Some(quote) = characters.next() else { return Quoted::No };
    let body = characters.as_str();
    let Some(length) = length(body, quote) else { return Quoted::Open };
    let (raw, closing) = body.split_at(length);
    let behind = closing.strip_prefix(quote).unwrap_or(closing);
    let (tail, rest) = behind.split_once('\n').unwrap_or((behind, ""));
    let lines = raw.matches('\n').count();
    let comment = tail.starts_with(char::is_whitespace) && tail.trim_start().starts_with('#');
    if tail.trim().is_empty() || comment {
        let value = if quote == '"' { unescaped(raw) } else { Zeroizing::new(raw.to_owned()) };
        return Quoted::Value { value, lines, rest };
    }
    if lines == 0 { Quoted::No } else { Quoted::Open }
}

/// How long the text is before the closing quote.
fn length(body: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (index, character) in body.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            _ if character == quote => return Some(index),
            _ => {}
        }
    }
    None
}

fn unescaped(raw: &str) -> Zeroizing<String> {
    // As large as it can get: a buffer that moves leaves copies behind that nobody wipes.
    let mut value = Zeroizing::new(String::with_capacity(raw.len()));
    let mut characters = raw.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            value.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => value.push('\n'),
            Some('r') => value.push('\r'),
            Some('t') => value.push('\t'),
            Some(itself @ ('"' | '\\' | '$')) => value.push(itself),
            Some(other) => {
                value.push('\\');
                value.push(other);
            }
            None => value.push('\\'),
        }
    }
    value
}
