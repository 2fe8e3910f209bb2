//! The node's agent: claims what is placed here, runs it, hands it over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;

use super::feed::feed;
use super::run::{Run, RunContext};
use crate::fleet::registrar::{RegisterError, Registrar, error_chain};
use crate::model::{Revision, Uid};
use crate::model::agentic_task::{AgenticTask, TaskPhase};
use crate::model::fleet_node::{FleetNode, NodePhase};
use crate::model::object::Object;
use crate::model::open::Open;
use crate::ports::clock::Clock;
use crate::ports::executor::Executor;
use crate::ports::recorder::Recorder;
use crate::ports::store::{Query, StoreError, StoreEvent, Stores};
use crate::schedule::order;
use crate::timing::{
    CLAIM_DISK_GB_MIN, DRAIN_DEADLINE, EVENTS_AT_ONCE, GOODBYE, STORE_RETRY_MAX, STORE_RETRY_MIN,
    TWIN_CHECK, TWIN_POLL,
};

use super::mirror::Mirror;

/// What an agent is told from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Go on.
    No,
    /// Take no new work, hand over what runs, then leave.
    Drain,
    /// Leave at once: claims stay, the next life adopts them.
    Now,
}

/// How an agent left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentEnd {
    /// Everything was handed over.
    Drained,
    /// It was told to leave at once.
    Left,
}

/// Why an agent could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// Its `FleetNode` could not be registered.
    #[error("the agent could not register")]
    Register(#[source] RegisterError),
    /// Another process beats under that name.
    #[error(
        "node {name} is live elsewhere: choose another --fleet-node-name, or --takeover to replace it"
    )]
    LiveElsewhere {
        /// The node.
        name: String,
    },
}

/// Plain settings of an agent.
#[derive(Debug, Clone)]
pub struct AgentSettings {
    /// The session of this machine's last life, as kept in its state directory.
    pub known_session: Option<String>,
    /// Take the node over from whoever has it.
    pub takeover: bool,
    /// Take tasks of this namespace only.
    pub namespace: Option<String>,
    /// How long runs may take to hand over.
    pub drain_deadline: Duration,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self {
            known_session: None,
            takeover: false,
            namespace: None,
            drain_deadline: DRAIN_DEADLINE,
        }
    }
}

/// The node's agent.
pub struct NodeAgent {
    context: Arc<RunContext>,
    registrar: Arc<Registrar>,
    settings: AgentSettings,
}

impl std::fmt::Debug for NodeAgent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeAgent").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl NodeAgent {
    /// An agent of the node that `registrar` keeps.
    pub fn new(
        stores: Stores,
        registrar: Arc<Registrar>,
        executor: Arc<dyn Executor>,
        clock: Arc<dyn Clock>,
        recorder: Arc<dyn Recorder>,
        settings: AgentSettings,
    ) -> Self {
        let context = RunContext {
            stores,
            registrar: registrar.clone(),
            executor,
            clock,
            recorder,
            drain_deadline: settings.drain_deadline,
        };
        Self { context: Arc::new(context), registrar, settings }
    }

    /// Registers the node, makes sure that nobody else speaks for it, and publishes this session.
    /// The node is then Unknown: up, but not yet placeable. A store that is away is waited for.
    pub async fn start(&self) -> Result<(), AgentError> {
        self.registrar.set_state(|state| state.phase = NodePhase::Unknown);
        let mut pause = STORE_RETRY_MIN;
        loop {
            let attempt = async {
                let node = self.registrar.upsert().await.map_err(AgentError::Register)?;
                self.not_a_twin(node).await?;
                Ok::<_, AgentError>(())
            };
            match attempt.await {
                Err(AgentError::Register(RegisterError::Store { name, source }))
                    if may_pass(&source) =>
                {
                    tracing::warn!(node = %name, error = %source, "the store is away, trying again");
                }
                Err(error) => return Err(error),
                Ok(()) => match self.publish().await {
                    Ok(()) => return Ok(()),
                    Err(error) => tracing::warn!("{error}"),
                },
            }
            self.context.clock.sleep(pause).await;
            pause = (pause * 2).min(STORE_RETRY_MAX);
        }
    }

    async fn publish(&self) -> Result<(), String> {
        self.registrar.publish_session().await.map_err(|error| error_chain(&error))?;
        self.registrar.heartbeat().await.map(|_| ()).map_err(|error| error_chain(&error))
    }

    /// Returns once no other process beats under this name.
    async fn not_a_twin(&self, mut node: Object<FleetNode>) -> Result<(), AgentError> {
        let known = self.settings.known_session.as_deref();
        let free = |node: &Object<FleetNode>| {
            let session = node.status.session.as_deref();
            let draining =
                node.status.phase.as_ref().is_some_and(|phase| phase.is(NodePhase::Draining));
            session.is_none() || session == known || draining
        };
        if self.settings.takeover || free(&node) {
            return Ok(());
        }
        let clock = &self.context.clock;
        let until = clock.awake() + TWIN_CHECK;
        let heartbeat = node.status.last_heartbeat_time;
        tracing::info!(
            node = node.meta.name,
            seconds = TWIN_CHECK.as_secs(),
            "another session had this node: waiting to see whether it still beats"
        );
        while clock.awake() < until {
            clock.sleep(TWIN_POLL).await;
            match self.context.stores.nodes.get(&node.key()).await {
                Ok(Some(now)) => node = now,
                Ok(None) => return Ok(()),
                Err(error) => tracing::warn!(%error, "the FleetNode could not be read"),
            }
            if free(&node) {
                return Ok(());
            }
            if node.status.last_heartbeat_time != heartbeat {
                return Err(AgentError::LiveElsewhere { name: node.meta.name });
            }
        }
        Ok(())
    }

    /// Serves until told to leave. Call [`Self::start`] before, and let the registrar run beside.
    pub async fn serve(&self, shutdown: watch::Receiver<Shutdown>) -> AgentEnd {
        let name = self.registrar.identity().name.as_str();
        let mut query = Query::all().assigned_to(name);
        query.namespace.clone_from(&self.settings.namespace);
        let clock = self.context.clock.clone();
        let feed = feed(self.context.stores.tasks.clone(), clock, query);
        let mut events = feed.ready_chunks(EVENTS_AT_ONCE).fuse();
        let mut told = shutdown.clone();
        let mut serving = Serving {
            agent: self,
            shutdown,
            tasks: Mirror::default(),
            runs: BTreeMap::new(),
            handled: BTreeMap::new(),
            futures: FuturesUnordered::new(),
        };
        let (mut draining, mut orphaned) = (false, false);
        loop {
            if orphaned && draining {
                serving.wait_for_runs().await;
                return AgentEnd::Drained;
            }
            futures::select_biased! {
                changed = told.changed().fuse() => {
                    // Nobody is left who could say anything: leave in good order.
                    orphaned = changed.is_err();
                }
                done = serving.futures.select_next_some() => serving.ended(done),
                chunk = events.select_next_some() => {
                    for event in chunk {
                        serving.take(event);
                    }
                }
            }
            let now = if orphaned { Shutdown::Drain } else { *told.borrow_and_update() };
            match now {
                Shutdown::No => {}
                Shutdown::Drain if !draining => {
                    draining = true;
                    self.goodbye().await;
                }
                Shutdown::Drain => {}
                Shutdown::Now => return AgentEnd::Left,
            }
            if draining && serving.runs.is_empty() {
                return AgentEnd::Drained;
            }
            if !draining && serving.tasks.is_synced() {
                serving.start_runs();
                self.registrar.set_state(|state| {
                    if state.phase == NodePhase::Unknown {
                        state.phase = NodePhase::Ready;
                    }
                });
            }
        }
    }

    /// Says that the node leaves, once, within its own deadline; the registrar's later beats say the
    /// same.
    async fn goodbye(&self) {
        self.registrar.set_state(|state| state.phase = NodePhase::Draining);
        let deadline = self.context.clock.sleep(GOODBYE);
        futures::select_biased! {
            answer = self.registrar.heartbeat().fuse() => {
                if let Err(error) = answer {
                    tracing::warn!("the goodbye was not heard: {}", error_chain(&error));
                }
            }
            () = deadline.fuse() => tracing::warn!("the goodbye was not heard in time"),
        }
    }
}

fn may_pass(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable { .. } | StoreError::Uncertain { .. })
}

struct Handle {
    view: watch::Sender<Option<Arc<Object<AgenticTask>>>>,
}

struct Serving<'a> {
    agent: &'a NodeAgent,
    shutdown: watch::Receiver<Shutdown>,
    tasks: Mirror<AgenticTask>,
    runs: BTreeMap<Uid, Handle>,
    /// The version of each task on which a claim was tried: the mirror may show it still after the
    /// run has ended.
    handled: BTreeMap<Uid, Revision>,
    futures: FuturesUnordered<BoxFuture<'a, Ended>>,
}

/// A run's future is over.
struct Ended {
    uid: Uid,
    /// Whether to try the same version of the task again.
    again: bool,
}

impl Serving<'_> {
    fn take(&mut self, event: StoreEvent<AgenticTask>) {
        match &event {
            StoreEvent::Upsert(task) => {
                if let Some(handle) = self.runs.get(&task.meta.uid) {
                    handle.view.send_replace(Some(Arc::new((**task).clone())));
                }
            }
            StoreEvent::Gone { uid, .. } => {
                self.handled.remove(uid);
                if let Some(handle) = self.runs.get(uid) {
                    handle.view.send_replace(None);
                }
            }
            StoreEvent::SyncEnd | StoreEvent::SyncStart | StoreEvent::Unreadable { .. } => {}
        }
        let resynced = matches!(event, StoreEvent::SyncEnd);
        self.tasks.apply(event);
        if resynced {
            self.forget_unseen();
        }
    }

    fn ended(&mut self, ended: Ended) {
        self.runs.remove(&ended.uid);
        if ended.again {
            self.handled.remove(&ended.uid);
        }
    }

    /// After a full reading: runs whose task was not seen have lost it.
    fn forget_unseen(&self) {
        let seen: std::collections::BTreeSet<_> =
            self.tasks.objects.values().map(|task| &task.meta.uid).collect();
        for (uid, handle) in &self.runs {
            if !seen.contains(uid) {
                handle.view.send_replace(None);
            }
        }
    }

    /// Waits for all runs to end, whatever else happens.
    async fn wait_for_runs(&mut self) {
        while self.futures.next().await.is_some() {}
    }

    /// Claims what is placed here, as far as there is room, and refuses the rest.
    fn start_runs(&mut self) {
        let session = self.agent.registrar.session().as_str();
        let mut waiting: Vec<_> = self
            .tasks
            .objects
            .values()
            .filter(|task| !self.runs.contains_key(&task.meta.uid) && to_be_run(task, session))
            .filter(|task| self.handled.get(&task.meta.uid) != Some(task.revision()))
            .collect();
        waiting.sort_by_key(|task| {
            let adopted = task.status.known_phase() != Some(TaskPhase::Scheduled);
            (!adopted, order::rank(&task.spec.kind), task.meta.creation_timestamp, task.key())
        });
        let slots = self.agent.registrar.slots();
        let held = |task: &&Object<AgenticTask>| task.status.session.as_deref() == Some(session);
        let running = self.tasks.objects.values().filter(held).count();
        let disk_low = self.agent.registrar.free_disk_gb().is_some_and(|gb| gb < CLAIM_DISK_GB_MIN);
        let mut starts = Vec::new();
        let mut room = slots.saturating_sub(self.runs.len());
        for task in waiting {
            let adopt = task.status.known_phase() != Some(TaskPhase::Scheduled);
            let refusal = if adopt {
                None
            } else if disk_low {
                Some(format!("less than {CLAIM_DISK_GB_MIN} GiB of disk are free"))
            } else if room == 0 && running >= slots {
                Some(format!("all {slots} slots are in use"))
            } else if room == 0 {
                continue;
            } else {
                None
            };
            room = room.saturating_sub(1);
            starts.push((task.clone(), refusal));
        }
        for (task, refusal) in starts {
            self.start(task, refusal);
        }
    }

    fn start(&mut self, task: Object<AgenticTask>, refusal: Option<String>) {
        let uid = task.meta.uid.clone();
        let (view, seen) = watch::channel(Some(Arc::new(task.clone())));
        self.runs.insert(uid.clone(), Handle { view });
        self.handled.insert(uid.clone(), task.revision().clone());
        let run = Run {
            context: self.agent.context.clone(),
            task,
            seen,
            shutdown: self.shutdown.clone(),
        };
        let future = async move {
            let again = match refusal {
                Some(why) => run.refuse(&why).await,
                None => run.run().await,
            };
            Ended { uid, again }
        };
        self.futures.push(future.boxed());
    }
}

/// Whether a task on this node is to be claimed: newly placed, or running under an earlier session.
fn to_be_run(task: &Object<AgenticTask>, session: &str) -> bool {
    if task.meta.deletion_timestamp.is_some() {
        return false;
    }
    match task.status.phase.as_ref().and_then(Open::known) {
        Some(TaskPhase::Scheduled) => task.spec.cancel != Some(true),
        Some(TaskPhase::Running | TaskPhase::Verifying) => {
            task.status.session.as_deref() != Some(session)
        }
        Some(TaskPhase::Pending | TaskPhase::Succeeded | TaskPhase::Failed) | None => false,
    }
}
