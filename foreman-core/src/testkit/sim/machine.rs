//! A machine of a simulation: its three clocks, its sleep, its crashes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;

use super::SIM_EPOCH_SECONDS;
use super::engine::{Engine, Instant, Slot, nanos};
use crate::model::time::{AwakeTime, BootTime, WallTime};
use crate::ports::clock::Clock;

const PARTS: u128 = 1_000_000;

/// Which machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MachineId(pub(crate) usize);

/// One machine.
#[derive(Debug)]
pub(crate) struct MachineState {
    pub(crate) name: String,
    /// Which life of the machine's processes this is; a crash begins the next one.
    pub(crate) life: u64,
    pub(crate) asleep: bool,
    /// Polls until it crashes.
    pub(crate) crash_after: Option<u64>,
    /// When it crashed, until somebody looks.
    pub(crate) crashed_at: Option<Instant>,
    rate_ppm: i64,
    wall_offset_ms: i64,
    since: Instant,
    boot: u64,
    awake: u64,
}

impl MachineState {
    /// A machine that is up; its clock runs `rate_ppm` too fast and is `wall_offset_ms` ahead.
    pub(crate) fn new(name: &str, rate_ppm: i64, wall_offset_ms: i64) -> Self {
        Self {
            name: name.to_owned(),
            life: 0,
            asleep: false,
            crash_after: None,
            crashed_at: None,
            rate_ppm,
            wall_offset_ms,
            since: 0,
            boot: 0,
            awake: 0,
        }
    }

    fn rate(&self) -> u128 {
        u128::try_from(1_000_000_i64.saturating_add(self.rate_ppm)).unwrap_or(PARTS).max(1)
    }

    fn grown(&self, now: Instant) -> u64 {
        let grown = u128::from(now.saturating_sub(self.since)) * self.rate() / PARTS;
        u64::try_from(grown).unwrap_or(u64::MAX)
    }

    pub(crate) fn boot(&self, now: Instant) -> u64 {
        self.boot.saturating_add(self.grown(now))
    }

    pub(crate) fn awake(&self, now: Instant) -> u64 {
        if self.asleep { self.awake } else { self.awake.saturating_add(self.grown(now)) }
    }

    fn rebase(&mut self, now: Instant) {
        (self.boot, self.awake) = (self.boot(now), self.awake(now));
        self.since = now;
    }

    /// Falls asleep or wakes up.
    pub(crate) fn set_asleep(&mut self, asleep: bool, now: Instant) {
        self.rebase(now);
        self.asleep = asleep;
    }

    /// The wall clock is set ahead or back.
    pub(crate) fn jump(&mut self, millis: i64) {
        self.wall_offset_ms = self.wall_offset_ms.saturating_add(millis);
    }

    /// The wall clock is corrected.
    pub(crate) fn correct_wall(&mut self) {
        self.wall_offset_ms = 0;
    }

    /// Counts a poll; true when the machine crashed by it.
    pub(crate) fn was_polled(&mut self, now: Instant) -> bool {
        match &mut self.crash_after {
            Some(0) => {
                self.crash_after = None;
                self.crashed_at = Some(now);
                self.life += 1;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    fn wall(&self, now: Instant) -> WallTime {
        let millis = i64::try_from(self.boot(now) / 1_000_000).unwrap_or(i64::MAX);
        let seconds = millis.saturating_add(self.wall_offset_ms).div_euclid(1000);
        WallTime::from_unix_seconds(SIM_EPOCH_SECONDS.saturating_add(seconds))
    }

    /// When, in virtual time, the awake clock shows `until`, if the machine stays awake.
    fn when(&self, until: u64, now: Instant) -> Instant {
        let left = u128::from(until.saturating_sub(self.awake(now)));
        let wait = (left * PARTS).div_ceil(self.rate());
        now.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX))
    }
}

/// The clocks of one machine.
pub(crate) struct MachineClock {
    pub(crate) engine: Arc<Engine>,
    pub(crate) machine: MachineId,
}

#[async_trait]
impl Clock for MachineClock {
    fn wall(&self) -> WallTime {
        let now = self.engine.now();
        self.engine.machine(self.machine, |state| state.wall(now))
    }

    fn awake(&self) -> AwakeTime {
        let now = self.engine.now();
        AwakeTime::new(Duration::from_nanos(
            self.engine.machine(self.machine, |state| state.awake(now)),
        ))
    }

    fn boot(&self) -> BootTime {
        let now = self.engine.now();
        BootTime::new(Duration::from_nanos(
            self.engine.machine(self.machine, |state| state.boot(now)),
        ))
    }

    async fn sleep_until(&self, until: AwakeTime) {
        Sleep {
            engine: self.engine.clone(),
            machine: self.machine,
            until: nanos(until.since_origin()),
            slot: None,
        }
        .await;
    }
}

/// A wait on the awake clock of a machine: sleep that comes between makes it longer.
struct Sleep {
    engine: Arc<Engine>,
    machine: MachineId,
    until: u64,
    slot: Option<(Slot, Waker)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let now = self.engine.now();
        let (until, machine) = (self.until, self.machine);
        let (awake, when) =
            self.engine.machine(machine, |state| (state.awake(now), state.when(until, now)));
        if awake >= until {
            self.engine.waited_for_nothing();
            return Poll::Ready(());
        }
        if let Some((slot, waker)) = &self.slot {
            // The same moment as before: whoever polled us did so for another reason.
            if slot.0 == when && waker.will_wake(context.waker()) {
                return Poll::Pending;
            }
            self.engine.forget(*slot);
        }
        let waker = context.waker().clone();
        self.slot = Some((self.engine.wake_at(when, waker.clone()), waker));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some((slot, _)) = &self.slot {
            self.engine.forget(*slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn awake_stops_in_sleep_and_boot_does_not() {
        let mut machine = MachineState::new("m", 0, 0);
        machine.set_asleep(true, 10 * SECOND);
        assert_eq!(machine.awake(70 * SECOND), 10 * SECOND);
        assert_eq!(machine.boot(70 * SECOND), 70 * SECOND);
        machine.set_asleep(false, 70 * SECOND);
        assert_eq!(machine.awake(75 * SECOND), 15 * SECOND);
        assert_eq!(machine.when(20 * SECOND, 75 * SECOND), 80 * SECOND);
    }

    #[test]
    fn a_fast_clock_reaches_its_moment_early_and_a_jump_moves_the_wall_only() {
        let mut machine = MachineState::new("m", 1000, 0);
        let when = machine.when(1001 * SECOND, 0);
        assert_eq!(when, 1000 * SECOND);
        assert!(machine.awake(when) >= 1001 * SECOND);
        let before = machine.wall(when);
        machine.jump(-90_000);
        assert_eq!(before.since(machine.wall(when)), Duration::from_secs(90));
        assert!(machine.awake(when) >= 1001 * SECOND);
    }
}
