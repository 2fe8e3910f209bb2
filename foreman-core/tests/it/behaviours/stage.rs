//! Where a case plays: stores, a clock that only the case moves, control loops that run beside it,
//! and nodes that beat as time passes. Nothing here sleeps: a case waits for what shall come about
//! while the simulated clock moves on, and fails once a deadline in simulated time has passed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foreman_core::control::Reconciler;
use foreman_core::memory::MemoryStore;
use foreman_core::model::object::Kind;
use foreman_core::model::{
    Agent, AgenticTask, FleetNode, Key, NewObject, NodeName, Object, WallTime, Workload,
};
use foreman_core::policy::admit::Policy;
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Clock, Expect, Query, Store, Stores};
use foreman_core::testkit::sim::SimClock;
use futures::future::BoxFuture;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::played::Beating;
use super::seen::{Seen, Shown, Told};

/// How far the clock moves before everybody may act again.
const STEP: Duration = Duration::from_secs(1);
/// The same where much time passes.
const LONG_STEP: Duration = Duration::from_secs(15);
/// Much time.
const LONG: Duration = Duration::from_mins(20);
/// Turns that everybody gets between two steps of the clock.
const TURNS: usize = 96;

/// The key of an object: `name` in the namespace `default`, or `namespace/name`.
fn key<K: Kind>(name: &str) -> Key {
    match name.split_once('/') {
        Some((namespace, name)) => K::key(namespace, name),
        None => K::key("default", name),
    }
}

/// Waits until everybody who can act without the clock has acted.
type Quiet = Box<dyn Fn() -> BoxFuture<'static, ()>>;

/// Where a case plays.
pub(crate) struct Stage {
    /// What is really there.
    pub(crate) stores: Stores,
    /// What the control loops see.
    pub(crate) seen: Seen,
    /// Events that the control loops told.
    pub(crate) told: Arc<Told>,
    pub(crate) clock: Arc<SimClock>,
    pub(super) beating: Mutex<BTreeMap<String, Beating>>,
    quiet: Quiet,
    policy: Mutex<Policy>,
    loops: Mutex<Option<JoinHandle<()>>>,
}

impl Stage {
    /// On the in-memory store, with the control loops running.
    pub(crate) fn on_memory() -> Self {
        let clock = SimClock::new();
        let stores = Stores::of(&MemoryStore::new(clock.clone()));
        let quiet = || -> BoxFuture<'static, ()> {
            Box::pin(async {
                for _ in 0..TURNS {
                    tokio::task::yield_now().await;
                }
            })
        };
        let stage = Self::new(stores, clock, Box::new(quiet));
        stage.start_loops();
        stage
    }

    /// On these stores. `quiet` waits until everybody has acted who can without the clock.
    pub(crate) fn new(stores: Stores, clock: Arc<SimClock>, quiet: Quiet) -> Self {
        Self {
            seen: Seen::of(&stores),
            stores,
            told: Arc::default(),
            clock,
            beating: Mutex::default(),
            quiet,
            policy: Mutex::default(),
            loops: Mutex::default(),
        }
    }

    /// Starts the control loops; they know nothing but what the store says.
    #[expect(clippy::disallowed_methods, reason = "the loops run beside the case, which ends them")]
    pub(crate) fn start_loops(&self) {
        let stores = Stores {
            nodes: self.seen.nodes.clone(),
            tasks: self.seen.tasks.clone(),
            workloads: self.seen.workloads.clone(),
            agents: self.seen.agents.clone(),
            ..self.stores.clone()
        };
        let policy = *self.policy.lock().expect("no panic");
        let reconciler =
            Reconciler::new(stores, self.clock.clone(), self.told.clone()).with_policy(policy);
        let loops = tokio::spawn(async move {
            let (_never, stop) = watch::channel(false);
            reconciler.run(stop).await;
        });
        *self.loops.lock().expect("no panic") = Some(loops);
    }

    /// The control loops die where they stand.
    pub(crate) async fn kill_loops(&self) {
        let loops = self.loops.lock().expect("no panic").take();
        if let Some(loops) = loops {
            loops.abort();
            assert!(
                loops.await.is_err_and(|end| end.is_cancelled()),
                "the loops ended by themselves"
            );
        }
    }

    /// The control loops die and others take their place.
    pub(crate) async fn restart_loops(&self) {
        self.kill_loops().await;
        self.start_loops();
    }

    /// From now on the operator lets no work go to the cloud.
    pub(crate) async fn forbid_cloud(&self) {
        *self.policy.lock().expect("no panic") = Policy { allow_cloud: false };
        self.restart_loops().await;
    }

    /// After a case: the loops still run, for a panic in them would only end them.
    pub(crate) async fn is_sound(&self) {
        self.kill_loops().await;
    }

    pub(crate) fn now(&self) -> WallTime {
        self.clock.wall()
    }

    /// Everybody acts who can without the clock.
    pub(crate) async fn quiet(&self) {
        (self.quiet)().await;
    }

    /// Time passes; nodes beat meanwhile.
    pub(crate) async fn advance(&self, by: Duration) {
        let most = if by > LONG { LONG_STEP } else { STEP };
        let mut left = by;
        while !left.is_zero() {
            let step = left.min(most);
            self.clock.advance(step);
            left = left.saturating_sub(step);
            self.beat_where_due().await;
            self.quiet().await;
        }
    }

    /// Waits for what shall come about, while time passes, and says how long it took.
    pub(crate) async fn eventually(
        &self,
        within: Duration,
        what: &str,
        holds: impl AsyncFn() -> bool,
    ) -> Duration {
        let began = self.clock.awake();
        self.quiet().await;
        while !holds().await {
            let took = self.clock.awake().since(began);
            assert!(took < within, "not within {within:?}: {what}\n{}", self.all().await);
            let step = if within > LONG { LONG_STEP } else { STEP };
            self.clock.advance(step);
            self.beat_where_due().await;
            self.quiet().await;
        }
        self.clock.awake().since(began)
    }

    /// Something holds now and at each moment of a time that passes.
    pub(crate) async fn throughout(
        &self,
        time: Duration,
        what: &str,
        holds: impl AsyncFn() -> bool,
    ) {
        let until = self.clock.awake() + time;
        self.quiet().await;
        loop {
            assert!(holds().await, "no longer: {what}\n{}", self.all().await);
            if self.clock.awake() >= until {
                return;
            }
            self.advance(STEP).await;
        }
    }

    /// Everything that is there, for a person who looks for what went wrong.
    async fn all(&self) -> String {
        async fn list<K: Kind>(store: &(dyn Store<K> + '_)) -> Vec<String> {
            let listing = store.list(&Query::all()).await.expect("listed");
            let lines = listing.objects.iter();
            lines.map(|object| format!("{} {}", K::NAMES.kind, object.to_json())).collect()
        }
        let mut lines = list::<FleetNode>(&*self.stores.nodes).await;
        lines.extend(list::<Workload>(&*self.stores.workloads).await);
        lines.extend(list::<AgenticTask>(&*self.stores.tasks).await);
        lines.push(format!("told {:?}", self.told.0.lock().expect("no panic")));
        lines.join("\n")
    }

    /// A task of that spec, as a person writes it.
    pub(crate) async fn task(&self, name: &str, spec: Value) {
        let spec = serde_json::from_value(spec).expect("a task's spec");
        let new = NewObject::<AgenticTask>::new(key::<AgenticTask>(name), spec);
        self.stores.tasks.create(new).await.expect("created");
    }

    /// A workload of that spec.
    pub(crate) async fn workload(&self, name: &str, spec: Value) {
        let spec = serde_json::from_value(spec).expect("a workload's spec");
        let new = NewObject::<Workload>::new(Key::namespaced("default", name), spec);
        self.stores.workloads.create(new).await.expect("created");
    }

    /// An Agent of that spec.
    pub(crate) async fn agent(&self, name: &str, spec: Value) {
        let spec = serde_json::from_value(spec).expect("an Agent's spec");
        let new = NewObject::<Agent>::new(Key::namespaced("default", name), spec);
        self.stores.agents.create(new).await.expect("created");
    }

    /// Sets fields of a part of an object, as whoever writes there.
    pub(crate) async fn write<K: Kind>(
        &self,
        store: &(dyn Store<K> + '_),
        name: &str,
        part: Part,
        fields: impl IntoIterator<Item = (&'static str, Value)>,
    ) -> Object<K> {
        let mut change = Change::<K>::of(part);
        for (field, value) in fields {
            change = if value.is_null() { change.clear(field) } else { change.set(field, value) };
        }
        store.patch(&key::<K>(name), change, Expect::Any).await.expect("written")
    }

    pub(crate) async fn task_status(
        &self,
        name: &str,
        fields: impl IntoIterator<Item = (&'static str, Value)>,
    ) {
        self.write::<AgenticTask>(&*self.stores.tasks, name, Part::Status, fields).await;
    }

    pub(crate) async fn node_status(
        &self,
        name: &str,
        fields: impl IntoIterator<Item = (&'static str, Value)>,
    ) {
        self.write::<FleetNode>(&*self.stores.nodes, name, Part::Status, fields).await;
    }

    pub(crate) async fn node_spec(
        &self,
        name: &str,
        fields: impl IntoIterator<Item = (&'static str, Value)>,
    ) {
        self.write::<FleetNode>(&*self.stores.nodes, name, Part::Spec, fields).await;
    }

    pub(crate) async fn workload_spec(
        &self,
        name: &str,
        fields: impl IntoIterator<Item = (&'static str, Value)>,
    ) {
        self.write::<Workload>(&*self.stores.workloads, name, Part::Spec, fields).await;
    }

    /// Sets annotations of a task.
    pub(crate) async fn annotate_task(&self, name: &str, annotations: &[(&str, &str)]) {
        let set = annotations.iter().map(|(name, value)| (*name, Some((*value).to_owned())));
        let change = Change::of(Part::Meta).annotations(set);
        let key = key::<AgenticTask>(name);
        self.stores.tasks.patch(&key, change, Expect::Any).await.expect("annotated");
    }

    /// Deletes a task, a node or a workload.
    pub(crate) async fn delete<K: Kind>(&self, store: &(dyn Store<K> + '_), name: &str) {
        let key = key::<K>(name);
        let object = store.get(&key).await.expect("read").expect("there");
        store.delete(&key, object.uid(), Expect::Any).await.expect("deleted");
    }

    pub(crate) async fn delete_task(&self, name: &str) {
        self.delete::<AgenticTask>(&*self.stores.tasks, name).await;
    }

    pub(crate) async fn delete_node(&self, name: &str) {
        self.beating.lock().expect("no panic").remove(name);
        self.delete::<FleetNode>(&*self.stores.nodes, name).await;
    }

    /// The task as it is now.
    pub(crate) async fn see_task(&self, name: &str) -> Shown {
        let key = key::<AgenticTask>(name);
        Shown::of(self.stores.tasks.get(&key).await.expect("read"))
    }

    /// The node as it is now.
    pub(crate) async fn see_node(&self, name: &str) -> Shown {
        NodeName::parse(name).expect("a node's name");
        Shown::of(self.stores.nodes.get(&Key::cluster(name)).await.expect("read"))
    }

    /// The workload as it is now.
    pub(crate) async fn see_workload(&self, name: &str) -> Shown {
        let key = Key::namespaced("default", name);
        Shown::of(self.stores.workloads.get(&key).await.expect("read"))
    }

    /// The names of all tasks, sorted.
    pub(crate) async fn task_names(&self) -> Vec<String> {
        let listing = self.stores.tasks.list(&Query::all()).await.expect("listed");
        let name = |task: Object<AgenticTask>| match task.meta.namespace {
            Some(namespace) if namespace != "default" => format!("{namespace}/{}", task.meta.name),
            _ => task.meta.name,
        };
        listing.objects.into_iter().map(name).collect()
    }

    /// Waits for a phase of a task.
    pub(crate) async fn task_is(&self, name: &str, phase: &str, within_seconds: u64) -> Shown {
        let within = Duration::from_secs(within_seconds);
        let what = format!("task {name} is {phase}");
        self.eventually(within, &what, async || self.see_task(name).await.phase() == phase).await;
        self.see_task(name).await
    }

    /// Waits until a task waits for that reason.
    pub(crate) async fn task_waits(&self, name: &str, reason: &str, within_seconds: u64) -> Shown {
        let within = Duration::from_secs(within_seconds);
        let what = format!("task {name} is Pending and waits for {reason}");
        let waits = async || {
            let task = self.see_task(name).await;
            task.phase() == "Pending" && task.text("/status/waiting/reason") == reason
        };
        self.eventually(within, &what, waits).await;
        self.see_task(name).await
    }

    /// A task keeps its phase while time passes.
    pub(crate) async fn task_stays(&self, name: &str, phase: &str, seconds: u64) {
        let what = format!("task {name} is {phase}");
        let time = Duration::from_secs(seconds);
        self.throughout(time, &what, async || self.see_task(name).await.phase() == phase).await;
    }

    /// Waits for a phase of a workload.
    pub(crate) async fn workload_is(&self, name: &str, phase: &str, within_seconds: u64) -> Shown {
        let within = Duration::from_secs(within_seconds);
        let what = format!("workload {name} is {phase}");
        let is = async || self.see_workload(name).await.phase() == phase;
        self.eventually(within, &what, is).await;
        self.see_workload(name).await
    }

    /// Waits for a phase of a node.
    pub(crate) async fn node_is(&self, name: &str, phase: &str, within_seconds: u64) -> Shown {
        let within = Duration::from_secs(within_seconds);
        let what = format!("node {name} is {phase}");
        let is = async || self.see_node(name).await.phase() == phase;
        self.eventually(within, &what, is).await;
        self.see_node(name).await
    }
}
