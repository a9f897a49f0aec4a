//! Statistics of a text.

use std::collections::HashMap;

/// How many frequent words are named.
const FREQUENT: usize = 5;

/// Counts and the most frequent words, a line each.
pub(super) fn statistics(text: &str) -> String {
    let words: Vec<String> = text
        .split_whitespace()
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase())
        .filter(|word| !word.is_empty())
        .collect();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for word in &words {
        *counts.entry(word).or_default() += 1;
    }
    let mut frequent: Vec<(&str, usize)> = counts.into_iter().collect();
    // By number, then by letter, so that the same text always gives the same answer.
    frequent.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(other.0)));
    let frequent: Vec<String> =
        frequent.into_iter().take(FREQUENT).map(|(word, count)| format!("{word} ({count})")).collect();
    format!(
        "characters: {}\nbytes: {}\nwords: {}\nlines: {}\nsentences: {}\nmost frequent: {}",
        text.chars().count(),
        text.len(),
        words.len(),
        text.lines().count(),
        sentences(text),
        frequent.join(", ")
    )
}

/// Runs of text that end with a mark followed by space, or with the text. A mark inside of a number or a name ends
/// nothing.
fn sentences(text: &str) -> usize {
    let (mut count, mut begun, mut marked) = (0, false, false);
    for c in text.chars() {
        if marked && begun && c.is_whitespace() {
            count += 1;
            begun = false;
        }
        begun |= c.is_alphanumeric();
        marked = matches!(c, '.' | '!' | '?' | '\u{2026}');
    }
    count + usize::from(begun)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_counted() {
        let text = "The cat saw the dog. The dog, at 3.14 km/h, ran!\nÄh?";
        let statistics = statistics(text);
        assert!(statistics.contains("characters: 52\n"), "{statistics}");
        assert!(statistics.contains("words: 12\nlines: 2\nsentences: 3\n"), "{statistics}");
        assert!(statistics.ends_with("most frequent: the (3), dog (2), 3.14 (1), at (1), cat (1)"), "{statistics}");
    }

    #[test]
    fn an_empty_text_has_nothing() {
        assert!(statistics("").contains("words: 0\nlines: 0\nsentences: 0"));
    }
}
