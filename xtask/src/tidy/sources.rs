//! Source texts: size, unfinished work, white space.

use std::path::Path;

use super::Finding;
use crate::repo;

/// More lines are a warning.
const LINES_GOOD_MAX: usize = 400;
/// More lines are an error, unless the file says why.
const LINES_MAX: usize = 600;
/// How a file says why it is long.
const EXCUSE: &str = "// tidy: ";
/// Only this many lines at the top are searched for the excuse.
const EXCUSE_LINES_MAX: usize = 10;

// Written in two parts, so that this file does not find itself.
const UNFINISHED: [&str; 5] = [
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("FIX", "ME"),
    concat!("X", "XX"),
    concat!("#[ig", "nore"),
];

/// Checks all texts but recorded ones.
pub(super) fn check(root: &Path, files: &[String]) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for name in files.iter().filter(|name| !name.split('/').any(|part| part == "fixtures")) {
        let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
        match extension {
            Some("rs") => {
                let text = repo::read(root, name)?;
                findings.extend(size(name, &text));
                findings.extend(unfinished(name, &text));
                findings.extend(white_space(name, &text));
            }
            Some("md" | "toml" | "yaml" | "yml" | "sh") => {
                findings.extend(white_space(name, &repo::read(root, name)?));
            }
            Some(_) | None => {}
        }
    }
    Ok(findings)
}

fn size(name: &str, text: &str) -> Option<Finding> {
    let lines = text.lines().count();
    let excuse = text
        .lines()
        .take(EXCUSE_LINES_MAX)
        .any(|line| line.strip_prefix(EXCUSE).is_some_and(|reason| !reason.trim().is_empty()));
    if lines > LINES_MAX && !excuse {
        return Some(Finding::error(
            name,
            0,
            format!(
                "{lines} lines, at most {LINES_MAX}: split it by responsibility, or begin it with `{EXCUSE}<why it is one file>`"
            ),
        ));
    }
    (lines > LINES_GOOD_MAX && !excuse).then(|| {
        Finding::warning(name, 0, format!("{lines} lines, better at most {LINES_GOOD_MAX}"))
    })
}

fn unfinished(name: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for mark in UNFINISHED.into_iter().filter(|mark| has_word(line, mark)) {
            findings.push(Finding::error(
                name,
                index + 1,
                format!("{mark} is unfinished work: finish it or open an issue"),
            ));
        }
    }
    findings
}

/// Whether `line` has `mark`, not as a part of a longer word.
fn has_word(line: &str, mark: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(mark).any(|(start, found)| {
        let before = line.get(..start).unwrap_or_default();
        let after = line.get(start + found.len()..).unwrap_or_default();
        !(before.ends_with(part_of_word)
            || (mark.ends_with(part_of_word) && after.starts_with(part_of_word)))
    })
}

fn white_space(name: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.contains('\t') {
            findings.push(Finding::error(name, index + 1, "a tab: use spaces, or \\t".to_owned()));
        }
        if line.trim_end() != line {
            findings.push(Finding::error(name, index + 1, "white space at the end".to_owned()));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        findings.push(Finding::error(name, 0, "the last line does not end".to_owned()));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Weight;
    use super::*;

    #[test]
    fn size_warns_then_fails_unless_excused() {
        let weight = |lines: usize, top: &str| {
            size("a.rs", &format!("{top}{}", "x\n".repeat(lines))).map(|finding| finding.weight)
        };
        assert_eq!(weight(LINES_GOOD_MAX, ""), None);
        assert_eq!(weight(LINES_GOOD_MAX + 1, ""), Some(Weight::Warning));
        assert_eq!(weight(LINES_MAX + 1, ""), Some(Weight::Error));
        assert_eq!(weight(LINES_MAX + 1, "//! Doc.\n// tidy: one table\n"), None);
        assert_eq!(weight(LINES_MAX + 1, "// tidy: \n"), Some(Weight::Error));
    }

    #[test]
    fn unfinished_work_is_found_as_a_word() {
        let marks = UNFINISHED.map(|mark| unfinished("a.rs", &format!("let a = 1;\n{mark}")).len());
        assert_eq!(marks, [1; 5]);
        let longer = format!("mktemp {}{}", UNFINISHED[3], UNFINISHED[3]);
        assert_eq!(unfinished("a.rs", &longer), []);
        assert_eq!(unfinished("a.rs", &format!("my_{}", UNFINISHED[0])), []);
        assert_eq!(unfinished("a.rs", UNFINISHED[2])[0].line, 1);
    }

    #[test]
    fn white_space_is_found_by_line() {
        let lines =
            |text| white_space("a.md", text).into_iter().map(|one| one.line).collect::<Vec<_>>();
        assert_eq!(lines("a\nb\n"), [0; 0]);
        assert_eq!(lines("a \n\tb\nc"), [1, 2, 0]);
    }
}
