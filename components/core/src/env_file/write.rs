//! Writing pairs so that they are read as they were.

use thiserror::Error;
use zeroize::Zeroizing;

/// A name that no line can give a value to.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "a name must not be empty, hold `=` or control characters, begin with `#`, or begin or end with white space; choose \
     another one"
)]
pub struct NoName;

/// Whether a line can give this name a value.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(['#', '\u{feff}'])
        && name.trim() == name
        && !name.contains(|character: char| character == '=' || character.is_control())
}

/// The line, with its end, that gives a name this value. The value is in quotes only where it has to be.
///
/// # Errors
/// If there is no such line for the name.
pub fn line(name: &str, value: &str) -> Result<Zeroizing<String>, NoName> {
    if !is_name(name) {
        return Err(NoName);
    }
    // As large as it can get: a buffer that moves leaves copies behind that nobody wipes.
    let mut line = Zeroizing::new(String::with_capacity(name.len() + 2 * value.len() + 4));
    line.push_str(name);
    line.push('=');
    if value.trim() == value && !value.contains('\n') && !value.starts_with(['"', '\'']) {
        line.push_str(value);
    } else {
        line.push('"');
        for character in value.chars() {
            match character {
                '\n' => line.push_str("\\n"),
                '\r' => line.push_str("\\r"),
                '"' | '\\' => {
                    line.push('\\');
                    line.push(character);
                }
                other => line.push(other),
            }
        }
        line.push('"');
    }
    line.push('\n');
    Ok(line)
}
