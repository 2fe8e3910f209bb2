//! What this machine can do, asked of the machine.
//!
//! Each [`Part`] asks one thing under a time limit of its own and never waits for another:
//! memory and processors (control group limits respected), disk, NVIDIA, AMD and Apple devices,
//! model servers. [`Keeping`] keeps a part's last good value for a while and says why there is no
//! newer one. [`machine_parts`] lists the parts of a machine; foreman-core's `CompositeProbe`
//! merges them, and [`DeclaredProbe`] lets flags override the result.
//!
//! Everything is read through [`Sys`] (a root folder, commands, three system calls), so each
//! parser runs on recorded text on any system. What this crate never does: run a command whose
//! text comes from outside, follow a redirect, show a credential, or wait without a limit.

pub mod accelerator;
pub mod command;
pub mod declared;
pub mod fake;
pub mod host;
pub mod limits;
mod machine;
pub mod models;
pub mod os_clock;
mod part;
pub mod sys;
mod text;
mod wire;

pub use accelerator::AcceleratorsProbe;
pub use declared::{Declared, DeclaredProbe};
pub use machine::{MachineParts, machine_parts};
pub use models::{
    Choice, Discoverer, Discovery, DiscoveryConfig, FoundModel, ModelServersPart, NotChosen,
    ServerKind, Tried, TriedAnswer, Why, discover, install_tls_provider,
};
pub use part::{Answer, Keeping, Part, PartReport, PartState, Reported};
pub use sys::{Os, Sys};

use foreman_core::model::fleet_node::Capability;
