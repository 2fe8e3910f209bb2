//! The processes of a simulation: agents and control loops, started, killed and started again on
//! machines that keep their disks.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::channel::oneshot;
use futures::future::FutureExt;
use tokio::sync::watch;

use super::SimEntropy;
use super::chance::{Chance, Counts};
use super::disk::{Disk, SharedDisk};
use super::engine::{Engine, lock};
use super::leases::SimLeases;
use super::machine::{MachineClock, MachineId, MachineState};
use super::net::{Actor, Net};
use super::remote::Remote;
use super::scenario::{NodePlan, Scenario};
use super::script::Script;
use super::store::SimStore;
use super::story::{Told, moment};
use super::trace::Trace;
use super::truth::Role;
use crate::control::{AgentEnd, AgentError, AgentSettings, Elector, Foreman, Shutdown};
use crate::fleet::registrar::Identity;
use crate::memory::MemoryLeases;
use crate::model::fleet_node::{Accelerator, Capability, Disk as DiskCapability};
use crate::model::ids::NodeName;
use crate::policy::admit::Policy;
use crate::ports::probe::{CapabilityProbe, ProbeError};
use crate::ports::recorder::{Event, Recorder};
use crate::ports::store::Stores;

/// How soon a process that could not start is started again.
const START_AGAIN: Duration = Duration::from_mins(1);

/// A machine of the fleet with its disk.
pub(crate) struct NodeMachine {
    pub(crate) plan: NodePlan,
    pub(crate) machine: MachineId,
    pub(crate) disk: SharedDisk,
    /// Memory that its runs take, in GiB.
    memory: Arc<AtomicI32>,
    told: Mutex<Option<watch::Sender<Shutdown>>>,
    /// The process that runs there.
    alive: Mutex<Option<u64>>,
    /// Whether somebody wants an agent there.
    pub(crate) wanted: Mutex<bool>,
}

/// A machine with a control loop.
pub(crate) struct OperatorMachine {
    pub(crate) name: String,
    pub(crate) machine: MachineId,
    alive: Mutex<Option<u64>>,
}

/// Everything of one simulation.
pub(crate) struct Fleet {
    pub(crate) seed: u64,
    pub(crate) engine: Arc<Engine>,
    pub(crate) net: Arc<Net>,
    pub(crate) remote: Arc<Remote>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) nodes: Mutex<Vec<Arc<NodeMachine>>>,
    pub(crate) operators: Vec<Arc<OperatorMachine>>,
    pub(crate) user: Actor,
    lease: Arc<MemoryLeases>,
    processes: Mutex<u64>,
    policy: Policy,
    stern: bool,
    memory: bool,
}

/// What the machine can do, as its plan says.
struct Probe {
    plan: NodePlan,
    disk: SharedDisk,
    /// Memory that runs take; absent = this seed's runs take none.
    memory: Option<Arc<AtomicI32>>,
}

#[async_trait]
impl CapabilityProbe for Probe {
    async fn probe(&self) -> Result<Capability, ProbeError> {
        let full = lock(&self.disk).full;
        let used = self.memory.as_ref().map_or(0, |memory| memory.load(Ordering::Relaxed));
        Ok(Capability {
            accelerator: self.plan.cuda.then(|| Accelerator::Cuda.into()),
            total_ram_gb: Some(self.plan.ram_gb),
            available_ram_gb: Some(self.plan.ram_gb.saturating_sub(used).max(0)),
            disk: Some(DiskCapability {
                free_gb: Some(if full { 0 } else { 100 }),
                ..DiskCapability::default()
            }),
            ..Capability::default()
        })
    }
}

struct Events {
    trace: Arc<Trace>,
    engine: Arc<Engine>,
    who: Arc<str>,
}

impl Recorder for Events {
    fn record(&self, event: Event) {
        let Event { kind, key, severity: _, reason, message } = event;
        self.trace.event(self.engine.now(), reason, &[], || {
            format!("{} event {kind} {key} {reason}: {message}", self.who)
        });
    }
}

impl Fleet {
    pub(crate) fn new(scenario: &Scenario, trace: &Arc<Trace>) -> Arc<Self> {
        let seed = scenario.seed;
        let engine = Engine::new(seed);
        let counts = Arc::new(Counts::default());
        let server = engine.add_machine(MachineState::new("server", 0, 0));
        let net =
            Net::new(engine.clone(), server, seed, scenario.rates, trace.clone(), counts.clone());
        let lossy = scenario.rates.lost_answers.min(100);
        let remote = Remote::new(engine.clone(), net.truth.clone(), counts.clone(), seed, lossy);
        let operators = (0..scenario.operators)
            .map(|index| {
                let name = format!("operator/{}", index + 1);
                let machine = engine.add_machine(MachineState::new(&name, 0, 0));
                Arc::new(OperatorMachine { name, machine, alive: Mutex::default() })
            })
            .collect();
        let nodes = scenario.nodes.iter().map(|plan| node_machine(&engine, plan)).collect();
        let user = Actor { process: 0, name: "user".into(), machine: server };
        net.truth.starts(0, 0, Role::User, None, None);
        net.truth.facts(|facts| {
            facts.allow_cloud = scenario.allow_cloud;
            facts.way = Duration::from_millis(scenario.rates.latency_ms);
        });
        Arc::new(Self {
            seed,
            engine,
            net,
            remote,
            counts,
            nodes: Mutex::new(nodes),
            operators,
            user,
            lease: MemoryLeases::new(),
            processes: Mutex::new(0),
            policy: Policy { allow_cloud: scenario.allow_cloud },
            stern: scenario.stern,
            memory: scenario.memory,
        })
    }

    /// The node machines, twins included.
    pub(crate) fn machines(&self) -> Vec<Arc<NodeMachine>> {
        lock(&self.nodes).clone()
    }

    /// A second machine under the name of the first: somebody copied its configuration.
    pub(crate) fn add_twin(&self, of: &NodePlan) -> Arc<NodeMachine> {
        let twin = node_machine(&self.engine, of);
        lock(&self.nodes).push(twin.clone());
        twin
    }

    fn next_process(&self) -> u64 {
        let mut processes = lock(&self.processes);
        *processes += 1;
        *processes
    }

    fn note(&self, number: u64, line: impl FnOnce() -> String) {
        self.net.truth.note(self.engine.now(), number, line);
    }

    fn up(&self, who: &str) {
        self.net.trace.mark(self.engine.now(), || Told::Up(who.to_owned()));
    }

    fn down(&self, who: &str, machine: MachineId) {
        let now = self.engine.now();
        let since = self.engine.machine(machine, |state| state.crashed_at.take()).unwrap_or(now);
        self.net.trace.mark(now, || Told::Down { who: who.to_owned(), since: moment(since) });
    }

    fn actor(&self, machine: MachineId, name: &str) -> Actor {
        let process = self.next_process();
        Actor { process, name: format!("{name}#{process}").into(), machine }
    }

    fn parts(&self, actor: &Actor) -> (Stores, Arc<MachineClock>, Arc<SimEntropy>, Arc<Events>) {
        let store = Arc::new(SimStore { net: self.net.clone(), actor: actor.clone() });
        let clock = MachineClock { engine: self.engine.clone(), machine: actor.machine };
        let mut chance = Chance::stream(self.seed, &actor.name);
        let events = Events {
            trace: self.net.trace.clone(),
            engine: self.engine.clone(),
            who: actor.name.clone(),
        };
        let entropy = SimEntropy::new(chance.next());
        (Stores::of(&store), Arc::new(clock), entropy, Arc::new(events))
    }

    /// Starts a control loop, unless one runs there.
    pub(crate) fn start_operator(self: &Arc<Self>, operator: &Arc<OperatorMachine>) {
        if lock(&operator.alive).is_some() {
            return;
        }
        let actor = self.actor(operator.machine, &operator.name);
        *lock(&operator.alive) = Some(actor.process);
        self.net.truth.starts(self.engine.now(), actor.process, Role::Operator, None, None);
        self.note(actor.process, || format!("{} starts", actor.name));
        self.up(&operator.name);
        let (stores, clock, entropy, events) = self.parts(&actor);
        let record = self.lease.clone();
        let leases = Arc::new(SimLeases { net: self.net.clone(), actor: actor.clone(), record });
        let elector = Elector::new(leases, clock.clone(), &*entropy, &actor.name);
        let reconciler = crate::Reconciler::new(stores, clock, events).with_policy(self.policy);
        let (hold, stop) = watch::channel(false);
        let alone = self.operators.len() == 1;
        let future = async move {
            if alone {
                reconciler.run(stop).await;
            } else {
                reconciler.run_elected(&elector, stop).await;
            }
            drop(hold);
        };
        self.engine.spawn(operator.machine, Box::pin(future));
    }

    /// Ends a control loop at once.
    pub(crate) fn kill_operator(&self, operator: &OperatorMachine) {
        *lock(&operator.alive) = None;
        self.engine.kill(operator.machine);
        self.note(1, || format!("{} is dead", operator.name));
        self.down(&operator.name, operator.machine);
    }

    /// Starts an agent, unless one runs there.
    pub(crate) fn start_agent(self: &Arc<Self>, node: &Arc<NodeMachine>) {
        if lock(&node.alive).is_some() || !*lock(&node.wanted) {
            return;
        }
        let actor = self.actor(node.machine, &format!("agent/{}", node.plan.name));
        *lock(&node.alive) = Some(actor.process);
        self.note(actor.process, || format!("{} starts", actor.name));
        self.up(&format!("agent/{}", node.plan.name));
        let (tell, told) = watch::channel(Shutdown::No);
        *lock(&node.told) = Some(tell);
        let life = self.engine.machine(node.machine, |state| state.life);
        let (fleet, node) = (self.clone(), node.clone());
        let machine = node.machine;
        let future = async move {
            let end = fleet.agent(&node, &actor, told).await;
            fleet.note(actor.process, || format!("{} left: {end:?}", actor.name));
            fleet.down(&format!("agent/{}", node.plan.name), node.machine);
            if matches!(end, Ok(AgentEnd::Drained)) {
                fleet.counts.add("agent drained");
                fleet.nothing_left_behind(&actor);
            }
            *lock(&node.alive) = None;
            let superseded = matches!(end, Err(Left::Superseded));
            if superseded {
                fleet.counts.add("agent superseded");
                *lock(&node.wanted) = false;
            }
            let again = fleet.clone();
            fleet.engine.after(START_AGAIN, move || {
                if again.engine.machine(node.machine, |state| state.life) == life {
                    again.start_agent(&node);
                }
            });
        };
        self.engine.spawn(machine, Box::pin(future));
    }

    async fn agent(
        self: &Arc<Self>,
        node: &Arc<NodeMachine>,
        actor: &Actor,
        told: watch::Receiver<Shutdown>,
    ) -> Result<AgentEnd, Left> {
        let (stores, clock, entropy, events) = self.parts(actor);
        let script = Script {
            seed: self.seed,
            process: actor.process,
            node: node.plan.name,
            disk: node.disk.clone(),
            remote: self.remote.clone(),
            clock: clock.clone(),
            truth: self.net.truth.clone(),
            counts: self.counts.clone(),
            stern: self.stern,
            memory: node.memory.clone(),
        };
        let (known_session, takeover) = {
            let disk = lock(&node.disk);
            (disk.session.clone(), disk.takes_over)
        };
        let settings = AgentSettings { known_session, takeover, ..AgentSettings::default() };
        let probe = Arc::new(Probe {
            plan: node.plan.clone(),
            disk: node.disk.clone(),
            memory: self.memory.then(|| node.memory.clone()),
        });
        let identity = identity(&node.plan).ok_or(Left::NoName)?;
        let foreman = Foreman::builder(stores, clock, entropy)
            .recorder(events)
            .settings(settings)
            .node(identity, probe, Arc::new(script))
            .without_control_loops()
            .build()
            .map_err(|_| Left::NoName)?;
        let (registrar, agent) = foreman.agents().first().cloned().ok_or(Left::NoName)?;
        let session = registrar.session().to_string();
        let name = Some(node.plan.name);
        self.net.truth.starts(
            self.engine.now(),
            actor.process,
            Role::Agent,
            name,
            Some(session.clone()),
        );
        agent.start().await.map_err(Left::Refused)?;
        lock(&node.disk).session = Some(session);
        let (stop, stopped) = watch::channel(false);
        let (superseded, is_superseded) = oneshot::channel();
        let beats = async move {
            let end = registrar.run(stopped).await;
            if superseded.send(end).is_err() {
                tracing::debug!("the agent left before its beats ended");
            }
        };
        self.engine.spawn(actor.machine, Box::pin(beats));
        let end = futures::select_biased! {
            _ = is_superseded.fuse() => Err(Left::Superseded),
            end = agent.serve(told).fuse() => Ok(end),
        };
        stop.send_replace(true);
        end
    }

    /// After a drain, nothing of that session is left to itself.
    fn nothing_left_behind(&self, actor: &Actor) {
        let now = self.engine.now();
        self.net.truth.facts(|facts| {
            let session = facts.processes.get(&actor.process).and_then(|p| p.session.clone());
            let left = facts.live_tasks.iter().find(|(_, task)| {
                let phase = task.status.known_phase();
                phase.is_some_and(crate::model::TaskPhase::is_in_flight)
                    && task.status.session.is_some()
                    && task.status.session == session
            });
            let left = left.map(|(key, _)| key.clone());
            if let Some(key) = left {
                let what = format!("{} left in good order and still holds task {key}", actor.name);
                facts.broken(8, now, what);
            }
        });
    }

    /// Ends an agent at once.
    pub(crate) fn kill_agent(&self, node: &NodeMachine) {
        *lock(&node.alive) = None;
        *lock(&node.told) = None;
        self.engine.kill(node.machine);
        self.note(2, || format!("agent/{} is dead", node.plan.name));
        self.down(&format!("agent/{}", node.plan.name), node.machine);
    }

    /// Tells an agent to leave in good order.
    pub(crate) fn drain_agent(&self, node: &NodeMachine) {
        if let Some(told) = &*lock(&node.told) {
            told.send_replace(Shutdown::Drain);
            self.note(3, || format!("agent/{} is told to leave", node.plan.name));
        }
    }
}

/// How an agent's process came to its end.
#[derive(Debug)]
enum Left {
    Superseded,
    #[expect(dead_code, reason = "shown in the trace")]
    Refused(AgentError),
    NoName,
}

fn node_machine(engine: &Arc<Engine>, plan: &NodePlan) -> Arc<NodeMachine> {
    let state = MachineState::new(plan.name, plan.rate_ppm, plan.wall_offset_ms);
    Arc::new(NodeMachine {
        plan: plan.clone(),
        machine: engine.add_machine(state),
        disk: Arc::new(Mutex::new(Disk::default())),
        memory: Arc::default(),
        told: Mutex::default(),
        alive: Mutex::default(),
        wanted: Mutex::new(true),
    })
}

fn identity(plan: &NodePlan) -> Option<Identity> {
    Some(Identity {
        name: NodeName::parse(plan.name).ok()?,
        address: None,
        roles: Vec::new(),
        slots: Some(plan.slots),
        version: "simulated".to_owned(),
        os: "linux".to_owned(),
        arch: "amd64".to_owned(),
    })
}
