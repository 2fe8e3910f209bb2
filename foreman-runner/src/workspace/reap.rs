//! Giving back the disk that work of ended tasks takes.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{WorkspaceError, cannot, remove_tree};
use crate::limits::WORK_KEEP_SECONDS;

/// The folders of the state directory in which each task has one that bears its uid.
const BY_UID: [&str; 2] = ["private", "git"];

/// Tasks whose workspaces and patches stay, however old these are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeptTasks {
    uids: BTreeSet<String>,
    /// `<namespace>-<task>`, as patches are named.
    names: BTreeSet<String>,
}

impl KeptTasks {
    /// Keeps what belongs to this task.
    pub fn insert(&mut self, namespace: &str, task: &str, uid: &str) {
        self.uids.insert(uid.to_owned());
        self.names.insert(format!("{namespace}-{task}"));
    }

    fn has_tree(&self, folder: &str) -> bool {
        self.uids.iter().any(|uid| is_tree_of(folder, uid))
    }
}

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReapedWork {
    /// Workspaces: tree, git dir and private folder count as one.
    pub workspaces: usize,
    /// Patches.
    pub patches: usize,
}

/// Removes from the state directory `state` the workspaces and patches that belong to none of the
/// tasks in `kept` and were not written for 7 days. Mirrors and build caches stay. What cannot be
/// removed is logged and left for the next call.
///
/// # Errors
/// `Io` when a folder cannot be listed.
pub async fn reap_older(
    state: PathBuf,
    kept: KeptTasks,
    now: SystemTime,
) -> Result<ReapedWork, WorkspaceError> {
    let keep = Duration::from_secs(WORK_KEEP_SECONDS);
    let place = state.clone();
    // A tree may hold very many files.
    match tokio::task::spawn_blocking(move || reap_now(&state, &kept, now, keep)).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(cannot("clear", &place, io::Error::other(error))),
        },
    }
}

fn reap_now(
    state: &Path,
    kept: &KeptTasks,
    now: SystemTime,
    keep: Duration,
) -> Result<ReapedWork, WorkspaceError> {
    let old = |path: &Path| {
        last_written(path)
            .is_some_and(|written| now.duration_since(written).is_ok_and(|age| age > keep))
    };
    let mut reaped = ReapedWork::default();
    for folders in workspaces(state, kept)?.values() {
        // All or none: a git dir without its tree is of no use to anybody.
        if folders.iter().all(|folder| old(folder)) && removed(folders) {
            reaped.workspaces += 1;
        }
    }
    for (name, path) in entries(&state.join("patches"))? {
        if owner_of_patch(&name).is_some_and(|owner| !kept.names.contains(owner))
            && old(&path)
            && removed(&[path])
        {
            reaped.patches += 1;
        }
    }
    Ok(reaped)
}

/// The folders of each workspace that need not be kept, the git dir last: as long as it is there, the
/// rest is found by it.
fn workspaces(
    state: &Path,
    kept: &KeptTasks,
) -> Result<BTreeMap<String, Vec<PathBuf>>, WorkspaceError> {
    let mut by_uid: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for place in BY_UID {
        for (uid, path) in entries(&state.join(place))? {
            if !kept.uids.contains(&uid) {
                by_uid.entry(uid).or_default().push(path);
            }
        }
    }
    let trees = state.join("workspaces");
    for (namespace, folder) in entries(&trees)? {
        // Never through a link: it may lead anywhere.
        if !folder.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            continue;
        }
        for (name, path) in entries(&folder)? {
            if kept.has_tree(&name) {
                continue;
            }
            match by_uid.iter_mut().find(|(uid, _)| is_tree_of(&name, uid)) {
                Some((_, folders)) => folders.insert(0, path),
                // Its git dir is gone. No uid has a slash.
                None => drop(by_uid.insert(format!("{namespace}/{name}"), vec![path])),
            }
        }
    }
    Ok(by_uid)
}

/// Whether a tree's folder, `<task>-<uid>` or for long names `<uid>`, is that of a uid.
fn is_tree_of(folder: &str, uid: &str) -> bool {
    folder.strip_suffix(uid).is_some_and(|task| task.is_empty() || task.ends_with('-'))
}

/// `<namespace>-<task>` of the name `<namespace>-<task>-<attempt>.patch`.
fn owner_of_patch(name: &str) -> Option<&str> {
    let (owner, attempt) = name.strip_suffix(".patch")?.rsplit_once('-')?;
    attempt.parse::<u64>().ok().map(|_| owner)
}

/// What lies in a folder that may not be there. Names that are not text are none of ours.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, WorkspaceError> {
    let listed = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|source| cannot("list", folder, source))?,
    };
    let mut found = Vec::new();
    for entry in listed {
        let path = entry.map_err(|source| cannot("list", folder, source))?.path();
        if let Some(name) = path.file_name().and_then(OsStr::to_str) {
            found.push((name.to_owned(), path.clone()));
        }
    }
    found.sort();
    Ok(found)
}

/// When a file, or a folder or what lies directly in it, was written last; none when that cannot be
/// told, and then nothing may be removed.
fn last_written(path: &Path) -> Option<SystemTime> {
    let found = path.symlink_metadata().ok()?;
    let mut last = found.modified().ok()?;
    if found.is_dir() {
        for entry in std::fs::read_dir(path).ok()? {
            last = last.max(entry.ok()?.metadata().ok()?.modified().ok()?);
        }
    }
    Some(last)
}

/// Removes them in this order; whether all are gone.
fn removed(paths: &[PathBuf]) -> bool {
    paths.iter().all(|path| {
        let is_dir = path.symlink_metadata().is_ok_and(|found| found.is_dir());
        let result = if is_dir { remove_tree(path) } else { std::fs::remove_file(path) };
        match result {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "old work could not be removed");
                false
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn write(path: &Path) {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, "x").expect("written");
    }

    /// The places of a task's work.
    fn work(state: &Path, task: &str, uid: &str) -> [PathBuf; 4] {
        let places = [
            state.join("workspaces/default").join(format!("{task}-{uid}")),
            state.join("git").join(uid),
            state.join("private").join(uid),
        ];
        for place in &places {
            write(&place.join("deep/er/file"));
        }
        let patch = state.join("patches").join(format!("default-{task}-1.patch"));
        write(&patch);
        let [tree, git, private] = places;
        [tree, git, private, patch]
    }

    fn there(places: &[PathBuf]) -> Vec<bool> {
        places.iter().map(|place| place.exists()).collect()
    }

    #[tokio::test]
    async fn old_work_goes_and_that_of_kept_tasks_stays() {
        let state = tempfile::tempdir().expect("a directory");
        let root = state.path().to_owned();
        let live = work(&root, "fix-live", "0a-1");
        let gone = work(&root, "fix", "live-0b-2");
        // Go's module cache makes such folders.
        let closed = gone[0].join("deep/er");
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o500)).expect("closed");
        let orphan = root.join("workspaces/default/lost-0c-3");
        write(&orphan.join("file"));
        for other in ["patches/notes.txt", "mirrors/a.git/HEAD", "foreman.db"] {
            write(&root.join(other));
        }
        let mut kept = KeptTasks::default();
        kept.insert("default", "fix-live", "0a-1");

        let now = SystemTime::now();
        let young = reap_older(root.clone(), kept.clone(), now + 6 * DAY).await.expect("reaped");
        assert_eq!(young, ReapedWork::default());
        assert_eq!(there(&gone), [true; 4]);

        let old = reap_older(root.clone(), kept, now + 8 * DAY).await.expect("reaped");
        assert_eq!(old, ReapedWork { workspaces: 2, patches: 1 });
        assert_eq!(there(&gone), [false; 4]);
        assert!(!orphan.exists());
        assert_eq!(there(&live), [true; 4]);
        for other in ["patches/notes.txt", "mirrors/a.git/HEAD", "foreman.db"] {
            assert!(root.join(other).exists(), "{other}");
        }
    }

    #[tokio::test]
    async fn a_workspace_stays_whole_while_a_part_of_it_is_young() {
        let state = tempfile::tempdir().expect("a directory");
        let now = SystemTime::now();
        let places = work(state.path(), "fix", "u");
        // A checkpoint was made in the git dir later than anything in the tree.
        let file = std::fs::File::create(places[1].join("index")).expect("made");
        file.set_modified(now + 4 * DAY).expect("dated");
        let kept = KeptTasks::default();
        let reaped = reap_older(state.path().to_owned(), kept, now + 8 * DAY).await;
        assert_eq!(reaped.expect("reaped"), ReapedWork { workspaces: 0, patches: 1 });
        assert_eq!(there(&places), [true, true, true, false]);
    }

    #[tokio::test]
    async fn nothing_is_followed_out_of_the_state_directory() {
        let (state, other) = (tempfile::tempdir().expect("a"), tempfile::tempdir().expect("b"));
        write(&other.path().join("mine/file"));
        for (place, name) in [("workspaces", "default"), ("git", "u"), ("workspaces/x", "fix-u")] {
            std::fs::create_dir_all(state.path().join(place)).expect("made");
            let link = state.path().join(place).join(name);
            std::os::unix::fs::symlink(other.path(), link).expect("linked");
        }
        let now = SystemTime::now() + 8 * DAY;
        let reaped = reap_older(state.path().to_owned(), KeptTasks::default(), now).await;
        assert_eq!(reaped.expect("reaped").workspaces, 1);
        assert!(other.path().join("mine/file").exists());
    }

    #[test]
    fn names_tell_whose_a_thing_is() {
        assert!(is_tree_of("fix-0a-1", "0a-1") && is_tree_of("0a-1", "0a-1"));
        assert!(!is_tree_of("fix-00a-1", "0a-1") && !is_tree_of("fix", "0a-1"));
        assert_eq!(owner_of_patch("default-fix-2-13.patch"), Some("default-fix-2"));
        for other in ["default-fix-x.patch", "notes.txt", "a.patch"] {
            assert_eq!(owner_of_patch(other), None, "{other}");
        }
    }
}
