//! From the tree to git objects and back: status, diff, checkpoints, the commit.

use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::{Doing, TASK_TRAILER, Workspace, WorkspaceError, cannot};

/// Largest file that is kept, in bytes.
pub const FILE_BYTES_MAX: u64 = 100 << 20;
/// Most that all changed files together may have, in bytes.
pub const TREE_GROWTH_BYTES_MAX: u64 = 1 << 30;
/// The index that checkpoints, diffs and commits are made with.
pub(super) const PRIVATE_INDEX: &str = "foreman-index";
/// Listing of changed paths, in bytes.
const LISTING_BYTES_MAX: usize = 64 << 20;
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
    /// The hash of the tree as it is now, untracked files included, ignored ones
    /// not.
    ///
    /// # Errors
    /// `TooLarge`, or those of git.
    pub async fn tree_hash(&self, cancel: &CancellationToken) -> Result<String, WorkspaceError> {
        let nested = self.bounded_growth(cancel).await?;
        self.take_up(&nested, cancel).await?;
        let output = self
            .call_on_tree("write the tree")
            .args(["write-tree"])
            .run(cancel)
            .await;
        Ok(output.doing("write the tree")?.text())
    }

    /// Brings the private index up to the tree. Repositories within the tree are
    /// left out: git would keep a mark in their place, or refuse.
    async fn take_up(
        &self,
        nested: &[Vec<u8>],
        cancel: &CancellationToken,
    ) -> Result<(), WorkspaceError> {
        self.prepare_index(cancel).await?;
        let mut call = self
            .call_on_tree("take up the tree")
            .args(["add", "--all", "--", "."]);
        if !nested.is_empty() {
            let excluded = nested.iter().map(|name| {
                let mut pattern = std::ffi::OsString::from(":(top,exclude,literal)");
                pattern.push(os_path(name));
                pattern
            });
            call = call.args(excluded).env("GIT_LITERAL_PATHSPECS", "0");
        }
        call.run(cancel).await.doing("take up the tree").map(drop)
    }

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
        let against = self
            .resolved(against.unwrap_or(self.base()), cancel)
            .await?;
        // By way of a file: git's own limit on output would lose the head.
        let file = tempfile::NamedTempFile::new_in(&self.git_dir)
            .map_err(|source| cannot("create a file in", &self.git_dir, source))?;
        self.write_diff(&against, &tree, &[], file.path(), cancel)
            .await?;
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
        self.write_diff(&parent, &tree, &["--binary", "--full-index"], path, cancel)
            .await
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
        let us = Person {
            name: "foreman".to_owned(),
            email: "foreman@localhost".to_owned(),
        };
        // The date is the turn: a checkpoint taken twice is one.
        let date = i64::try_from(turn).unwrap_or(i64::MAX);
        let commit = self
            .commit_tree(&tree, self.parent(), message, &us, date, cancel)
            .await?;
        let reference = format!("refs/foreman/checkpoint/{}", self.uid());
        self.update_reference(&reference, &commit, cancel).await?;
        Ok(Checkpoint { commit, tree })
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
        call.run(cancel)
            .await
            .doing("restore the checkpoint")
            .map(drop)
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
            let path = String::from_utf8_lossy(nested)
                .trim_end_matches('/')
                .to_owned();
            return Err(WorkspaceError::NestedRepository { path });
        }
        let tree = self.tree_hash(cancel).await?;
        let parent = self.parent().to_owned();
        let changes = self.entries_between(&parent, &tree, cancel).await?;
        if changes.is_empty() {
            return Err(WorkspaceError::NoChanges { parent });
        }
        if let Some((change, _)) = changes.iter().find(|(_, mode)| mode == NESTED_MODE) {
            return Err(WorkspaceError::NestedRepository {
                path: change.path.clone(),
            });
        }
        let message = self.message(request);
        let author = &request.author;
        let sha = self
            .commit_tree(
                &tree,
                &parent,
                message,
                author,
                request.date_seconds,
                cancel,
            )
            .await?;
        self.update_reference("refs/foreman/commit", &sha, cancel)
            .await?;
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
        let (ancestor, commit) = (
            self.resolved(ancestor, cancel).await?,
            self.resolved(commit, cancel).await?,
        );
        let call =
            self.call("compare commits")
                .args(["merge-base", "--is-ancestor", &ancestor, &commit]);
        Ok(call
            .expecting(&[1])
            .run(cancel)
            .await
            .doing("compare commits")?
            .code
            == 0)
    }

    /// A file of the base commit; none when it is not there or no plain file.
    /// This is how rules of the repository are read: the tree's copy is the
    /// model's.
    ///
    /// # Errors
    /// Those of git; `TooLarge` past `bytes_max`.
    pub async fn base_file(
        &self,
        path: &str,
        bytes_max: usize,
        cancel: &CancellationToken,
    ) -> Result<Option<Vec<u8>>, WorkspaceError> {
        let doing = "read a file of the base commit";
        let listed = self
            .call(doing)
            .args(["ls-tree", "-z", "-l", self.base(), "--", path]);
        let listed = listed.run(cancel).await.doing(doing)?.text();
        let words: Vec<&str> = listed.split_whitespace().take(4).collect();
        let ([mode, "blob", hash, size], false) = (words.as_slice(), listed.is_empty()) else {
            return Ok(None);
        };
        if !mode.starts_with("100") {
            return Ok(None);
        }
        let bytes = size.parse::<u64>().unwrap_or(u64::MAX);
        if bytes > bytes_max as u64 {
            let path = format!("{path} of the base commit");
            return Err(WorkspaceError::TooLarge {
                path,
                bytes,
                bytes_max: bytes_max as u64,
            });
        }
        let call = self
            .call(doing)
            .args(["cat-file", "blob", hash])
            .output_bytes_max(bytes_max);
        Ok(Some(call.run(cancel).await.doing(doing)?.stdout))
    }

    /// The names at the top of the base commit, folders with a slash.
    ///
    /// # Errors
    /// Those of git.
    pub async fn base_names(
        &self,
        cancel: &CancellationToken,
    ) -> Result<Vec<String>, WorkspaceError> {
        let doing = "list the base commit";
        let output = self
            .call(doing)
            .args(["ls-tree", "-z", self.base()])
            .run(cancel)
            .await
            .doing(doing)?;
        let names = output.fields().filter_map(|entry| {
            let entry = String::from_utf8_lossy(entry).into_owned();
            let (about, name) = entry.split_once('\t')?;
            Some(if about.contains(" tree ") {
                format!("{name}/")
            } else {
                name.to_owned()
            })
        });
        Ok(names.collect())
    }

    /// A full hash for what a caller or a journal named.
    async fn resolved(
        &self,
        name: &str,
        cancel: &CancellationToken,
    ) -> Result<String, WorkspaceError> {
        let object = format!("{name}^{{commit}}");
        let call = self.call("find the commit").args([
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &object,
        ]);
        Ok(call.run(cancel).await.doing("find the commit")?.text())
    }

    async fn tree_of(
        &self,
        commit: &str,
        cancel: &CancellationToken,
    ) -> Result<String, WorkspaceError> {
        let object = format!("{commit}^{{tree}}");
        let call = self.call("find the tree").args([
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &object,
        ]);
        Ok(call.run(cancel).await.doing("find the tree")?.text())
    }

    /// The private index starts as the one of the checkout, whose file times are
    /// known, so that unchanged files need not be read.
    async fn prepare_index(&self, cancel: &CancellationToken) -> Result<(), WorkspaceError> {
        let private = self.git_dir.join(PRIVATE_INDEX);
        // Left by a process that was killed; nobody else uses this git dir.
        let stale = self.git_dir.join(format!("{PRIVATE_INDEX}.lock"));
        if stale.exists() {
            std::fs::remove_file(&stale).map_err(|source| cannot("remove", &stale, source))?;
        }
        if private.exists() {
            return Ok(());
        }
        let checked_out = self.git_dir.join("index");
        if checked_out.exists() {
            let draft = self.git_dir.join(format!("{PRIVATE_INDEX}.new"));
            std::fs::copy(&checked_out, &draft)
                .and_then(|_| std::fs::rename(&draft, &private))
                .map_err(|source| cannot("copy", &checked_out, source))?;
            return Ok(());
        }
        let call = self
            .call_on_tree("prepare the index")
            .args(["read-tree", self.parent()]);
        call.run(cancel).await.doing("prepare the index").map(drop)
    }

    /// Refuses files that are too large before git copies them. Returns the
    /// folders that are repositories of their own: git lists them as folders.
    async fn bounded_growth(
        &self,
        cancel: &CancellationToken,
    ) -> Result<Vec<Vec<u8>>, WorkspaceError> {
        self.prepare_index(cancel).await?;
        let call = self
            .call_on_tree("list changed files")
            .args([
                "ls-files",
                "-z",
                "--others",
                "--modified",
                "--exclude-standard",
            ])
            .output_bytes_max(LISTING_BYTES_MAX);
        let listed = call.run(cancel).await.doing("list changed files")?;
        let mut total = 0_u64;
        let mut nested = Vec::new();
        for name in listed.fields() {
            if name.ends_with(b"/") {
                nested.push(name.to_vec());
                continue;
            }
            let path = self.tree.join(os_path(name));
            let Ok(metadata) = std::fs::symlink_metadata(&path) else {
                continue;
            };
            if !metadata.is_file() {
                continue;
            }
            let too_large = |path: String, bytes, bytes_max| {
                Err(WorkspaceError::TooLarge {
                    path,
                    bytes,
                    bytes_max,
                })
            };
            if metadata.len() > FILE_BYTES_MAX {
                let name = String::from_utf8_lossy(name).into_owned();
                return too_large(name, metadata.len(), FILE_BYTES_MAX);
            }
            total = total.saturating_add(metadata.len());
            if total > TREE_GROWTH_BYTES_MAX {
                let all = "all changed files together, up to here,".to_owned();
                return too_large(all, total, TREE_GROWTH_BYTES_MAX);
            }
        }
        Ok(nested)
    }

    /// Changed paths with the new mode of each.
    async fn entries_between(
        &self,
        from: &str,
        to: &str,
        cancel: &CancellationToken,
    ) -> Result<Vec<(Change, String)>, WorkspaceError> {
        let call = self
            .call("compare trees")
            .args([
                "diff-tree",
                "-r",
                "-z",
                "--raw",
                "--no-renames",
                "--ignore-submodules=none",
                from,
                to,
            ])
            .output_bytes_max(LISTING_BYTES_MAX);
        let output = call.run(cancel).await.doing("compare trees")?;
        let mut fields = output.fields();
        let mut changes = Vec::new();
        // `:old-mode new-mode old-hash new-hash kind`, then the path.
        while let (Some(about), Some(path)) = (fields.next(), fields.next()) {
            let about = String::from_utf8_lossy(about).into_owned();
            let words: Vec<&str> = about.split(' ').collect();
            let (Some(mode), Some(kind)) = (words.get(1), words.last()) else {
                continue;
            };
            let path = String::from_utf8_lossy(path).into_owned();
            let kind = kind.chars().next().unwrap_or('M');
            changes.push((Change { kind, path }, (*mode).to_owned()));
        }
        Ok(changes)
    }

    async fn write_diff(
        &self,
        from: &str,
        to: &str,
        options: &[&str],
        path: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), WorkspaceError> {
        let mut output = std::ffi::OsString::from("--output=");
        output.push(path);
        let call = self
            .call("write the difference")
            .args([
                "diff",
                "--no-ext-diff",
                "--no-textconv",
                "--no-renames",
                "--no-color",
            ])
            .args(options.iter().copied())
            .args([output])
            .args([from, to]);
        call.run(cancel)
            .await
            .doing("write the difference")
            .map(drop)
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
        let call = self
            .call("keep the commit")
            .args(["update-ref", reference, commit]);
        call.run(cancel).await.doing("keep the commit").map(drop)
    }

    /// Message and trailers. A trailer of ours in the given message would be
    /// believed later, so such lines are taken out.
    fn message(&self, request: &CommitRequest) -> String {
        let ours = format!("{}:", TASK_TRAILER.to_lowercase());
        let clean = |line: &&str| !line.trim_start().to_lowercase().starts_with(&ours);
        let body: Vec<&str> = request
            .message
            .lines()
            .filter(clean)
            .map(str::trim_end)
            .collect();
        let body = body.join("\n").replace('\0', "");
        let title = if body.trim().is_empty() {
            "Change"
        } else {
            body.trim()
        };
        let mut message = format!("{title}\n\n");
        if request.sign_off {
            let Person { name, email } = &request.author;
            message.push_str(&trailer("Signed-off-by", &format!("{name} <{email}>")));
        }
        if let Some(model) = &request.assisted_by {
            message.push_str(&trailer("Assisted-by", model));
        }
        message.push_str(&trailer(
            TASK_TRAILER,
            &format!("{}/{}", self.uid(), request.attempt),
        ));
        message
    }
}

/// One line, whatever the value holds.
fn trailer(name: &str, value: &str) -> String {
    let value: String = value
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    format!("{name}: {}\n", value.trim())
}

fn os_path(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
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
