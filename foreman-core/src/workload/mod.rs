//! Workloads: from what a person asks to tasks, and back to one answer.

pub(crate) mod advisories;
mod batch;
pub(crate) mod children;
pub(crate) mod conditions;
mod escalate;
pub(crate) mod expand;
pub(crate) mod hold;
mod iterate;
pub(crate) mod notes;
pub(crate) mod rollup;
mod suppress;
pub(crate) mod view;

pub use expand::{DesiredStep, PlanError, Role, Round, Strand, desired};
