//! Cutting text to a bound without cutting a character, for everything that goes to a model, a log
//! or a person.

/// The longest start of `text` that has at most `bytes_max` bytes.
pub fn head(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or("")
}

/// The longest end of `text` that has at most `bytes_max` bytes.
pub fn tail(text: &str, bytes_max: usize) -> &str {
    let mut start = text.len().saturating_sub(bytes_max);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.get(start..).unwrap_or("")
}

/// `text` cut at its end, with a mark when something was cut.
pub fn clip(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    format!("{}…", head(text, bytes_max.saturating_sub('…'.len_utf8())))
}

/// The first `chars_max` characters of a line, with a mark that says how many are missing.
pub fn clip_chars(line: &str, chars_max: usize) -> String {
    match line.char_indices().nth(chars_max) {
        None => line.to_owned(),
        Some((at, _)) => {
            let missing = line.len() - at;
            format!("{}… [{missing} bytes more]", head(line, at))
        }
    }
}

/// Head and tail of `text` with a line between them that says how much is missing. The result has at
/// most `bytes_max` bytes, but for that line. The end of a log matters as much as its start.
pub fn head_and_tail(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let first = head(text, bytes_max / 2);
    let last = tail(text, bytes_max - bytes_max / 2);
    let missing = text.len() - first.len() - last.len();
    format!("{first}\n[... {missing} bytes omitted here ...]\n{last}")
}

/// An error with its causes on one line, for people; a cause that was said already is left out.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_keeps_characters_whole() {
        assert_eq!(head("aäb", 2), "a");
        assert_eq!(tail("aäb", 2), "b");
        assert_eq!(clip("abcdef", 5), "ab…");
        assert_eq!(clip("abc", 3), "abc");
        assert_eq!(clip_chars("äöü", 2), "äö… [2 bytes more]");
        assert_eq!(clip_chars("äöü", 3), "äöü");
    }

    #[test]
    fn head_and_tail_says_what_is_missing() {
        let text = "x".repeat(50) + &"y".repeat(50);
        let cut = head_and_tail(&text, 20);
        assert_eq!(cut, "xxxxxxxxxx\n[... 80 bytes omitted here ...]\nyyyyyyyyyy");
        assert_eq!(head_and_tail(&text, 100), text);
    }
}
