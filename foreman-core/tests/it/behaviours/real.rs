//! Nodes of our real agent, with an executor that does what a case says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use foreman_core::control::{AgentSettings, NodeAgent, Shutdown};
use foreman_core::fleet::{Identity, Registrar};
use foreman_core::model::{AgenticTask, Capability, FleetNode, NodeName};
use foreman_core::ports::{CapabilityProbe, Executor, ProbeError, Stores};
use foreman_core::testkit::fault::FaultyStore;
use foreman_core::testkit::sim::SimEntropy;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::stage::Stage;

/// Lives so far, so that each has a session of its own.
static LIVES: AtomicU64 = AtomicU64::new(1);

/// A machine that can do nothing in particular.
struct Machine;

#[async_trait]
impl CapabilityProbe for Machine {
    async fn probe(&self) -> Result<Capability, ProbeError> {
        Ok(Capability::default())
    }
}

/// One life of our agent on a node; dropped, the process dies where it stands.
pub(crate) struct Life {
    /// Its view of the tasks and nodes, which a case may break.
    pub(crate) tasks: Arc<FaultyStore<AgenticTask>>,
    pub(crate) nodes: Arc<FaultyStore<FleetNode>>,
    pub(crate) session: String,
    #[expect(dead_code, reason = "a dropped sender would tell the agent to leave")]
    shutdown: watch::Sender<Shutdown>,
    running: Vec<JoinHandle<()>>,
}

impl Drop for Life {
    fn drop(&mut self) {
        for task in &self.running {
            task.abort();
        }
    }
}

/// How a machine of a case is set up.
pub(crate) struct Setup<'a> {
    pub(crate) name: &'a str,
    pub(crate) slots: i32,
    pub(crate) roles: &'a [&'a str],
    /// The session of its last life, as its state directory tells.
    pub(crate) known_session: Option<String>,
}

impl<'a> Setup<'a> {
    pub(crate) fn of(name: &'a str, slots: i32) -> Self {
        Self { name, slots, roles: &[], known_session: None }
    }
}

impl Stage {
    /// Our agent starts on a node.
    #[expect(clippy::disallowed_methods, reason = "the agent runs beside the case, which ends it")]
    pub(crate) async fn starts(&self, setup: Setup<'_>, executor: Arc<dyn Executor>) -> Life {
        let tasks = FaultyStore::<AgenticTask>::new(self.stores.tasks.clone());
        let nodes = FaultyStore::<FleetNode>::new(self.stores.nodes.clone());
        let stores = Stores { tasks: tasks.clone(), nodes: nodes.clone(), ..self.stores.clone() };
        let name = NodeName::parse(setup.name).expect("a node's name");
        let identity = Identity {
            roles: setup.roles.iter().map(|role| (*role).to_owned()).collect(),
            slots: Some(setup.slots),
            ..Identity::named(name)
        };
        let registrar = Registrar::new(
            stores.nodes.clone(),
            Arc::new(Machine),
            self.clock.clone(),
            SimEntropy::new(LIVES.fetch_add(1, Ordering::Relaxed)),
            identity,
        );
        let registrar = Arc::new(registrar);
        let settings =
            AgentSettings { known_session: setup.known_session, ..AgentSettings::default() };
        let agent = NodeAgent::new(
            stores,
            registrar.clone(),
            executor,
            self.clock.clone(),
            self.told.clone(),
            settings,
        );
        agent.start().await.expect("the agent starts");
        let (shutdown, told) = watch::channel(Shutdown::No);
        let session = registrar.session().to_string();
        let beats = tokio::spawn(async move {
            let (_never, stop) = watch::channel(false);
            registrar.run(stop).await;
        });
        let serving = tokio::spawn(async move {
            agent.serve(told).await;
        });
        Life { tasks, nodes, session, shutdown, running: vec![beats, serving] }
    }
}
