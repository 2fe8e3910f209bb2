//! Foreman on Kubernetes: the API server as the store, and the definitions of its custom resources.
//!
//! [`KubeStore`] is the store port on an API server, [`KubeLeases`] the record by which one of
//! several control loops leads. [`crd`] makes the definitions from the very schemas by which the
//! stores without an API server default, prune and validate; this crate never derives a second
//! schema. Every duration and limit stands in [`limits`].
//!
//! It never writes a whole object but in a create, never uses server-side apply, and keeps no cache
//! of objects: a watch remembers keys and uids only.
#![warn(missing_docs)]

mod address;
mod answer;
mod call;
pub mod crd;
mod failure;
mod leases;
pub mod limits;
mod store;
mod watch;

pub use call::ConnectError;
pub use leases::KubeLeases;
pub use limits::Limits;
pub use store::KubeStore;
