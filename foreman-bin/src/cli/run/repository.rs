//! The repository of a run, looked at before anything is written: is it there, has it commits, may
//! we push.

use std::path::{Path, PathBuf};

use foreman_core::ports::Entropy;
use foreman_runner::git::{
    BranchName, DEFAULT_BASE_URL, Git, GitError, InvalidRepository, Repository,
};
use foreman_runner::workspace::{RemoteState, remote_state};
use tokio_util::sync::CancellationToken;

use crate::cli::gate_files::telling_file;
use crate::exit::{Exit, Failure};

/// Branches that are listed when the one that was named is not there.
const BRANCHES_SHOWN_MAX: usize = 5;

/// What a person named.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Asked<'a> {
    pub(in crate::cli) repo: &'a str,
    pub(in crate::cli) base: Option<&'a str>,
    /// The branch to make, which must not be there yet; absent = a manifest may name an old one.
    pub(in crate::cli) branch: Option<&'a str>,
    pub(in crate::cli) push_to: Option<&'a str>,
}

/// A repository that a run can work on.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Found {
    /// As a task names it: an absolute path, a URL or a slug.
    pub(in crate::cli) name: String,
    /// The commit that the work starts from.
    pub(in crate::cli) base: String,
    /// The branch of that commit.
    pub(in crate::cli) base_branch: Option<String>,
    /// The folder, if it is on this machine.
    pub(in crate::cli) folder: Option<PathBuf>,
    /// Where the branch is pushed, if elsewhere: as a task names it.
    pub(in crate::cli) push_to: Option<String>,
    /// Files with changes that are not committed and hence not seen by a run.
    pub(in crate::cli) uncommitted: usize,
    /// Whether it is certain that the repository tells of no gate.
    pub(in crate::cli) without_gate: bool,
}

impl Found {
    /// What a person is told who named no gate either.
    pub(in crate::cli) fn no_gate(&self) -> Option<String> {
        self.without_gate.then(|| {
            format!(
                "no gate found in {}: the work will not be verified; name one with --gate",
                self.name
            )
        })
    }
}

/// Looks at the repository and tries a push without pushing.
///
/// # Errors
/// Wrong usage for what a person can correct in the command, infrastructure for the rest.
pub(in crate::cli) async fn look_at(
    asked: Asked<'_>,
    git: &Git,
    entropy: &dyn Entropy,
) -> Result<Found, Failure> {
    let cancel = CancellationToken::new();
    let (name, repository, folder) = parse("--repo", asked.repo)?;
    let branch = asked.branch.map(BranchName::parse).transpose().map_err(|error| {
        Failure::new(Exit::Usage, "the branch to make has no valid name").because(error)
    })?;
    let state =
        remote_state(git, &repository, &cancel).await.map_err(|error| unusable(&name, error))?;
    let (base, base_branch) = base(&name, &state, asked.base)?;
    let target = match asked.push_to {
        None => None,
        Some(push_to) => Some(parse("--push-to", push_to)?),
    };
    let push_target = target.as_ref().map_or(&repository, |(_, repository, _)| repository);
    let there = match &target {
        None => state,
        Some((name, repository, _)) => {
            remote_state(git, repository, &cancel).await.map_err(|error| unusable(name, error))?
        }
    };
    if let Some(branch) = branch.filter(|branch| there.branches.contains_key(branch.as_str())) {
        return Err(Failure::new(Exit::Usage, format!("branch {branch} exists already"))
            .next("name another: --branch NAME"));
    }
    try_push(git, push_target, entropy, &cancel).await?;
    let uncommitted = match &folder {
        Some(folder) => uncommitted(git, folder, &cancel).await,
        None => 0,
    };
    let without_gate = match folder.as_deref().and_then(git_dir) {
        // One that cannot be read tells of itself when the run begins.
        Some(git_dir) => matches!(telling_file(git, &git_dir, &base).await, Ok(None)),
        None => false,
    };
    let push_to = target.map(|(name, _, _)| name);
    Ok(Found { name, base, base_branch, folder, push_to, uncommitted, without_gate })
}

/// A path becomes absolute and is taken up to the root of its repository; all else is a URL or a
/// slug, as git's own side understands it.
fn parse(flag: &str, given: &str) -> Result<(String, Repository, Option<PathBuf>), Failure> {
    let no_repository = |error: InvalidRepository| {
        Failure::new(Exit::Usage, format!("{flag} names no repository"))
            .next("give a folder, a URL, or owner/name")
            .because(error)
    };
    let path = Path::new(given);
    let is_path = given.starts_with(['.', '/', '~']) || path.is_dir();
    if !is_path {
        let repository = Repository::parse(given, DEFAULT_BASE_URL).map_err(no_repository)?;
        return Ok((given.to_owned(), repository, None));
    }
    let folder = std::fs::canonicalize(path).map_err(|error| {
        Failure::new(Exit::Usage, format!("{flag}: there is no folder {given:?}"))
            .next("give a folder, a URL, or owner/name")
            .because(error)
    })?;
    let Some(root) = folder.ancestors().find(|folder| git_dir(folder).is_some()) else {
        let failure =
            Failure::new(Exit::Usage, format!("{flag}: {given:?} is in no git repository"));
        return Err(failure.next(format!("make one: git -C {} init", shell_word(given))));
    };
    let Some(name) = root.to_str() else {
        return Err(Failure::new(Exit::Usage, format!("{flag}: the path {given:?} is not UTF-8")));
    };
    let repository = Repository::parse(name, DEFAULT_BASE_URL).map_err(no_repository)?;
    Ok((name.to_owned(), repository, Some(root.to_owned())))
}

/// The git dir of a work tree or of a bare repository.
fn git_dir(folder: &Path) -> Option<PathBuf> {
    let inner = folder.join(".git");
    if inner.is_dir() {
        return Some(inner);
    }
    if let Ok(text) = std::fs::read_to_string(&inner) {
        // A linked work tree or a submodule.
        let target = text.lines().next()?.strip_prefix("gitdir:")?.trim();
        return Some(folder.join(target));
    }
    let bare = folder.join("HEAD").is_file() && folder.join("objects").is_dir();
    bare.then(|| folder.to_owned())
}

fn base(
    name: &str,
    state: &RemoteState,
    asked: Option<&str>,
) -> Result<(String, Option<String>), Failure> {
    let Some(asked) = asked else {
        let head = state.head.clone().ok_or_else(|| {
            Failure::new(Exit::Usage, format!("repository {name} has no commit yet"))
                .next("make a first commit, then run again")
        })?;
        return Ok((head, state.head_branch.clone()));
    };
    if let Some(commit) = state.branches.get(asked) {
        return Ok((commit.clone(), Some(asked.to_owned())));
    }
    let some = state.branches.keys().take(BRANCHES_SHOWN_MAX).map(String::as_str);
    let some: Vec<_> = some.collect();
    Err(Failure::new(Exit::Usage, format!("repository {name} has no branch {asked:?}"))
        .next(format!("it has: {}", some.join(", "))))
}

/// A repository that cannot be read: what a person typed wrong is usage, the rest is not his fault.
fn unusable(name: &str, error: GitError) -> Failure {
    let typed = matches!(error, GitError::NotFound { .. } | GitError::Invalid { .. });
    let exit = if typed { Exit::Usage } else { Exit::Infrastructure };
    Failure::new(exit, format!("repository {name} cannot be used"))
        .next("foreman doctor")
        .because(error)
}

/// A push that is not done: the server checks the credential and nothing is written. It needs a
/// commit to offer, which stands in a repository of its own that is thrown away.
async fn try_push(
    git: &Git,
    repository: &Repository,
    entropy: &dyn Entropy,
    cancel: &CancellationToken,
) -> Result<(), Failure> {
    let refused = |error: GitError| {
        Failure::new(Exit::Infrastructure, format!("nothing can be pushed to {repository}"))
            .next("give a token that may push: --token-file FILE")
            .next("or push elsewhere: --push-to URL")
            .because(error)
    };
    if let Some(folder) = repository.local() {
        writable(folder).map_err(|error| {
            Failure::new(Exit::Infrastructure, format!("nothing can be pushed to {repository}"))
                .next("push elsewhere: --push-to URL")
                .because(error)
        })?;
    }
    let scratch = tempfile::tempdir().map_err(|error| {
        Failure::new(Exit::Error, "no temporary folder can be made").because(error)
    })?;
    let dir = scratch.path();
    git.call("make a repository to push from")
        .args(["init", "--quiet", "--bare"])
        .args([dir])
        .run(cancel)
        .await
        .map_err(refused)?;
    let tree = git
        .call("make an empty tree")
        .at(dir, None)
        .args(["hash-object", "-t", "tree", "-w", "--stdin"])
        .run(cancel)
        .await
        .map_err(refused)?
        .text();
    let who = ["-c", "user.name=Foreman", "-c", "user.email=foreman@localhost"];
    let commit = git
        .call("make an empty commit")
        .at(dir, None)
        .args(who)
        .args(["commit-tree", tree.as_str(), "-m", "push check"])
        .run(cancel)
        .await
        .map_err(refused)?
        .text();
    let update = format!("{commit}:refs/heads/foreman/push-check-{:016x}", entropy.next_u64());
    git.call("try a push")
        .at(dir, None)
        .with_remote(repository)
        .args(["push", "--dry-run", "--no-verify", "--porcelain", "--"])
        .args([repository.url(), update.as_str()])
        .run(cancel)
        .await
        .map_err(refused)?;
    Ok(())
}

/// A dry run on a folder does not try to write it.
fn writable(folder: &Path) -> std::io::Result<()> {
    let Some(git_dir) = git_dir(folder) else { return Ok(()) };
    let objects = git_dir.join("objects");
    if objects.is_dir() {
        rustix::fs::access(&objects, rustix::fs::Access::WRITE_OK)?;
    }
    Ok(())
}

/// How many files differ from the last commit. Told by the index alone: reading the files as `git
/// status` does would run the filters that the repository's configuration names.
async fn uncommitted(git: &Git, folder: &Path, cancel: &CancellationToken) -> usize {
    let Some(git_dir) = git_dir(folder).filter(|dir| dir != folder) else { return 0 };
    let calls = [
        ["diff-index", "--name-only", "-z", "HEAD", "--"],
        ["ls-files", "--others", "--exclude-standard", "-z", "--"],
    ];
    let mut count = 0;
    for arguments in calls {
        let call = git.call("count the uncommitted changes").at(&git_dir, Some(folder));
        match call.args(arguments).run(cancel).await {
            Ok(output) => count += output.fields().count(),
            Err(error) => tracing::debug!(%error, "uncommitted changes could not be counted"),
        }
    }
    count
}

/// A word for a shell: as it is where that is safe, else quoted.
pub(in crate::cli) fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,~".contains(c);
    if !word.is_empty() && word.chars().all(plain) && !word.starts_with('~') {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
#[path = "repository_tests.rs"]
mod tests;
