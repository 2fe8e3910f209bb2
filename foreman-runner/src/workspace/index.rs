//! The private index, by which the tree becomes git objects. The tree is untrusted:
//! what is taken up is bounded, and repositories within it are left out.

use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::{Change, Doing, Workspace, WorkspaceError, cannot};

/// Largest file that is kept, in bytes.
pub const FILE_BYTES_MAX: u64 = 100 << 20;
/// Most that all changed files together may have, in bytes.
pub const TREE_GROWTH_BYTES_MAX: u64 = 1 << 30;
/// The index that checkpoints, diffs and commits are made with.
pub(super) const PRIVATE_INDEX: &str = "foreman-index";
/// Listing of changed paths, in bytes.
const LISTING_BYTES_MAX: usize = 64 << 20;

impl Workspace {
    /// The hash of the tree as it is now, untracked files included, ignored ones
    /// not.
    ///
    /// # Errors
    /// `TooLarge`, or those of git.
    pub async fn tree_hash(&self, cancel: &CancellationToken) -> Result<String, WorkspaceError> {
        let nested = self.bounded_growth(cancel).await?;
        self.take_up(&nested, cancel).await?;
        let output = self.call_on_tree("write the tree").args(["write-tree"]).run(cancel).await;
        Ok(output.doing("write the tree")?.text())
    }

    /// Brings the private index up to the tree. Repositories within the tree are
    /// left out: git would keep a mark in their place, or refuse.
    pub(super) async fn take_up(
        &self,
        nested: &[Vec<u8>],
        cancel: &CancellationToken,
    ) -> Result<(), WorkspaceError> {
        self.prepare_index(cancel).await?;
        let mut call = self.call_on_tree("take up the tree").args(["add", "--all", "--", "."]);
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

    /// A full hash for what a caller or a journal named.
    pub(super) async fn resolved(
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

    pub(super) async fn tree_of(
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
    pub(super) async fn prepare_index(
        &self,
        cancel: &CancellationToken,
    ) -> Result<(), WorkspaceError> {
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
        let call = self.call_on_tree("prepare the index").args(["read-tree", self.parent()]);
        call.run(cancel).await.doing("prepare the index").map(drop)
    }

    /// Refuses files that are too large before git copies them. Returns the
    /// folders that are repositories of their own: git lists them as folders.
    pub(super) async fn bounded_growth(
        &self,
        cancel: &CancellationToken,
    ) -> Result<Vec<Vec<u8>>, WorkspaceError> {
        self.prepare_index(cancel).await?;
        let call = self
            .call_on_tree("list changed files")
            .args(["ls-files", "-z", "--others", "--modified", "--exclude-standard"])
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
                Err(WorkspaceError::TooLarge { path, bytes, bytes_max })
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
    pub(super) async fn entries_between(
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

    pub(super) async fn write_diff(
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
            .args(["diff", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-color"])
            .args(options.iter().copied())
            .args([output])
            .args([from, to]);
        call.run(cancel).await.doing("write the difference").map(drop)
    }
}

fn os_path(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}
