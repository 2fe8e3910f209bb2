//! Making a workspace, or finding the one that an earlier claim made.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::mirror::{self, RemoteState};
use super::{Doing, State, Workspace, WorkspaceError, cannot, remove_tree};
use crate::git::{BranchName, Git, Repository};

/// The file that says that a workspace is complete.
const STATE_FILE: &str = "foreman.json";
/// Branches that an error names at most.
const KNOWN_BRANCHES_MAX: usize = 10;

/// Where workspaces and mirrors lie.
#[derive(Debug, Clone)]
pub struct WorkspaceRoots {
    /// Trees and git dirs: not to be wiped.
    pub data: PathBuf,
    /// Mirrors: may be wiped when no task runs.
    pub cache: PathBuf,
}

/// Where the work begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// On the base.
    Base,
    /// On the tip of a branch that exists, to revise it.
    Branch(BranchName),
    /// On this very commit, which must be the tip of that branch: what a verify
    /// task judges.
    Commit(BranchName, String),
}

/// What to make a workspace for.
#[derive(Debug, Clone)]
pub struct WorkspaceRequest {
    /// The task's namespace.
    pub namespace: String,
    /// The task's name.
    pub task: String,
    /// The task's uid.
    pub uid: String,
    /// The repository.
    pub repository: Repository,
    /// The branch to be based on; none = the remote's HEAD.
    pub base_branch: Option<BranchName>,
    /// Where the work begins.
    pub start: Start,
    /// The branch that is to be pushed.
    pub branch: BranchName,
    /// The repository that it is pushed to, when it is another one. A branch to start from is looked
    /// for there first: it is where earlier work went.
    pub push_to: Option<Repository>,
    /// The uid of a task whose unfinished work is gone on with: the new workspace begins where that one
    /// did, if it is still here.
    pub continues: Option<String>,
    /// Whether a workspace of an earlier claim is thrown away, for work that must begin on exactly
    /// what was pushed.
    pub fresh: bool,
}

impl Workspace {
    /// Makes the workspace, or opens it when the task has a complete one already.
    ///
    /// # Errors
    /// See [`WorkspaceError`]. What was made half is made anew by the next call.
    pub async fn open(
        git: Git,
        roots: &WorkspaceRoots,
        request: &WorkspaceRequest,
        cancel: &CancellationToken,
    ) -> Result<Self, WorkspaceError> {
        let (tree, git_dir) = places(roots, request)?;
        if let Some(state) = complete_state(&git_dir, &tree).filter(|_| !request.fresh) {
            if !state.mirror.join("objects").is_dir() {
                // A wiped cache took objects with it that the work lies on.
                let remote = mirror::remote_state(&git, &request.repository, cancel)
                    .await
                    .doing("look at the repository")?;
                mirror::refresh(&git, &request.repository, &state.mirror, &remote, cancel).await?;
                let object = format!("{}^{{tree}}", state.parent);
                let call = git.call("find the commit the work began on");
                let call = call.at(&git_dir, None).args(["cat-file", "-e", &object]);
                call.run(cancel)
                    .await
                    .doing("go on with the work; the cache was wiped and the remote has changed")?;
            }
            return Ok(Self { git, git_dir, tree, state });
        }
        for folder in [&tree, &git_dir] {
            remove_tree(folder).map_err(|source| cannot("remove", folder, source))?;
            std::fs::create_dir_all(folder).map_err(|source| cannot("create", folder, source))?;
        }
        let (mut state, elsewhere) = settle(&git, roots, request, cancel).await?;
        if let Some(earlier) = earlier_state(&git_dir, request, &state) {
            state.base = earlier.base;
            state.base_branch = earlier.base_branch;
            state.parent = earlier.parent;
        }
        let workspace = Self { git, git_dir, tree, state };
        workspace.check_out(elsewhere, cancel).await?;
        workspace.write_state()?;
        Ok(workspace)
    }

    /// `elsewhere`: the repository and branch that the parent is fetched from, when the mirror does
    /// not have it.
    async fn check_out(
        &self,
        elsewhere: Option<(&Repository, &BranchName)>,
        cancel: &CancellationToken,
    ) -> Result<(), WorkspaceError> {
        self.git
            .call("create the git dir")
            .args(["init", "--quiet", "--bare", "--template="])
            .args([self.git_dir.as_os_str()])
            .run(cancel)
            .await
            .doing("create the workspace")?;
        let alternates = self.git_dir.join("objects/info/alternates");
        let objects = format!("{}\n", self.state.mirror.join("objects").display());
        std::fs::write(&alternates, objects).map_err(|it| cannot("write", &alternates, it))?;
        if let Some((repository, branch)) = elsewhere {
            let update = format!("+{}:refs/foreman/parent", branch.reference());
            self.call("fetch")
                .with_remote(repository)
                .args(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--"])
                .args([repository.url(), &update])
                .run(cancel)
                .await
                .doing("fetch the branch to start from")?;
        }
        let setup: [&[&str]; 5] = [
            &["config", "core.bare", "false"],
            &["update-ref", "refs/foreman/base", &self.state.base],
            &["update-ref", "refs/foreman/parent", &self.state.parent],
            &["update-ref", "refs/heads/foreman-work", &self.state.parent],
            &["symbolic-ref", "HEAD", "refs/heads/foreman-work"],
        ];
        for arguments in setup {
            let call = self.call("set up the git dir").args(arguments.iter().copied());
            call.run(cancel).await.doing("create the workspace")?;
        }
        self.git
            .call("check out the tree")
            .at(&self.git_dir, Some(&self.tree))
            .args(["read-tree", "-m", "-u", &self.state.parent])
            .run(cancel)
            .await
            .doing("check out the tree")?;
        // For tools in the sandbox that look for a repository. We never read it.
        let pointer = self.tree.join(".git");
        let text = format!("gitdir: {}\n", self.git_dir.display());
        std::fs::write(&pointer, text).map_err(|source| cannot("write", &pointer, source))
    }

    /// Written last, under another name first: it is there and whole, or not.
    fn write_state(&self) -> Result<(), WorkspaceError> {
        let path = self.git_dir.join(STATE_FILE);
        let draft = self.git_dir.join("foreman.json.new");
        let text =
            serde_json::to_vec(&self.state).map_err(|it| cannot("write", &path, it.into()))?;
        std::fs::write(&draft, text).map_err(|source| cannot("write", &draft, source))?;
        std::fs::rename(&draft, &path).map_err(|source| cannot("write", &path, source))
    }
}

fn places(
    roots: &WorkspaceRoots,
    request: &WorkspaceRequest,
) -> Result<(PathBuf, PathBuf), WorkspaceError> {
    for (what, name) in
        [("namespace", &request.namespace), ("task", &request.task), ("uid", &request.uid)]
    {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if name.is_empty() || name.starts_with('.') || !name.chars().all(good) || name.len() > 253 {
            return Err(WorkspaceError::BadName { what, name: name.clone() });
        }
    }
    std::fs::create_dir_all(&roots.data).map_err(|it| cannot("create", &roots.data, it))?;
    let data = roots.data.canonicalize().map_err(|it| cannot("open", &roots.data, it))?;
    let mut folder = format!("{}-{}", request.task, request.uid);
    // A name of 253 bytes and a uid are more than a file system takes.
    if folder.len() > 255 {
        folder.clone_from(&request.uid);
    }
    let tree = data.join("workspaces").join(&request.namespace).join(folder);
    Ok((tree, data.join("git").join(&request.uid)))
}

/// Where the workspace of the task that is continued began, if it is here, was made for the same
/// repository, and began on a commit that the mirror is sure to have.
fn earlier_state(git_dir: &Path, request: &WorkspaceRequest, now: &State) -> Option<State> {
    let uid = request.continues.as_deref().filter(|_| request.start == Start::Base)?;
    let text = std::fs::read(sibling(git_dir, uid)?.join(STATE_FILE)).ok()?;
    let earlier: State = serde_json::from_slice(&text).ok()?;
    let same = earlier.url == now.url && earlier.mirror == now.mirror;
    (same && earlier.parent == earlier.base).then_some(earlier)
}

/// The git dir of another task of this machine.
pub(super) fn sibling(git_dir: &Path, uid: &str) -> Option<PathBuf> {
    let safe = uid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (safe && !uid.is_empty()).then(|| git_dir.with_file_name(uid))
}

fn complete_state(git_dir: &Path, tree: &Path) -> Option<State> {
    let text = std::fs::read(git_dir.join(STATE_FILE)).ok()?;
    let state: State = serde_json::from_slice(&text).ok()?;
    tree.is_dir().then_some(state)
}

/// Fetches, and settles base, parent and lease. Says as well where the parent is to be fetched from
/// when it is not in the mirror.
async fn settle<'a>(
    git: &Git,
    roots: &WorkspaceRoots,
    request: &'a WorkspaceRequest,
    cancel: &CancellationToken,
) -> Result<(State, Option<(&'a Repository, &'a BranchName)>), WorkspaceError> {
    let repository = &request.repository;
    let remote =
        mirror::remote_state(git, repository, cancel).await.doing("look at the repository")?;
    std::fs::create_dir_all(&roots.cache).map_err(|it| cannot("create", &roots.cache, it))?;
    let cache = roots.cache.canonicalize().map_err(|it| cannot("open", &roots.cache, it))?;
    let mirror = mirror::place(&cache, repository);
    let (base, base_branch) = base_of(request, &remote)?;
    let pushed_to = match &request.push_to {
        None => None,
        Some(target) => {
            let state = mirror::remote_state(git, target, cancel).await;
            Some((target, state.doing("look at the repository to push to")?))
        }
    };
    let elsewhere = match (&request.start, &pushed_to) {
        (Start::Branch(branch) | Start::Commit(branch, _), Some((target, state)))
            if state.branches.contains_key(branch.as_str()) =>
        {
            Some((*target, branch, state))
        }
        _ => None,
    };
    let parent = match elsewhere {
        Some((target, _, state)) => parent_of(request, target, state, &base)?,
        None => parent_of(request, repository, &remote, &base)?,
    };
    let elsewhere = elsewhere.map(|(target, branch, _)| (target, branch));
    mirror::refresh(git, repository, &mirror, &remote, cancel).await?;
    let in_mirror = [Some(&base), elsewhere.is_none().then_some(&parent)];
    for commit in in_mirror.into_iter().flatten() {
        // Gone when somebody forced a branch between our two looks: try again.
        let object = format!("{commit}^{{commit}}");
        let call = git.call("find the commit").at(&mirror, None).args(["cat-file", "-e", &object]);
        call.run(cancel)
            .await
            .doing("find the base commit; was the branch forced just now? Try again")?;
    }
    let target = pushed_to.as_ref().map_or(&remote, |(_, state)| state);
    let branch_at_start = target.branches.get(request.branch.as_str()).cloned();
    let state = State {
        uid: request.uid.clone(),
        url: repository.url().to_owned(),
        base,
        base_branch,
        parent,
        branch: request.branch.as_str().to_owned(),
        branch_at_start,
        mirror,
        warnings: uncommitted(git, repository, cancel).await.into_iter().collect(),
    };
    Ok((state, elsewhere))
}

fn tip(
    branch: &BranchName,
    remote: &RemoteState,
    repository: &Repository,
) -> Result<String, WorkspaceError> {
    let found = remote.branches.get(branch.as_str()).cloned();
    found.ok_or_else(|| no_branch(branch, remote, repository))
}

/// The commit to be based on, and its branch.
fn base_of(
    request: &WorkspaceRequest,
    remote: &RemoteState,
) -> Result<(String, Option<String>), WorkspaceError> {
    let repository = &request.repository;
    if let Some(branch) = &request.base_branch {
        return Ok((tip(branch, remote, repository)?, Some(branch.as_str().to_owned())));
    }
    let empty = || WorkspaceError::Empty { repository: repository.to_string() };
    Ok((remote.head.clone().ok_or_else(empty)?, remote.head_branch.clone()))
}

/// The commit that the work begins on.
fn parent_of(
    request: &WorkspaceRequest,
    repository: &Repository,
    remote: &RemoteState,
    base: &str,
) -> Result<String, WorkspaceError> {
    match &request.start {
        Start::Base => Ok(base.to_owned()),
        Start::Branch(branch) => tip(branch, remote, repository),
        Start::Commit(branch, expected) => {
            let found = tip(branch, remote, repository)?;
            if &found == expected {
                return Ok(found);
            }
            Err(WorkspaceError::Moved {
                branch: branch.to_string(),
                repository: repository.to_string(),
                found,
                expected: expected.clone(),
            })
        }
    }
}

fn no_branch(branch: &BranchName, remote: &RemoteState, repository: &Repository) -> WorkspaceError {
    let mut known: Vec<&str> =
        remote.branches.keys().take(KNOWN_BRANCHES_MAX).map(String::as_str).collect();
    if remote.branches.len() > KNOWN_BRANCHES_MAX {
        known.push("and more");
    }
    WorkspaceError::NoBranch {
        branch: branch.to_string(),
        repository: repository.to_string(),
        known: if known.is_empty() { "no branch".to_owned() } else { known.join(", ") },
    }
}

/// A warning when a path has changes that are not committed: they stay out of
/// the run. That it cannot be found out is no reason not to run.
async fn uncommitted(
    git: &Git,
    repository: &Repository,
    cancel: &CancellationToken,
) -> Option<String> {
    let path = repository.local()?;
    let git_dir = path.join(".git").canonicalize().ok().filter(|it| it.is_dir())?;
    let status = git
        .call("count uncommitted changes")
        .at(&git_dir, Some(path))
        .args(["status", "--porcelain", "-z", "--ignore-submodules=all", "--no-renames"])
        .run(cancel)
        .await
        .ok()?;
    match status.fields().count() {
        0 => None,
        1 => Some(format!("1 uncommitted change in {repository} is not part of this run")),
        count => {
            Some(format!("{count} uncommitted changes in {repository} are not part of this run"))
        }
    }
}
