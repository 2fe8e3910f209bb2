//! Who of several control loops leads: one pure step on what is known of the lease record.
//!
//! A candidate waits until the record has not changed for the whole lease, on its own awake clock,
//! since it saw the change. The leader acts until [`LEADER_ACTS`] after the *start* of its last good
//! renewal, on its boot clock. No wall clock is compared with another's. What is written while
//! leading ends within [`LEADER_WRITE`](crate::timing::LEADER_WRITE), so it has ended before anybody
//! else begins.

use std::time::Duration;

use crate::bugs::{self, Bug};
use crate::model::time::{AwakeTime, BootTime, WallTime};
use crate::ports::leases::{Lease, LeaseRecord};
use crate::ports::store::StoreError;
use crate::timing::{LEADER_ACTS, LEASE, LEASE_LOOK, LEASE_RENEW, LEASE_RETRY};

/// One reading of the three clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) wall: WallTime,
    pub(super) awake: AwakeTime,
    pub(super) boot: BootTime,
}

/// What a process knows of the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Somebody else may lead: what was seen of the record, and when it was first seen so.
    Candidate { seen: Option<(Lease, AwakeTime)> },
    /// This process leads, by a renewal that began at `since`.
    Leader {
        lease: Lease,
        since: BootTime,
        /// The last renewal failed: it may have been done, so the record is read first.
        unsure: bool,
    },
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Observation {
    /// The time came that was waited for.
    Time,
    /// The record was read.
    Read(Result<Option<Lease>, StoreError>),
    /// The record was written; the call began at `started`.
    Wrote { started: BootTime, answer: Result<Lease, StoreError> },
}

/// What to do next; its end is the next observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Read the record.
    Read,
    /// Write it in the place of that version; none = there is none.
    Write(LeaseRecord, Option<Lease>),
    /// Wait until then.
    Wait(AwakeTime),
}

impl State {
    /// Nothing is known yet.
    pub(super) const fn start() -> Self {
        Self::Candidate { seen: None }
    }

    /// Until when this process may begin a write; absent = not at all.
    pub(super) fn acts_until(&self) -> Option<BootTime> {
        match self {
            Self::Candidate { .. } => None,
            Self::Leader { since, .. } => Some(*since + acts()),
        }
    }

    /// The record to write when the lease is given back, and the version that it replaces; absent
    /// where this process does not hold it.
    pub(super) fn give_back(&self, now: Moment) -> Option<(LeaseRecord, Lease)> {
        match self {
            Self::Candidate { .. } => None,
            Self::Leader { lease, .. } => {
                let record =
                    LeaseRecord { holder: None, renewed: now.wall, ..lease.record.clone() };
                Some((record, lease.clone()))
            }
        }
    }
}

/// How long a leader acts after the beginning of a renewal.
fn acts() -> Duration {
    if bugs::on(Bug::LeaderActsTooLong) { LEADER_ACTS * 60 } else { LEADER_ACTS }
}

/// The next state and what to do. `me` must be of this process alone: a record that names it is
/// taken to be this process's own.
pub(super) fn step(
    me: &str,
    state: State,
    observation: Observation,
    now: Moment,
) -> (State, Action) {
    match state {
        State::Leader { since, lease, .. } if now.boot >= since + acts() => {
            candidate(me, Some((lease, now.awake)), observation, now)
        }
        State::Leader { lease, since, unsure } => {
            leader(me, Held { lease, since, unsure }, observation, now)
        }
        State::Candidate { seen } => candidate(me, seen, observation, now),
    }
}

struct Held {
    lease: Lease,
    since: BootTime,
    unsure: bool,
}

fn candidate(
    me: &str,
    seen: Option<(Lease, AwakeTime)>,
    observation: Observation,
    now: Moment,
) -> (State, Action) {
    match observation {
        // Always read before it is taken: what was seen may have been replaced since.
        Observation::Time => (State::Candidate { seen }, Action::Read),
        Observation::Read(Ok(None)) => {
            let action = Action::Write(record(me, None, now), None);
            (State::Candidate { seen: None }, action)
        }
        Observation::Read(Ok(Some(lease))) => {
            let since = seen.filter(|(known, _)| *known == lease).map_or(now.awake, |(_, at)| at);
            let free = holder(&lease).is_none_or(|holder| holder == me);
            if free || is_over(&lease, since, now) {
                return take(me, Some((lease, since)), now);
            }
            let over = since + lease.record.duration.max(LEASE);
            let wait = Action::Wait(over.min(now.awake + LEASE_LOOK));
            (State::Candidate { seen: Some((lease, since)) }, wait)
        }
        Observation::Wrote { started, answer: Ok(lease) } => {
            won(Held { lease, since: started, unsure: false }, now)
        }
        Observation::Read(Err(_)) | Observation::Wrote { answer: Err(_), .. } => {
            (State::Candidate { seen }, Action::Wait(now.awake + LEASE_LOOK))
        }
    }
}

fn leader(me: &str, held: Held, observation: Observation, now: Moment) -> (State, Action) {
    let Held { lease, since, unsure } = held;
    match observation {
        Observation::Time if unsure => (State::Leader { lease, since, unsure }, Action::Read),
        Observation::Time => {
            let action = Action::Write(record(me, Some(&lease), now), Some(lease.clone()));
            (State::Leader { lease, since, unsure }, action)
        }
        // A renewal without an answer was done after all: only the next one counts.
        Observation::Read(Ok(Some(found))) if holder(&found) == Some(me) => {
            let action = Action::Write(record(me, Some(&found), now), Some(found.clone()));
            (State::Leader { lease: found, since, unsure: false }, action)
        }
        Observation::Read(Ok(found)) => {
            let seen = found.map(|lease| (lease, now.awake));
            (State::Candidate { seen }, Action::Wait(now.awake + LEASE_LOOK))
        }
        Observation::Wrote { started, answer: Ok(lease) } => {
            won(Held { lease, since: started, unsure: false }, now)
        }
        Observation::Read(Err(_)) | Observation::Wrote { answer: Err(_), .. } => {
            let wait = Action::Wait(now.awake + LEASE_RETRY);
            (State::Leader { lease, since, unsure: true }, wait)
        }
    }
}

/// A write of ours was taken. An answer that came too late to act by it is only something seen.
fn won(held: Held, now: Moment) -> (State, Action) {
    let Held { lease, since, unsure } = held;
    if now.boot >= since + acts() {
        return (State::Candidate { seen: Some((lease, now.awake)) }, Action::Read);
    }
    (State::Leader { lease, since, unsure }, Action::Wait(now.awake + LEASE_RENEW))
}

fn take(me: &str, seen: Option<(Lease, AwakeTime)>, now: Moment) -> (State, Action) {
    let lease = seen.as_ref().map(|(lease, _)| lease);
    let action = Action::Write(record(me, lease, now), lease.cloned());
    (State::Candidate { seen }, action)
}

/// Whether the record stood unchanged for the whole lease while this process watched.
fn is_over(lease: &Lease, since: AwakeTime, now: Moment) -> bool {
    now.awake.since(since) >= lease.record.duration.max(LEASE)
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.record.holder.as_deref().filter(|holder| !holder.is_empty())
}

fn record(me: &str, before: Option<&Lease>, now: Moment) -> LeaseRecord {
    let own = before.filter(|lease| holder(lease) == Some(me));
    let transitions = before.map_or(0, |lease| {
        let more = u32::from(own.is_none());
        lease.record.transitions.saturating_add(more)
    });
    LeaseRecord {
        holder: Some(me.to_owned()),
        duration: LEASE,
        acquired: own.map_or(now.wall, |lease| lease.record.acquired),
        renewed: now.wall,
        transitions,
    }
}

#[cfg(test)]
#[path = "election_tests.rs"]
mod tests;
