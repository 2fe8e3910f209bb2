//! Workloads: from what a person asks to tasks, and back to one answer.

pub(crate) mod children;
pub(crate) mod expand;
pub(crate) mod rollup;

pub use expand::{DesiredStep, PlanError, desired};
