//! The clock.

use std::time::Duration;

use async_trait::async_trait;

use crate::model::time::{AwakeTime, BootTime, WallTime};

/// The three clocks of a machine and the one way to wait.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Now, for records.
    fn wall(&self) -> WallTime;

    /// Monotonic time without sleep: for other people's silence.
    fn awake(&self) -> AwakeTime;

    /// Monotonic time with sleep: for my own rights.
    fn boot(&self) -> BootTime;

    /// Returns once `awake()` is at or past `until`. Cancelled by dropping.
    async fn sleep_until(&self, until: AwakeTime);

    /// Returns after `duration` of being awake.
    async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.awake() + duration).await;
    }
}
