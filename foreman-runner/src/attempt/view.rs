//! The workspace as the tools see it.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::chain;
use crate::limits::DIFF_BYTES_MAX;
use crate::tool::TreeView;
use crate::workspace::Workspace;

/// A whole change is read at most this far before one file of it is picked.
const WHOLE_DIFF_BYTES_MAX: usize = 16 * DIFF_BYTES_MAX;

/// What differs in a workspace: from where the work began, or (for a review) from the base.
pub(super) struct WorkspaceView {
    pub(super) workspace: Arc<Workspace>,
    pub(super) against_base: bool,
    pub(super) cancel: CancellationToken,
}

#[async_trait]
impl TreeView for WorkspaceView {
    async fn status(&self) -> Result<String, String> {
        if self.against_base {
            let diff = self.whole().await?;
            let paths = diff.lines().filter_map(|line| line.strip_prefix("diff --git "));
            return Ok(paths.collect::<Vec<_>>().join("\n"));
        }
        let changes = self.workspace.status(&self.cancel).await.map_err(|error| chain(&error))?;
        let lines = changes.iter().map(|change| format!("{} {}", change.kind, change.path));
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    async fn diff(&self, path: Option<&str>) -> Result<String, String> {
        let whole = self.whole().await?;
        Ok(match path {
            None => whole,
            Some(path) => of_path(&whole, path.trim_start_matches("./").trim_end_matches('/')),
        })
    }
}

impl WorkspaceView {
    async fn whole(&self) -> Result<String, String> {
        let against = (!self.against_base).then(|| self.workspace.parent());
        let diff = self.workspace.diff(against, WHOLE_DIFF_BYTES_MAX, &self.cancel).await;
        diff.map_err(|error| chain(&error))
    }
}

/// The parts of a diff that are about a file, or about files beneath a folder.
fn of_path(diff: &str, path: &str) -> String {
    let mut picked = String::new();
    let mut wanted = false;
    for line in diff.split_inclusive('\n') {
        if let Some(names) = line.strip_prefix("diff --git ") {
            let new = names.trim_end().rsplit_once(" b/").map_or("", |(_, new)| new);
            wanted =
                new == path || new.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        }
        if wanted {
            picked.push_str(line);
        }
    }
    picked
}

#[cfg(test)]
mod tests {
    use super::of_path;

    #[test]
    fn one_file_or_folder_of_a_diff() {
        let diff = "diff --git a/a.txt b/a.txt\n+1\ndiff --git a/d/b.txt b/d/b.txt\n+2\n";
        assert_eq!(of_path(diff, "a.txt"), "diff --git a/a.txt b/a.txt\n+1\n");
        assert_eq!(of_path(diff, "d"), "diff --git a/d/b.txt b/d/b.txt\n+2\n");
        assert_eq!(of_path(diff, "a"), "");
    }
}
