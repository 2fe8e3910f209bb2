//! Permits: leave to do one outside effect now, given for a fence that still holds.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use super::claim::{self, Lost};
use crate::bugs::{self, Bug};
use crate::model::ids::{Fence, Key};
use crate::model::time::{AwakeTime, BootTime};
use crate::ports::clock::Clock;
use crate::ports::store::{StoreError, TaskStore};
use crate::timing::{PERMIT_WINDOW, SLEPT};

/// When a heartbeat began, on both clocks: what has passed on one and not on the other was slept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeatBegan {
    boot: BootTime,
    awake: AwakeTime,
}

impl BeatBegan {
    /// A heartbeat that begins now.
    pub fn now(clock: &dyn Clock) -> Self {
        Self { boot: clock.boot(), awake: clock.awake() }
    }

    /// Whether effects are still allowed by it: it began within the window, and the machine was awake
    /// ever since. After a sleep nobody knows what others made of the silence, so that a new beat must
    /// come first, however short it was.
    fn allows(self, clock: &dyn Clock) -> bool {
        // Awake first: what passes between the two looks must not count as sleep that never was.
        let awake = clock.awake().since(self.awake);
        let passed = clock.boot().since(self.boot);
        bugs::on(Bug::PermitWindowIgnored)
            || passed <= PERMIT_WINDOW && passed.saturating_sub(awake) <= SLEPT
    }
}

/// The last good heartbeat; `None` before the first.
pub type LastBeat = watch::Receiver<Option<BeatBegan>>;

/// Why no permit was given.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// No heartbeat succeeded in the window: others may think that this node is dead.
    #[error("no heartbeat succeeded within the last {} s, so {effect} must wait", PERMIT_WINDOW.as_secs())]
    NoRecentBeat {
        /// What was to be done.
        effect: String,
    },
    /// The claim is lost.
    #[error("{effect} must not be done")]
    Lost {
        /// What was to be done.
        effect: String,
        /// What differs.
        #[source]
        source: Lost,
    },
    /// The task is gone.
    #[error("the task is gone, so {effect} must not be done")]
    Gone {
        /// What was to be done.
        effect: String,
    },
    /// The task is cancelled.
    #[error("the task is cancelled, so {effect} must not be done")]
    Cancelled {
        /// What was to be done.
        effect: String,
    },
    /// The store cannot be asked: the effect waits.
    #[error("the store cannot be asked whether {effect} may be done")]
    Store {
        /// What was to be done.
        effect: String,
        /// What the store said.
        #[source]
        source: StoreError,
    },
}

impl Refused {
    /// Whether asking again later may help.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::NoRecentBeat { .. } | Self::Store { .. })
    }
}

/// Gives permits to the holder of one claim.
pub struct Authority {
    tasks: Arc<dyn TaskStore>,
    clock: Arc<dyn Clock>,
    last_beat: LastBeat,
    key: Key,
    fence: Fence,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("key", &self.key)
            .field("fence", &self.fence)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// The authority of a claim that was granted.
    pub fn new(
        tasks: Arc<dyn TaskStore>,
        clock: Arc<dyn Clock>,
        last_beat: LastBeat,
        key: Key,
        fence: Fence,
    ) -> Self {
        Self { tasks, clock, last_beat, key, fence }
    }

    /// What the claim is known by.
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Leave to do `effect` (a short name such as `push`) once, now: a heartbeat that began within
    /// the window succeeded, and a fresh read shows that the fence holds and nobody cancelled.
    ///
    /// # Errors
    /// Why the effect must not be done, or must wait ([`Refused::may_pass`]).
    pub async fn permit(&self, effect: &str) -> Result<Permit, Refused> {
        let effect = effect.to_owned();
        let permit = Permit {
            effect: effect.clone(),
            fence: self.fence.clone(),
            last_beat: self.last_beat.clone(),
            clock: self.clock.clone(),
        };
        if !permit.still_holds() {
            return Err(Refused::NoRecentBeat { effect });
        }
        if bugs::on(Bug::PermitWithoutRead) {
            return Ok(permit);
        }
        let task = match self.tasks.get(&self.key).await {
            Ok(Some(task)) => task,
            Ok(None) => return Err(Refused::Gone { effect }),
            Err(source) => return Err(Refused::Store { effect, source }),
        };
        if let Err(source) = claim::holds(&task, &self.fence) {
            return Err(Refused::Lost { effect, source });
        }
        if task.spec.cancel == Some(true) {
            return Err(Refused::Cancelled { effect });
        }
        if permit.still_holds() { Ok(permit) } else { Err(Refused::NoRecentBeat { effect }) }
    }
}

/// Leave to do one effect. Not `Clone`, and only [`Authority::permit`] makes one: an effect without
/// a permit does not compile.
pub struct Permit {
    effect: String,
    fence: Fence,
    last_beat: LastBeat,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("effect", &self.effect)
            .field("fence", &self.fence)
            .finish_non_exhaustive()
    }
}

impl Permit {
    /// What may be done.
    pub fn effect(&self) -> &str {
        &self.effect
    }

    /// For which claim.
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Whether the effect may still go on. The deadline moves with every further heartbeat; whoever
    /// does the effect asks each second and kills it when this is false.
    pub fn still_holds(&self) -> bool {
        let began = *self.last_beat.borrow();
        began.is_some_and(|began| began.allows(&*self.clock))
    }
}
