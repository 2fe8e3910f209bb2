//! The only place of Foreman that asks what time it is, and the only source of chance.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use foreman_core::model::{AwakeTime, BootTime, WallTime};
use foreman_core::ports::{Clock, Entropy};

/// The clocks of this machine.
///
/// `awake` is `CLOCK_MONOTONIC` on Linux and `CLOCK_UPTIME_RAW` on macOS (std's `Instant`): neither
/// runs while the machine sleeps. `boot` is `CLOCK_BOOTTIME` on Linux and `CLOCK_MONOTONIC` on macOS:
/// both run on.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    origin: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl SystemClock {
    /// A clock whose awake time begins now.
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }

    /// Milliseconds since 1970, by the wall clock: for records that people read.
    pub fn unix_milliseconds() -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn wall(&self) -> WallTime {
        let milliseconds = Self::unix_milliseconds();
        WallTime::from_unix_seconds(i64::try_from(milliseconds / 1000).unwrap_or(i64::MAX))
    }

    fn awake(&self) -> AwakeTime {
        AwakeTime::new(self.origin.elapsed())
    }

    fn boot(&self) -> BootTime {
        BootTime::new(since_boot())
    }

    async fn sleep_until(&self, until: AwakeTime) {
        let at = self.origin.checked_add(until.since_origin());
        // A deadline that the clock cannot express is never reached.
        match at {
            Some(at) => tokio::time::sleep_until(tokio::time::Instant::from_std(at)).await,
            None => std::future::pending().await,
        }
    }
}

fn since_boot() -> Duration {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let clock = rustix::time::ClockId::Monotonic;
    let now = rustix::time::clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}

/// Random numbers of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn next_u64(&self) -> u64 {
        // The few bits of each half that a version 4 UUID fixes are random in the other.
        let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
        high ^ low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_advance_and_wall_is_of_our_time() {
        let clock = SystemClock::new();
        let (awake, boot) = (clock.awake(), clock.boot());
        assert!(clock.wall() > WallTime::from_unix_seconds(1_700_000_000));
        while clock.awake() == awake || clock.boot() == boot {
            std::hint::spin_loop();
        }
        assert!(clock.awake() > awake);
        assert!(clock.boot() > boot);
    }

    #[tokio::test]
    async fn sleep_ends_at_or_after_its_time() {
        let clock = SystemClock::new();
        let until = clock.awake() + Duration::from_millis(5);
        clock.sleep_until(until).await;
        assert!(clock.awake() >= until);
    }

    #[test]
    fn every_bit_of_a_random_number_varies() {
        let numbers: Vec<u64> = (0..64).map(|_| SystemEntropy.next_u64()).collect();
        let ones = numbers.iter().fold(0, |all, one| all | one);
        let zeros = numbers.iter().fold(0, |all, one| all | !one);
        assert_eq!((ones, zeros), (u64::MAX, u64::MAX));
    }
}
