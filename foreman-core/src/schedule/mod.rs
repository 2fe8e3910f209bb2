//! The scheduler: which task runs where, with every refusal as data.

mod columns;
pub mod explain;
pub mod fit;
pub mod fleet;
pub mod need;
pub mod order;
pub mod queue;
pub(crate) mod resume;
pub mod scheduler;
mod score;
pub mod snapshot;
pub mod what_if;

pub use crate::task::standing::{Known, Standing, why_waiting};
pub use explain::{Explanation, NodeVerdict, explain, waiting, waiting_for};
pub use fit::{Refusal, Refusals, fit};
pub use fleet::Fleet;
pub use need::Need;
pub use queue::Alike;
pub use resume::need_of;
pub use scheduler::{Counts, Decision, Placement, Scheduler, decide, placement};
pub use snapshot::{Avoid, NodeRow, Reservation, Snapshot};
pub use what_if::{
    Comparison, Fate, Waiter, WhatIf, changed, node_like, place_in_line, place_in_words, what_if,
    why_not,
};
