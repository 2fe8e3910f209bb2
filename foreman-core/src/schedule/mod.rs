//! The scheduler: which task runs where, with every refusal as data.

mod columns;
pub mod explain;
pub mod fit;
pub mod need;
pub mod order;
pub mod scheduler;
mod score;
pub mod snapshot;

pub use explain::{Explanation, NodeVerdict, explain, waiting, waiting_for};
pub use fit::{Refusal, Refusals, fit};
pub use need::Need;
pub use scheduler::{Counts, Decision, Placement, Scheduler, decide, placement};
pub use snapshot::{Avoid, NodeRow, Reservation, Snapshot};
