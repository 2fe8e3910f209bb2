//! The text of a scenario: what is given, a line `---`, what is decided.

/// What is wrong with a line.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) line: usize,
    pub(crate) what: String,
}

/// One line that says something: its number, its words, each with what stands behind its `=`.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) number: usize,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) words: Vec<(String, String)>,
}

impl Line {
    pub(crate) fn wrong(&self, what: impl Into<String>) -> Wrong {
        Wrong { line: self.number, what: what.into() }
    }
}

/// A file.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// Everything above the line `---`, as it stands.
    pub(crate) given: String,
    pub(crate) lines: Vec<Line>,
    /// Everything below it.
    pub(crate) expected: String,
    /// The number of the first line of it.
    pub(crate) expected_at: usize,
}

impl Scenario {
    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        let missing = "there is no line --- between what is given and what is decided";
        let mut scenario = Self {
            given: String::new(),
            lines: Vec::new(),
            expected: String::new(),
            expected_at: 0,
        };
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            if scenario.expected_at > 0 {
                scenario.expected.push_str(line);
                scenario.expected.push('\n');
                continue;
            }
            if line == "---" {
                scenario.expected_at = number + 1;
                continue;
            }
            scenario.given.push_str(line);
            scenario.given.push('\n');
            if !line.trim().is_empty() && !line.starts_with('#') {
                scenario.lines.push(parse_line(number, line)?);
            }
        }
        match scenario.expected_at {
            0 => Err(Wrong { line: text.lines().count(), what: missing.to_owned() }),
            _ => Ok(scenario),
        }
    }
}

fn parse_line(number: usize, line: &str) -> Result<Line, Wrong> {
    let wrong = |what: String| Wrong { line: number, what };
    let mut words = split(line).ok_or_else(|| wrong("a quotation mark is not closed".into()))?;
    let kind = words.remove(0);
    if !["node", "agent", "workload", "task", "operator", "passes"].contains(&kind.as_str()) {
        return Err(wrong(format!(
            "{kind:?} is no node, agent, workload, task, operator or passes"
        )));
    }
    if kind != "operator" && words.is_empty() {
        return Err(wrong(format!("a {kind} needs a name")));
    }
    let name = if kind == "operator" { String::new() } else { words.remove(0) };
    let words = words.into_iter().map(|word| match word.split_once('=') {
        Some((word, value)) => (word.to_owned(), value.to_owned()),
        None => (word, String::new()),
    });
    Ok(Line { number, kind, name, words: words.collect() })
}

/// The words of a line; quotation marks keep blanks together. Absent when one is not closed.
fn split(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for letter in line.chars() {
        match letter {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            letter => word.push(letter),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    (!quoted).then_some(words)
}
