//! The behaviours of the existing system, by their numbers, that core's rules and loops keep; where
//! ours differ on purpose the case says so. The agents and people are played by plain patches of the
//! store, so that the same cases can run on any store: a case takes a [`Stage`] and knows nothing
//! of what is below it.

mod agents;
mod batches;
mod claims;
mod counted;
mod dependencies;
mod escalation;
mod faults;
mod fleet;
mod leases;
mod placement;
mod played;
mod policy;
mod queueing;
mod real;
mod rounds;
mod seen;
mod stage;

use stage::Stage;

/// Runs the named cases on the in-memory store. A case that is not named here is dead code, which
/// the compiler tells.
macro_rules! on_memory {
    ($($case:ident),* $(,)?) => {
        mod on_memory {
            $(
                #[tokio::test]
                async fn $case() {
                    let stage = crate::behaviours::Stage::on_memory();
                    super::$case(&stage).await;
                    stage.is_sound().await;
                }
            )*
        }
    };
}
use on_memory;
