//! Every trait that the core needs from outside, one file each.

pub mod clock;
pub mod entropy;
pub mod executor;
pub mod probe;
pub mod recorder;
pub mod store;
pub mod watching;

pub use clock::Clock;
pub use entropy::Entropy;
pub use executor::{Executor, Finish, Job, Progress, RunEnd, Stop};
pub use probe::{CapabilityProbe, ProbeError};
pub use recorder::{Event, EventKind, Recorder};
pub use store::{
    AgentStore, Change, Expect, Field, Listing, NodeStore, Query, Store, StoreError, StoreEvent,
    Stores, TaskStore, WorkloadStore,
};
