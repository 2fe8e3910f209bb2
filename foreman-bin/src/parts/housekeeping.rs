//! Giving back the disk that ended work takes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use foreman_core::model::TaskPhase;
use foreman_core::ports::{Clock, Query, Stores};
use foreman_runner::journal::JournalStore;

/// How often the journals are looked through.
const EVERY: Duration = Duration::from_hours(1);

/// Removes journals of ended tasks that are old or too many, at once and then each hour, until
/// dropped. A failure is told and tried again an hour later.
pub(super) async fn keep_house(stores: Stores, journals: JournalStore, clock: Arc<dyn Clock>) {
    loop {
        match live(&stores).await {
            Ok(live) => {
                let seconds = u64::try_from(clock.wall().unix_seconds()).unwrap_or(0);
                let now = UNIX_EPOCH + Duration::from_secs(seconds);
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
            Err(error) => tracing::warn!(%error, "the tasks could not be listed"),
        }
        clock.sleep(EVERY).await;
    }
}

/// The uids of tasks that have not ended; one that cannot be read counts as such, so an unreadable
/// task stops the reaping rather than losing its journal.
async fn live(stores: &Stores) -> Result<BTreeSet<String>, String> {
    let tasks = stores.tasks.list(&Query::all()).await.map_err(|error| error.to_string())?;
    if let Some((key, reason)) = tasks.unreadable.first() {
        return Err(format!("task {key} cannot be read: {reason}"));
    }
    let ended = |phase: Option<TaskPhase>| phase.is_some_and(TaskPhase::is_terminal);
    let live = tasks.objects.iter().filter(|task| !ended(task.status.known_phase()));
    Ok(live.map(|task| task.meta.uid.to_string()).collect())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, FileTimes};
    use std::time::SystemTime;

    use foreman_core::memory::MemoryStore;
    use foreman_core::model::{
        AgenticTask, AgenticTaskPayload, AgenticTaskSpec, Key, NewObject, TaskKind,
    };
    use foreman_core::testkit::sim::SimClock;

    use super::*;

    #[tokio::test]
    async fn journals_of_ended_tasks_go_after_a_week_those_of_live_ones_stay() {
        let clock = SimClock::new();
        let stores = Stores::of(&MemoryStore::new(clock.clone()));
        let spec = AgenticTaskSpec::new(TaskKind::Freeform, AgenticTaskPayload::default());
        let new = NewObject::<AgenticTask>::new(Key::namespaced("default", "live"), spec);
        let task = stores.tasks.create(new).await.expect("created");
        let state = tempfile::tempdir().expect("a directory");
        let journal = |uid: &str| state.path().join("journals").join(uid).join("1.journal");
        let seconds = u64::try_from(clock.wall().unix_seconds()).expect("after 1970");
        let old: SystemTime = UNIX_EPOCH + Duration::from_secs(seconds - 8 * 24 * 3600);
        for uid in [task.meta.uid.as_str(), "ended"] {
            let path = journal(uid);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            let file = fs::File::create(&path).expect("made");
            file.set_times(FileTimes::new().set_modified(old)).expect("dated");
        }
        let journals = JournalStore::new(state.path(), Arc::new(|| 0));
        let house = keep_house(stores, journals, clock);
        let gone = async {
            while journal("ended").exists() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::select! {
            () = house => unreachable!("it keeps house for ever"),
            done = tokio::time::timeout(Duration::from_secs(10), gone) => done.expect("removed"),
        }
        assert!(journal(task.meta.uid.as_str()).exists());
    }
}
