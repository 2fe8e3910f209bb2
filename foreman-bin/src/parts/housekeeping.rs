//! Giving back the disk that ended work takes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use foreman_core::model::{AgenticTask, Object, WallTime};
use foreman_core::ports::{Clock, Query, Stores};
use foreman_runner::journal::JournalStore;
use foreman_runner::limits::WORK_KEEP_SECONDS;
use foreman_runner::workspace::{KeptTasks, reap_older};

/// How often the disk is looked through.
const EVERY: Duration = Duration::from_hours(1);

/// Removes journals of ended tasks that are old or too many, and workspaces and patches of those that
/// are old, at once and then each hour, until dropped. A failure is told and tried again an hour later.
pub(super) async fn keep_house(
    stores: Stores,
    journals: JournalStore,
    state_dir: PathBuf,
    clock: Arc<dyn Clock>,
) {
    loop {
        match tasks(&stores).await {
            Ok(tasks) => {
                let seconds = u64::try_from(clock.wall().unix_seconds()).unwrap_or(0);
                let now = UNIX_EPOCH + Duration::from_secs(seconds);
                reap_journals(&journals, live(&tasks), now).await;
                reap_work(&state_dir, kept(&tasks, clock.wall()), now).await;
            }
            Err(error) => tracing::warn!(%error, "the tasks could not be listed"),
        }
        clock.sleep(EVERY).await;
    }
}

async fn reap_journals(journals: &JournalStore, live: BTreeSet<String>, now: SystemTime) {
    match journals.reap(live, now).await {
        Ok(reaped) if reaped.uids.is_empty() => {}
        Ok(reaped) => tracing::info!(
            tasks = reaped.uids.len(),
            bytes = reaped.bytes,
            "journals of ended tasks were removed"
        ),
        Err(error) => tracing::warn!(%error, "journals could not be removed"),
    }
}

async fn reap_work(state_dir: &Path, kept: KeptTasks, now: SystemTime) {
    match reap_older(state_dir.to_owned(), kept, now).await {
        Ok(reaped) if reaped.workspaces + reaped.patches == 0 => {}
        Ok(reaped) => tracing::info!(
            workspaces = reaped.workspaces,
            patches = reaped.patches,
            "old work of ended tasks was removed"
        ),
        Err(error) => tracing::warn!(%error, "old work could not be removed"),
    }
}

/// All tasks; one that cannot be read stops the reaping rather than losing its journal and work.
async fn tasks(stores: &Stores) -> Result<Vec<Object<AgenticTask>>, String> {
    let tasks = stores.tasks.list(&Query::all()).await.map_err(|error| error.to_string())?;
    if let Some((key, reason)) = tasks.unreadable.first() {
        return Err(format!("task {key} cannot be read: {reason}"));
    }
    Ok(tasks.objects)
}

/// The uids of tasks that have not ended.
fn live(tasks: &[Object<AgenticTask>]) -> BTreeSet<String> {
    tasks
        .iter()
        .filter(|task| !task.status.has_ended())
        .map(|task| task.meta.uid.to_string())
        .collect()
}

/// The tasks whose work stays: those that have not ended, or not long ago.
fn kept(tasks: &[Object<AgenticTask>], now: WallTime) -> KeptTasks {
    let recent = |then: WallTime| now.since(then).as_secs() <= WORK_KEEP_SECONDS;
    let mut kept = KeptTasks::default();
    for task in tasks {
        if !task.status.has_ended() || task.status.finished_at.is_some_and(recent) {
            let namespace = task.meta.namespace.as_deref().unwrap_or_default();
            kept.insert(namespace, &task.meta.name, task.meta.uid.as_str());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::fs::{self, FileTimes};
    use std::time::SystemTime;

    use foreman_core::memory::MemoryStore;
    use foreman_core::model::{
        AgenticTask, AgenticTaskPayload, AgenticTaskSpec, Key, NewObject, TaskKind, TaskPhase,
    };
    use foreman_core::testkit::sim::SimClock;

    use super::*;

    #[tokio::test]
    async fn journals_and_work_of_ended_tasks_go_after_a_week_those_of_live_ones_stay() {
        let clock = SimClock::new();
        let stores = Stores::of(&MemoryStore::new(clock.clone()));
        let spec = AgenticTaskSpec::new(TaskKind::Freeform, AgenticTaskPayload::default());
        let new = NewObject::<AgenticTask>::new(Key::namespaced("default", "live"), spec);
        let task = stores.tasks.create(new).await.expect("created");
        let state = tempfile::tempdir().expect("a directory");
        let journal = |uid: &str| state.path().join("journals").join(uid).join("1.journal");
        let git_dir = |uid: &str| state.path().join("git").join(uid);
        let seconds = u64::try_from(clock.wall().unix_seconds()).expect("after 1970");
        let old: SystemTime = UNIX_EPOCH + Duration::from_secs(seconds - 8 * 24 * 3600);
        for uid in [task.meta.uid.as_str(), "ended"] {
            let path = journal(uid);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            let file = fs::File::create(&path).expect("made");
            file.set_times(FileTimes::new().set_modified(old)).expect("dated");
            fs::create_dir_all(git_dir(uid)).expect("made");
            let folder = fs::File::open(git_dir(uid)).expect("opened");
            folder.set_times(FileTimes::new().set_modified(old)).expect("dated");
        }
        let journals = JournalStore::new(state.path(), Arc::new(|| 0));
        let house = keep_house(stores, journals, state.path().to_owned(), clock);
        let gone = async {
            while journal("ended").exists() || git_dir("ended").exists() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::select! {
            () = house => unreachable!("it keeps house for ever"),
            done = tokio::time::timeout(Duration::from_secs(10), gone) => done.expect("removed"),
        }
        assert!(journal(task.meta.uid.as_str()).exists());
        assert!(git_dir(task.meta.uid.as_str()).exists());
    }

    #[tokio::test]
    async fn work_of_a_task_is_kept_until_a_week_after_its_end() {
        let clock = SimClock::new();
        let stores = Stores::of(&MemoryStore::new(clock.clone()));
        let spec = AgenticTaskSpec::new(TaskKind::Freeform, AgenticTaskPayload::default());
        let new = NewObject::<AgenticTask>::new(Key::namespaced("default", "fix"), spec);
        let mut task = stores.tasks.create(new).await.expect("created");
        let mut all = KeptTasks::default();
        all.insert("default", "fix", task.meta.uid.as_str());
        let now = clock.wall();
        let week = i64::try_from(WORK_KEEP_SECONDS).expect("small");
        assert_eq!(kept(&[task.clone()], now), all, "it has not ended");
        task.status.phase = Some(TaskPhase::Succeeded.into());
        for (age, stays) in [(0, true), (week, true), (week + 1, false)] {
            let then = WallTime::from_unix_seconds(now.unix_seconds() - age);
            task.status.finished_at = Some(then);
            let expected = if stays { all.clone() } else { KeptTasks::default() };
            assert_eq!(kept(&[task.clone()], now), expected, "{age}");
        }
    }
}
