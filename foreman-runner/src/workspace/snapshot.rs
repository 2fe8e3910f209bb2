//! From the tree to git objects and back: status, diff, checkpoints, the commit.

use std::path::Path;

use tokio_util::sync::CancellationToken;

use crate::git::Repository;

use super::{Doing, TASK_TRAILER, Workspace, WorkspaceError, cannot};

/// The mode by which git marks a repository within the tree.
const NESTED_MODE: &str = "160000";

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `A`dded, `M`odified, `D`eleted, or `T`ype changed.
    pub kind: char,
    /// The path within the tree; bytes that are no UTF-8 are replaced.
    pub path: String,
}

/// A state of the tree, kept by a private reference.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Checkpoint {
    /// The commit that holds it.
    pub commit: String,
    /// The tree's own hash: equal trees, equal hashes.
    pub tree: String,
}

/// Where a short name of a repository would lie, where a path is given and none is meant.
const NO_SLUGS: &str = "https://host.invalid";

/// A person, for git.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Name.
    pub name: String,
    /// Address.
    pub email: String,
}

/// What the final commit says.
#[derive(Debug, Clone)]
pub struct CommitRequest {
    /// Title and body, without trailers.
    pub message: String,
    /// Author and committer.
    pub author: Person,
    /// Unix time in seconds. Take it from the journal, not from the clock: then a
    /// resumed run makes the very same commit.
    pub date_seconds: i64,
    /// The attempt of the claim.
    pub attempt: i64,
    /// Whether to add `Signed-off-by`.
    pub sign_off: bool,
    /// The model, for `Assisted-by`.
    pub assisted_by: Option<String>,
}

/// A commit of ours.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Commit {
    /// Its hash.
    pub sha: String,
    /// Its tree's hash.
    pub tree: String,
    /// What it lies on.
    pub parent: String,
}

impl Workspace {
    /// What differs from the parent commit.
    ///
    /// # Errors
    /// As [`Self::tree_hash`].
    pub async fn status(&self, cancel: &CancellationToken) -> Result<Vec<Change>, WorkspaceError> {
        let tree = self.tree_hash(cancel).await?;
        Ok(self
            .entries_between(self.parent(), &tree, cancel)
            .await?
            .into_iter()
            .map(|it| it.0)
            .collect())
    }

    /// Whether anything differs from the parent commit.
    ///
    /// # Errors
    /// As [`Self::tree_hash`].
    pub async fn has_changes(&self, cancel: &CancellationToken) -> Result<bool, WorkspaceError> {
        Ok(self.tree_hash(cancel).await? != self.tree_of(self.parent(), cancel).await?)
    }

    /// The difference to a commit (none = the base) as text, untracked files
    /// included; past `bytes_max` it is cut, with a note.
    ///
    /// # Errors
    /// As [`Self::tree_hash`]; `against` that is no commit is git's error.
    pub async fn diff(
        &self,
        against: Option<&str>,
        bytes_max: usize,
        cancel: &CancellationToken,
    ) -> Result<String, WorkspaceError> {
        let tree = self.tree_hash(cancel).await?;
        let against = self.resolved(against.unwrap_or(self.base()), cancel).await?;
        // By way of a file: git's own limit on output would lose the head.
        let file = tempfile::NamedTempFile::new_in(&self.git_dir)
            .map_err(|source| cannot("create a file in", &self.git_dir, source))?;
        self.write_diff(&against, &tree, &[], file.path(), cancel).await?;
        let bytes = read_head(file.path(), bytes_max + 1)?;
        let mut text =
            String::from_utf8_lossy(bytes.get(..bytes_max).unwrap_or(&bytes)).into_owned();
        if bytes.len() > bytes_max {
            text.push_str("\n[... the rest of the diff is left out ...]\n");
        }
        Ok(text)
    }

    /// Writes everything that differs from the parent commit to `path`, as a
    /// patch that `git apply` takes, binary files included.
    ///
    /// # Errors
    /// As [`Self::tree_hash`].
    pub async fn patch(
        &self,
        path: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), WorkspaceError> {
        let tree = self.tree_hash(cancel).await?;
        let parent = self.parent().to_owned();
        self.write_diff(&parent, &tree, &["--binary", "--full-index"], path, cancel).await
    }

    /// Keeps the tree as it is now under a private reference of the task.
    ///
    /// # Errors
    /// As [`Self::tree_hash`].
    pub async fn checkpoint(
        &self,
        attempt: i64,
        turn: u64,
        cancel: &CancellationToken,
    ) -> Result<Checkpoint, WorkspaceError> {
        let tree = self.tree_hash(cancel).await?;
        let message = format!("checkpoint of attempt {attempt}, turn {turn}\n");
        let us = Person { name: "foreman".to_owned(), email: "foreman@localhost".to_owned() };
        // The date is the turn: a checkpoint taken twice is one.
        let date = i64::try_from(turn).unwrap_or(i64::MAX);
        let commit = self.commit_tree(&tree, self.parent(), message, &us, date, cancel).await?;
        let reference = format!("refs/foreman/checkpoint/{}", self.uid());
        self.update_reference(&reference, &commit, cancel).await?;
        Ok(Checkpoint { commit, tree })
    }

    /// Takes a checkpoint over from the git dir of another task of this machine, which this one goes on
    /// with. False: it is no longer there, or does not lie on this workspace's parent.
    ///
    /// # Errors
    /// Those of git.
    pub async fn fetch_checkpoint_of(
        &self,
        uid: &str,
        commit: &str,
        cancel: &CancellationToken,
    ) -> Result<bool, WorkspaceError> {
        let theirs = super::open::sibling(&self.git_dir, uid).filter(|dir| dir.is_dir());
        let Some(theirs) = theirs else { return Ok(false) };
        let object = format!("{commit}^{{commit}}");
        let look = self.git.call("find the checkpoint").at(&theirs, None);
        let look = look.args(["cat-file", "-e", &object]).expecting(&[1, 128]);
        if look.run(cancel).await.doing("find the tree to go on with")?.code != 0 {
            return Ok(false);
        }
        let Some(from) = theirs.to_str().and_then(|path| Repository::parse(path, NO_SLUGS).ok())
        else {
            return Ok(false);
        };
        let reference = format!("refs/foreman/checkpoint/{uid}");
        let update = format!("+{reference}:{reference}");
        self.call("take the tree over")
            .with_remote(&from)
            .args(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--"])
            .args([from.url(), &update])
            .run(cancel)
            .await
            .doing("take over the tree to go on with")?;
        self.is_ancestor(self.parent(), commit, cancel).await
    }

    /// Makes the tree what it was at a checkpoint. Ignored files stay.
    ///
    /// # Errors
    /// Those of git.
    pub async fn restore(
        &self,
        checkpoint: &Checkpoint,
        cancel: &CancellationToken,
    ) -> Result<(), WorkspaceError> {
        let commit = self.resolved(&checkpoint.commit, cancel).await?;
        // First the index learns of every file, so that git removes the ones
        // that the checkpoint does not have.
        let nested = self.bounded_growth(cancel).await?;
        self.take_up(&nested, cancel).await?;
        let call = self.call_on_tree("restore the checkpoint");
        let call = call.args(["read-tree", "--reset", "-u", &commit]);
        call.run(cancel).await.doing("restore the checkpoint").map(drop)
    }

    /// Commits the tree on top of the parent: always one commit, whatever
    /// happened before. The same tree, message, date and attempt give the same
    /// hash.
    ///
    /// # Errors
    /// `NoChanges`, `NestedRepository`, `TooLarge`, or those of git.
    pub async fn commit(
        &self,
        request: &CommitRequest,
        cancel: &CancellationToken,
    ) -> Result<Commit, WorkspaceError> {
        if let Some(nested) = self.bounded_growth(cancel).await?.first() {
            let path = String::from_utf8_lossy(nested).trim_end_matches('/').to_owned();
            return Err(WorkspaceError::NestedRepository { path });
        }
        let tree = self.tree_hash(cancel).await?;
        let parent = self.parent().to_owned();
        let changes = self.entries_between(&parent, &tree, cancel).await?;
        if changes.is_empty() {
            return Err(WorkspaceError::NoChanges { parent });
        }
        if let Some((change, _)) = changes.iter().find(|(_, mode)| mode == NESTED_MODE) {
            return Err(WorkspaceError::NestedRepository { path: change.path.clone() });
        }
        let message = self.message(request);
        let author = &request.author;
        let sha =
            self.commit_tree(&tree, &parent, message, author, request.date_seconds, cancel).await?;
        self.update_reference("refs/foreman/commit", &sha, cancel).await?;
        Ok(Commit { sha, tree, parent })
    }

    /// Whether `ancestor` lies beneath `commit`.
    ///
    /// # Errors
    /// Those of git.
    pub async fn is_ancestor(
        &self,
        ancestor: &str,
        commit: &str,
        cancel: &CancellationToken,
    ) -> Result<bool, WorkspaceError> {
        let (ancestor, commit) =
            (self.resolved(ancestor, cancel).await?, self.resolved(commit, cancel).await?);
        let call =
            self.call("compare commits").args(["merge-base", "--is-ancestor", &ancestor, &commit]);
        Ok(call.expecting(&[1]).run(cancel).await.doing("compare commits")?.code == 0)
    }

    async fn commit_tree(
        &self,
        tree: &str,
        parent: &str,
        message: String,
        who: &Person,
        date_seconds: i64,
        cancel: &CancellationToken,
    ) -> Result<String, WorkspaceError> {
        let date = format!("@{date_seconds} +0000");
        let call = self
            .call("commit")
            .args(["commit-tree", tree, "-p", parent, "-F", "-"])
            .env("GIT_AUTHOR_NAME", who.name.as_str())
            .env("GIT_AUTHOR_EMAIL", who.email.as_str())
            .env("GIT_AUTHOR_DATE", date.as_str())
            .env("GIT_COMMITTER_NAME", who.name.as_str())
            .env("GIT_COMMITTER_EMAIL", who.email.as_str())
            .env("GIT_COMMITTER_DATE", date.as_str())
            .stdin(message.into_bytes());
        Ok(call.run(cancel).await.doing("commit")?.text())
    }

    pub(crate) async fn update_reference(
        &self,
        reference: &str,
        commit: &str,
        cancel: &CancellationToken,
    ) -> Result<(), WorkspaceError> {
        let call = self.call("keep the commit").args(["update-ref", reference, commit]);
        call.run(cancel).await.doing("keep the commit").map(drop)
    }

    /// Message and trailers. A trailer of ours in the given message would be
    /// believed later, so such lines are taken out.
    fn message(&self, request: &CommitRequest) -> String {
        let ours = format!("{}:", TASK_TRAILER.to_lowercase());
        let clean = |line: &&str| !line.trim_start().to_lowercase().starts_with(&ours);
        let body: Vec<&str> = request.message.lines().filter(clean).map(str::trim_end).collect();
        let body = body.join("\n").replace('\0', "");
        let title = if body.trim().is_empty() { "Change" } else { body.trim() };
        let mut message = format!("{title}\n\n");
        if request.sign_off {
            let Person { name, email } = &request.author;
            message.push_str(&trailer("Signed-off-by", &format!("{name} <{email}>")));
        }
        if let Some(model) = &request.assisted_by {
            message.push_str(&trailer("Assisted-by", model));
        }
        message.push_str(&trailer(TASK_TRAILER, &format!("{}/{}", self.uid(), request.attempt)));
        message
    }
}

/// One line, whatever the value holds.
fn trailer(name: &str, value: &str) -> String {
    let value: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("{name}: {}\n", value.trim())
}

fn read_head(path: &Path, bytes_max: usize) -> Result<Vec<u8>, WorkspaceError> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(|source| cannot("open", path, source))?;
    let mut bytes = Vec::new();
    file.take(bytes_max as u64)
        .read_to_end(&mut bytes)
        .map_err(|source| cannot("read", path, source))?;
    Ok(bytes)
}
