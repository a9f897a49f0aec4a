//! The options of `docker` before `mcp`, as the environment variables that mean the same.

use std::ffi::OsString;

/// Variables to set, or to remove.
pub(super) type Environment = Vec<(&'static str, Option<String>)>;

/// An option of `docker` itself: long, short, whether it has a value.
const OPTIONS: &[(&str, &str, bool)] = &[
    ("config", "", true),
    ("context", "c", true),
    ("debug", "D", false),
    ("host", "H", true),
    ("log-level", "l", true),
    ("tls", "", false),
    ("tlscacert", "", true),
    ("tlscert", "", true),
    ("tlskey", "", true),
    ("tlsverify", "", false),
];

/// Where `mcp` is, if `docker` calls this program, and what the options before it ask for.
pub(super) fn before_mcp(arguments: &[OsString]) -> Option<(usize, Result<Environment, String>)> {
    let mut environment = Ok(Vec::new());
    let mut at = 1;
    loop {
        let argument = arguments.get(at)?.to_str()?;
        if argument == "mcp" {
            return Some((at, environment));
        }
        let (name, mut value) = read(argument)?;
        if name.1 && value.is_none() {
            at += 1;
            value = Some(arguments.get(at)?.to_str()?.to_owned());
        }
        environment = environment.and_then(|mut all| {
            all.extend(variables(name.0, value.unwrap_or_default())?);
            Ok(all)
        });
        at += 1;
    }
}

/// One option: its name and whether it has a value, and the value if it is in the same word.
fn read(argument: &str) -> Option<((&'static str, bool), Option<String>)> {
    let known = |fits: &dyn Fn(&(&'static str, &'static str, bool)) -> bool| {
        OPTIONS.iter().find(|option| fits(option)).map(|(long, _, has_value)| (*long, *has_value))
    };
    if let Some(long) = argument.strip_prefix("--") {
        let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value.to_owned())));
        return Some((known(&|option| option.0 == name)?, value));
    }
    let short = argument.strip_prefix('-')?;
    let option = known(&|option| !option.1.is_empty() && short.starts_with(option.1))?;
    let rest = short.get(1..).filter(|rest| !rest.is_empty());
    Some((option, rest.map(|rest| rest.strip_prefix('=').unwrap_or(rest).to_owned())))
}

fn variables(name: &str, value: String) -> Result<Environment, String> {
    Ok(match name {
        "config" => vec![("DOCKER_CONFIG", Some(value))],
        // As for `docker`, the context of the command line counts more than the host of the environment.
        "context" => vec![("DOCKER_CONTEXT", Some(value)), ("DOCKER_HOST", None)],
        "host" => vec![("DOCKER_HOST", Some(value)), ("DOCKER_CONTEXT", None)],
        "tlsverify" if value != "false" => vec![("DOCKER_TLS_VERIFY", Some("1".to_owned()))],
        "tlsverify" => vec![("DOCKER_TLS_VERIFY", None)],
        // About what `docker` itself says.
        "debug" | "log-level" => Vec::new(),
        other => {
            return Err(format!(
                "`docker --{other}` cannot be passed on to `mcp`; set DOCKER_CERT_PATH and DOCKER_TLS_VERIFY instead"
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<(usize, Result<Environment, String>)> {
        let arguments: Vec<OsString> = text.split_whitespace().map(Into::into).collect();
        before_mcp(&arguments)
    }

    #[test]
    fn the_options_of_docker_become_variables_and_other_calls_are_none_of_its() {
        assert_eq!(of("docker-mcp mcp version"), Some((1, Ok(Vec::new()))));
        assert_eq!(of("docker-mcp -D --log-level debug mcp x"), Some((4, Ok(Vec::new()))));
        let host = [("DOCKER_HOST", Some("tcp://h".to_owned())), ("DOCKER_CONTEXT", None)];
        for text in ["-H tcp://h", "-Htcp://h", "--host tcp://h", "--host=tcp://h", "-H=tcp://h"] {
            assert_eq!(of(&format!("docker-mcp {text} mcp")).unwrap().1.unwrap(), host, "{text}");
        }
        assert_eq!(of("docker-mcp --context=c mcp").unwrap().1.unwrap()[1], ("DOCKER_HOST", None));
        assert!(of("docker-mcp --tlscert x mcp").unwrap().1.unwrap_err().contains("DOCKER_CERT_PATH"));
        for text in ["docker-mcp", "docker-mcp version", "docker-mcp --help", "docker-mcp --host", "docker-mcp -x mcp"]
        {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
