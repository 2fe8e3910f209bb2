//! The scheduler: which task runs where, with every refusal as data.

pub mod explain;
pub mod fit;
pub mod need;
pub mod order;
pub mod scheduler;
pub mod score;
pub mod snapshot;

pub use explain::{Explanation, NodeVerdict, explain, waiting};
pub use fit::{Refusal, Refusals, fit};
pub use need::Need;
pub use scheduler::{Placement, Scheduler};
pub use snapshot::{NodeRow, Reservation, Snapshot};
