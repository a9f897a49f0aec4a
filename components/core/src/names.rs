//! Names that other systems accept. Container names are made by the runtimes; what they build on is here.

/// A readable form of any name in `[a-z0-9-]`: at most `max` bytes (at least 1), beginning and ending with a letter or digit,
/// never empty. Different names may give the same slug: it is for reading, not for telling apart.
pub fn slug(name: &str, max: usize) -> String {
    let mut slug = String::new();
    for character in name.chars() {
        if slug.len() >= max {
            break;
        }
        match character.to_ascii_lowercase() {
            kept @ ('a'..='z' | '0'..='9') => slug.push(kept),
            _ if slug.is_empty() || slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
    }
    slug.truncate(slug.trim_end_matches('-').len());
    if slug.is_empty() { "server".chars().take(max.max(1)).collect() } else { slug }
}

/// True if a process can be given an environment variable of this name without surprises: `[A-Za-z_][A-Za-z0-9_.-]*`,
/// at most 255 bytes.
pub fn is_env_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 255
        && bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// The names among `known` that somebody who wrote `name` may have meant, nearest first, at most three.
pub fn near<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = name.to_lowercase();
    let limit = (wanted.chars().count() / 3).clamp(1, 4);
    let mut found: Vec<(usize, &str)> = known
        .into_iter()
        .filter_map(|candidate| {
            let lower = candidate.to_lowercase();
            let distance = distance(&wanted, &lower);
            let part = wanted.len() >= 3 && (lower.contains(&wanted) || (lower.len() >= 3 && wanted.contains(&lower)));
            (distance <= limit || part).then_some((distance, candidate))
        })
        .collect();
    found.sort();
    found.into_iter().take(3).map(|(_, candidate)| candidate).collect()
}

/// How many characters must be added, removed or changed. Long names are compared by their beginnings.
fn distance(one: &str, other: &str) -> usize {
    const MAX: usize = 64;
    let other: Vec<char> = other.chars().take(MAX).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, character) in one.chars().take(MAX).enumerate() {
        let mut left = index + 1;
        let mut next = vec![left];
        for (above, (before, candidate)) in row.iter().skip(1).zip(row.iter().zip(&other)) {
            left = (before + usize::from(character != *candidate)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_slug_is_readable() {
        assert_eq!(slug("io.github.Docker/mcp server", 63), "io-github-docker-mcp-server");
        assert_eq!(slug("--Ünï--", 63), "n");
        assert_eq!(slug("日本", 63), "server");
        assert_eq!(slug("abc-def", 4), "abc");
    }

    #[test]
    fn names_of_variables_are_told_from_others() {
        for name in ["A", "_a1", "spring.datasource-url"] {
            assert!(is_env_name(name), "{name}");
        }
        for name in ["", "1A", "A=B", "A B", "é", "A\0", "A\n"] {
            assert!(!is_env_name(name), "{name}");
        }
    }

    #[test]
    fn near_names_are_offered() {
        let known = ["github", "github-official", "gitlab", "time", "sequentialthinking"];
        assert_eq!(near("githb", known), ["github"]);
        assert_eq!(near("GitHub", known), ["github", "gitlab", "github-official"]);
        assert!(near("zzz", known).is_empty());
    }

    proptest! {
        #[test]
        fn a_slug_is_always_valid(name in any::<String>(), max in 0usize..80) {
            let slug = slug(&name, max);
            prop_assert!(!slug.is_empty() && slug.len() <= max.max(1));
            prop_assert!(slug.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'));
            prop_assert!(!slug.starts_with('-') && !slug.ends_with('-'));
        }

        #[test]
        fn a_name_is_nearest_to_itself(name in "[a-z]{1,12}", others in prop::collection::vec("[a-z]{1,12}", 0..5)) {
            let near = near(&name, others.iter().map(String::as_str).chain([name.as_str()]));
            prop_assert_eq!(near.first().copied(), Some(name.as_str()));
        }
    }
}
