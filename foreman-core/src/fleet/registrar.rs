//! The registrar: keeps this machine's `FleetNode` true. It creates the object, beats, and writes
//! only what changed; it never touches what people own (slots, cordon, labels, drain).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use crate::model::fleet_node::{
    AgentKind, Capability, Capacity, FleetNode, FleetNodeSpec, FleetNodeStatus, NodePhase,
    RunSummary,
};
use crate::model::ids::{Key, NodeName, Session};
use crate::model::object::{NewObject, Object, plain};
use crate::model::open::Open;
use crate::model::time::BootTime;
use crate::ports::clock::Clock;
use crate::ports::entropy::Entropy;
use crate::ports::probe::{CapabilityProbe, ProbeError};
use crate::ports::store::{Change, Expect, NodeStore, Part, StoreError, difference};
use crate::timing::{
    HEARTBEAT, HEARTBEAT_JITTER_PERCENT, HEARTBEAT_MIN, HEARTBEAT_RETRY, SLEPT,
};

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

/// What changes while the agent lives; set by the agent, published by the next beat.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeState {
    /// The phase.
    pub phase: NodePhase,
    /// What runs here now.
    pub runs: Vec<RunSummary>,
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
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    identity: Identity,
    session: Session,
    interval: Duration,
    state: watch::Sender<NodeState>,
    last_beat: watch::Sender<Option<BootTime>>,
    /// The object in the answer to the last write: what the next beat is compared with.
    answered: Mutex<Option<Object<FleetNode>>>,
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
        let state = NodeState { phase: NodePhase::Ready, runs: Vec::new() };
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
            answered: Mutex::new(None),
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
    pub fn last_beat(&self) -> watch::Receiver<Option<BootTime>> {
        self.last_beat.subscribe()
    }

    /// Changes what the next beat publishes; [`Self::run`] then beats at once if the phase changed.
    pub fn set_state(&self, change: impl FnOnce(&mut NodeState)) {
        self.state.send_modify(change);
    }

    /// Runs that this node may hold at the same time, as its object last said.
    pub(crate) fn slots(&self) -> usize {
        let declared = match &*self.answered() {
            Some(node) => node.spec.slots,
            None => self.identity.slots,
        };
        usize::try_from(declared.unwrap_or(1)).unwrap_or(0)
    }

    /// Free disk in GiB, as last probed.
    pub(crate) fn free_disk_gb(&self) -> Option<i32> {
        let answered = self.answered();
        let capability = answered.as_ref()?.status.capability.as_ref()?;
        capability.disk.as_ref()?.free_gb
    }

    fn key(&self) -> Key {
        Key::cluster(self.identity.name.as_str())
    }

    fn answered(&self) -> MutexGuard<'_, Option<Object<FleetNode>>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates the `FleetNode` if it is missing and corrects nodeName, address and roles if they
    /// differ (roles in order; absent = empty). What people own does not count; when all is equal
    /// nothing is written and the revision stays.
    pub async fn upsert(&self) -> Result<Object<FleetNode>, RegisterError> {
        let failed = |source| RegisterError::Store { name: self.identity.name.clone(), source };
        let found = self.nodes.get(&self.key()).await.map_err(failed)?;
        let object = match found {
            Some(found) => self.correct(found).await.map_err(failed)?,
            None => self.create().await.map_err(failed)?,
        };
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
    /// previous one. The first is full. A `FleetNode` that is gone is registered again.
    pub async fn heartbeat(&self) -> Result<Object<FleetNode>, BeatError> {
        let began = self.clock.boot();
        let name = || self.identity.name.clone();
        let capability = self
            .probe
            .probe()
            .await
            .map_err(|source| BeatError::Probe { name: name(), source })?;
        let failed = |source| BeatError::Store { name: name(), source };
        let before = self.answered().clone();
        let change = self.change(before.as_ref(), capability.clone());
        let answer = match self.nodes.patch(&self.key(), change, Expect::Any).await {
            Err(StoreError::NotFound) => {
                self.create().await.map_err(failed)?;
                let full = self.change(None, capability);
                self.nodes.patch(&self.key(), full, Expect::Any).await.map_err(failed)?
            }
            answer => answer.map_err(failed)?,
        };
        *self.answered() = Some(answer.clone());
        match answer.status.session.as_deref() {
            Some(session) if session != self.session.as_str() => {
                Err(BeatError::Superseded { name: name(), session: session.to_owned() })
            }
            _ => {
                self.last_beat.send_replace(Some(began));
                Ok(answer)
            }
        }
    }

    /// The one heartbeat that publishes this session: written once, at start, so that a later
    /// session is never overwritten by an earlier one that still beats.
    pub async fn publish_session(&self) -> Result<Object<FleetNode>, BeatError> {
        let change = Change::of(Part::Status)
            .set("session", self.session.as_str())
            .set("phase", self.state.borrow().phase);
        let answer = self.nodes.patch(&self.key(), change, Expect::Any).await.map_err(|source| {
            BeatError::Store { name: self.identity.name.clone(), source }
        })?;
        Ok(answer)
    }

    fn change(
        &self,
        before: Option<&Object<FleetNode>>,
        capability: Capability,
    ) -> Change<FleetNode> {
        let state = self.state.borrow().clone();
        let old = before.map(|object| &object.status);
        let mut next = old.cloned().unwrap_or_default();
        next.phase = Some(state.phase.into());
        next.runs = state.runs;
        next.last_heartbeat_time = Some(self.clock.wall());
        next.agent_kind = Some(Open::Known(AgentKind::ForemanAgent));
        next.agent_version = Some(self.identity.version.clone());
        next.os = Some(self.identity.os.clone());
        next.arch = Some(self.identity.arch.clone());
        let slots = before.map_or(self.identity.slots, |object| object.spec.slots).unwrap_or(1);
        next.capacity = Some(Capacity {
            slots: Some(slots),
            ram_gb: capability.total_ram_gb,
            extra: old.and_then(|old| old.capacity.as_ref()).map(|c| c.extra.clone()).unwrap_or_default(),
        });
        next.capability = Some(steady(old.and_then(|old| old.capability.as_ref()), capability));
        match old {
            Some(old) => Change::status_patch(difference(&plain(old), &plain(&next))),
            None => full_change(&next),
        }
    }

    /// Beats at once, then every interval ± 10 %, until `stop` turns true. A failed beat is tried
    /// again after 1, 2, 4, 8 s and never ends the loop; after an outage the first beat has full
    /// jitter over one interval; waking up from sleep beats at once.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) -> RegistrarEnd {
        let mut state = self.state.subscribe();
        let mut failures = 0_usize;
        while !*stop.borrow_and_update() {
            let phase = state.borrow_and_update().phase;
            let pause = match self.heartbeat().await {
                Ok(answer) => {
                    failures = 0;
                    let shown = answer.status.phase.as_ref().and_then(Open::known);
                    if shown == Some(phase) { self.jittered() } else { Duration::ZERO }
                }
                Err(BeatError::Superseded { name, session }) => {
                    tracing::error!(node = %name, %session, "another session took this node over");
                    return RegistrarEnd::Superseded;
                }
                Err(error) => {
                    failures += 1;
                    let chain = error_chain(&error);
                    tracing::warn!(failures, "{chain}");
                    self.pause_after(failures)
                }
            };
            futures::select_biased! {
                _ = futures::FutureExt::fuse(stop.wait_for(|stop| *stop)) => break,
                _ = futures::FutureExt::fuse(state.wait_for(|state| state.phase != phase)) => {}
                () = futures::FutureExt::fuse(self.wait(pause)) => {}
            }
        }
        RegistrarEnd::Stopped
    }

    fn jittered(&self) -> Duration {
        let spread = self.interval * HEARTBEAT_JITTER_PERCENT / 100;
        self.interval - spread + self.entropy.up_to(spread * 2)
    }

    fn pause_after(&self, failures: usize) -> Duration {
        match HEARTBEAT_RETRY.get(failures - 1) {
            Some(pause) => *pause,
            None => self.entropy.up_to(self.interval).max(HEARTBEAT_MIN),
        }
    }

    /// Waits, but wakes early when the machine slept: then others may think that it is dead.
    async fn wait(&self, pause: Duration) {
        let asleep = || {
            self.clock.boot().since_origin().saturating_sub(self.clock.awake().since_origin())
        };
        let before = asleep();
        let until = self.clock.awake() + pause;
        while self.clock.awake() < until {
            self.clock.sleep_until(until.min(self.clock.awake() + SLEPT)).await;
            if asleep().saturating_sub(before) > SLEPT {
                return;
            }
        }
    }
}

/// `availableRAMGB` is published only when it moved by max(1, 5 %), so that an idle machine's beat
/// stays small.
fn steady(old: Option<&Capability>, mut new: Capability) -> Capability {
    let Some(old) = old else { return new };
    if let (Some(before), Some(now)) = (old.available_ram_gb, new.available_ram_gb) {
        let step = (i64::from(before) * 5 / 100).max(1);
        let within_total = new.total_ram_gb.is_none_or(|total| before <= total);
        if (i64::from(before) - i64::from(now)).abs() < step && within_total {
            new.available_ram_gb = Some(before);
        }
    }
    for (name, value) in &old.extra {
        new.extra.entry(name.clone()).or_insert_with(|| value.clone());
    }
    new
}

/// The first beat: every field that the agent owns, whatever the object showed.
fn full_change(next: &FleetNodeStatus) -> Change<FleetNode> {
    Change::of(Part::Status)
        .set("phase", &next.phase)
        .set("lastHeartbeatTime", next.last_heartbeat_time)
        .set("capability", &next.capability)
        .set("capacity", &next.capacity)
        .set("runs", if next.runs.is_empty() { Value::Null } else { plain(&next.runs) })
        .set("agentKind", &next.agent_kind)
        .set("agentVersion", &next.agent_version)
        .set("os", &next.os)
        .set("arch", &next.arch)
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
