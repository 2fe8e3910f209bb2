//! The repository: its gate, and the right to push to it.

use std::path::{Path, PathBuf};

use foreman_runner::git::{DEFAULT_BASE_URL, Git, Repository};
use foreman_runner::project::{PROJECT_FILE, ProjectFile};
use tokio_util::sync::CancellationToken;

use super::{Check, chain};
use crate::cli::gate_files::telling_file;
use crate::parts::Credential;
use crate::settings::Settings;

/// What to do when there is no gate.
const GATE_FIX: &str =
    "say how the change is judged, in .foreman.toml: [gate] then test = \"make test\"";
/// The branch of the dry run; it is never made.
const TRIAL_BRANCH: &str = "refs/heads/foreman/push-check";

pub(super) async fn checks(repo: Option<&str>, settings: &Settings) -> Vec<Check> {
    let Some(repo) = repo else {
        return match std::env::current_dir().ok().and_then(|dir| git_dir_above(&dir)) {
            Some(git_dir) => vec![gate(&git_dir).await],
            None => vec![Check::warn(
                "gate",
                "this folder is in no git repository",
                "name one: --repo REPO",
            )],
        };
    };
    let path = Path::new(repo);
    let absolute = if path.is_dir() { path.canonicalize().ok() } else { None };
    let named =
        absolute.as_ref().map_or_else(|| repo.to_owned(), |path| path.display().to_string());
    let repository = match Repository::parse(&named, DEFAULT_BASE_URL) {
        Ok(repository) => repository,
        Err(error) => {
            let fix = "write a path, a URL or OWNER/NAME";
            return vec![Check::fail("repository", chain(&error), fix)];
        }
    };
    let mut checks = Vec::new();
    if let Some(git_dir) = repository.local().and_then(git_dir_of) {
        checks.push(gate(&git_dir).await);
    }
    checks.push(push(&repository, settings).await);
    checks
}

/// The git dir of the repository that a folder is in.
fn git_dir_above(dir: &Path) -> Option<PathBuf> {
    dir.ancestors().find_map(git_dir_of)
}

/// The git dir of a folder that is the root of a repository: `.git`, what a `.git` file names, or
/// the folder itself when it is bare.
fn git_dir_of(dir: &Path) -> Option<PathBuf> {
    let inner = dir.join(".git");
    if inner.is_dir() {
        return Some(inner);
    }
    if inner.is_file() {
        let text = std::fs::read_to_string(&inner).ok()?;
        let named = text.strip_prefix("gitdir:")?.trim();
        return Some(dir.join(named)).filter(|git_dir| git_dir.is_dir());
    }
    let bare = dir.join("objects").is_dir() && dir.join("HEAD").is_file();
    bare.then(|| dir.to_owned())
}

/// What would judge a change that starts from the committed HEAD.
async fn gate(git_dir: &Path) -> Check {
    let git = Git::default();
    match telling_file(&git, git_dir, "HEAD").await {
        Err(error) => return Check::warn("gate", chain(&error), "commit something first"),
        Ok(None) => {
            let what = "no gate is known: work would end as not verified";
            return Check::warn("gate", what, GATE_FIX);
        }
        Ok(Some(PROJECT_FILE)) => {}
        Ok(Some(file)) => return Check::ok("gate", format!("found by {file}")),
    }
    let shown = git
        .call("read the project file of HEAD")
        .at(git_dir, None)
        .args(["cat-file", "blob", "HEAD:.foreman.toml"])
        .run(&CancellationToken::new())
        .await;
    match shown {
        Err(error) => Check::fail("gate", chain(&error), "check the file in HEAD"),
        Ok(output) => match ProjectFile::parse(&output.text()) {
            Ok(_) => Check::ok("gate", format!("{PROJECT_FILE} of HEAD")),
            Err(error) => {
                Check::fail("gate", chain(&error), format!("correct {PROJECT_FILE} and commit it"))
            }
        },
    }
}

/// A push that git is told not to carry out: the server checks the credential, nothing is written.
async fn push(repository: &Repository, settings: &Settings) -> Check {
    let credential = match Credential::find(settings, None).await {
        Ok(credential) => credential,
        Err(failure) => return Check::fail("push", chain(&failure), "correct the token file"),
    };
    let git = Git::new(credential.git.clone());
    match try_push(&git, repository).await {
        Ok(()) => Check::ok("push", format!("{repository} would take a branch (dry run)")),
        Err(error) => Check::fail(
            "push",
            error,
            format!("check your rights there; the credential came from {}", credential.origin),
        ),
    }
}

async fn try_push(git: &Git, repository: &Repository) -> Result<(), String> {
    if let Some(git_dir) = repository.local().and_then(git_dir_of) {
        let objects = git_dir.join("objects");
        rustix::fs::access(&objects, rustix::fs::Access::WRITE_OK)
            .map_err(|error| format!("{}: {error}", objects.display()))?;
    }
    let cancel = CancellationToken::new();
    let scratch = tempfile::tempdir().map_err(|error| chain(&error))?;
    let bare = scratch.path().join("trial.git");
    let told = |error: foreman_runner::git::GitError| chain(&error);
    git.call("make a repository for the trial")
        .args(["init", "--quiet", "--bare", "--"])
        .args([bare.as_os_str()])
        .run(&cancel)
        .await
        .map_err(told)?;
    let tree = git
        .call("make an empty tree")
        .at(&bare, None)
        .args(["mktree"])
        .stdin(Vec::new())
        .run(&cancel)
        .await
        .map_err(told)?;
    let mut commit = git.call("make a commit for the trial").at(&bare, None);
    for (name, value) in [
        ("GIT_AUTHOR_NAME", "foreman doctor"),
        ("GIT_AUTHOR_EMAIL", "doctor@foreman.invalid"),
        ("GIT_COMMITTER_NAME", "foreman doctor"),
        ("GIT_COMMITTER_EMAIL", "doctor@foreman.invalid"),
    ] {
        commit = commit.env(name, value);
    }
    let commit = commit
        .args(["commit-tree", "-m", "trial", tree.text().trim()])
        .run(&cancel)
        .await
        .map_err(told)?;
    let update = format!("{}:{TRIAL_BRANCH}", commit.text().trim());
    git.call("try a push")
        .at(&bare, None)
        .with_remote(repository)
        .args(["push", "--dry-run", "--no-verify", "--porcelain", "--", repository.url(), &update])
        .run(&cancel)
        .await
        .map(drop)
        .map_err(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_dirs_are_found_in_all_their_forms() {
        let root = tempfile::tempdir().expect("a directory");
        let plain = root.path().join("plain");
        std::fs::create_dir_all(plain.join(".git")).expect("made");
        std::fs::create_dir_all(plain.join("src/deep")).expect("made");
        assert_eq!(git_dir_above(&plain.join("src/deep")), Some(plain.join(".git")));
        let tree = root.path().join("tree");
        std::fs::create_dir(&tree).expect("made");
        std::fs::write(tree.join(".git"), "gitdir: ../plain/.git\n").expect("written");
        assert_eq!(git_dir_of(&tree), Some(tree.join("../plain/.git")));
        let bare = root.path().join("bare.git");
        std::fs::create_dir_all(bare.join("objects")).expect("made");
        std::fs::write(bare.join("HEAD"), "ref: refs/heads/main\n").expect("written");
        assert_eq!(git_dir_of(&bare), Some(bare));
        assert_eq!(git_dir_of(root.path()), None);
    }
}
