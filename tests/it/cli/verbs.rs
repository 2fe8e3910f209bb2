//! What the program prints as a command exists: every `foreman …` in its sources is a verb with
//! flags that it has.

use std::collections::BTreeSet;
use std::path::Path;

use super::lab::Lab;

/// What stands after the name in a sentence.
const PROSE: [&str; 2] = ["runs", "that"];

/// The texts between quotes of a source file, without its tests; a line that ends with a backslash goes
/// on in the next one.
fn texts(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let mut texts = Vec::new();
    let mut text: Option<String> = None;
    for line in code.lines() {
        let line = line.trim_start();
        if text.is_none() && (line.starts_with("//") || line.starts_with("#![")) {
            continue;
        }
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            match (&mut text, c) {
                (None, '"') => text = Some(String::new()),
                (None, '\'') if chars.peek() == Some(&'"') => {
                    chars.next();
                }
                (None, _) => {}
                (Some(_), '"') => texts.extend(text.take()),
                (Some(inner), '\\') => match chars.next() {
                    Some('n') => inner.push('\n'),
                    Some(escaped) => inner.push(escaped),
                    None => {}
                },
                (Some(inner), c) => inner.push(c),
            }
        }
    }
    texts
}

fn sources(dir: &Path, all: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).expect("read") {
        let path = entry.expect("read").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|it| it == "rs") && !name.ends_with("tests.rs") {
            all.extend(texts(&std::fs::read_to_string(&path).expect("text")));
        }
    }
}

/// The words after each `foreman ` that look like a verb, with the flags that follow on the line.
fn commands(text: &str) -> Vec<(String, Vec<String>)> {
    let mut commands = Vec::new();
    for (at, _) in text.match_indices("foreman ") {
        let before = text.get(..at).and_then(|before| before.chars().last());
        if before.is_some_and(|c| c.is_alphanumeric() || "-_/.".contains(c)) {
            continue;
        }
        let rest = text.get(at + "foreman ".len()..).unwrap_or_default();
        let rest = rest.split(['\n', '|', ';', '`']).next().unwrap_or_default();
        let mut words = rest.split_whitespace();
        let verb = words.next().unwrap_or_default();
        let verb = verb.trim_end_matches(|c: char| !c.is_alphanumeric());
        let named = !verb.is_empty() && verb.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        if named && !PROSE.contains(&verb) {
            let flags = words.take_while(|word| *word != "goes" && *word != "foreman");
            let flags = flags.filter(|word| word.starts_with("--") && word.len() > 2);
            let plain = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
            let flags = flags.map(|flag| flag.split(plain).next().unwrap_or_default().to_owned());
            commands.push((verb.to_owned(), flags.collect()));
        }
    }
    commands
}

#[test]
fn every_command_in_a_text_of_the_program_exists() {
    let lab = Lab::new();
    let mut all = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../foreman-bin/src"), &mut all);
    let named: BTreeSet<_> = all.iter().flat_map(|text| commands(text)).collect();
    assert!(named.len() > 30, "the texts were not found: {named:?}");
    let mut wrong = Vec::new();
    for (verb, flags) in named {
        let help = lab.run(&["help", &verb]);
        if help.code != Some(0) {
            wrong.push(format!("foreman {verb} is no verb"));
            continue;
        }
        let unknown = flags.iter().filter(|flag| !help.out.contains(*flag));
        wrong.extend(unknown.map(|flag| format!("foreman {verb} has no {flag}")));
    }
    assert_eq!(wrong, Vec::<String>::new());
}
