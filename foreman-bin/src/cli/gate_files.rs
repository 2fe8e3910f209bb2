//! Whether a repository tells of a gate, looked at before a run: by the names of its files only. The
//! run itself looks into them; what has none of these has no gate for certain.

use std::path::Path;

use foreman_runner::git::{Git, GitError};
use foreman_runner::project::PROJECT_FILE;
use tokio_util::sync::CancellationToken;

/// Files in the root of a repository that tell of a gate, most telling first.
const FILES: [&str; 14] = [
    PROJECT_FILE,
    "Cargo.toml",
    "go.mod",
    "package.json",
    "pyproject.toml",
    "pytest.ini",
    "tox.ini",
    "setup.cfg",
    "setup.py",
    "Makefile",
    "makefile",
    "GNUmakefile",
    "test.sh",
    "run_tests.sh",
];
/// The one that is in a folder.
const DEEPER: (&str, &str) = ("tests", "tests/run.sh");

/// The file of a commit that tells of a gate; none, when there is certainly no gate.
///
/// # Errors
/// Git cannot read the commit.
pub(super) async fn telling_file(
    git: &Git,
    git_dir: &Path,
    commit: &str,
) -> Result<Option<&'static str>, GitError> {
    let cancel = CancellationToken::new();
    let listing = git
        .call("list the files of the base")
        .at(git_dir, None)
        .args(["ls-tree", "--name-only", "-z", commit])
        .run(&cancel)
        .await?;
    let has = |wanted: &str| listing.fields().any(|name| name == wanted.as_bytes());
    if let Some(file) = FILES.into_iter().find(|file| has(file)) {
        return Ok(Some(file));
    }
    let (folder, file) = DEEPER;
    if !has(folder) {
        return Ok(None);
    }
    let object = format!("{commit}:{file}");
    let there = git
        .call("look for a test script")
        .at(git_dir, None)
        .args(["cat-file", "-e", object.as_str()])
        .run(&cancel)
        .await;
    Ok(there.is_ok().then_some(file))
}
