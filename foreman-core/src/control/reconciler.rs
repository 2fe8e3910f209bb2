//! The reconciler: wakes, takes every event, plans on the whole view, then acts.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, BoxStream, FuturesUnordered, StreamExt};
use tokio::sync::watch;

use super::answer::{Answer, not_read, settle};
use super::backoff::Backoff;
use super::confirm::Unconfirmed;
use super::feed::{feed, feed_or_break};
use super::memory::Memory;
use super::mirror::{Mirror, Reread};
use super::write::{Target, Write};
use super::{plan_claims, plan_nodes, plan_tasks, plan_workloads};
use crate::model::Uid;
use crate::model::agent::Agent;
use crate::model::agentic_task::AgenticTask;
use crate::model::fleet_node::FleetNode;
use crate::model::ids::{Key, Revision};
use crate::model::object::{Kind, Object};
use crate::model::time::AwakeTime;
use crate::model::workload::Workload;
use crate::policy::admit::Policy;
use crate::ports::clock::Clock;
use crate::ports::recorder::{Event, Recorder};
use crate::ports::store::{Change, Expect, Query, Store, StoreError, StoreEvent, Stores};
use crate::timing::{EVENTS_AT_ONCE, RECONCILE_PASSES_MAX, STORE_RETRY_MIN, WRITES_AT_ONCE};

/// What the reconciler knows of the store.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) nodes: Mirror<FleetNode>,
    pub(super) tasks: Mirror<AgenticTask>,
    pub(super) workloads: Mirror<Workload>,
    pub(super) agents: Mirror<Agent>,
    pub(super) policy: Policy,
}

/// What became of a write.
pub(super) enum Done {
    Task(Key, Answer<AgenticTask>),
    Workload(Key, Answer<Workload>),
    Created(Key, Uid, Answer<AgenticTask>),
    Node(Key, Answer<FleetNode>),
    /// A node was read afresh, and what came of the write then.
    Confirmed {
        node: Key,
        then: Box<Self>,
    },
    /// The write was not sent.
    Unconfirmed(Unconfirmed),
}

/// Why [`Reconciler::reconcile_once`] gave up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReconcileError {
    /// The store could not be read.
    #[error("the store could not be read")]
    Read(#[source] StoreError),
    /// A write could not be done now.
    #[error("the store did not take a write")]
    Write,
    /// Every pass found more to do.
    #[error("still not settled after {RECONCILE_PASSES_MAX} passes")]
    Unsettled,
}

/// Places tasks, expands workloads and rolls them up.
#[derive(Clone)]
pub struct Reconciler {
    pub(super) stores: Stores,
    clock: Arc<dyn Clock>,
    recorder: Arc<dyn Recorder>,
    policy: Policy,
}

impl std::fmt::Debug for Reconciler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reconciler").finish_non_exhaustive()
    }
}

enum Fed {
    Node(StoreEvent<FleetNode>),
    /// Nothing is heard of the nodes until they are read in full again.
    NodesBroken,
    Task(StoreEvent<AgenticTask>),
    Workload(StoreEvent<Workload>),
    Agent(StoreEvent<Agent>),
}

impl Reconciler {
    /// A reconciler of these stores.
    pub fn new(stores: Stores, clock: Arc<dyn Clock>, recorder: Arc<dyn Recorder>) -> Self {
        Self { stores, clock, recorder, policy: Policy::default() }
    }

    /// What this installation allows; everything where this is not called.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Runs until `stop` turns true. Writes that are under way are awaited, so that nothing is left
    /// half known.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        let mut world = World { policy: self.policy, ..World::default() };
        let mut memory = Memory::default();
        let mut events = self.events().ready_chunks(EVENTS_AT_ONCE).fuse();
        let mut writes: FuturesUnordered<BoxFuture<'_, Done>> = FuturesUnordered::new();
        let mut look_again: Option<AwakeTime> = None;
        let mut away = Backoff::default();
        loop {
            let clock = self.clock.clone();
            let alarm = async move {
                match look_again {
                    Some(at) => clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            futures::select_biased! {
                _ = stop.wait_for(|stop| *stop).fuse() => break,
                done = writes.select_next_some() => {
                    self.take(&mut world, &mut memory, &mut away, done);
                }
                chunk = events.select_next_some() => {
                    for event in chunk {
                        self.apply(&mut world, &mut memory, event);
                    }
                }
                () = alarm.fuse() => {}
            }
            // Whatever else is ready: a pass decides on the whole view, and neither the answers nor
            // the events can keep the other from being heard.
            while let Some(Some(done)) = writes.next().now_or_never() {
                self.take(&mut world, &mut memory, &mut away, done);
            }
            if let Some(Some(chunk)) = events.next().now_or_never() {
                for event in chunk {
                    self.apply(&mut world, &mut memory, event);
                }
            }
            if !world.is_synced() {
                continue;
            }
            if let Some(at) = away.until(self.clock.awake()) {
                look_again = Some(at);
                continue;
            }
            let (planned, at) = self.plan(&world, &mut memory);
            look_again = at;
            let room = WRITES_AT_ONCE.saturating_sub(writes.len());
            if planned.len() > room {
                look_again = Some(self.clock.awake() + STORE_RETRY_MIN);
            }
            for write in planned.into_iter().take(room) {
                world.begins(&write);
                writes.push(self.carry_out(write).boxed());
            }
            memory.forget_placements_without_write(&world);
        }
        while let Some(done) = writes.next().await {
            self.take(&mut world, &mut memory, &mut away, done);
        }
    }

    /// Reads everything, decides and writes until nothing is left to do, and says how many writes
    /// that took. A store in which all is as it should be is not written to.
    ///
    /// # Errors
    /// The store could not be read or did not take a write, or it never settles.
    pub async fn reconcile_once(&self) -> Result<usize, ReconcileError> {
        let query = Query::all();
        let read = ReconcileError::Read;
        let mut world = World {
            nodes: Mirror::of(self.stores.nodes.list(&query).await.map_err(read)?),
            tasks: Mirror::of(self.stores.tasks.list(&query).await.map_err(read)?),
            workloads: Mirror::of(self.stores.workloads.list(&query).await.map_err(read)?),
            agents: Mirror::of(self.stores.agents.list(&query).await.map_err(read)?),
            policy: self.policy,
        };
        let mut memory = Memory::default();
        let mut away = Backoff::default();
        let mut count = 0;
        for _ in 0..RECONCILE_PASSES_MAX {
            let (planned, _) = self.plan(&world, &mut memory);
            if planned.is_empty() {
                return Ok(count);
            }
            for write in planned {
                world.begins(&write);
                count += 1;
                let done = self.carry_out(write).await;
                self.take(&mut world, &mut memory, &mut away, done);
                if away.until(self.clock.awake()).is_some() {
                    return Err(ReconcileError::Write);
                }
            }
            memory.forget_placements_without_write(&world);
        }
        Err(ReconcileError::Unsettled)
    }

    fn events(&self) -> BoxStream<'static, Fed> {
        let (stores, all) = (&self.stores, Query::all);
        let clock = || self.clock.clone();
        stream::select_all([
            feed_or_break(stores.nodes.clone(), clock(), all())
                .map(|event| event.map_or(Fed::NodesBroken, Fed::Node))
                .boxed(),
            feed(stores.tasks.clone(), clock(), all()).map(Fed::Task).boxed(),
            feed(stores.workloads.clone(), clock(), all()).map(Fed::Workload).boxed(),
            feed(stores.agents.clone(), clock(), all()).map(Fed::Agent).boxed(),
        ])
        .boxed()
    }

    fn apply(&self, world: &mut World, memory: &mut Memory, event: Fed) {
        match event {
            Fed::Node(event) => {
                match &event {
                    StoreEvent::SyncStart => memory.goes_deaf(),
                    StoreEvent::SyncEnd => memory.hears_again(self.clock.awake()),
                    StoreEvent::Upsert(_)
                    | StoreEvent::Unreadable { .. }
                    | StoreEvent::Gone { .. } => {}
                }
                world.nodes.apply(event);
            }
            Fed::NodesBroken => memory.goes_deaf(),
            Fed::Task(event) => {
                if let StoreEvent::Upsert(after) = &event {
                    let before = world.tasks.objects.get(&after.key());
                    plan_tasks::note_refusal(memory, before, after, self.clock.awake());
                }
                world.tasks.apply(event);
            }
            Fed::Workload(event) => world.workloads.apply(event),
            Fed::Agent(event) => world.agents.apply(event),
        }
    }

    fn plan(&self, world: &World, memory: &mut Memory) -> (Vec<Write>, Option<AwakeTime>) {
        let (wall, awake) = (self.clock.wall(), self.clock.awake());
        memory.notice_sleep(awake, self.clock.boot());
        memory.refresh(world, wall, awake);
        let (mut writes, first) = plan_nodes::plan(world, memory, wall, awake);
        let mut look_again = vec![first];
        for plan in [plan_workloads::plan, plan_claims::plan, plan_tasks::plan] {
            let (more, at) = plan(world, memory, wall, awake);
            look_again.push(at);
            // One write an object: a child that is told to stop is not placed by the same pass.
            let taken: BTreeSet<_> = writes.iter().filter_map(Write::task).cloned().collect();
            let free = |write: &Write| write.task().is_none_or(|key| !taken.contains(key));
            writes.extend(more.into_iter().filter(free));
        }
        writes.sort_by_key(|write| write.urgency().place());
        (writes, look_again.into_iter().flatten().min())
    }

    pub(super) async fn carry_out(&self, write: Write) -> Done {
        match write {
            Write::Task { key, revision, change, event, urgency: _ } => {
                let store = &*self.stores.tasks;
                let answer = self.patch(store, &key, revision, change, event).await;
                Done::Task(key, answer)
            }
            Write::Workload { key, revision, change, event, urgency: _ } => {
                let store = &*self.stores.workloads;
                let answer = self.patch(store, &key, revision, change, event).await;
                Done::Workload(key, answer)
            }
            Write::Create { workload, owner, new } => {
                let key = new.key.clone();
                let answer = self.create_child(&workload, &owner, *new).await;
                Done::Created(key, owner, answer)
            }
            Write::Node { key, revision, change, event, urgency: _ } => {
                let answer = self.patch(&*self.stores.nodes, &key, revision, change, event).await;
                Done::Node(key, answer)
            }
            Write::DeleteNode { key, uid, revision, event } => {
                let answer = self.delete_node(&key, &uid, revision, event).await;
                Done::Node(key, answer)
            }
            Write::Confirmed { confirm, then } => self.carry_out_if(confirm, *then).await,
        }
    }

    async fn delete_node(
        &self,
        key: &Key,
        uid: &Uid,
        revision: Revision,
        event: Option<Event>,
    ) -> Answer<FleetNode> {
        let store = &*self.stores.nodes;
        match store.delete(key, uid, Expect::At(revision)).await {
            Ok(()) => {
                if let Some(event) = event {
                    self.recorder.record(event);
                }
                Answer::Lost(Reread::Absent)
            }
            Err(error) => self.answer(store, key, Err(error)).await,
        }
    }

    async fn patch<K: Kind, S: Store<K> + ?Sized>(
        &self,
        store: &S,
        key: &Key,
        revision: Revision,
        change: Change<K>,
        event: Option<Event>,
    ) -> Answer<K> {
        let answer = store.patch(key, change, Expect::At(revision)).await;
        let answer = self.answer(store, key, answer).await;
        if let (Answer::Written(_), Some(event)) = (&answer, event) {
            self.recorder.record(event);
        }
        answer
    }

    /// What an answer means for us. After a lost race or an unknown end, a fresh read decides.
    pub(super) async fn answer<K: Kind, S: Store<K> + ?Sized>(
        &self,
        store: &S,
        key: &Key,
        answer: Result<Object<K>, StoreError>,
    ) -> Answer<K> {
        match answer {
            Ok(object) => Answer::Written(Box::new(object)),
            Err(
                StoreError::Conflict
                | StoreError::NotFound
                | StoreError::AlreadyExists { .. }
                | StoreError::Uncertain { .. },
            ) => match store.get(key).await {
                Ok(Some(found)) => Answer::Lost(Reread::There(Box::new(found))),
                Ok(None) => Answer::Lost(Reread::Absent),
                Err(error) => not_read(key, error),
            },
            Err(
                error @ (StoreError::Invalid { .. }
                | StoreError::TooLarge { .. }
                | StoreError::Denied { .. }
                | StoreError::Unreadable { .. }),
            ) => {
                tracing::error!(kind = K::NAMES.kind, %key, %error, "a write was refused");
                Answer::Refused(error)
            }
            Err(StoreError::Unavailable { reason, retry_after }) => {
                tracing::warn!(kind = K::NAMES.kind, %key, reason, "the store is away: writes wait");
                Answer::Later(retry_after)
            }
        }
    }

    fn take(&self, world: &mut World, memory: &mut Memory, away: &mut Backoff, done: Done) {
        let now = self.clock.awake();
        match done {
            Done::Task(key, answer) => {
                if let Some(task) = world.tasks.objects.get(&key) {
                    memory.placing.remove(&task.meta.uid);
                    if !matches!(answer, Answer::Written(_)) {
                        memory.told.remove(&task.meta.uid);
                    }
                }
                settle(&mut world.tasks, &key, away, now, answer);
            }
            Done::Workload(key, answer) => settle(&mut world.workloads, &key, away, now, answer),
            Done::Created(key, owner, answer) => {
                match &answer {
                    Answer::Refused(error) => memory.child_refused(owner, error, now),
                    Answer::Written(_) | Answer::Lost(_) => memory.child_made(&owner),
                    Answer::Later(_) => {}
                }
                settle(&mut world.tasks, &key, away, now, answer);
            }
            Done::Node(key, answer) => settle(&mut world.nodes, &key, away, now, answer),
            Done::Confirmed { node, then } => {
                world.nodes.read_done(&node, Reread::Unknown);
                self.take(world, memory, away, *then);
            }
            Done::Unconfirmed(why) => why.settle(world, memory, away, now),
        }
    }
}

impl World {
    fn is_synced(&self) -> bool {
        self.nodes.is_synced()
            && self.tasks.is_synced()
            && self.workloads.is_synced()
            && self.agents.is_synced()
    }

    fn begins(&mut self, write: &Write) {
        if let Write::Confirmed { confirm, .. } = write {
            self.nodes.read_begins(confirm.node.clone());
        }
        match write.target() {
            Target::Task(key) => self.tasks.write_begins(key),
            Target::Workload(key) => self.workloads.write_begins(key),
            Target::Node(key) => self.nodes.write_begins(key),
        }
    }
}
