//! The store conformance suite on every store that needs no server, one test a case.

mod crash;
mod saboteur;
mod threads;

use async_trait::async_trait;
use foreman_core::memory::MemoryStore;
use foreman_core::model::{
    Agent, AgentRelease, AgenticTask, FleetNode, Key, Kind, ModelProfile, Workload,
};
use foreman_core::ports::Stores;
use foreman_core::testkit::conformance::Subject;
use foreman_core::testkit::sim::{SimClock, SimEntropy};
use foreman_sqlite::SqliteStore;
use serde_json::Value;
use std::sync::Arc;
use tempfile::TempDir;

pub(crate) struct Memory(Arc<MemoryStore>);

impl Memory {
    pub(crate) fn new() -> Self {
        Self(MemoryStore::new(SimClock::new()))
    }
}

#[async_trait]
impl Subject for Memory {
    fn stores(&self) -> Stores {
        Stores::of(&self.0)
    }

    fn changes_past_any_buffer(&self) -> usize {
        17_000
    }

    async fn put_raw(&self, kind: &'static str, key: &Key, object: Value) -> bool {
        let (store, key) = (&self.0, key.clone());
        match kind {
            kind if kind == FleetNode::NAMES.kind => store.put_raw::<FleetNode>(key, object),
            kind if kind == AgenticTask::NAMES.kind => store.put_raw::<AgenticTask>(key, object),
            kind if kind == Workload::NAMES.kind => store.put_raw::<Workload>(key, object),
            kind if kind == Agent::NAMES.kind => store.put_raw::<Agent>(key, object),
            kind if kind == AgentRelease::NAMES.kind => store.put_raw::<AgentRelease>(key, object),
            kind if kind == ModelProfile::NAMES.kind => store.put_raw::<ModelProfile>(key, object),
            _ => return false,
        }
        true
    }
}

/// Two handles on one file, as two processes would have them.
pub(crate) struct Sqlite {
    first: Arc<SqliteStore>,
    second: Arc<SqliteStore>,
    _directory: TempDir,
}

impl Sqlite {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let open = |seed| {
            SqliteStore::open(
                directory.path().join("foreman.db"),
                SimClock::new(),
                SimEntropy::new(seed),
            )
            .expect("open")
        };
        Self { first: open(1), second: open(2), _directory: directory }
    }
}

#[async_trait]
impl Subject for Sqlite {
    fn stores(&self) -> Stores {
        Stores::of(&self.first)
    }

    fn second_handle(&self) -> Stores {
        Stores::of(&self.second)
    }

    async fn put_raw(&self, kind: &'static str, key: &Key, object: Value) -> bool {
        self.first.put_raw(kind, key, object).await.expect("put");
        true
    }
}

mod memory {
    foreman_core::store_conformance!(async || super::Memory::new());
}

mod sqlite {
    foreman_core::store_conformance!(async || super::Sqlite::new());
}

/// The suite as an embedder calls it who wants no test of each case.
#[tokio::test]
async fn every_case_runs_by_one_call() {
    let quick = async || Memory::new();
    foreman_core::testkit::conformance::run_all(quick).await;
}
