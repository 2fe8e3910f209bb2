//! A fleet in one process whose stores fail as a test says.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use foreman_core::control::{AgentEnd, Foreman, Reconciler, Shutdown};
use foreman_core::fleet::{Identity, Registrar};
use foreman_core::memory::MemoryStore;
use foreman_core::model::agent::AgentRole;
use foreman_core::model::agentic_task::AgenticTaskStatus;
use foreman_core::model::shared::{LocalObjectReference, RequiredCapability};
use foreman_core::model::workload::PipelineStep;
use foreman_core::model::{
    Agent, AgentSpec, AgenticTask, AgenticTaskPayload, AgenticTaskSpec, Capability, FleetNode, Key,
    NewObject, NodeName, Object, TaskKind, TaskPhase, Workload, WorkloadSpec,
};
use foreman_core::ports::recorder::LogRecorder;
use foreman_core::ports::store::Part;
use foreman_core::ports::{CapabilityProbe, Change, Expect, ProbeError, Store, StoreError, Stores};
use foreman_core::testkit::fault::FaultyStore;
use foreman_core::testkit::scripted::ScriptedExecutor;
use foreman_core::testkit::sim::{SimClock, SimEntropy};
use serde::Serialize;
use tokio::sync::watch;

/// How long, on the real clock, a test waits for what must come about.
const DEADLINE: Duration = Duration::from_secs(20);

/// A probe that finds what a test says.
pub(crate) struct Fixed(pub(crate) Mutex<Result<Capability, ProbeError>>);

impl Fixed {
    pub(crate) fn new(capability: Capability) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Ok(capability))))
    }

    pub(crate) fn set(&self, capability: Result<Capability, ProbeError>) {
        *self.0.lock().expect("no panic") = capability;
    }
}

#[async_trait]
impl CapabilityProbe for Fixed {
    async fn probe(&self) -> Result<Capability, ProbeError> {
        self.0.lock().expect("no panic").clone()
    }
}

pub(crate) fn identity(name: &str) -> Identity {
    Identity {
        name: NodeName::parse(name).expect("valid"),
        address: None,
        roles: Vec::new(),
        slots: None,
        version: "0".into(),
        os: "linux".into(),
        arch: "amd64".into(),
    }
}

pub(crate) fn away() -> StoreError {
    StoreError::Unavailable { reason: "away".into(), retry_after: None }
}

pub(crate) struct Lab {
    /// What is really there, whatever the wrappers do.
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) stores: Stores,
    pub(crate) nodes: Arc<FaultyStore<FleetNode>>,
    pub(crate) tasks: Arc<FaultyStore<AgenticTask>>,
    pub(crate) workloads: Arc<FaultyStore<Workload>>,
    pub(crate) agents: Arc<FaultyStore<Agent>>,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) shutdown: watch::Sender<Shutdown>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let clock = SimClock::new();
        let store = MemoryStore::new(clock.clone());
        let nodes = FaultyStore::new(store.clone());
        let tasks = FaultyStore::new(store.clone());
        let workloads = FaultyStore::new(store.clone());
        let agents = FaultyStore::new(store.clone());
        let stores = Stores {
            nodes: nodes.clone(),
            tasks: tasks.clone(),
            workloads: workloads.clone(),
            agents: agents.clone(),
            ..Stores::of(&store)
        };
        let shutdown = watch::channel(Shutdown::No).0;
        Self { store, stores, nodes, tasks, workloads, agents, clock, shutdown }
    }

    pub(crate) fn reconciler(&self) -> Reconciler {
        Reconciler::new(self.stores.clone(), self.clock.clone(), Arc::new(LogRecorder))
    }

    pub(crate) fn registrar(&self, identity: Identity, probe: Arc<Fixed>) -> Registrar {
        let entropy = SimEntropy::new(11);
        Registrar::new(self.stores.nodes.clone(), probe, self.clock.clone(), entropy, identity)
    }

    pub(crate) fn foreman(
        &self,
        nodes: &[(&str, Capability, &[&str])],
        executor: &Arc<ScriptedExecutor>,
    ) -> Foreman {
        let nodes = nodes.iter().map(|(name, capability, roles)| {
            let roles = roles.iter().map(|role| (*role).to_owned()).collect();
            (Identity { roles, ..identity(name) }, capability.clone())
        });
        self.fleet(nodes, executor)
    }

    /// One node `one` with so many slots.
    pub(crate) fn one_node(&self, slots: i32, executor: &Arc<ScriptedExecutor>) -> Foreman {
        let node = Identity { slots: Some(slots), ..identity("one") };
        self.fleet([(node, Capability::default())], executor)
    }

    pub(crate) fn fleet(
        &self,
        nodes: impl IntoIterator<Item = (Identity, Capability)>,
        executor: &Arc<ScriptedExecutor>,
    ) -> Foreman {
        let mut builder =
            Foreman::builder(self.stores.clone(), self.clock.clone(), SimEntropy::new(7));
        for (identity, capability) in nodes {
            builder = builder.node(identity, Fixed::new(capability), executor.clone());
        }
        builder.build().expect("complete")
    }

    pub(crate) async fn agent(&self, name: &str, required: RequiredCapability) {
        self.agent_with(name, |spec| spec.required_capability = Some(required)).await;
    }

    pub(crate) async fn agent_with(&self, name: &str, edit: impl FnOnce(&mut AgentSpec)) {
        let mut spec = AgentSpec::new(AgentRole::Coder, vec!["bash".into()]);
        edit(&mut spec);
        let agents: &dyn Store<Agent> = &*self.store;
        let key = Key::namespaced("default", name);
        if let Some(plain) = agents.get(&key).await.expect("read") {
            agents.delete(&key, plain.uid(), Expect::Any).await.expect("replaced");
        }
        let new = NewObject::<Agent>::new(Key::namespaced("default", name), spec);
        Store::create(&*self.store, new).await.expect("created");
    }

    pub(crate) async fn task(&self, name: &str, spec: AgenticTaskSpec) -> Object<AgenticTask> {
        let new = NewObject::new(Key::namespaced("default", name), spec);
        Store::create(&*self.store, new).await.expect("created")
    }

    pub(crate) async fn task_now(&self, name: &str) -> Object<AgenticTask> {
        let key = Key::namespaced("default", name);
        Store::get(&*self.store, &key).await.expect("read").expect("present")
    }

    pub(crate) async fn phase(&self, name: &str) -> Option<TaskPhase> {
        self.task_now(name).await.status.known_phase()
    }

    /// Sets the status of a task as another writer might.
    pub(crate) async fn set_status(
        &self,
        name: &str,
        edit: impl FnOnce(&mut AgenticTaskStatus),
    ) -> Object<AgenticTask> {
        let task = self.task_now(name).await;
        let mut status = task.status.clone();
        edit(&mut status);
        let json = serde_json::to_value(&status).expect("plain");
        let mut change = Change::of(Part::Status);
        let fields = [
            "phase",
            "assignedNode",
            "attempt",
            "session",
            "claimedAt",
            "startedAt",
            "attempts",
            "checkpoint",
            "usage",
            "allowance",
            "verdict",
        ];
        for field in fields {
            change = match json.get(field) {
                Some(value) => change.set(field, value),
                None => change.clear(field),
            };
        }
        Store::patch(&*self.store, &task.key(), change, Expect::Any).await.expect("patched")
    }

    pub(crate) async fn set_spec<T: Serialize>(&self, name: &str, field: &'static str, value: T) {
        let change = Change::<AgenticTask>::of(Part::Spec).set(field, value);
        let key = Key::namespaced("default", name);
        Store::patch(&*self.store, &key, change, Expect::Any).await.expect("patched");
    }

    pub(crate) async fn delete_task(&self, name: &str) {
        let task = self.task_now(name).await;
        let store: &dyn Store<AgenticTask> = &*self.store;
        store.delete(&task.key(), task.uid(), Expect::Any).await.expect("deleted");
    }

    pub(crate) async fn tasks(&self) -> Vec<Object<AgenticTask>> {
        let query = foreman_core::ports::Query::all();
        Store::list(&*self.store, &query).await.expect("listed").objects
    }

    pub(crate) async fn node_now(&self, name: &str) -> Option<Object<FleetNode>> {
        Store::get(&*self.store, &Key::cluster(name)).await.expect("read")
    }

    pub(crate) async fn patch_node(&self, name: &str, change: Change<FleetNode>) {
        let key = Key::cluster(name);
        Store::patch(&*self.store, &key, change, Expect::Any).await.expect("patched");
    }

    pub(crate) async fn workload_now(&self, name: &str) -> Object<Workload> {
        let key = Key::namespaced("default", name);
        Store::get(&*self.store, &key).await.expect("read").expect("present")
    }

    pub(crate) async fn set_workload<T: Serialize>(
        &self,
        name: &str,
        field: &'static str,
        value: T,
    ) {
        let change = Change::<Workload>::of(Part::Spec).set(field, value);
        let key = Key::namespaced("default", name);
        Store::patch(&*self.store, &key, change, Expect::Any).await.expect("patched");
    }

    /// Runs `foreman` beside `story`; the story's end drains it.
    pub(crate) async fn run(&self, foreman: &Foreman, story: impl Future<Output = ()>) -> AgentEnd {
        let story = async {
            story.await;
            self.shutdown.send_replace(Shutdown::Drain);
        };
        let all = async { tokio::join!(foreman.run(self.shutdown.subscribe()), story).0 };
        in_time(all).await.expect("started")
    }

    /// Waits until `done` holds.
    pub(crate) async fn until<F: Future<Output = bool>>(&self, done: impl Fn() -> F) {
        in_time(async {
            while !done().await {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Waits until the task is in that phase.
    pub(crate) async fn until_phase(&self, name: &str, phase: TaskPhase) {
        self.until(|| async { self.phase(name).await == Some(phase) }).await;
    }

    /// Moves the clock by `step` until `done` holds; the step is how soon sleepers may wake.
    pub(crate) async fn advance_until<F: Future<Output = bool>>(
        &self,
        step: Duration,
        done: impl Fn() -> F,
    ) {
        in_time(async {
            while !done().await {
                self.clock.advance(step);
                settle().await;
            }
        })
        .await;
    }
}

/// Lets everything run that can run without the clock moving.
pub(crate) async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

/// The future's output, if it comes in time.
#[expect(clippy::disallowed_methods, reason = "a test that hangs must fail, on the real clock")]
pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("came about in time")
}

pub(crate) fn step(name: &str, kind: TaskKind, after: &[&str]) -> PipelineStep {
    PipelineStep {
        name: name.into(),
        kind: kind.into(),
        agent_ref: LocalObjectReference::to("coder"),
        payload: AgenticTaskPayload { repo: Some("/r".into()), ..AgenticTaskPayload::default() },
        depends_on: after.iter().map(|name| (*name).to_owned()).collect(),
        timeout_seconds: None,
        priority: None,
        gate_profile: None,
    }
}

pub(crate) fn pipeline() -> WorkloadSpec {
    WorkloadSpec {
        intent: "make it so".into(),
        pipeline: vec![
            step("code", TaskKind::IssueFix, &[]),
            step("verify", TaskKind::Verify, &["code"]),
            step("review", TaskKind::Review, &["verify"]),
        ],
        ..WorkloadSpec::default()
    }
}

pub(crate) fn freeform(agent: Option<&str>) -> AgenticTaskSpec {
    let mut spec = AgenticTaskSpec::new(TaskKind::Freeform, AgenticTaskPayload::default());
    spec.agent_ref = agent.map(LocalObjectReference::to);
    spec
}

/// Adds a workload, and a plain Agent for each that its pipeline names and that is not there.
pub(crate) async fn add_workload(lab: &Lab, name: &str, spec: WorkloadSpec) {
    let names = spec.pipeline.iter().filter_map(|step| step.agent_ref.named());
    for agent in names.map(ToOwned::to_owned).collect::<std::collections::BTreeSet<_>>() {
        let agents: &dyn Store<Agent> = &*lab.store;
        let key = Key::namespaced("default", &agent);
        if agents.get(&key).await.expect("read").is_none() {
            lab.agent_with(&agent, |_| {}).await;
        }
    }
    add_bare_workload(lab, name, spec).await;
}

/// Adds a workload and nothing else.
pub(crate) async fn add_bare_workload(lab: &Lab, name: &str, spec: WorkloadSpec) {
    let new = NewObject::<Workload>::new(Key::namespaced("default", name), spec);
    Store::create(&*lab.store, new).await.expect("created");
}
