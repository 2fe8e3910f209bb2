//! Small helpers that every part uses.

use std::error::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::limits::DEVICE_NAME_CHARS_MAX;

/// Locks, also after a panic elsewhere: what these locks guard is valid after every statement.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error with its causes on one line, for a reason that a person reads.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    one_line(&text, 4 * DEVICE_NAME_CHARS_MAX)
}

/// Text of a command, a device or a server made fit to show: control characters become spaces,
/// runs of spaces one, and at most `chars_max` characters stay.
pub(crate) fn one_line(text: &str, chars_max: usize) -> String {
    let words: Vec<String> = text
        .split(|c: char| c.is_control() || c.is_whitespace() || is_invisible(c))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    words.join(" ").chars().take(chars_max).collect()
}

/// Characters that change the direction or the look of the text around them.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The first line that says something, made fit to show.
pub(crate) fn first_line(text: &str) -> Option<String> {
    let line = text.lines().find(|line| !line.trim().is_empty())?;
    Some(one_line(line, 2 * DEVICE_NAME_CHARS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sequences_and_long_text_do_not_get_through() {
        assert_eq!(one_line("a\u{1b}[31m\tb\u{202e}\r\n c", 100), "a [31m b c");
        assert_eq!(one_line(&"x".repeat(500), 10), "xxxxxxxxxx");
        assert_eq!(first_line("\n  \n second \n"), Some("second".to_owned()));
        assert_eq!(first_line(" \n"), None);
    }
}
