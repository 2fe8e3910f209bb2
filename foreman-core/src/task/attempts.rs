//! `attempts[]`: what is recorded of each claim of a task.
//!
//! Only the last ten records are kept. What older ones told that a rule needs (the seconds they ran)
//! is added to the first one that stays, so that no sum becomes smaller when a record goes.

use std::time::Duration;

use crate::model::agentic_task::{AgenticTaskStatus, AttemptEnd, AttemptRecord, Usage};
use crate::model::time::WallTime;
use crate::timing::ATTEMPTS_KEPT;

/// What is known of the end of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed {
    /// How it ended.
    pub(crate) ended: AttemptEnd,
    /// When.
    pub(crate) at: WallTime,
    /// The turn that the task had reached then, counted over all claims, where it is known.
    pub(crate) turn: Option<i64>,
}

/// Closes the last claim, if it is still open. It ends no earlier than it began, and the turn that a
/// task has reached never falls.
pub(crate) fn close(attempts: &mut [AttemptRecord], closed: Closed) {
    let reached = attempts.iter().filter_map(|attempt| attempt.turn).max();
    if let Some(last) = attempts.last_mut().filter(|last| last.ended_at.is_none()) {
        last.ended_at = Some(last.started_at.map_or(closed.at, |began| began.max(closed.at)));
        last.ended = Some(closed.ended.into());
        last.turn = closed.turn.max(reached);
    }
}

/// The turn that a task has reached when a claim that spent `usage` ends.
pub(crate) fn turn_reached(status: &AgenticTaskStatus, usage: Option<&Usage>) -> Option<i64> {
    let before = status.usage.as_ref().and_then(|usage| usage.turns);
    let now = usage.and_then(|usage| usage.turns);
    match (before, now) {
        (None, None) => None,
        (before, now) => Some(before.unwrap_or(0).saturating_add(now.unwrap_or(0))),
    }
}

/// Notes that the task is charged so many tokens for its last claim, which nobody knows.
pub(crate) fn estimate(status: &AgenticTaskStatus, attempts: &mut [AttemptRecord], tokens: i64) {
    let last = attempts.last_mut();
    if let Some(last) = last.filter(|last| last.attempt == status.attempt) {
        last.estimated_tokens = Some(tokens);
    }
}

/// Takes the estimates for claims on that node back, and answers with how many tokens they were, and
/// whether others are left.
pub(crate) fn settle(attempts: &mut [AttemptRecord], node: &str) -> (i64, bool) {
    let here = |record: &&mut AttemptRecord| record.node.as_deref() == Some(node);
    let estimates = attempts.iter_mut().filter(here).filter_map(|it| it.estimated_tokens.take());
    let taken = estimates.fold(0_i64, i64::saturating_add);
    (taken, attempts.iter().any(|record| record.estimated_tokens.is_some()))
}

/// Adds the record of a new claim, and lets go of the oldest beyond [`ATTEMPTS_KEPT`].
pub(crate) fn push(attempts: &mut Vec<AttemptRecord>, new: AttemptRecord) {
    attempts.push(new);
    let extra = attempts.len().saturating_sub(ATTEMPTS_KEPT);
    let gone =
        attempts.drain(..extra).fold(Duration::ZERO, |sum, old| sum.saturating_add(ran(&old)));
    if gone.is_zero() {
        return;
    }
    if let Some(first) = attempts.first_mut() {
        let before = first.earlier_seconds.unwrap_or(0);
        let gone = i64::try_from(gone.as_secs()).unwrap_or(i64::MAX);
        first.earlier_seconds = Some(before.saturating_add(gone));
    }
}

/// How long the claims of a task ran that have ended. Time between claims (suspended, waiting) does
/// not count.
pub(crate) fn ran_before(attempts: &[AttemptRecord]) -> Duration {
    attempts.iter().fold(Duration::ZERO, |sum, attempt| sum.saturating_add(ran(attempt)))
}

/// How long one claim ran, with what its record keeps of those before it. A claim that is still open
/// counts nothing itself.
fn ran(attempt: &AttemptRecord) -> Duration {
    let own = match (attempt.started_at, attempt.ended_at) {
        (Some(began), Some(ended)) => ended.since(began),
        (Some(_) | None, _) => Duration::ZERO,
    };
    let earlier = attempt.earlier_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    own.saturating_add(Duration::from_secs(earlier.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::sim::SIM_EPOCH_SECONDS;

    fn at(seconds: i64) -> WallTime {
        WallTime::from_unix_seconds(SIM_EPOCH_SECONDS + seconds)
    }

    fn begun(attempt: i64, second: i64) -> AttemptRecord {
        let started_at = Some(at(second));
        AttemptRecord { attempt: Some(attempt), started_at, ..AttemptRecord::default() }
    }

    #[test]
    fn records_that_go_leave_their_running_time_behind() {
        let mut attempts = Vec::new();
        for attempt in 0..40 {
            push(&mut attempts, begun(attempt, attempt * 100));
            let closed = Closed {
                ended: AttemptEnd::Drained,
                at: at(attempt * 100 + 7),
                turn: Some(attempt),
            };
            close(&mut attempts, closed);
            let sum = u64::try_from(7 * (attempt + 1)).expect("small");
            assert_eq!(ran_before(&attempts), Duration::from_secs(sum), "after {attempt}");
        }
        assert_eq!(attempts.len(), ATTEMPTS_KEPT);
        let kept: Vec<_> = attempts.iter().filter_map(|attempt| attempt.earlier_seconds).collect();
        assert_eq!(kept, [7 * 30], "on the first record only");
    }

    #[test]
    fn a_record_that_names_an_age_nobody_can_have_breaks_nothing() {
        let old = || AttemptRecord { earlier_seconds: Some(i64::MAX), ..begun(1, 0) };
        let mut attempts = vec![old(), old(), old()];
        assert_eq!(ran_before(&attempts), Duration::MAX);
        for attempt in 4..20 {
            push(&mut attempts, begun(attempt, 0));
        }
        assert_eq!(attempts.first().and_then(|first| first.earlier_seconds), Some(i64::MAX));
    }

    #[test]
    fn a_claim_ends_after_it_began_and_the_turn_never_falls() {
        let mut attempts = vec![begun(1, 50)];
        let closed = |second, turn| Closed { ended: AttemptEnd::Adopted, at: at(second), turn };
        close(&mut attempts, closed(20, Some(5)));
        push(&mut attempts, begun(2, 60));
        close(&mut attempts, closed(70, Some(3)));
        push(&mut attempts, begun(3, 80));
        close(&mut attempts, closed(90, None));
        close(&mut attempts, closed(99, Some(50)));
        let ends: Vec<_> = attempts.iter().map(|one| (one.ended_at, one.turn)).collect();
        let five = Some(5);
        assert_eq!(ends, [(Some(at(50)), five), (Some(at(70)), five), (Some(at(90)), five)]);
    }

    #[test]
    fn the_turn_is_what_was_charged_and_what_is_charged_now() {
        let turns = |turns| Usage { turns, ..Usage::default() };
        let status =
            |usage| AgenticTaskStatus { usage: Some(usage), ..AgenticTaskStatus::default() };
        let reached = |before, now| turn_reached(&status(turns(before)), Some(&turns(now)));
        assert_eq!(reached(None, None), None);
        assert_eq!(reached(Some(4), None), Some(4));
        assert_eq!(reached(Some(4), Some(3)), Some(7));
        assert_eq!(reached(Some(i64::MAX), Some(3)), Some(i64::MAX));
    }
}
