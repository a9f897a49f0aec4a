//! Text of a stranger as it may stand in a message: one line, bounded, and nothing that a terminal would act on.

/// The text as one line of at most `max` characters of its own; a longer one ends with `…`. Control characters, line
/// separators and characters that change the direction of text or cannot be seen are escaped.
pub fn one_line(text: &str, max: usize) -> String {
    if text.len() <= max && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return text.to_owned();
    }
    let mut characters = text.chars();
    let mut line = String::new();
    for character in characters.by_ref().take(max) {
        if is_harmless(character) {
            line.push(character);
        } else {
            line.extend(character.escape_default());
        }
    }
    if characters.next().is_some() {
        line.push('…');
    }
    line
}

/// Whether a character is shown as itself and leaves its surroundings alone.
fn is_harmless(character: char) -> bool {
    let hidden = matches!(
        character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    );
    !character.is_control() && !hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_escaped_and_letters_of_all_scripts_stay() {
        assert_eq!(one_line("a\nb\u{1b}[31m\u{202e}c\u{2028}", 100), "a\\nb\\u{1b}[31m\\u{202e}c\\u{2028}");
        for text in ["it's \"q\" \\", "Grüße, हिन्दी, 日本語, 👩\u{200d}💻"] {
            assert_eq!(one_line(text, 100), text);
        }
    }

    #[test]
    fn a_long_text_is_cut_by_characters_and_says_so() {
        assert_eq!(one_line("ääää", 3), "äää…");
        assert_eq!(one_line("äää", 3), "äää");
        assert_eq!(one_line("", 0), "");
    }
}
