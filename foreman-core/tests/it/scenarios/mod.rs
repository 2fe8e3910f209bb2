//! Scenario files: one rule of the scheduler a file, text in, decision out (`scheduling/README.txt`
//! says how to add one). With `UPDATE_EXPECT=1` the expected halves are written anew.

mod decide;
mod text;
mod world;

use std::path::{Path, PathBuf};

use text::Scenario;

#[expect(clippy::disallowed_methods, reason = "a test reads its own files")]
fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/scheduling");
    let entries = std::fs::read_dir(&folder).expect("the folder of the scenarios");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "txt"))
        .filter(|path| path.file_name().is_some_and(|name| name != "README.txt"))
        .collect();
    files.sort();
    files
}

/// What is wrong with a scenario, with file and line.
#[expect(clippy::disallowed_methods, reason = "a test reads and updates its own files")]
async fn check(path: &Path, update: bool) -> Result<(), String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let found = |line: usize, what: &str| format!("{name}:{line}: {what}");
    let scenario = Scenario::parse(&text).map_err(|wrong| found(wrong.line, &wrong.what))?;
    let world = world::build(&scenario).await.map_err(|wrong| found(wrong.line, &wrong.what))?;
    let decided = decide::decide(&world).await;
    if decided == scenario.expected {
        return Ok(());
    }
    if update {
        let text = format!("{}---\n{decided}", scenario.given);
        return std::fs::write(path, text).map_err(|error| format!("{name}: {error}"));
    }
    let (wanted, decided): (Vec<_>, Vec<_>) =
        (scenario.expected.lines().collect(), decided.lines().collect());
    let mut lines = 0..wanted.len().max(decided.len());
    let differs = lines.find(|n| wanted.get(*n) != decided.get(*n)).unwrap_or_default();
    let nothing = "(nothing)";
    Err(format!(
        "{}\n  expected: {}\n  decided:  {}\n  the whole decision:\n    {}",
        found(scenario.expected_at + differs, "another decision"),
        wanted.get(differs).unwrap_or(&nothing),
        decided.get(differs).unwrap_or(&nothing),
        decided.join("\n    "),
    ))
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a person says that the files are to be updated")]
async fn every_scenario_decides_as_it_says() {
    let update = std::env::var("UPDATE_EXPECT").is_ok_and(|value| value == "1");
    let mut wrong = Vec::new();
    let files = files();
    assert!(!files.is_empty(), "there are scenarios");
    for path in files {
        wrong.extend(check(&path, update).await.err());
    }
    assert!(wrong.is_empty(), "{} scenarios\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn what_is_wrong_with_a_file_is_said_with_its_line() {
    let cases = [
        ("node a\n", 1, "there is no line --- between what is given and what is decided"),
        (
            "# a\n\nnude a\n---\n",
            3,
            "\"nude\" is no node, agent, workload, task, operator or passes",
        ),
        ("node\n---\n", 1, "a node needs a name"),
        ("node a\nnode b slots=many\n---\n", 2, "slots=many: a number is expected"),
        ("node a wings=2\n---\n", 1, "a node has no \"wings\""),
        ("node a ram=16\n---\n", 1, "ram=16: free/total is expected, e.g. 16/24"),
        ("passes soon\n---\n", 1, "passes soon: a number of seconds is expected"),
        ("task t of=w\n---\n", 1, "there is no workload \"w\""),
        ("task t note=\"on\n---\n", 1, "a quotation mark is not closed"),
        ("task t spec.priority=high\n---\n", 1, "the spec is not one of a task"),
    ];
    for (text, line, what) in cases {
        let wrong = match Scenario::parse(text) {
            Err(wrong) => wrong,
            Ok(scenario) => world::build(&scenario).await.err().expect("it is wrong"),
        };
        assert_eq!(wrong.line, line, "{text:?}: {}", wrong.what);
        assert!(wrong.what.starts_with(what), "{text:?}: {}", wrong.what);
    }
}
