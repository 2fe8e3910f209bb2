//! Mocks of the ports, made by mockall: each call that a test does not expect panics.
//!
//! For most tests [`MemoryStore`](crate::memory::MemoryStore) and
//! [`SimClock`](super::sim::SimClock) say more with less; mocks are for what they cannot do: a store
//! that fails, a call that must not happen. `MockStore<FleetNode>` is a `NodeStore`, and so on for
//! every kind.
//!
//! ```
//! # use foreman_core::model::{FleetNode, Key};
//! # use foreman_core::ports::{Store, StoreError};
//! # use foreman_core::testkit::mock::MockNodeStore;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let mut nodes = MockNodeStore::new();
//! nodes.expect_get().returning(|_| Err(StoreError::Denied { reason: "no".to_owned() }));
//! let answer = nodes.get(&Key::cluster("a")).await;
//! assert!(matches!(answer, Err(StoreError::Denied { .. })));
//! # }
//! ```

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use mockall::mock;
use tokio::sync::watch;

use crate::model::{
    Agent, AgenticTask, AwakeTime, BootTime, Capability, FleetNode, Key, Kind, NewObject, Object,
    Uid, WallTime, Workload,
};
use crate::ports::{
    CapabilityProbe, Change, Clock, Entropy, Event, Executor, Expect, Job, Listing, ProbeError,
    Progress, Query, Recorder, RunEnd, Stop, Store, StoreError, StoreEvent,
};
use crate::task::authority::Authority;

mock! {
    /// A store of one kind that does what a test says.
    #[derive(Debug)]
    pub Store<K: Kind> {}

    #[async_trait]
    impl<K: Kind> Store<K> for Store<K> {
        async fn get(&self, key: &Key) -> Result<Option<Object<K>>, StoreError>;
        async fn list(&self, query: &Query) -> Result<Listing<K>, StoreError>;
        async fn create(&self, new: NewObject<K>) -> Result<Object<K>, StoreError>;
        async fn patch(
            &self,
            key: &Key,
            change: Change<K>,
            expect: Expect,
        ) -> Result<Object<K>, StoreError>;
        async fn delete(&self, key: &Key, uid: &Uid, expect: Expect) -> Result<(), StoreError>;
        fn watch(&self, query: Query) -> BoxStream<'static, Result<StoreEvent<K>, StoreError>>;
    }
}

/// A `NodeStore` that does what a test says.
pub type MockNodeStore = MockStore<FleetNode>;
/// A `TaskStore` that does what a test says.
pub type MockTaskStore = MockStore<AgenticTask>;
/// A `WorkloadStore` that does what a test says.
pub type MockWorkloadStore = MockStore<Workload>;
/// An `AgentStore` that does what a test says.
pub type MockAgentStore = MockStore<Agent>;

mock! {
    /// A probe that finds what a test says.
    #[derive(Debug)]
    pub CapabilityProbe {}

    #[async_trait]
    impl CapabilityProbe for CapabilityProbe {
        async fn probe(&self) -> Result<Capability, ProbeError>;
    }
}

mock! {
    /// A clock that shows what a test says. `sleep` must be expected beside `sleep_until`.
    #[derive(Debug)]
    pub Clock {}

    #[async_trait]
    impl Clock for Clock {
        fn wall(&self) -> WallTime;
        fn awake(&self) -> AwakeTime;
        fn boot(&self) -> BootTime;
        async fn sleep_until(&self, until: AwakeTime);
        async fn sleep(&self, duration: Duration);
    }
}

mock! {
    /// Chance as a test says; `uuid` and `up_to` follow from `next_u64`.
    #[derive(Debug)]
    pub Entropy {}

    impl Entropy for Entropy {
        fn next_u64(&self) -> u64;
    }
}

mock! {
    /// An executor that ends as a test says. `highest_attempt` must be expected too.
    #[derive(Debug)]
    pub Executor {}

    #[async_trait]
    impl Executor for Executor {
        async fn run(
            &self,
            job: Job,
            authority: Arc<Authority>,
            progress: watch::Sender<Progress>,
            stop: watch::Receiver<Stop>,
        ) -> RunEnd;
        async fn highest_attempt(&self, uid: &Uid) -> i64;
    }
}

mock! {
    /// A recorder that checks what it is told.
    #[derive(Debug)]
    pub Recorder {}

    impl Recorder for Recorder {
        fn record(&self, event: Event);
    }
}
