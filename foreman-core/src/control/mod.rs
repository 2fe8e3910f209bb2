//! The control loops: store events in, decisions of the rules out.

mod agent;
mod builder;
mod feed;
mod mirror;
mod plan_tasks;
mod plan_workloads;
mod reconciler;
mod run;

pub use agent::{AgentEnd, AgentError, AgentSettings, NodeAgent, Shutdown};
pub use builder::{BuildError, Foreman, ForemanBuilder};
pub use reconciler::{ReconcileError, Reconciler};

pub use plan_tasks::snapshot_of;
