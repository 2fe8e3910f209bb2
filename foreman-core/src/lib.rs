//! Foreman's domain: model, rules and control loops, without I/O.
//!
//! ```text
//! Store events ──> control::Reconciler ──> placements, children, roll-ups ──> Store
//!                  control::NodeAgent  ──> claims, runs (ports::Executor), ends ──> Store
//!                  fleet::Registrar    ──> heartbeats ──> Store
//! ```
//!
//! An embedder brings a store ([`MemoryStore`] or his own, see [`ports`]), a [`Clock`], a
//! [`CapabilityProbe`] and an [`Executor`](ports::Executor), and puts them together with
//! [`Foreman::builder`](control::Foreman::builder). Nothing here opens a socket or a file, reads a
//! real clock or spawns a task.
#![warn(missing_docs, clippy::missing_errors_doc)]

mod bugs;
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
pub(crate) mod timing;
pub(crate) mod workload;

pub use control::Reconciler;
pub use fleet::Registrar;
#[cfg(feature = "memory")]
pub use memory::MemoryStore;
pub use model::Fence;
pub use ports::{CapabilityProbe, Clock, NodeStore};
pub use task::authority::{Authority, BeatBegan, LastBeat, Permit, Refused};
pub use timing::PERMIT_CHECK;
