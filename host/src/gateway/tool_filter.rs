//! Which tools of which servers clients may see and call.

use std::fmt;

/// A choice of tools. The default lets all through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolFilter(Option<Vec<Pattern>>);

/// One of the patterns, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Everything,
    Tool(String),
    OfServer(String, String),
    AllOfServer(String),
}

impl ToolFilter {
    /// Reads patterns: `*`, `TOOL`, `SERVER:TOOL` and `SERVER:*`, in whatever case. No pattern at all, or none but
    /// empty ones, means all tools.
    pub fn new(patterns: &[String]) -> Self {
        let read = |text: &String| {
            let text = text.trim().to_lowercase();
            match text.split_once(':') {
                _ if text == "*" => Pattern::Everything,
                Some((server, "*")) => Pattern::AllOfServer(server.to_owned()),
                Some((server, tool)) => Pattern::OfServer(server.to_owned(), tool.to_owned()),
                None => Pattern::Tool(text),
            }
        };
        let given = patterns.iter().filter(|text| !text.trim().is_empty());
        let patterns: Vec<Pattern> = given.map(read).collect();
        if patterns.is_empty() { Self(None) } else { Self(Some(patterns)) }
    }

    /// Whether a tool passes, which is called `tool` by its server and `exposed` by clients.
    pub(crate) fn allows(&self, server: &str, tool: &str, exposed: &str) -> bool {
        let Some(patterns) = &self.0 else { return true };
        let (server, tool, exposed) = (server.to_lowercase(), tool.to_lowercase(), exposed.to_lowercase());
        patterns.iter().any(|pattern| pattern.matches(&server, &tool) || pattern.matches(&server, &exposed))
    }

    /// The patterns that match none of these tools, each a server's name and a tool's.
    pub(crate) fn unused<'a>(&self, tools: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Vec<String> {
        let matches = |pattern: &Pattern| {
            tools.clone().any(|(server, tool)| pattern.matches(&server.to_lowercase(), &tool.to_lowercase()))
        };
        let unused = self.0.iter().flatten().filter(|pattern| !matches(pattern));
        unused.map(ToString::to_string).collect()
    }
}

impl Pattern {
    fn matches(&self, server: &str, tool: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Tool(name) => name == tool,
            Self::OfServer(of, name) => of == server && name == tool,
            Self::AllOfServer(of) => of == server,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("*"),
            Self::Tool(name) => f.write_str(name),
            Self::OfServer(server, name) => write!(f, "{server}:{name}"),
            Self::AllOfServer(server) => write!(f, "{server}:*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_the_existing_gateway_in_any_case() {
        let cases = [
            ("", "a", "t", true),
            (" ,", "a", "t", true),
            ("*", "a", "t", true),
            ("T", "a", "t", true),
            ("t", "a", "Tt", false),
            ("A:t", "a", "T", true),
            ("b:t", "a", "t", false),
            ("a:*", "A", "anything", true),
            ("b:*", "a", "t", false),
            ("x,b:*, a:T", "a", "t", true),
        ];
        for (patterns, server, tool, allowed) in cases {
            let patterns: Vec<String> = patterns.split_terminator(',').map(str::to_owned).collect();
            let filter = ToolFilter::new(&patterns);
            assert_eq!(filter.allows(server, tool, tool), allowed, "{patterns:?} {server}:{tool}");
        }
        // The prefix of a server belongs to the name that people see.
        assert!(ToolFilter::new(&["p__t".to_owned()]).allows("a", "t", "p__t"));
    }

    #[test]
    fn patterns_that_match_nothing_are_known() {
        let filter = ToolFilter::new(&["t".to_owned(), "a:x".to_owned(), "c:*".to_owned()]);
        assert_eq!(filter.unused([("a", "t"), ("b", "x")].into_iter()), ["a:x", "c:*"]);
    }
}
