//! Foreman's domain: model, rules and control loops, without I/O.
#![warn(missing_docs, clippy::missing_errors_doc)]

pub mod control;
pub mod fleet;
#[cfg(feature = "memory")]
pub mod memory;
pub mod model;
pub mod policy;
pub mod ports;
pub mod schedule;
pub(crate) mod task;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod timing;
pub mod workload;

pub use task::authority::{Authority, LastBeat, Permit, Refused};
