//! Nodes, tasks, Agents and workloads at one moment: what the deciding functions read.

use std::collections::BTreeMap;
use std::time::Instant;

use foreman_core::control::snapshot_of;
use foreman_core::fleet::liveness::Seen;
use foreman_core::model::{
    Agent, AgenticTask, AwakeTime, FleetNode, Key, Object, Revision, WallTime, Workload,
};
use foreman_core::policy::Policy;
use foreman_core::schedule::Snapshot;

/// Nodes, tasks, Agents and workloads at one moment.
pub(super) struct Fleet {
    pub(super) nodes: Vec<Object<FleetNode>>,
    pub(super) tasks: BTreeMap<Key, Object<AgenticTask>>,
    pub(super) agents: BTreeMap<Key, Object<Agent>>,
    pub(super) workloads: BTreeMap<Key, Object<Workload>>,
    /// What the settings of this command allow.
    pub(super) policy: Policy,
    pub(super) revision: Revision,
    pub(super) now: WallTime,
    pub(super) read_at: Instant,
    pub(super) awake: AwakeTime,
    pub(super) suffix: String,
    /// Who works on the store; none, when nobody does and so nothing will be placed.
    pub(super) worker: Option<String>,
}

impl Fleet {
    /// The snapshot on which a control loop that starts now would decide.
    pub(super) fn snapshot(&self) -> Snapshot {
        let unseen = BTreeMap::new();
        snapshot_of(&self.nodes, &self.tasks, &self.agents, &unseen, self.now, self.awake)
    }

    /// A line that says that nothing will happen by itself; empty where somebody works on the store.
    pub(super) fn nobody_works(&self) -> String {
        match &self.worker {
            Some(_) => String::new(),
            None => format!("nobody works on this store: start {}\n", self.command("up")),
        }
    }

    /// A command of ours about this store.
    pub(super) fn command(&self, words: &str) -> String {
        format!("foreman {words}{}", self.suffix)
    }

    /// Whether the node of that name beat lately enough.
    pub(super) fn is_fresh(&self, node: &str) -> bool {
        self.nodes.iter().filter(|one| one.meta.name == node).any(|one| {
            Seen::first(one.status.last_heartbeat_time, self.awake).is_fresh(self.now, self.awake)
        })
    }

    /// What runs on the node of that name and how far it is, in brackets; empty if nothing does.
    pub(super) fn running_on(&self, node: &str) -> String {
        let here = self.nodes.iter().filter(|one| one.meta.name == node);
        let runs: Vec<_> = here
            .flat_map(|one| &one.status.runs)
            .map(|run| super::words::progress(run, self.now))
            .collect();
        if runs.is_empty() { String::new() } else { format!(" ({})", runs.join("; ")) }
    }
}
