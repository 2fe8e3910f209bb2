//! The low-priority lane: writes that may be late, at a bounded rate, the newest state of an object
//! only. All of it is decided again after a crash, so it is held in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::write::{Target, Urgency, Write};
use crate::model::time::AwakeTime;
use crate::timing::{LANE_OLDEST_EVERY, LANE_RECOVERS, LANE_WINDOW};

/// How many writes the lane makes in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rates {
    /// While nothing urgent is on its way.
    pub(super) quiet: usize,
    /// While something urgent is.
    pub(super) busy: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lane {
    rates: Rates,
    /// The newest write of each object, with its place in `order`.
    queued: BTreeMap<Target, (Place, Write)>,
    order: BTreeSet<(Place, Target)>,
    /// The same by age alone.
    ages: BTreeMap<u64, Target>,
    next_age: u64,
    /// When the writes of the last window went out.
    sent: VecDeque<AwakeTime>,
    /// Writes since the oldest one was taken whatever its rank.
    since_oldest: u32,
    /// The store asked for less: how often the rate is halved, and until when.
    slowed: Option<(u32, AwakeTime)>,
}

/// Where in the lane: the rank, then the age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    rank: usize,
    age: u64,
}

impl Lane {
    pub(super) fn new(rates: Rates) -> Self {
        Self {
            rates,
            queued: BTreeMap::new(),
            order: BTreeSet::new(),
            ages: BTreeMap::new(),
            next_age: 0,
            sent: VecDeque::new(),
            since_oldest: 0,
            slowed: None,
        }
    }

    /// Takes a write in the place of an older one of the same object, whose age it keeps.
    pub(super) fn offer(&mut self, write: Write) {
        let target = write.target();
        let age = if let Some((place, _)) = self.absorb(&target) {
            place.age
        } else {
            self.next_age += 1;
            self.next_age
        };
        let place = Place { rank: write.urgency().place(), age };
        self.order.insert((place, target.clone()));
        self.ages.insert(age, target.clone());
        self.queued.insert(target, (place, write));
    }

    /// Forgets what is queued of an object: an urgent write of it goes out, and what the lane was to
    /// say is decided again on the answer.
    pub(super) fn drop_of(&mut self, target: &Target) {
        self.absorb(target);
    }

    fn absorb(&mut self, target: &Target) -> Option<(Place, Write)> {
        let (place, write) = self.queued.remove(target)?;
        self.order.remove(&(place, target.clone()));
        self.ages.remove(&place.age);
        Some((place, write))
    }

    /// How many writes wait.
    pub(super) fn len(&self) -> usize {
        self.queued.len()
    }

    /// The store is overloaded: half as much from now on, for a while.
    pub(super) fn slow_down(&mut self, now: AwakeTime) {
        let halvings = self.halvings(now);
        self.slowed = Some(((halvings + 1).min(usize::BITS - 1), now + LANE_RECOVERS));
    }

    fn halvings(&self, now: AwakeTime) -> u32 {
        self.slowed.filter(|(_, until)| *until > now).map_or(0, |(halvings, _)| halvings)
    }

    fn rate(&self, now: AwakeTime, busy: bool) -> usize {
        let rate = if busy { self.rates.busy } else { self.rates.quiet };
        (rate >> self.halvings(now)).max(1)
    }

    /// The writes to send now, in order, at most `room`. What `current` says no longer of is left
    /// out and returned apart: the object changed, so it is decided again.
    pub(super) fn due(
        &mut self,
        now: AwakeTime,
        busy: bool,
        room: usize,
        current: impl Fn(&Write) -> bool,
    ) -> (Vec<Write>, Vec<Write>) {
        while self.sent.front().is_some_and(|at| now.since(*at) >= LANE_WINDOW) {
            self.sent.pop_front();
        }
        let may = self.rate(now, busy).saturating_sub(self.sent.len()).min(room);
        let (mut due, mut stale) = (Vec::new(), Vec::new());
        while due.len() < may {
            let Some(write) = self.take() else { break };
            if current(&write) {
                self.sent.push_back(now);
                due.push(write);
            } else {
                stale.push(write);
            }
        }
        (due, stale)
    }

    /// The next write: by rank and age, and now and then the oldest, so that no rank starves.
    fn take(&mut self) -> Option<Write> {
        self.since_oldest += 1;
        let target = if self.since_oldest >= LANE_OLDEST_EVERY {
            self.since_oldest = 0;
            self.ages.first_key_value().map(|(_, target)| target.clone())?
        } else {
            self.order.first().map(|(_, target)| target.clone())?
        };
        self.absorb(&target).map(|(_, write)| write)
    }

    /// When something will be due if nothing is offered before; absent while nothing is queued.
    pub(super) fn next_due(&self, now: AwakeTime, busy: bool) -> Option<AwakeTime> {
        if self.queued.is_empty() {
            return None;
        }
        let live = self.sent.iter().filter(|at| now.since(**at) < LANE_WINDOW);
        let rate = self.rate(now, busy);
        let over = (live.clone().count() + 1).saturating_sub(rate);
        // The window must lose so many before the next may go.
        let frees = over.checked_sub(1).and_then(|nth| live.clone().nth(nth));
        Some(frees.map_or(now, |at| (*at + LANE_WINDOW).max(now + Duration::from_millis(1))))
    }
}

/// Sorts decided writes: what goes out at once, and what goes to the lane.
pub(super) fn split(writes: Vec<Write>) -> (Vec<Write>, Vec<Write>) {
    writes.into_iter().partition(|write| match write.urgency() {
        Urgency::Now => true,
        Urgency::Lane(_) => false,
    })
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
