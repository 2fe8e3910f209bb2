//! A pause that grows with failures: one for all failures of the same pause, so that many writes
//! that fail together count once.

use std::time::Duration;

use crate::model::time::AwakeTime;
use crate::timing::{STORE_RETRY_MAX, STORE_RETRY_MIN};

/// From [`STORE_RETRY_MIN`], doubled each time, to [`STORE_RETRY_MAX`].
#[derive(Debug, Default)]
pub(super) struct Backoff {
    first: Option<Duration>,
    pause: Option<Duration>,
    until: Option<AwakeTime>,
}

impl Backoff {
    /// One whose first pause is this.
    pub(super) fn starting_with(first: Duration) -> Self {
        Self { first: Some(first), ..Self::default() }
    }

    /// Something failed; `asked` is how long the other side asked to be left alone.
    pub(super) fn failed(&mut self, now: AwakeTime, asked: Option<Duration>) {
        if self.until(now).is_none() {
            let next = self.pause.map_or(self.first.unwrap_or(STORE_RETRY_MIN), |pause| pause * 2);
            self.pause = Some(next.min(STORE_RETRY_MAX));
        }
        let pause = self.pause.unwrap_or(STORE_RETRY_MIN);
        let pause = asked.map_or(pause, |asked| asked.min(STORE_RETRY_MAX).max(pause));
        let until = now + pause;
        self.until = Some(self.until.map_or(until, |known| known.max(until)));
    }

    /// Something succeeded.
    pub(super) fn reset(&mut self) {
        *self = Self { first: self.first, ..Self::default() };
    }

    /// Until when to pause; absent = go on now.
    pub(super) fn until(&self, now: AwakeTime) -> Option<AwakeTime> {
        self.until.filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> AwakeTime {
        AwakeTime::new(Duration::from_millis(millis))
    }

    #[test]
    fn failures_of_one_pause_count_once_and_pauses_double_up_to_the_limit() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.until(at(0)), None);
        for _ in 0..64 {
            backoff.failed(at(0), None);
        }
        assert_eq!(backoff.until(at(0)), Some(at(200)));
        assert_eq!(backoff.until(at(200)), None);
        backoff.failed(at(200), None);
        assert_eq!(backoff.until(at(200)), Some(at(600)));
        let mut now = at(600);
        for _ in 0..20 {
            backoff.failed(now, None);
            now = backoff.until(now).expect("a pause");
        }
        backoff.failed(now, None);
        assert_eq!(backoff.until(now), Some(now + STORE_RETRY_MAX));
        backoff.reset();
        assert_eq!(backoff.until(now), None);
    }

    #[test]
    fn what_the_store_asked_for_is_given_within_the_limit() {
        let mut backoff = Backoff::default();
        backoff.failed(at(0), Some(Duration::from_secs(3)));
        assert_eq!(backoff.until(at(0)), Some(at(3000)));
        let mut backoff = Backoff::default();
        backoff.failed(at(0), Some(Duration::from_hours(9)));
        assert_eq!(backoff.until(at(0)), Some(at(0) + STORE_RETRY_MAX));
    }
}
