//! Holds the lease and lets a loop act while it is held.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use futures::future::{FutureExt, poll_fn};
use tokio::sync::watch;

use super::election::{Action, Moment, Observation, State, step};
use crate::model::time::BootTime;
use crate::ports::clock::Clock;
use crate::ports::entropy::Entropy;
use crate::ports::leases::Leases;
use crate::ports::store::StoreError;
use crate::timing::{LEADER_WRITE, LEASE_CALL_MAX};

/// Proof that this process leads. It is given by [`Elector::run`] alone and ends by itself: ask
/// [`Self::holds`] before each write.
pub struct Leadership {
    clock: Arc<dyn Clock>,
    acts_until: watch::Receiver<Option<BootTime>>,
}

impl std::fmt::Debug for Leadership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leadership").field("holds", &self.holds()).finish_non_exhaustive()
    }
}

impl Leadership {
    /// Whether a write may begin now. It must end within [`Self::in_time`].
    pub fn holds(&self) -> bool {
        self.acts_until.borrow().is_some_and(|until| self.clock.boot() < until)
    }

    /// Returns once this process leads no longer.
    pub async fn lost(&self) {
        let mut acts_until = self.acts_until.clone();
        loop {
            let Some(until) = *acts_until.borrow_and_update() else { return };
            let left = until.since(self.clock.boot());
            if left.is_zero() {
                return;
            }
            let mut alarm = self.clock.sleep(left).fuse();
            futures::select_biased! {
                changed = acts_until.changed().fuse() => if changed.is_err() { return },
                () = alarm => {}
            }
        }
    }

    /// The output of a write that begins now; absent when the leadership does not hold, or when the
    /// write has no answer after 4 seconds (sleep counts). Then it is not known whether it was done.
    pub async fn in_time<T>(&self, write: impl Future<Output = T>) -> Option<T> {
        if !self.holds() {
            return None;
        }
        within(&*self.clock, LEADER_WRITE, write).await
    }
}

/// The output of a call, unless `limit` passes first, asleep or awake.
async fn within<T>(
    clock: &dyn Clock,
    limit: std::time::Duration,
    call: impl Future<Output = T>,
) -> Option<T> {
    let until = clock.boot() + limit;
    let mut alarm = pin!(clock.sleep(limit));
    let mut call = pin!(call);
    poll_fn(|context| {
        // Asked first: after a sleep the call may be about to be sent only now.
        if clock.boot() >= until {
            return Poll::Ready(None);
        }
        if let Poll::Ready(output) = call.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        alarm.as_mut().poll(context).map(|()| None)
    })
    .await
}

/// Competes for the lease and keeps it.
pub struct Elector {
    leases: Arc<dyn Leases>,
    clock: Arc<dyn Clock>,
    me: String,
}

impl std::fmt::Debug for Elector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Elector").field("me", &self.me).finish_non_exhaustive()
    }
}

impl Elector {
    /// Competes under `name` (host or pod), which is made unique to this process by `entropy`.
    pub fn new(
        leases: Arc<dyn Leases>,
        clock: Arc<dyn Clock>,
        entropy: &dyn Entropy,
        name: &str,
    ) -> Self {
        Self { leases, clock, me: format!("{name}_{}", entropy.uuid()) }
    }

    /// The name in the record while this process leads.
    pub fn identity(&self) -> &str {
        &self.me
    }

    /// Runs `lead` each time this process comes to lead. `lead` must end soon when its leadership is
    /// lost or `stop` is true; the lease is given back after that, so that the next leader need not
    /// wait. Returns once `stop` is true and nothing is led.
    pub async fn run<F>(
        &self,
        mut stop: watch::Receiver<bool>,
        mut lead: impl FnMut(Leadership) -> F,
    ) where
        F: Future<Output = ()>,
    {
        let mut state = State::start();
        loop {
            let action;
            {
                let mut stopped = pin!(stop.wait_for(|stop| *stop).fuse());
                let mut won = pin!(self.compete(state).fuse());
                futures::select_biased! {
                    _ = stopped => return,
                    now = won => (state, action) = now,
                }
            }
            let (publish, acts_until) = watch::channel(state.acts_until());
            let leadership = Leadership { clock: self.clock.clone(), acts_until };
            tracing::info!(holder = self.me, "this process leads");
            {
                let mut acting = pin!(lead(leadership).fuse());
                let mut kept = pin!(self.keep(&mut state, action, &publish).fuse());
                let ended = futures::select_biased! {
                    () = acting => true,
                    () = kept => false,
                };
                // It waits for its writes, which end in time by themselves.
                if !ended {
                    acting.await;
                }
            }
            publish.send_replace(None);
            tracing::info!(holder = self.me, "this process leads no longer");
            self.give_back(std::mem::replace(&mut state, State::start())).await;
            if *stop.borrow() {
                return;
            }
        }
    }

    async fn compete(&self, mut state: State) -> (State, Action) {
        let mut observation = Observation::Time;
        loop {
            let action;
            (state, action) = step(&self.me, state, observation, self.now());
            if state.acts_until().is_some() {
                return (state, action);
            }
            observation = self.carry_out(action).await;
        }
    }

    /// Renews until the lease is lost. `state` is true to what is known at every moment.
    async fn keep(
        &self,
        state: &mut State,
        mut action: Action,
        publish: &watch::Sender<Option<BootTime>>,
    ) {
        loop {
            let observation = self.carry_out(action).await;
            (*state, action) = step(&self.me, state.clone(), observation, self.now());
            publish.send_replace(state.acts_until());
            if state.acts_until().is_none() {
                return;
            }
        }
    }

    async fn carry_out(&self, action: Action) -> Observation {
        match action {
            Action::Wait(until) => {
                self.clock.sleep_until(until).await;
                Observation::Time
            }
            Action::Read => {
                let read = within(&*self.clock, LEASE_CALL_MAX, self.leases.read()).await;
                let answer = read.unwrap_or_else(|| Err(no_answer()));
                if let Err(error) = &answer {
                    tracing::warn!(%error, "the lease could not be read");
                }
                Observation::Read(answer)
            }
            Action::Write(record, before) => {
                let started = self.clock.boot();
                let write = self.leases.write(record, before.as_ref().map(|b| &b.revision));
                let answer = within(&*self.clock, LEASE_CALL_MAX, write).await;
                let answer = answer.unwrap_or_else(|| Err(no_answer()));
                if let Err(error) = &answer {
                    tracing::warn!(%error, "the lease could not be written");
                }
                Observation::Wrote { started, answer }
            }
        }
    }

    /// Gives the lease back if it is ours. A renewal that was dropped on its way may have been done,
    /// so a lost race is read and tried once more.
    async fn give_back(&self, state: State) {
        let mut state = state;
        for _ in 0..2 {
            let Some((record, before)) = state.give_back(self.now()) else { return };
            let write = self.leases.write(record, Some(&before.revision));
            match within(&*self.clock, LEASE_CALL_MAX, write).await {
                Some(Ok(_)) => {
                    tracing::info!(holder = self.me, "the lease is given back");
                    return;
                }
                Some(Err(StoreError::Conflict)) => {}
                Some(Err(error)) => {
                    tracing::warn!(%error, "the lease could not be given back");
                    return;
                }
                None => {
                    tracing::warn!("the lease could not be given back: no answer came");
                    return;
                }
            }
            let observation = self.carry_out(Action::Read).await;
            state = step(&self.me, state, observation, self.now()).0;
        }
    }

    fn now(&self) -> Moment {
        let clock = &self.clock;
        Moment { wall: clock.wall(), awake: clock.awake(), boot: clock.boot() }
    }
}

fn no_answer() -> StoreError {
    StoreError::Uncertain { reason: format!("no answer within {LEASE_CALL_MAX:?}") }
}

#[cfg(test)]
#[path = "elector_tests.rs"]
mod tests;
