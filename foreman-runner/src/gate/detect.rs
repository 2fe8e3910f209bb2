//! The gate that a repository's files tell of, when nobody named one. It keeps
//! to what a plain checkout can run: no linters that may not be installed.

use tokio_util::sync::CancellationToken;

use super::{GateError, GateStep};
use crate::workspace::Workspace;

/// Size of a file that is looked into, in bytes.
const FILE_BYTES_MAX: usize = 1 << 20;

/// A gate that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detected {
    /// The file that told.
    pub file: &'static str,
    /// Names and commands.
    commands: Vec<(&'static str, String)>,
    /// The command that fetches dependencies.
    pub setup: Option<&'static str>,
}

impl Detected {
    /// Its commands.
    pub(super) fn steps(&self) -> Vec<GateStep> {
        let commands = self.commands.iter().cloned();
        commands.map(|(name, command)| GateStep { name, command }).collect()
    }
}

/// Looks at the base commit.
///
/// # Errors
/// Those of reading it.
pub async fn detect(
    workspace: &Workspace,
    cancel: &CancellationToken,
) -> Result<Option<Detected>, GateError> {
    let names = workspace.base_names(cancel).await?;
    let has = |name: &str| names.iter().any(|it| it == name);
    let read = async |name: &str| -> Result<String, GateError> {
        if !has(name) {
            return Ok(String::new());
        }
        // One that is too large to be looked into tells nothing.
        let bytes = match workspace.base_file(name, FILE_BYTES_MAX, cancel).await {
            Err(crate::workspace::WorkspaceError::TooLarge { .. }) => None,
            other => other?,
        };
        Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
    };
    if has("Cargo.toml") {
        let setup = has("Cargo.lock").then_some("cargo fetch --locked");
        return found("Cargo.toml", &[("test", "cargo test")], setup);
    }
    if has("go.mod") {
        let commands =
            [("build", "go build ./..."), ("lint", "go vet ./..."), ("test", "go test ./...")];
        return found("go.mod", &commands, has("go.sum").then_some("go mod download"));
    }
    if let Some(test) = node_test(&read("package.json").await?, &names) {
        return found("package.json", &[("test", test)], node_setup(&names));
    }
    for file in PYTHON_FILES {
        let tests = has("tests/") || has("test/") || has("pytest.ini");
        if has(file) && (tests || read(file).await?.contains("pytest")) {
            return found(file, &[("test", "python3 -m pytest -q")], None);
        }
    }
    for file in ["Makefile", "makefile", "GNUmakefile"] {
        if has_target(&read(file).await?, "test") {
            return found(file, &[("test", "make test")], None);
        }
    }
    for (file, command) in TEST_SCRIPTS {
        // A file beneath a folder is not among the names at the top.
        let there = has(file)
            || file.contains('/')
                && workspace.base_file(file, FILE_BYTES_MAX, cancel).await?.is_some();
        if there {
            return found(file, &[("test", command)], None);
        }
    }
    Ok(None)
}

/// Scripts that run the tests, and how to start them.
const TEST_SCRIPTS: &[(&str, &str)] = &[
    ("test.sh", "sh ./test.sh"),
    ("run_tests.sh", "sh ./run_tests.sh"),
    ("tests/run.sh", "sh tests/run.sh"),
];

/// Files by which a Python project is known.
const PYTHON_FILES: &[&str] = &["pyproject.toml", "pytest.ini", "tox.ini", "setup.cfg", "setup.py"];

#[expect(clippy::unnecessary_wraps, reason = "every caller returns it as it is")]
fn found(
    file: &'static str,
    commands: &[(&'static str, &str)],
    setup: Option<&'static str>,
) -> Result<Option<Detected>, GateError> {
    let commands = commands.iter().map(|(name, command)| (*name, (*command).to_owned()));
    Ok(Some(Detected { file, commands: commands.collect(), setup }))
}

/// The command for a script `test` that is more than npm's placeholder.
fn node_test(package: &str, names: &[String]) -> Option<&'static str> {
    let package: serde_json::Value = serde_json::from_str(package).ok()?;
    let script = package.get("scripts")?.get("test")?.as_str()?;
    if script.trim().is_empty() || script.contains("no test specified") {
        return None;
    }
    let has = |name: &str| names.iter().any(|it| it == name);
    Some(match () {
        () if has("pnpm-lock.yaml") => "pnpm test",
        () if has("yarn.lock") => "yarn test",
        () => "npm test",
    })
}

fn node_setup(names: &[String]) -> Option<&'static str> {
    let setups = [
        ("pnpm-lock.yaml", "pnpm install --frozen-lockfile"),
        ("yarn.lock", "yarn install --frozen-lockfile"),
        ("package-lock.json", "npm ci"),
    ];
    let found = setups.into_iter().find(|(file, _)| names.iter().any(|it| it == file));
    found.map(|(_, command)| command)
}

/// Whether a makefile has a rule for `target`.
fn has_target(makefile: &str, target: &str) -> bool {
    makefile.lines().any(|line| {
        let rule = line.split_once(':').filter(|(_, rest)| !rest.starts_with('='));
        !line.starts_with(['\t', '#'])
            && rule.is_some_and(|(targets, _)| targets.split_whitespace().any(|it| it == target))
    })
}

#[cfg(test)]
mod tests {
    use super::{has_target, node_test};

    #[test]
    fn a_rule_is_told_from_other_lines() {
        for yes in ["test:\n", "all test: x\n", "test :\n", "x:\n\ty\ntest::\n"] {
            assert!(has_target(yes, "test"), "{yes:?}");
        }
        for no in ["", "\ttest:\n", "# test:\n", "test := x\n", "tests:\n", ".PHONY: test\n"] {
            assert!(!has_target(no, "test"), "{no:?}");
        }
    }

    #[test]
    fn npms_placeholder_is_no_test() {
        let names = ["package.json".to_owned()];
        let test =
            |script: &str| node_test(&format!("{{\"scripts\":{{\"test\":\"{script}\"}}}}"), &names);
        assert_eq!(test("jest"), Some("npm test"));
        assert_eq!(test("echo Error: no test specified && exit 1"), None);
        assert_eq!(node_test("not json", &names), None);
    }
}
