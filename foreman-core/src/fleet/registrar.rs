// tidy: one type whose methods share its private state; the loop and the change are in files of their own.
//! The registrar: keeps this machine's `FleetNode` true. It creates the object, beats, and writes
//! only what changed; it never touches what people own (slots, cordon, labels, drain).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::beat;
use super::drain::Orders;
use crate::model::fleet_node::{Capability, FleetNode, FleetNodeSpec, NodePhase, RunSummary};
use crate::model::ids::{Key, NodeName, Session};
use crate::model::object::{NewObject, Object};
use crate::model::time::WallTime;
use crate::ports::clock::Clock;
use crate::ports::entropy::Entropy;
use crate::ports::probe::{CapabilityProbe, ProbeError};
use crate::ports::store::{Change, Expect, NodeStore, Part, StoreError};
use crate::task::authority::{BeatBegan, LastBeat};
use crate::timing::{HEARTBEAT, HEARTBEAT_MIN};

/// What the machine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The node's name.
    pub name: NodeName,
    /// Its address in a private network.
    pub address: Option<String>,
    /// What it is for, in order; empty = nothing said.
    pub roles: Vec<String>,
    /// Runs at the same time, written only when the object is created; absent = 1.
    pub slots: Option<i32>,
    /// The agent's version.
    pub version: String,
    /// Operating system: `linux`, `darwin`.
    pub os: String,
    /// Architecture: `amd64`, `arm64`.
    pub arch: String,
}

impl Identity {
    /// A node of that name without address, roles or a number of slots, on the system that this
    /// program was built for and of this library's version.
    pub fn named(name: NodeName) -> Self {
        let os = match std::env::consts::OS {
            "macos" => "darwin",
            os => os,
        };
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            arch => arch,
        };
        Self {
            name,
            address: None,
            roles: Vec::new(),
            slots: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            os: os.to_owned(),
            arch: arch.to_owned(),
        }
    }
}

/// What changes while the agent lives; set by the agent, published by the next beat.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeState {
    /// The phase.
    pub phase: NodePhase,
    /// What runs here now.
    pub runs: Vec<RunSummary>,
    /// When the drain that `spec.drain` asks for was first seen.
    pub drain_since: Option<WallTime>,
}

/// Why the node could not be registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The store refused or could not be reached.
    #[error("FleetNode {name} could not be registered")]
    Store {
        /// The node.
        name: NodeName,
        /// What the store said.
        #[source]
        source: StoreError,
    },
}

/// Why a heartbeat failed. The next one tries again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeatError {
    /// The machine could not be probed.
    #[error("{name} could not be probed")]
    Probe {
        /// The node.
        name: NodeName,
        /// What failed.
        #[source]
        source: ProbeError,
    },
    /// The heartbeat could not be written.
    #[error("the heartbeat of {name} could not be written")]
    Store {
        /// The node.
        name: NodeName,
        /// What the store said.
        #[source]
        source: StoreError,
    },
    /// Another session speaks for this node now: stop without effects.
    #[error("{name} belongs to another session now ({session})")]
    Superseded {
        /// The node.
        name: NodeName,
        /// Who has it.
        session: String,
    },
}

/// Why [`Registrar::run`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistrarEnd {
    /// It was told to stop.
    Stopped,
    /// Another session took the node over.
    Superseded,
}

/// Keeps one `FleetNode` true.
pub struct Registrar {
    nodes: Arc<dyn NodeStore>,
    probe: Arc<dyn CapabilityProbe>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    identity: Identity,
    session: Session,
    pub(super) interval: Duration,
    pub(super) state: watch::Sender<NodeState>,
    last_beat: watch::Sender<Option<BeatBegan>>,
    /// The object in the answer to the last write: what the next beat is compared with.
    answered: Mutex<Option<Object<FleetNode>>>,
    /// What people want of the node, as its object last said.
    orders: watch::Sender<Orders>,
    /// How often the machine woke from a sleep.
    pub(super) woke: watch::Sender<u64>,
    /// What the last good probe found.
    probed: Mutex<Option<Capability>>,
    beating: tokio::sync::Mutex<()>,
    /// The next beat is wanted at once.
    pub(super) hurry: tokio::sync::Notify,
}

impl std::fmt::Debug for Registrar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registrar")
            .field("identity", &self.identity)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl Registrar {
    /// A registrar of this machine; nothing is written before [`Self::upsert`].
    pub fn new(
        nodes: Arc<dyn NodeStore>,
        probe: Arc<dyn CapabilityProbe>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        identity: Identity,
    ) -> Self {
        let session = Session::new(entropy.uuid());
        let orders = Orders { slots: identity.slots, drain: None };
        let state = NodeState { phase: NodePhase::Ready, runs: Vec::new(), drain_since: None };
        Self {
            nodes,
            probe,
            clock,
            entropy,
            identity,
            session,
            interval: HEARTBEAT,
            state: watch::channel(state).0,
            last_beat: watch::channel(None).0,
            answered: Mutex::default(),
            orders: watch::channel(orders).0,
            woke: watch::channel(0).0,
            probed: Mutex::default(),
            beating: tokio::sync::Mutex::default(),
            hurry: tokio::sync::Notify::new(),
        }
    }

    /// Beats every `interval`, clamped to what the protocol allows (1 s to 30 s).
    #[must_use]
    pub fn every(mut self, interval: Duration) -> Self {
        self.interval = interval.clamp(HEARTBEAT_MIN, HEARTBEAT);
        if self.interval != interval {
            tracing::warn!(
                asked_ms = interval.as_millis(),
                used_ms = self.interval.as_millis(),
                "the heartbeat interval was clamped"
            );
        }
        self
    }

    /// This life of the agent process.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// What the machine says of itself.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// When the last good heartbeat began; what permits are measured by.
    pub fn last_beat(&self) -> LastBeat {
        self.last_beat.subscribe()
    }

    /// Counts the times that the machine woke from a sleep, once a beat loop runs.
    pub(crate) fn woke(&self) -> watch::Receiver<u64> {
        self.woke.subscribe()
    }

    /// What people want of the node, as its object last said.
    pub(crate) fn orders(&self) -> watch::Receiver<Orders> {
        self.orders.subscribe()
    }

    /// What the next beat publishes of phase and drain.
    pub(crate) fn shown(&self) -> (NodePhase, Option<WallTime>) {
        let state = self.state.borrow();
        (state.phase, state.drain_since)
    }

    /// Changes what the next beat publishes; [`Self::run`] then beats at once if the phase changed.
    pub fn set_state(&self, change: impl FnOnce(&mut NodeState)) {
        self.state.send_modify(change);
    }

    /// Free disk in GiB, as last probed.
    pub(crate) fn free_disk_gb(&self) -> Option<i32> {
        let answered = self.answered();
        let capability = answered.as_ref()?.status.capability.as_ref()?;
        capability.disk.as_ref()?.free_gb
    }

    fn note_orders(&self, node: &Object<FleetNode>) {
        let new = Orders::of(node);
        self.orders.send_if_modified(|old| {
            let changed = *old != new;
            *old = new;
            changed
        });
    }

    /// Reads what people want of the node now, between two beats; whether it is news.
    ///
    /// # Errors
    /// The store could not be asked.
    pub(crate) async fn look(&self) -> Result<bool, StoreError> {
        let known = self.orders.borrow().clone();
        if let Some(node) = self.nodes.get(&self.key()).await? {
            self.note_orders(&node);
        }
        Ok(*self.orders.borrow() != known)
    }

    /// Whether a fresh read of the node shows that another session speaks for it. If so, the next beat
    /// comes at once: its answer ends [`Self::run`].
    ///
    /// # Errors
    /// The store could not be asked.
    pub(crate) async fn is_superseded(&self) -> Result<bool, StoreError> {
        let node = self.nodes.get(&self.key()).await?;
        let session = node.as_ref().and_then(|node| node.status.session.as_deref());
        let superseded = self.mine(session).is_err();
        if superseded {
            self.hurry.notify_one();
        }
        Ok(superseded)
    }

    fn key(&self) -> Key {
        Key::cluster(self.identity.name.as_str())
    }

    fn answered(&self) -> MutexGuard<'_, Option<Object<FleetNode>>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn probed(&self) -> MutexGuard<'_, Option<Capability>> {
        self.probed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates the `FleetNode` if it is missing and corrects nodeName, address and roles if they
    /// differ (roles in order; absent = empty). What people own does not count; when all is equal
    /// nothing is written and the revision stays.
    ///
    /// # Errors
    /// The store refused or could not be reached.
    pub async fn upsert(&self) -> Result<Object<FleetNode>, RegisterError> {
        let failed = |source| RegisterError::Store { name: self.identity.name.clone(), source };
        let found = self.nodes.get(&self.key()).await.map_err(failed)?;
        let object = match found {
            Some(found) => self.correct(found).await.map_err(failed)?,
            None => self.create().await.map_err(failed)?,
        };
        self.note_orders(&object);
        self.set_state(|state| state.drain_since = object.status.drain_since);
        *self.answered() = None;
        Ok(object)
    }

    async fn create(&self) -> Result<Object<FleetNode>, StoreError> {
        let spec = FleetNodeSpec {
            node_name: self.identity.name.to_string(),
            roles: self.identity.roles.clone(),
            tailscale_addr: self.identity.address.clone(),
            slots: self.identity.slots,
            ..FleetNodeSpec::default()
        };
        match self.nodes.create(NewObject::new(self.key(), spec)).await {
            Err(StoreError::AlreadyExists { .. } | StoreError::Uncertain { .. }) => {
                let found = self.nodes.get(&self.key()).await?.ok_or(StoreError::NotFound)?;
                self.correct(found).await
            }
            answer => answer,
        }
    }

    async fn correct(&self, found: Object<FleetNode>) -> Result<Object<FleetNode>, StoreError> {
        let (spec, me) = (&found.spec, &self.identity);
        let mut change = Change::of(Part::Spec);
        if spec.node_name != me.name.as_str() {
            change = change.set("nodeName", me.name.as_str());
        }
        if spec.tailscale_addr.as_deref().unwrap_or_default()
            != me.address.as_deref().unwrap_or_default()
        {
            change = match &me.address {
                Some(address) => change.set("tailscaleAddr", address),
                None => change.clear("tailscaleAddr"),
            };
        }
        if spec.roles != me.roles {
            change = if me.roles.is_empty() {
                change.clear("roles")
            } else {
                change.set("roles", &me.roles)
            };
        }
        if change.is_empty() {
            return Ok(found);
        }
        self.nodes.patch(&self.key(), change, Expect::Any).await
    }

    /// One heartbeat: probes, then one patch of the leaves that differ from the answer to the
    /// previous one. The first is full. A `FleetNode` that is gone is registered again. Beats of one
    /// registrar never overlap, so that none can undo what a later one said.
    ///
    /// # Errors
    /// The machine could never be probed, the store did not take the beat, or another session speaks
    /// for the node.
    pub async fn heartbeat(&self) -> Result<Object<FleetNode>, BeatError> {
        let _one_at_a_time = self.beating.lock().await;
        let began = BeatBegan::now(&*self.clock);
        let capability = self.probe().await?;
        let failed = |source| BeatError::Store { name: self.identity.name.clone(), source };
        let before = self.answered().clone();
        let change = self.change(before.as_ref(), capability.clone());
        let answer = match self.nodes.patch(&self.key(), change, Expect::Any).await {
            Err(StoreError::NotFound) => self.register_again(capability).await?,
            answer => answer.map_err(failed)?,
        };
        self.note_orders(&answer);
        *self.answered() = Some(answer.clone());
        self.mine(answer.status.session.as_deref())?;
        self.last_beat.send_replace(Some(began));
        Ok(answer)
    }

    /// Whether the node is still spoken for by this session.
    fn mine(&self, session: Option<&str>) -> Result<(), BeatError> {
        match session {
            Some(session) if session != self.session.as_str() => Err(BeatError::Superseded {
                name: self.identity.name.clone(),
                session: session.to_owned(),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// The object was deleted: it is made again with the same session, as if nothing had happened.
    async fn register_again(&self, capability: Capability) -> Result<Object<FleetNode>, BeatError> {
        let failed = |source| BeatError::Store { name: self.identity.name.clone(), source };
        let made = self.create().await.map_err(failed)?;
        self.mine(made.status.session.as_deref())?;
        self.note_orders(&made);
        let full = self.change(None, capability).set("session", self.session.as_str());
        self.nodes.patch(&self.key(), full, Expect::Any).await.map_err(failed)
    }

    /// What the machine can do; when it cannot be asked, what it could do last time. A probe that
    /// fails must not make a machine that is there look dead.
    async fn probe(&self) -> Result<Capability, BeatError> {
        let mut known = match self.probe.probe().await {
            Ok(capability) => Some(capability),
            Err(source) => {
                let last = self.probed().clone();
                if last.is_none() {
                    return Err(BeatError::Probe { name: self.identity.name.clone(), source });
                }
                tracing::warn!(node = %self.identity.name, error = %source, "the last probe stands");
                last
            }
        };
        self.probed().clone_from(&known);
        Ok(known.take().unwrap_or_default())
    }

    fn change(
        &self,
        before: Option<&Object<FleetNode>>,
        capability: Capability,
    ) -> Change<FleetNode> {
        let state = self.state.borrow().clone();
        let slots = self.orders.borrow().slots();
        let slots = i32::try_from(slots).unwrap_or(i32::MAX);
        beat::change(&self.identity, state, slots, before, capability, self.clock.wall())
    }

    /// The one heartbeat that publishes this session: written once, at start, so that a later
    /// session is never overwritten by an earlier one that still beats.
    ///
    /// # Errors
    /// The store did not take it.
    pub async fn publish_session(&self) -> Result<Object<FleetNode>, BeatError> {
        let change = Change::of(Part::Status)
            .set("session", self.session.as_str())
            .set("phase", self.state.borrow().phase);
        let answer = self
            .nodes
            .patch(&self.key(), change, Expect::Any)
            .await
            .map_err(|source| BeatError::Store { name: self.identity.name.clone(), source })?;
        Ok(answer)
    }
}

/// An error with its causes, on one line.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}
