//! Text of models, tools, repositories and issues on its way to a terminal.
//!
//! A terminal obeys what is in the text: it moves the cursor, writes the clipboard (OSC 52), makes
//! links that lead elsewhere (OSC 8), and reverses the order of letters. So such text goes through
//! [`Untrusted`], which leaves only what can be seen.

use std::fmt::{self, Write as _};

/// Text that is shown without anything that a terminal would obey: escape sequences (CSI, OSC, DCS
/// and the like, in their 7-bit and 8-bit forms), other control characters, and characters that
/// change the direction of text or are invisible. What is left is never longer than the text.
#[derive(Debug, Clone, Copy)]
pub struct Untrusted<'a> {
    text: &'a str,
    lines: bool,
}

impl<'a> Untrusted<'a> {
    /// The text on one line: line breaks and tabs become spaces.
    pub const fn line(text: &'a str) -> Self {
        Self { text, lines: false }
    }

    /// The text with its line breaks and tabs.
    pub const fn block(text: &'a str) -> Self {
        Self { text, lines: true }
    }
}

/// The text on one line, as a string; at most `max` characters, the last one `…` where it was cut.
pub fn line(text: &str, max: usize) -> String {
    let clean = Untrusted::line(text).to_string();
    if clean.chars().count() <= max {
        return clean;
    }
    let mut cut: String = clean.chars().take(max.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// JSON with every character that a terminal would obey, or not show, written as `\\uXXXX`: the same
/// JSON, safe to look at. (Such a character can only stand inside a string.)
pub fn escape_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if matches!(c, '\n' | '\t') || !is_hidden(c) {
            out.push(c);
            continue;
        }
        let mut units = [0_u16; 2];
        for unit in c.encode_utf16(&mut units) {
            // Writing into a string does not fail.
            let _infallible = write!(out, "\\u{unit:04x}");
        }
    }
    out
}

/// Whether the text has a character that a terminal would obey or not show.
pub fn has_hidden(text: &str) -> bool {
    text.chars().any(|c| !matches!(c, '\n' | '\t') && is_hidden(c))
}

/// Where in an escape sequence we are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Text,
    /// After ESC.
    Escape,
    /// In a control sequence: until a final byte.
    Csi,
    /// In a control string (OSC, DCS, …): until BEL or ST. It also ends at a line break, so that one
    /// that is never closed does not swallow a whole log.
    String,
    /// After an ESC in a control string.
    StringEscape,
}

impl fmt::Display for Untrusted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut state = State::Text;
        for c in self.text.chars() {
            let (next, shown) = step(state, c);
            state = next;
            match shown {
                Some('\n' | '\t') if !self.lines => f.write_char(' ')?,
                Some(c) => f.write_char(c)?,
                None => {}
            }
        }
        Ok(())
    }
}

/// What one character does: the next state, and the character if it is shown.
fn step(state: State, c: char) -> (State, Option<char>) {
    match (state, c) {
        // A line break is shown wherever it stands, and ends what was never closed.
        (_, '\n' | '\u{85}' | '\u{2028}' | '\u{2029}') => (State::Text, Some('\n')),
        // CAN and SUB end a sequence; BEL and ST end a string; a final byte ends the others.
        (_, '\u{18}' | '\u{1a}')
        | (State::String, '\u{7}' | '\u{9c}')
        | (State::StringEscape, '\\')
        | (State::Escape, '0'..='O' | 'Q'..='W' | 'Y' | 'Z' | '`'..='~' | '\\')
        | (State::Csi, '@'..='~') => (State::Text, None),
        (State::String, '\u{1b}') => (State::StringEscape, None),
        (State::StringEscape, c) => step(State::Escape, c),
        (_, '\u{1b}') | (State::Escape, ' '..='/') => (State::Escape, None),
        (State::Text | State::Escape | State::Csi, '\u{9b}')
        | (State::Escape, '[')
        | (State::Csi, ' '..='?') => (State::Csi, None),
        (
            State::Text | State::Escape | State::Csi,
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}',
        )
        | (State::Escape, ']' | 'P' | 'X' | '^' | '_')
        | (State::String, _) => (State::String, None),
        (State::Csi | State::Escape, c) if c.is_control() => (state, None),
        (State::Text | State::Csi | State::Escape, c) => {
            (State::Text, (c == '\t' || !is_hidden(c)).then_some(c))
        }
    }
}

/// Control characters, marks that change the direction of text, and invisible ones.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_gone() {
        let cases = [
            ("plain text, ü 日本 👩‍💻", "plain text, ü 日本 👩‍💻"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{9b}31mred", "red"),
            ("a\u{1b}]52;c;ZXZpbA==\u{7}b", "ab"),
            ("a\u{1b}]8;;http://evil\u{1b}\\link\u{1b}]8;;\u{1b}\\b", "alinkb"),
            ("a\u{9d}52;c;x\u{9c}b", "ab"),
            ("a\u{1b}Pq#0\u{1b}\\b", "ab"),
            ("a\u{1b}(0b\u{1b}cc", "abc"),
            ("one\r\ntwo\rthree", "one\ntwothree"),
            ("a\u{7}\u{8}\u{0}\u{7f}b", "ab"),
            ("ab\u{202e}dc\u{2066}x\u{200f}", "abdcx"),
            ("tag\u{e0041}s", "tags"),
            ("open \u{1b}]0;title never closed\nnext line", "open \nnext line"),
            ("cut \u{1b}[", "cut "),
            ("cancel \u{1b}[31\u{18}m", "cancel m"),
            ("nested \u{1b}\u{1b}[2Jx", "nested x"),
            ("osc \u{1b}]0;a\u{1b}[31mb", "osc b"),
            ("tab\there", "tab\there"),
        ];
        for (given, shown) in cases {
            assert_eq!(Untrusted::block(given).to_string(), shown, "{given:?}");
        }
    }

    #[test]
    fn nothing_that_controls_is_left_of_any_pair_of_characters() {
        let odd: Vec<char> = ('\0'..='\u{ff}').chain(['\u{202e}', '\u{2069}', 'x']).collect();
        for a in &odd {
            for b in &odd {
                let text: String = ['\u{1b}', *a, *b, '\u{9b}', *b, *a].into_iter().collect();
                let shown = Untrusted::block(&text).to_string();
                assert!(
                    shown.chars().all(|c| c == '\n' || c == '\t' || !is_hidden(c)),
                    "{text:?} gave {shown:?}"
                );
            }
        }
    }

    #[test]
    fn json_stays_the_same_json() {
        let value = serde_json::json!({"a": "x\u{9b}31m\u{202e}y\u{e0041}z\n\u{1b}[0m", "b": "ü"});
        let text = escape_json(&serde_json::to_string_pretty(&value).expect("plain"));
        assert!(!has_hidden(&text), "{text:?}");
        let back: serde_json::Value = serde_json::from_str(&text).expect("still JSON");
        assert_eq!(back, value);
    }

    #[test]
    fn one_line_stays_one_line_and_is_cut() {
        assert_eq!(Untrusted::line("a\nb\tc").to_string(), "a b c");
        assert_eq!(line("abcdef", 6), "abcdef");
        assert_eq!(line("abcdefg", 6), "abcde…");
        assert_eq!(line("\u{1b}[1mabcdefg", 3), "ab…");
    }
}
