//! `$VAR` and `${VAR}`, as a POSIX shell writes them, over variables that the caller chooses.

use crate::value::{Segment, Value};

/// Replaces `$NAME` and `${NAME}` by what `lookup` gives for the name, or by nothing. Only text that stands in the
/// catalog is looked at: text from configuration, arguments or secrets passes as it is, and so does what is put
/// in. A `$` before anything else stays. `${` without its `}` and `${}` are dropped.
pub fn expand_variables(value: &Value, lookup: &dyn Fn(&str) -> Option<Value>) -> Value {
    let mut segments = Vec::new();
    for segment in value.segments() {
        match segment {
            Segment::Text(text) => expand_text(text, lookup, &mut segments),
            other => segments.push(other.clone()),
        }
    }
    Value::from_segments(segments)
}

fn expand_text(text: &str, lookup: &dyn Fn(&str) -> Option<Value>, segments: &mut Vec<Segment>) {
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        segments.push(Segment::Text(before.to_owned()));
        let (name, tail) = variable(after);
        match name {
            Some("") => {}
            Some(name) => segments.extend(lookup(name).iter().flat_map(|value| value.segments().iter().cloned())),
            None => segments.push(Segment::Text("$".to_owned())),
        }
        rest = tail;
    }
    segments.push(Segment::Text(rest.to_owned()));
}

/// The name at the beginning of what follows a `$`, and the rest. `Some("")` if something is to be dropped.
fn variable(after: &str) -> (Option<&str>, &str) {
    if let Some(braced) = after.strip_prefix('{') {
        return match braced.split_once('}') {
            Some((name, rest)) => (Some(name), rest),
            None => (Some(""), braced),
        };
    }
    let length = match after.bytes().next() {
        Some(b'*' | b'#' | b'$' | b'@' | b'!' | b'?' | b'-' | b'0'..=b'9') => 1,
        _ => after.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count(),
    };
    match after.split_at_checked(length) {
        Some((name, rest)) if length > 0 => (Some(name), rest),
        _ => (None, after),
    }
}
