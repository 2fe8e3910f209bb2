//! Foreman on Kubernetes: the resources as `kube` sees them, and their custom resource definitions.
//!
//! This crate speaks to no API server yet. It holds the wire form ([`Resource`]) that the store
//! adapter will read and write, and makes the definitions ([`crd`]) from the very schemas by which
//! the stores without an API server default, prune and validate. It never derives a second schema.
#![warn(missing_docs, clippy::missing_errors_doc)]

pub mod crd;
pub mod resource;

pub use resource::{Malformed, Resource};
