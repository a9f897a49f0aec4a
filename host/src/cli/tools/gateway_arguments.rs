//! `--gateway-arg`, with which the existing gateway passes flags of `gateway run` on from `tools`. Here they are
//! flags of the commands themselves, so that `--gateway-arg=--servers=time` is another way to write `--servers=time`.

use std::ffi::OsString;

const FLAG: &str = "--gateway-arg";

/// Puts what stands in `--gateway-arg` behind the other arguments of a `tools` command; others stay as they are.
pub(in crate::cli) fn expand(arguments: Vec<OsString>) -> Vec<OsString> {
    if arguments.get(1).is_none_or(|command| command != "tools") {
        return arguments;
    }
    let (mut kept, mut moved) = (Vec::new(), Vec::new());
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        match argument.to_str() {
            Some("--") => {
                kept.append(&mut moved);
                kept.push(argument);
                kept.extend(rest.by_ref());
            }
            Some(FLAG) => match rest.next() {
                Some(value) => moved.extend(split(value)),
                // Without a value it is left for the parser to complain about.
                None => kept.push(argument),
            },
            Some(text) => match text.strip_prefix(FLAG).and_then(|text| text.strip_prefix('=')) {
                Some(value) => moved.extend(split(value.into())),
                None => kept.push(argument),
            },
            None => kept.push(argument),
        }
    }
    kept.extend(moved);
    kept
}

/// Several flags in one value stand behind commas.
fn split(value: OsString) -> Vec<OsString> {
    let Some(text) = value.to_str() else { return vec![value] };
    let mut flags: Vec<String> = Vec::new();
    for part in text.split(',') {
        match flags.last_mut() {
            Some(flag) if !part.starts_with('-') => {
                flag.push(',');
                flag.push_str(part);
            }
            _ => flags.push(part.to_owned()),
        }
    }
    flags.into_iter().map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_for_the_gateway_are_flags_of_the_command() {
        let of = |text: &str| {
            let expanded = expand(text.split(' ').map(Into::into).collect());
            expanded.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of("d tools --gateway-arg=--servers=a,b ls"), "d tools ls --servers=a,b");
        assert_eq!(
            of("d tools call x --gateway-arg --verbose,--cpus=2 -- -y"),
            "d tools call x --verbose --cpus=2 -- -y"
        );
        assert_eq!(of("d tools ls --gateway-arg"), "d tools ls --gateway-arg");
        assert_eq!(of("d gateway run --gateway-arg=x"), "d gateway run --gateway-arg=x");
    }
}
