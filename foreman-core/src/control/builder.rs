//! The embedding API: control loops and one agent on any store.

use std::sync::Arc;
use std::time::Duration;

use futures::future::FutureExt;
use tokio::sync::watch;

use super::agent::{AgentEnd, AgentError, AgentSettings, NodeAgent, Shutdown};
use super::reconciler::Reconciler;
use super::settings::{ControlSettings, InvalidSetting};
use crate::fleet::registrar::{Identity, Registrar};
use crate::policy::admit::Policy;
use crate::ports::clock::Clock;
use crate::ports::entropy::Entropy;
use crate::ports::executor::Executor;
use crate::ports::probe::CapabilityProbe;
use crate::ports::recorder::{LogRecorder, Recorder};
use crate::ports::store::Stores;
use crate::timing::HEARTBEAT;

/// Why the parts do not make a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Neither control loops nor an agent are wanted.
    #[error("nothing to run: keep the control loops on, or give a node and its executor")]
    NothingToRun,
    /// A setting of the control loops is out of its limits.
    #[error("a setting of the control loops is out of its limits")]
    Setting(#[from] InvalidSetting),
}

/// Puts the parts together.
pub struct ForemanBuilder {
    stores: Stores,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    recorder: Arc<dyn Recorder>,
    nodes: Vec<NodeParts>,
    settings: AgentSettings,
    heartbeat: Duration,
    control_loops: bool,
    control: ControlSettings,
}

struct NodeParts {
    identity: Identity,
    probe: Arc<dyn CapabilityProbe>,
    executor: Arc<dyn Executor>,
}

impl std::fmt::Debug for ForemanBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForemanBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl ForemanBuilder {
    /// Adds a node: who it is, what it can do, and what runs its tasks.
    #[must_use]
    pub fn node(
        mut self,
        identity: Identity,
        probe: Arc<dyn CapabilityProbe>,
        executor: Arc<dyn Executor>,
    ) -> Self {
        self.nodes.push(NodeParts { identity, probe, executor });
        self
    }

    /// Takes events; the log by default.
    #[must_use]
    pub fn recorder(mut self, recorder: Arc<dyn Recorder>) -> Self {
        self.recorder = recorder;
        self
    }

    /// Settings of the agents.
    #[must_use]
    pub fn settings(mut self, settings: AgentSettings) -> Self {
        self.settings = settings;
        self
    }

    /// How often the nodes beat.
    #[must_use]
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.heartbeat = interval;
        self
    }

    /// What this installation allows; everything where this is not called.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.control.policy = policy;
        self
    }

    /// Settings of the control loops; [`Self::policy`] is one of them.
    #[must_use]
    pub fn control(mut self, settings: ControlSettings) -> Self {
        self.control = settings;
        self
    }

    /// Leaves the control loops out: somebody else runs them.
    #[must_use]
    pub fn without_control_loops(mut self) -> Self {
        self.control_loops = false;
        self
    }

    /// Checks the parts and puts them together. Nothing runs and nothing is written yet.
    ///
    /// # Errors
    /// There is nothing to run, or a setting is out of its limits.
    pub fn build(self) -> Result<Foreman, BuildError> {
        self.control.validate()?;
        if self.nodes.is_empty() && !self.control_loops {
            return Err(BuildError::NothingToRun);
        }
        let reconciler = self.control_loops.then(|| {
            Reconciler::new(self.stores.clone(), self.clock.clone(), self.recorder.clone())
                .with_settings(self.control)
        });
        let agents = self
            .nodes
            .into_iter()
            .map(|parts| {
                let registrar = Registrar::new(
                    self.stores.nodes.clone(),
                    parts.probe,
                    self.clock.clone(),
                    self.entropy.clone(),
                    parts.identity,
                );
                let registrar = Arc::new(registrar.every(self.heartbeat));
                let agent = NodeAgent::new(
                    self.stores.clone(),
                    registrar.clone(),
                    parts.executor,
                    self.clock.clone(),
                    self.recorder.clone(),
                    self.settings.clone(),
                );
                (registrar, Arc::new(agent))
            })
            .collect();
        Ok(Foreman { reconciler, agents })
    }
}

/// Control loops and agents, ready to run in one process.
#[derive(Debug)]
pub struct Foreman {
    reconciler: Option<Reconciler>,
    agents: Vec<(Arc<Registrar>, Arc<NodeAgent>)>,
}

impl Foreman {
    /// Starts with what every Foreman needs. `entropy` names sessions.
    pub fn builder(
        stores: Stores,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> ForemanBuilder {
        ForemanBuilder {
            stores,
            clock,
            entropy,
            recorder: Arc::new(LogRecorder),
            nodes: Vec::new(),
            settings: AgentSettings::default(),
            heartbeat: HEARTBEAT,
            control_loops: true,
            control: ControlSettings::default(),
        }
    }

    /// The control loops, where they were not left out.
    pub fn reconciler(&self) -> Option<&Reconciler> {
        self.reconciler.as_ref()
    }

    /// The agents with their registrars, for a process that gives each a thread of its own.
    pub fn agents(&self) -> &[(Arc<Registrar>, Arc<NodeAgent>)] {
        &self.agents
    }

    /// Runs everything on the caller's task until `shutdown` says otherwise and all is handed over.
    /// A process with runs that block should rather give the registrar a thread of its own
    /// ([`Self::agents`]).
    ///
    /// # Errors
    /// Why an agent could not start; what did start has been handed over by then.
    pub async fn run(&self, shutdown: watch::Receiver<Shutdown>) -> Result<AgentEnd, AgentError> {
        let (stop, stopped) = watch::channel(false);
        let loops = async {
            if let Some(reconciler) = &self.reconciler {
                reconciler.run(stopped.clone()).await;
            }
        };
        let agents = async {
            let agents = self.agents.iter();
            let ends =
                agents.map(|(registrar, agent)| run_agent(registrar, agent, shutdown.clone()));
            let ends = futures::future::join_all(ends).await;
            if self.agents.is_empty() {
                let mut shutdown = shutdown.clone();
                // A dropped sender means that nobody will ever say stop: leave.
                drop(shutdown.wait_for(|told| *told != Shutdown::No).await);
            }
            stop.send_replace(true);
            ends.into_iter().collect::<Result<Vec<_>, _>>()
        };
        let ((), ends) = futures::join!(loops, agents);
        let ends = ends?;
        let left = ends.contains(&AgentEnd::Left);
        Ok(if left { AgentEnd::Left } else { AgentEnd::Drained })
    }
}

async fn run_agent(
    registrar: &Registrar,
    agent: &NodeAgent,
    shutdown: watch::Receiver<Shutdown>,
) -> Result<AgentEnd, AgentError> {
    let mut told = shutdown.clone();
    let start = agent.start().fuse();
    futures::pin_mut!(start);
    futures::select_biased! {
        started = start => started?,
        // Told to leave before anything ran here. A dropped sender means the same.
        told = told.wait_for(|told| *told != Shutdown::No).fuse() => {
            drop(told);
            return Ok(AgentEnd::Drained);
        }
    }
    let (stop, stopped) = watch::channel(false);
    let beats = registrar.run(stopped).fuse();
    let serving = agent.serve(shutdown).fuse();
    futures::pin_mut!(beats, serving);
    futures::select_biased! {
        // Superseded: somebody else speaks for the node, so leave without effects.
        _ = beats => Ok(AgentEnd::Left),
        end = serving => {
            stop.send_replace(true);
            Ok(end)
        }
    }
}
