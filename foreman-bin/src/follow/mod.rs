//! Follows work to its end: what the store's watch shows and what runs in this process tell, as
//! one stream of facts.

mod fact;
mod rounds;
mod story;
mod tally;
mod watcher;

pub use fact::{Begun, Ended, Fact, PlannedStep, What, tokens};
pub use rounds::superseded_by;
pub use story::{Story, finished};
pub use tally::{GateRun, Tally};
pub use watcher::{Bus, FollowError, Follower, Of, steady};
