//! Where a piece of text stands in a file: exactly, or with the whitespace that models get wrong.
//! Pure functions; a recovery is taken only when it is unique, and always said.

use std::ops::Range;

use super::nearest::nearest;

/// A replacement to make.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Where.
    pub(super) at: Vec<Range<usize>>,
    /// What to put there.
    pub(super) new: String,
    /// How it was recognised, when not exactly.
    pub(super) note: Option<&'static str>,
}

/// Why there is nothing to replace.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotFound {
    /// Not there; the lines that come nearest, if any.
    Nowhere { nearest: Option<String> },
    /// There, but not as often as expected: the line numbers.
    Count { lines: Vec<usize> },
}

/// Finds `old` in `text` exactly `expected` times and says what to put in its place.
pub(super) fn locate(text: &str, old: &str, new: &str, expected: usize) -> Result<Found, NotFound> {
    let exact = matches(text, old);
    if !exact.is_empty() {
        return counted(text, exact, expected).map(|at| Found {
            at,
            new: fit_line_ends(text, new),
            note: None,
        });
    }
    if text.contains("\r\n") && old.contains('\n') {
        let at = matches(text, &to_crlf(old));
        if !at.is_empty() {
            return counted(text, at, expected).map(|at| Found {
                at,
                new: to_crlf(new),
                note: None,
            });
        }
    }
    if let Some((old, new)) = without_line_numbers(old, new) {
        let at = matches(text, &old);
        if !at.is_empty() {
            let note = Some("the line numbers of read_file were left out");
            return counted(text, at, expected).map(|at| Found {
                at,
                new: fit_line_ends(text, &new),
                note,
            });
        }
    }
    if expected == 1
        && let Some(found) = by_lines(text, old, new)
    {
        return Ok(found);
    }
    Err(NotFound::Nowhere { nearest: nearest(text, old) })
}

/// The number of the line in which a byte stands, from 1.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

fn matches(text: &str, old: &str) -> Vec<Range<usize>> {
    text.match_indices(old).map(|(at, found)| at..at + found.len()).collect()
}

fn counted(
    text: &str,
    at: Vec<Range<usize>>,
    expected: usize,
) -> Result<Vec<Range<usize>>, NotFound> {
    if at.len() == expected {
        return Ok(at);
    }
    Err(NotFound::Count { lines: at.iter().map(|range| line_of(text, range.start)).collect() })
}

fn to_crlf(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\n', "\r\n")
}

/// A file with CRLF keeps it.
fn fit_line_ends(text: &str, new: &str) -> String {
    let crlf = text.matches("\r\n").count();
    let all = text.matches('\n').count();
    if crlf > 0 && crlf == all { to_crlf(new) } else { new.to_owned() }
}

/// Models copy the numbers that `read_file` shows.
fn without_line_numbers(old: &str, new: &str) -> Option<(String, String)> {
    let strip = |text: &str| -> Option<String> {
        let lines: Option<Vec<&str>> = text
            .split('\n')
            .map(|line| {
                let (number, rest) = line.split_once('\t')?;
                number.trim().parse::<u32>().ok().map(|_| rest)
            })
            .collect();
        lines.map(|lines| lines.join("\n"))
    };
    let old = strip(old.strip_suffix('\n').unwrap_or(old))?;
    Some((old, strip(new).unwrap_or_else(|| new.to_owned())))
}

/// Whole lines that differ only in trailing whitespace, or are indented differently throughout.
fn by_lines(text: &str, old: &str, new: &str) -> Option<Found> {
    let file = lines_of(text);
    let old_lines: Vec<&str> =
        old.strip_suffix('\n').unwrap_or(old).split('\n').map(trim_end).collect();
    if old_lines.iter().all(|line| line.is_empty()) {
        return None;
    }
    let windows = || file.windows(old_lines.len().max(1));
    let hits: Vec<usize> = windows()
        .enumerate()
        .filter(|(_, window)| {
            window.iter().zip(&old_lines).all(|((_, line), old)| trim_end(line) == *old)
        })
        .map(|(at, _)| at)
        .collect();
    let window_range = |at: usize| -> Option<Range<usize>> {
        let window = file.get(at..at + old_lines.len())?;
        let (first, _) = window.first()?;
        let (last, line) = window.last()?;
        // The line's own end stays, unless `old` named it.
        let end =
            if old.ends_with('\n') { last + line.len() } else { last + trim_line_end(line).len() };
        Some(*first..end)
    };
    if let [at] = hits.as_slice() {
        let note = Some("whitespace at line ends was ignored");
        return Some(Found { at: vec![window_range(*at)?], new: fit_line_ends(text, new), note });
    }
    if !hits.is_empty() {
        return None;
    }
    let shifts: Vec<(usize, Shift)> = windows()
        .enumerate()
        .filter_map(|(at, window)| {
            let pairs =
                window.iter().map(|(_, line)| trim_end(line)).zip(old_lines.iter().copied());
            shift_between(pairs).map(|shift| (at, shift))
        })
        .collect();
    let [(at, shift)] = shifts.as_slice() else {
        return None;
    };
    let note = Some("the indentation was adapted to that of the file");
    Some(Found { at: vec![window_range(*at)?], new: fit_line_ends(text, &shift.apply(new)), note })
}

/// How the file is indented against what the model wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shift {
    Deeper(String),
    Shallower(String),
}

impl Shift {
    fn apply(&self, text: &str) -> String {
        let lines: Vec<String> = text
            .split('\n')
            .map(|line| match self {
                Self::Deeper(prefix) if !line.trim().is_empty() => format!("{prefix}{line}"),
                Self::Deeper(_) => line.to_owned(),
                Self::Shallower(prefix) => line
                    .strip_prefix(prefix.as_str())
                    .unwrap_or_else(|| line.trim_start())
                    .to_owned(),
            })
            .collect();
        lines.join("\n")
    }
}

/// The one prefix by which all lines differ, if there is one.
fn shift_between<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Shift> {
    let mut shift: Option<Shift> = None;
    for (file, old) in pairs {
        if file.trim_start() != old.trim_start() {
            return None;
        }
        if file.trim_start().is_empty() {
            continue;
        }
        let this = match (file.strip_suffix(old), old.strip_suffix(file)) {
            (Some(prefix), _) if !prefix.is_empty() => Shift::Deeper(prefix.to_owned()),
            (_, Some(prefix)) if !prefix.is_empty() => Shift::Shallower(prefix.to_owned()),
            _ => return None,
        };
        match &shift {
            None => shift = Some(this),
            Some(known) if *known == this => {}
            Some(_) => return None,
        }
    }
    shift
}

/// Start and text of each line, line end included.
fn lines_of(text: &str) -> Vec<(usize, &str)> {
    let mut at = 0;
    text.split_inclusive('\n')
        .map(|line| {
            let start = at;
            at += line.len();
            (start, line)
        })
        .collect()
}

fn trim_line_end(line: &str) -> &str {
    line.strip_suffix("\r\n").or_else(|| line.strip_suffix('\n')).unwrap_or(line)
}

fn trim_end(line: &str) -> &str {
    line.trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn replaced(
        text: &str,
        old: &str,
        new: &str,
    ) -> Result<(String, Option<&'static str>), NotFound> {
        let found = locate(text, old, new, 1)?;
        let range = found.at.first().cloned().expect("one place");
        let mut out = text.to_owned();
        out.replace_range(range, &found.new);
        Ok((out, found.note))
    }

    #[test]
    fn exact_and_crlf() {
        assert_eq!(replaced("a\nb\nc\n", "b", "x"), Ok(("a\nx\nc\n".into(), None)));
        assert_eq!(
            replaced("a\r\nb\r\nc\r\n", "a\nb", "x\ny"),
            Ok(("x\r\ny\r\nc\r\n".into(), None))
        );
        assert_eq!(replaced("a\r\nb\r\n", "b", "x\ny"), Ok(("a\r\nx\r\ny\r\n".into(), None)));
    }

    #[test]
    fn whitespace_drift_is_taken_only_when_unique() {
        let (text, note) = replaced("if x {  \n\tgo();\n}\n", "if x {\n\tgo();", "if y {\n\tgo();")
            .expect("found");
        assert_eq!(text, "if y {\n\tgo();\n}\n");
        assert!(note.is_some_and(|n| n.contains("line ends")));
        let (text, note) =
            replaced("fn f() {\n    a();\n    b();\n}\n", "a();\nb();", "a();\n  c();")
                .expect("found");
        assert_eq!(text, "fn f() {\n    a();\n      c();\n}\n");
        assert!(note.is_some_and(|n| n.contains("indentation")));
        let (text, _) = replaced("x:\n  a\n  b\n", "    a\n    b", "    a\n    c").expect("found");
        assert_eq!(text, "x:\n  a\n  c\n");
        assert!(replaced("  a\n  b\n    a\n    b\n", "a\nb\n", "x").is_err(), "two candidates");
    }

    #[test]
    fn copied_line_numbers_are_recognised() {
        let (text, note) =
            replaced("a\nb\nc\n", "     2\tb\n     3\tc", "     2\tx\n     3\ty").expect("found");
        assert_eq!(text, "a\nx\ny\n");
        assert!(note.is_some_and(|n| n.contains("line numbers")));
    }

    #[test]
    fn misses_say_where_to_look() {
        assert_eq!(locate("a\nb\na\n", "a", "x", 1), Err(NotFound::Count { lines: vec![1, 3] }));
        let text = "one\nlet total = sum(values);\nthree\n";
        let Err(NotFound::Nowhere { nearest: Some(lines) }) =
            locate(text, "let total = add(values);", "x", 1)
        else {
            panic!("a near line");
        };
        assert!(lines.contains("     2\tlet total = sum(values);"), "{lines}");
        assert_eq!(locate("abc", "zzzzqqqq", "x", 1), Err(NotFound::Nowhere { nearest: None }));
    }

    proptest! {
        #[test]
        fn any_two_texts_give_an_answer_and_places_lie_in_the_text(text in "[ab \t\r\n]{0,60}", old in "[ab \t\r\n]{1,10}", n in 1usize..4) {
            if let Ok(found) = locate(&text, &old, "n", n) {
                prop_assert_eq!(found.at.len(), n);
                for range in found.at {
                    prop_assert!(text.get(range).is_some());
                }
            }
        }

        #[test]
        fn what_is_there_once_is_replaced_exactly(before in "[a-c\n]{0,20}", after in "[a-c\n]{0,20}") {
            let text = format!("{before}XYZ{after}");
            prop_assert_eq!(replaced(&text, "XYZ", "q"), Ok((format!("{before}q{after}"), None)));
        }
    }
}
