//! Escaping of control characters in text for logs and terminals.
//!
//! File names, peer names and labels come from outside, and so do errors that quote them. A raw line feed in such text
//! would forge a log line. A raw escape sequence or a bidirectional override would change what a terminal displays.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
};

/// Returns whether a character moves the cursor, ends the line, changes the direction of text or is invisible:
/// Unicode's categories Cc, Zl and Zp, and format characters of Cf without a glyph.
pub(super) fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

fn escaped(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    let harmful = |character: char| is_unsafe(character) && !keep(character);
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if harmful(character) {
            // Writing to a string cannot fail.
            let _ = write!(safe, "{}", character.escape_default());
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

/// Returns the text on one line. A hint, which is otherwise on a separate line, follows after a semicolon.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    if text.contains("\nhint: ") {
        let joined = text.replace("\nhint: ", "; hint: ");
        return Cow::Owned(escaped(&joined, |_| false).into_owned());
    }
    escaped(text, |_| false)
}

/// Returns the text for a terminal. Line feeds stay, but every following line except for hints is indented, so that it
/// cannot be taken for a message of the program.
pub(crate) fn indented(text: &str) -> String {
    let safe = escaped(text, |character| character == '\n');
    let mut lines = safe.lines();
    let mut shown = lines.next().unwrap_or_default().to_owned();
    for line in lines {
        shown.push_str(if line.starts_with("hint: ") { "\n" } else { "\n  " });
        shown.push_str(line);
    }
    shown
}

/// Formats a value on one line.
pub(crate) fn debug_on_one_line(value: &dyn fmt::Debug) -> String {
    let text = format!("{value:?}");
    match one_line(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(safe) => safe,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_or_invisible_character_stays() {
        let foreign = "a\nb\r\u{1b}[2J\u{9b}31m\u{7f}\u{202e}gpj\u{2066}\u{2028}\u{200b}\u{feff}\u{e0041}\0\tz";
        let safe = one_line(foreign);
        assert!(!safe.contains(is_unsafe), "{safe}");
        assert!(
            safe.starts_with("a\\nb\\r\\u{1b}[2J\\u{9b}31m\\u{7f}\\u{202e}gpj"),
            "{safe}"
        );
        assert_eq!(one_line("Zürich 雪 ✓ 'x' \\ \""), "Zürich 雪 ✓ 'x' \\ \"");
    }

    #[test]
    fn a_hint_joins_the_line() {
        assert_eq!(one_line("no such task\nhint: name one"), "no such task; hint: name one");
    }

    #[test]
    fn continued_lines_cannot_pass_for_messages_of_the_program() {
        let shown = indented("file 'a\nerror: forged\u{1b}[2J'\nhint: rename it");
        assert_eq!(shown, "file 'a\n  error: forged\\u{1b}[2J'\nhint: rename it");
    }
}
