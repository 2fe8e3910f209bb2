//! A drain that `spec.drain` of a node asks for: let runs finish until its deadline, then hand over.

use std::time::Duration;

use crate::model::fleet_node::{DrainSpec, FleetNode};
use crate::model::object::Object;
use crate::model::time::WallTime;
use crate::timing::DRAIN_BY_SPEC_SECONDS;

/// What people want of a node, as its object last showed it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    /// `spec.slots`; absent = 1.
    pub(crate) slots: Option<i32>,
    /// `spec.drain`.
    pub(crate) drain: Option<DrainSpec>,
}

impl Orders {
    pub(crate) fn of(node: &Object<FleetNode>) -> Self {
        Self { slots: node.spec.slots, drain: node.spec.drain.clone() }
    }

    /// Runs that the node may hold at the same time.
    pub(crate) fn slots(&self) -> usize {
        usize::try_from(self.slots.unwrap_or(1)).unwrap_or(0)
    }
}

/// What a node is to do about a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DrainStep {
    /// There is none: take work.
    Serve,
    /// Take no new work and let runs finish, for so long at most.
    LetFinish(Duration),
    /// Hand over what still runs.
    HandOver,
}

/// What to do now, and since when the drain is known: from the first sight of it, kept on the object,
/// so that a restart of the agent does not begin the time anew.
pub(crate) fn assess(
    order: Option<&DrainSpec>,
    since: Option<WallTime>,
    now: WallTime,
) -> (DrainStep, Option<WallTime>) {
    let Some(order) = order else {
        return (DrainStep::Serve, None);
    };
    let since = since.unwrap_or(now);
    let seconds = order.deadline_seconds.unwrap_or(DRAIN_BY_SPEC_SECONDS);
    let most = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let left = most.saturating_sub(now.since(since));
    let step = if left.is_zero() { DrainStep::HandOver } else { DrainStep::LetFinish(left) };
    (step, Some(since))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> WallTime {
        WallTime::from_unix_seconds(1_767_225_600 + seconds)
    }

    fn after(deadline_seconds: Option<i64>) -> DrainSpec {
        DrainSpec { deadline_seconds }
    }

    #[test]
    fn without_a_drain_the_node_serves_and_forgets_the_last_one() {
        assert_eq!(assess(None, Some(at(0)), at(9)), (DrainStep::Serve, None));
    }

    #[test]
    fn runs_may_finish_until_the_deadline_from_the_first_sight_on() {
        let left = |seconds| DrainStep::LetFinish(Duration::from_secs(seconds));
        let order = after(Some(60));
        assert_eq!(assess(Some(&order), None, at(5)), (left(60), Some(at(5))));
        assert_eq!(assess(Some(&order), Some(at(5)), at(64)), (left(1), Some(at(5))));
        assert_eq!(assess(Some(&order), Some(at(5)), at(65)), (DrainStep::HandOver, Some(at(5))));
        // The clock was set back: no more than the whole time is left.
        assert_eq!(assess(Some(&order), Some(at(5)), at(0)), (left(60), Some(at(5))));
        assert_eq!(assess(Some(&after(None)), None, at(0)).0, left(3600));
        for at_once in [0, -1] {
            assert_eq!(assess(Some(&after(Some(at_once))), None, at(0)).0, DrainStep::HandOver);
        }
    }
}
