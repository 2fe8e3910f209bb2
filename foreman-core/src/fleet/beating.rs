//! The registrar's loop: when it beats.

use std::time::Duration;

use futures::future::FutureExt;
use tokio::sync::watch;

use super::registrar::{BeatError, Registrar, RegistrarEnd, error_chain};
use crate::model::open::Open;
use crate::timing::{HEARTBEAT_JITTER_PERCENT, HEARTBEAT_MIN, HEARTBEAT_RETRY, SLEPT};

impl Registrar {
    /// Beats at once, then every interval ± 10 %, until `stop` turns true. A failed beat is tried
    /// again after 1, 2, 4, 8 s and never ends the loop; after an outage the first beat has full
    /// jitter over one interval; waking up from sleep beats at once, and so does a look at the node that
    /// shows another session.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) -> RegistrarEnd {
        let mut state = self.state.subscribe();
        let mut failures = 0_usize;
        let mut hurried = false;
        let mut slept = self.slept();
        while !*stop.borrow_and_update() {
            slept = self.note_waking(slept);
            let phase = state.borrow_and_update().phase;
            let pause = match self.heartbeat().await {
                Ok(answer) => {
                    failures = 0;
                    let shown = answer.status.phase.as_ref().and_then(Open::known);
                    // Once only: whoever says otherwise each time must not be answered for ever.
                    hurried = shown != Some(phase) && !hurried;
                    if hurried { Duration::ZERO } else { self.jittered() }
                }
                Err(BeatError::Superseded { name, session }) => {
                    tracing::error!(node = %name, %session, "another session took this node over");
                    return RegistrarEnd::Superseded;
                }
                Err(error) => {
                    failures += 1;
                    let chain = error_chain(&error);
                    tracing::warn!(failures, "{chain}");
                    self.pause_after(failures)
                }
            };
            futures::select_biased! {
                _ = stop.wait_for(|stop| *stop).fuse() => break,
                _ = state.wait_for(|state| state.phase != phase).fuse() => {}
                () = self.hurry.notified().fuse() => {}
                () = self.wait(pause).fuse() => {}
            }
        }
        RegistrarEnd::Stopped
    }

    fn jittered(&self) -> Duration {
        let spread = self.interval * HEARTBEAT_JITTER_PERCENT / 100;
        self.interval.saturating_sub(spread) + self.entropy.up_to(spread * 2)
    }

    fn pause_after(&self, failures: usize) -> Duration {
        match HEARTBEAT_RETRY.get(failures - 1) {
            Some(pause) => *pause,
            None => self.entropy.up_to(self.interval).max(HEARTBEAT_MIN),
        }
    }

    /// How long the machine slept since it was started.
    fn slept(&self) -> Duration {
        self.clock.boot().since_origin().saturating_sub(self.clock.awake().since_origin())
    }

    /// Tells those who hold claims when the machine slept since `before`: they must be looked at again
    /// before anything else.
    fn note_waking(&self, before: Duration) -> Duration {
        let now = self.slept();
        if now.saturating_sub(before) <= SLEPT {
            return before;
        }
        tracing::info!(seconds = now.saturating_sub(before).as_secs(), "the machine slept");
        self.woke.send_modify(|count| *count += 1);
        now
    }

    /// Waits, but wakes early when the machine slept: then others may think that it is dead.
    async fn wait(&self, pause: Duration) {
        let before = self.slept();
        let until = self.clock.awake() + pause;
        while self.clock.awake() < until {
            self.clock.sleep_until(until.min(self.clock.awake() + SLEPT)).await;
            if self.slept().saturating_sub(before) > SLEPT {
                return;
            }
        }
    }
}
