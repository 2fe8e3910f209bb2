//! The node's agent: claims what is placed here, runs it, hands it over.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::FutureExt;
use futures::stream::StreamExt;
use tokio::sync::watch;

use super::feed::feed;
use super::run::{Before, RunContext, may_pass, said_goodbye};
use super::serving::Serving;
use crate::fleet::drain::{self, DrainStep, Orders};
use crate::fleet::registrar::{RegisterError, Registrar, error_chain};
use crate::model::fleet_node::{FleetNode, NodePhase};
use crate::model::object::Object;
use crate::model::time::AwakeTime;
use crate::ports::clock::Clock;
use crate::ports::executor::Executor;
use crate::ports::recorder::Recorder;
use crate::ports::store::{Query, Stores};
use crate::timing::{
    DRAIN_DEADLINE, DRAIN_GRACE, EVENTS_AT_ONCE, GOODBYE, HEARTBEAT, STORE_RETRY_MAX,
    STORE_RETRY_MIN, TWIN_CHECK, TWIN_POLL,
};

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
            before: OnceLock::new(),
        };
        Self { context: Arc::new(context), registrar, settings }
    }

    /// Registers the node, makes sure that nobody else speaks for it, and publishes this session.
    /// The node is then Unknown: up, but not yet placeable. A store that is away is waited for.
    ///
    /// # Errors
    /// The store refuses the `FleetNode`, or another process beats under its name.
    pub async fn start(&self) -> Result<(), AgentError> {
        self.registrar.set_state(|state| state.phase = NodePhase::Unknown);
        let mut pause = STORE_RETRY_MIN;
        loop {
            let attempt = async {
                let node = self.registrar.upsert().await.map_err(AgentError::Register)?;
                if node.status.session.as_deref() != Some(self.registrar.session().as_str()) {
                    self.context.before.get_or_init(|| Before::of(&node));
                }
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
            let mine = session == known || session == Some(self.registrar.session().as_str());
            session.is_none() || mine || said_goodbye(node)
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
        loop {
            clock.sleep(TWIN_POLL).await;
            match self.context.stores.nodes.get(&node.key()).await {
                Ok(Some(now)) => node = now,
                Ok(None) => return Ok(()),
                Err(error) => {
                    // Silence that nobody could hear is none: only a read ends the wait.
                    tracing::warn!(%error, "the FleetNode could not be read");
                    continue;
                }
            }
            if free(&node) {
                return Ok(());
            }
            if node.status.last_heartbeat_time != heartbeat {
                return Err(AgentError::LiveElsewhere { name: node.meta.name });
            }
            if clock.awake() >= until {
                return Ok(());
            }
        }
    }

    /// Serves until told to leave. Call [`Self::start`] before, and let the registrar run beside.
    pub async fn serve(&self, shutdown: watch::Receiver<Shutdown>) -> AgentEnd {
        let name = self.registrar.identity().name.as_str();
        let mut query = Query::all().assigned_to(name);
        query.namespace.clone_from(&self.settings.namespace);
        let clock = self.context.clock.clone();
        let feed = feed(self.context.stores.tasks.clone(), clock, query);
        let mut events = feed.ready_chunks(EVENTS_AT_ONCE).fuse();
        let mut told = shutdown;
        let mut orders = self.registrar.orders();
        let mut serving = Serving::new(self.context.clone());
        let mut leave_by = None;
        let mut drain = DrainStep::Serve;
        let mut orphaned = false;
        loop {
            let deadline = self.sleep_until(leave_by);
            let changed = async {
                if orphaned {
                    std::future::pending::<()>().await;
                }
                // Nobody is left who could say anything: leave in good order.
                told.changed().await.is_err()
            };
            let ordered = self.new_orders(&mut orders, drain);
            futures::select_biased! {
                alone = changed.fuse() => orphaned = alone,
                done = serving.futures.select_next_some() => serving.ended(done),
                () = ordered.fuse() => {}
                () = deadline.fuse() => {
                    tracing::error!("not everything could be handed over in time: claims stay");
                    return AgentEnd::Left;
                }
                chunk = events.select_next_some() => {
                    for event in chunk {
                        serving.take(event);
                    }
                }
            }
            let now = if orphaned { Shutdown::Drain } else { *told.borrow_and_update() };
            match now {
                Shutdown::Now => return AgentEnd::Left,
                Shutdown::Drain if leave_by.is_none() => {
                    let most = self.context.drain_deadline + DRAIN_GRACE;
                    leave_by = Some(self.context.clock.awake() + most);
                    self.goodbye().await;
                }
                Shutdown::Drain | Shutdown::No => {}
            }
            if leave_by.is_some() {
                serving.hand_over(true);
                serving.refuse_all("it is leaving");
                if serving.runs.is_empty() {
                    return AgentEnd::Drained;
                }
            } else if serving.tasks.is_synced() {
                drain = self.drain_step(&orders.borrow_and_update().clone());
                serving.hand_over(drain == DrainStep::HandOver);
                serving.start_runs(drain != DrainStep::Serve);
            }
        }
    }

    async fn sleep_until(&self, until: Option<AwakeTime>) {
        match until {
            Some(at) => self.context.clock.sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Returns when people want something else of the node, or when a drain's time may be over.
    async fn new_orders(&self, orders: &mut watch::Receiver<Orders>, drain: DrainStep) {
        let over = match drain {
            // Not in one go: the machine may sleep, and its clock be set.
            DrainStep::LetFinish(left) => Some(self.context.clock.awake() + left.min(HEARTBEAT)),
            DrainStep::Serve | DrainStep::HandOver => None,
        };
        futures::select_biased! {
            // The registrar lives as long as this agent, so there is no error.
            changed = orders.changed().fuse() => drop(changed),
            () = self.sleep_until(over).fuse() => {}
        }
    }

    /// What `spec.drain` asks for now; shown from the next beat on.
    fn drain_step(&self, orders: &Orders) -> DrainStep {
        let (shown, since) = self.registrar.shown();
        let (step, since_now) =
            drain::assess(orders.drain.as_ref(), since, self.context.clock.wall());
        let phase = match step {
            DrainStep::Serve => NodePhase::Ready,
            DrainStep::LetFinish(_) | DrainStep::HandOver => NodePhase::Draining,
        };
        if (phase, since_now) != (shown, since) {
            tracing::info!(%phase, "the node's phase");
            self.registrar.set_state(|state| {
                state.phase = phase;
                state.drain_since = since_now;
            });
        }
        step
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
