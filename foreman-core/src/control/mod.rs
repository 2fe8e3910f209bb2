//! The control loops: store events in, decisions of the rules out.

mod agent;
mod answer;
mod backoff;
mod builder;
mod carry_out;
mod claims_memory;
mod confirm;
mod create_child;
mod deliver;
mod election;
mod elector;
mod feed;
mod lane;
mod memory;
mod mirror;
mod plan_claims;
mod plan_nodes;
mod plan_tasks;
mod plan_workloads;
mod reconciler;
mod resuming;
mod room;
mod run;
mod serving;
mod settings;
mod strays;
mod supervise;
mod view;
mod watchlist;
mod write;

pub use agent::{AgentEnd, AgentError, AgentSettings, NodeAgent, Shutdown};
pub use builder::{BuildError, Foreman, ForemanBuilder};
pub use elector::{Elector, Leadership};
pub use reconciler::{ReconcileError, Reconciler};
pub use settings::{ControlSettings, InvalidSetting};

pub use plan_tasks::snapshot_of;

pub use crate::timing::{CLAIM_DISK_GB_MIN, DRAIN_DEADLINE};
pub use crate::workload::{DesiredStep, PlanError, Role, Round, Strand, desired};

#[cfg(test)]
mod any_object_tests;
#[cfg(test)]
mod idle_tests;
