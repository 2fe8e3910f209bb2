//! Reading the base commit: the rules that a run is judged by come from here, never
//! from the tree.

use tokio_util::sync::CancellationToken;

use super::{Doing, Workspace, WorkspaceError};

impl Workspace {
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
        let listed = self.call(doing).args(["ls-tree", "-z", "-l", self.base(), "--", path]);
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
            return Err(WorkspaceError::TooLarge { path, bytes, bytes_max: bytes_max as u64 });
        }
        let call = self.call(doing).args(["cat-file", "blob", hash]).output_bytes_max(bytes_max);
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
        let output =
            self.call(doing).args(["ls-tree", "-z", self.base()]).run(cancel).await.doing(doing)?;
        let names = output.fields().filter_map(|entry| {
            let entry = String::from_utf8_lossy(entry).into_owned();
            let (about, name) = entry.split_once('\t')?;
            Some(if about.contains(" tree ") { format!("{name}/") } else { name.to_owned() })
        });
        Ok(names.collect())
    }
}
