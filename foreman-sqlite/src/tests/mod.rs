//! What the conformance suite cannot see: the file, its versions, other handles, faults.

mod faults;
mod groups;
mod opening;
mod sharing;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use foreman_core::model::{
    AgenticTask, AgenticTaskPayload, AgenticTaskSpec, Key, NewObject, Object, TaskKind,
};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Query, Store, StoreError, StoreEvent, Stores};
use foreman_core::testkit::sim::{SimClock, SimEntropy};
use futures::StreamExt;
use futures::stream::BoxStream;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::SqliteStore;
use crate::limits::Tuning;

/// The longest that a test waits for anything.
const DEADLINE: Duration = Duration::from_secs(30);
/// So long that it does not happen during a test.
const NEVER: Duration = Duration::from_hours(1);

struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory") }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("foreman.db")
    }

    fn open(&self) -> Arc<SqliteStore> {
        self.open_tuned(Tuning::default())
    }

    fn open_tuned(&self, tuning: Tuning) -> Arc<SqliteStore> {
        tuned(&self.file(), tuning)
    }

    /// A connection that is not a store's.
    fn raw(&self) -> Connection {
        Connection::open(self.file()).expect("open")
    }
}

fn tuned(path: &Path, tuning: Tuning) -> Arc<SqliteStore> {
    SqliteStore::open_tuned(path, SimClock::new(), SimEntropy::new(7), tuning).expect("open")
}

fn key(name: &str) -> Key {
    Key::namespaced("default", name)
}

fn task(name: &str) -> NewObject<AgenticTask> {
    let payload =
        AgenticTaskPayload { prompt: Some("do it".to_owned()), ..AgenticTaskPayload::default() };
    NewObject::new(key(name), AgenticTaskSpec::new(TaskKind::Freeform, payload))
}

async fn create(store: &SqliteStore, name: &str) -> Object<AgenticTask> {
    store.create(task(name)).await.expect("create")
}

fn attempt(number: usize) -> Change<AgenticTask> {
    Change::of(Part::Status).set("attempt", number)
}

async fn names(store: &SqliteStore) -> Vec<String> {
    let listing = Store::<AgenticTask>::list(store, &Query::all()).await.expect("list");
    listing.objects.into_iter().map(|task| task.meta.name).collect()
}

type Events = BoxStream<'static, Result<StoreEvent<AgenticTask>, StoreError>>;

/// A watch that has read everything once.
async fn watch(store: &Arc<SqliteStore>) -> Events {
    let mut events = Stores::of(store).tasks.watch(Query::all());
    while next(&mut events).await != StoreEvent::SyncEnd {}
    events
}

async fn next(events: &mut Events) -> StoreEvent<AgenticTask> {
    let event = tokio::time::timeout(DEADLINE, events.next()).await.expect("an event in time");
    event.expect("the watch goes on").expect("no error")
}
