//! The tree a run works on, and everything git does for it.
//!
//! Three places. The **mirror** (cache, one per repository, shared by tasks)
//! holds what was fetched. The **git dir** (data, one per task) holds what the
//! task made and borrows objects from the mirror. The **tree** is the only one
//! that a sandboxed command may write; its `.git` file is for the eyes of tools
//! and nothing of ours ever reads it.
//!
//! The work is never in an index or a branch that a model could touch: a
//! checkpoint and the final commit are made from the tree by a private index.

mod base;
mod index;
mod mirror;
mod open;
mod reap;
mod snapshot;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::git::{BranchName, Git, GitCall, GitError};
use crate::sandbox::{Layout, SandboxSettings};

pub use index::{FILE_BYTES_MAX, TREE_GROWTH_BYTES_MAX};
pub(crate) use mirror::hex;
pub use mirror::{RemoteState, remote_state};
pub use open::{Start, WorkspaceRequest, WorkspaceRoots};
pub use reap::{KeptTasks, ReapedWork, reap_older};
pub use snapshot::{Change, Checkpoint, Commit, CommitRequest, Person};

/// The trailer by which our commits are recognised.
pub const TASK_TRAILER: &str = "Foreman-Task";

/// A task's tree and git dir.
#[derive(Debug)]
pub struct Workspace {
    git: Git,
    git_dir: PathBuf,
    tree: PathBuf,
    state: State,
}

/// What is settled when a workspace is made, kept beside its git dir so that a
/// resumed run sees the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    uid: String,
    url: String,
    base: String,
    base_branch: Option<String>,
    parent: String,
    branch: String,
    branch_at_start: Option<String>,
    mirror: PathBuf,
    warnings: Vec<String>,
}

/// What a workspace could not do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkspaceError {
    /// Git failed; its error says what to do.
    #[error("{doing}")]
    Git {
        /// What it was needed for.
        doing: &'static str,
        /// What went wrong.
        source: GitError,
    },
    /// The repository has no commit to start from.
    #[error("repository {repository} is empty: push a first commit and try again")]
    Empty {
        /// Which one.
        repository: String,
    },
    /// The branch to start from is not there.
    #[error("branch {branch} does not exist in {repository}; it has {known}")]
    NoBranch {
        /// Which branch.
        branch: String,
        /// Where.
        repository: String,
        /// Some that do exist.
        known: String,
    },
    /// The branch is not where it was said to be.
    #[error(
        "branch {branch} of {repository} is at {found}, not at {expected}: it was pushed to since"
    )]
    Moved {
        /// Which branch.
        branch: String,
        /// Where.
        repository: String,
        /// The commit it is at.
        found: String,
        /// The commit it was to be at.
        expected: String,
    },
    /// A file is too large to be kept.
    #[error(
        "{path} has {bytes} bytes, at most {bytes_max} are kept: delete it, or add it to .gitignore"
    )]
    TooLarge {
        /// The file, or "all changed files together".
        path: String,
        /// Its size.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// A folder of the tree is a repository of its own; git would not keep its files.
    #[error(
        "{path} holds a git repository of its own, whose files would be lost: remove {path}/.git"
    )]
    NestedRepository {
        /// The folder.
        path: String,
    },
    /// There is nothing to commit.
    #[error("the tree is as it was at {parent}: there is nothing to commit")]
    NoChanges {
        /// The commit it equals.
        parent: String,
    },
    /// Two tasks use one mirror and the other one does not let go.
    #[error("the mirror {mirror} is in use by another process for more than {seconds} s")]
    MirrorBusy {
        /// Its folder.
        mirror: String,
        /// The limit.
        seconds: u64,
    },
    /// A name that must not become part of a path.
    #[error("{what} {name:?} cannot be used in a path")]
    BadName {
        /// Whose name.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The system failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
}

/// Adds to an error of git what it was needed for.
trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, WorkspaceError>;
}

impl<T> Doing<T> for Result<T, GitError> {
    fn doing(self, doing: &'static str) -> Result<T, WorkspaceError> {
        self.map_err(|source| WorkspaceError::Git { doing, source })
    }
}

fn cannot(action: &'static str, path: &Path, source: std::io::Error) -> WorkspaceError {
    WorkspaceError::Io { action, path: path.display().to_string(), source }
}

impl Workspace {
    /// The tree; what a sandbox may write.
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// The git dir; what a sandbox may read and never write.
    pub fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    /// The mirror that the git dir borrows objects from; readable as well.
    pub fn mirror(&self) -> &Path {
        &self.state.mirror
    }

    /// The task's uid.
    pub fn uid(&self) -> &str {
        &self.state.uid
    }

    /// The commit of the base branch.
    pub fn base(&self) -> &str {
        &self.state.base
    }

    /// The branch that the base was taken from; none for a commit that no
    /// branch was named for.
    pub fn base_branch(&self) -> Option<&str> {
        self.state.base_branch.as_deref()
    }

    /// The commit that ours goes on top of: the base, or the tip of the branch
    /// that is revised.
    pub fn parent(&self) -> &str {
        &self.state.parent
    }

    /// The branch to push.
    pub fn branch(&self) -> Result<BranchName, crate::git::InvalidBranchName> {
        BranchName::parse(&self.state.branch)
    }

    /// Where that branch was at the remote when the workspace was made; the
    /// lease of the push. None = it was not there.
    pub fn branch_at_start(&self) -> Option<&str> {
        self.state.branch_at_start.as_deref()
    }

    /// What a person should know, such as uncommitted changes left out.
    pub fn warnings(&self) -> &[String] {
        &self.state.warnings
    }

    /// The git program that works on it.
    pub fn git(&self) -> &Git {
        &self.git
    }

    /// A call on the git dir alone.
    pub(crate) fn call(&self, action: &str) -> GitCall<'_> {
        self.git.call(action).at(&self.git_dir, None)
    }

    /// A call on git dir and tree, with the private index.
    fn call_on_tree(&self, action: &str) -> GitCall<'_> {
        self.git
            .call(action)
            .at(&self.git_dir, Some(&self.tree))
            .env("GIT_INDEX_FILE", self.git_dir.join(index::PRIVATE_INDEX))
    }

    /// Settings of a sandbox for this workspace: writes its tree, reads its git
    /// dir and mirror, keeps what tools download in a cache of the repository.
    pub fn sandbox_settings(&self, roots: &WorkspaceRoots) -> SandboxSettings {
        let repository = self.state.mirror.file_stem().unwrap_or_default();
        let mut settings = SandboxSettings::new(Layout {
            tree: self.tree.clone(),
            private: roots.data.join("private").join(&self.state.uid),
            cache: roots.cache.join("toolchains").join(repository),
        });
        settings.read = vec![self.git_dir.clone(), self.state.mirror.clone()];
        settings.protect = vec![self.tree.join(".git")];
        settings
    }

    /// Removes tree, git dir and the sandbox's private folder. The mirror stays. Call it only when the work is
    /// on a pushed branch or in a saved patch.
    ///
    /// # Errors
    /// `Io` when a folder stays.
    pub fn reap(self) -> Result<(), WorkspaceError> {
        let data = self.git_dir.parent().and_then(Path::parent).unwrap_or(&self.git_dir);
        let private = data.join("private").join(&self.state.uid);
        for folder in [&self.tree, &private, &self.git_dir] {
            remove_tree(folder).map_err(|source| cannot("remove", folder, source))?;
        }
        Ok(())
    }
}

/// Removes a folder, its read-only folders too (Go's module cache makes such).
fn remove_tree(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            open_folders(folder)?;
            std::fs::remove_dir_all(folder)
        }
        other => other,
    }
}

fn open_folders(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(folder)?.flatten() {
        // Not through links: they may lead out of the tree.
        if entry.file_type()?.is_dir() {
            open_folders(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
