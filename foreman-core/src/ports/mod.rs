//! Every trait that the core needs from outside, one file each.

pub mod change;
pub mod clock;
pub mod entropy;
pub mod executor;
pub mod leases;
pub mod probe;
pub mod recorder;
pub mod store;
pub mod watching;

pub use change::{Change, Field, Part};
pub use clock::Clock;
pub use entropy::Entropy;
pub use executor::{Executor, Finish, Job, Progress, RunEnd, Stop};
pub use leases::{Lease, LeaseRecord, Leases};
pub use probe::{CapabilityProbe, ProbeError};
pub use recorder::{Event, EventKind, Recorder};
pub use store::{
    AgentStore, Expect, Listing, NodeStore, Query, Store, StoreError, StoreEvent, Stores,
    TaskStore, WorkloadStore,
};
