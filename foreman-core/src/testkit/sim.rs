//! A clock and a source of chance that a test controls, and the simulation of a whole fleet: its
//! control loops, its machines and its faults, from a seed ([`Scenario::draw`], [`simulate`]).

mod chance;
mod disk;
mod draw;
mod draw_more;
mod ends;
mod engine;
mod fleet;
mod leases;
mod logs;
mod machine;
mod mishaps;
mod net;
mod people;
mod promises;
mod promises_claims;
mod promises_more;
mod remote;
mod reply;
mod rest;
mod run;
mod scenario;
mod script;
mod store;
mod story;
mod trace;
mod truth;
mod watching;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::model::time::{AwakeTime, BootTime, WallTime};
use crate::ports::clock::Clock;
use crate::ports::entropy::Entropy;

pub use run::{END_BOUND, REST, Report, simulate, simulate_unless};
pub use scenario::{
    Act, AgentPlan, BatchPlan, Less, MISHAP_CLASSES, Mishap, NodePlan, RATE_CLASSES, Rates,
    Scenario, TaskPlan, Terms, Timed, Work,
};
pub use story::{Mark, Standing, Told};
pub use truth::Violation;

/// Where a [`SimClock`] begins: 2026-01-01T00:00:00Z.
pub const SIM_EPOCH_SECONDS: i64 = 1_767_225_600;

/// A clock that moves only when a test moves it.
#[derive(Debug)]
pub struct SimClock {
    now: Mutex<Now>,
    awake: watch::Sender<AwakeTime>,
}

#[derive(Debug, Clone, Copy)]
struct Now {
    wall: Duration,
    awake: Duration,
    boot: Duration,
}

impl SimClock {
    /// A clock at [`SIM_EPOCH_SECONDS`].
    pub fn new() -> Arc<Self> {
        let zero = Duration::ZERO;
        let now = Mutex::new(Now { wall: zero, awake: zero, boot: zero });
        Arc::new(Self { now, awake: watch::channel(AwakeTime::default()).0 })
    }

    /// Time passes while the machine is awake.
    pub fn advance(&self, by: Duration) {
        self.moved(|now| {
            now.wall += by;
            now.awake += by;
            now.boot += by;
        });
    }

    /// Time passes while the machine sleeps.
    pub fn asleep(&self, by: Duration) {
        self.moved(|now| {
            now.wall += by;
            now.boot += by;
        });
    }

    /// Somebody sets the wall clock ahead.
    pub fn jump_wall(&self, by: Duration) {
        self.moved(|now| now.wall += by);
    }

    fn moved(&self, change: impl FnOnce(&mut Now)) {
        let mut now = self.lock();
        change(&mut now);
        let awake = AwakeTime::new(now.awake);
        drop(now);
        self.awake.send_replace(awake);
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Clock for SimClock {
    fn wall(&self) -> WallTime {
        let seconds = i64::try_from(self.lock().wall.as_secs()).unwrap_or(i64::MAX);
        WallTime::from_unix_seconds(SIM_EPOCH_SECONDS.saturating_add(seconds))
    }

    fn awake(&self) -> AwakeTime {
        AwakeTime::new(self.lock().awake)
    }

    fn boot(&self) -> BootTime {
        BootTime::new(self.lock().boot)
    }

    async fn sleep_until(&self, until: AwakeTime) {
        let mut awake = self.awake.subscribe();
        // The sender lives as long as `self`, so waiting ends by the condition only.
        drop(awake.wait_for(|now| *now >= until).await);
    }
}

/// Chance from a seed (SplitMix64): equal seeds give equal numbers.
#[derive(Debug)]
pub struct SimEntropy(AtomicU64);

impl SimEntropy {
    /// Chance from `seed`.
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(seed)))
    }
}

impl Entropy for SimEntropy {
    fn next_u64(&self) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(step, Ordering::Relaxed).wrapping_add(step);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
