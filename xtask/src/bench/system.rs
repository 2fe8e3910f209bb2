//! The real clock and chance, as far as a bench needs them.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use foreman_core::model::{AwakeTime, BootTime, WallTime};
use foreman_core::ports::{Clock, Entropy};

/// The wall clock now.
pub(crate) fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_unix_seconds(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// The machine's clock. It does not know about sleep: nobody suspends a bench.
pub(super) struct MachineClock(Instant);

impl MachineClock {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Instant::now()))
    }
}

#[async_trait::async_trait]
impl Clock for MachineClock {
    fn wall(&self) -> WallTime {
        now()
    }

    fn awake(&self) -> AwakeTime {
        AwakeTime::new(self.0.elapsed())
    }

    fn boot(&self) -> BootTime {
        BootTime::new(self.0.elapsed())
    }

    async fn sleep_until(&self, until: AwakeTime) {
        let left: Duration = until.since(self.awake());
        tokio::time::sleep(left).await;
    }
}

/// Chance from the standard library's random hash keys.
pub(super) struct MachineEntropy(RandomState, AtomicU64);

impl MachineEntropy {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(RandomState::new(), AtomicU64::new(0)))
    }
}

impl Entropy for MachineEntropy {
    fn next_u64(&self) -> u64 {
        self.0.hash_one(self.1.fetch_add(1, Ordering::Relaxed))
    }
}
