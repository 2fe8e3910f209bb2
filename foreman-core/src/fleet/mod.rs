//! The fleet: what machines there are, what they can do, who is alive.

mod beat;
mod beating;
pub mod composite_probe;
pub(crate) mod current_task;
pub(crate) mod drain;
pub mod liveness;
pub mod naming;
pub mod quantities;
pub(crate) mod reap;
pub mod registrar;

pub use composite_probe::CompositeProbe;
pub use naming::{default_node_name, split_list};
pub use quantities::{bytes_to_gib, clamp_int32, ram};
pub use registrar::{BeatError, Identity, NodeState, RegisterError, Registrar, RegistrarEnd};

pub use crate::timing::HEARTBEAT;
