//! Every duration and limit of the protocol, in one place.

use std::time::Duration;

/// A node's heartbeat interval.
pub const HEARTBEAT: Duration = Duration::from_secs(30);
/// The longest and shortest interval that may be configured.
pub(crate) const HEARTBEAT_MIN: Duration = Duration::from_secs(1);
/// How far a heartbeat may fall before or after its interval, in percent.
pub(crate) const HEARTBEAT_JITTER_PERCENT: u32 = 10;
/// Silence after which a node is dead.
pub(crate) const NODE_DEAD: Duration = Duration::from_secs(90);
/// How long after the begin of a good heartbeat an effect may be done.
pub(crate) const PERMIT_WINDOW: Duration = Duration::from_mins(1);
/// How often a running effect is checked against its permit.
pub const PERMIT_CHECK: Duration = Duration::from_secs(1);
/// Growth of `boot - awake` that means the machine slept.
pub(crate) const SLEPT: Duration = Duration::from_secs(5);
/// The longest time for which a control loop that knows nodes does not look whether it slept.
pub(crate) const SLEEP_LOOK: Duration = Duration::from_secs(10);
/// How long an agent watches its `FleetNode` before it takes the name over.
pub(crate) const TWIN_CHECK: Duration = Duration::from_secs(35);
/// How often an agent looks at it meanwhile.
pub(crate) const TWIN_POLL: Duration = Duration::from_secs(1);
/// Own deadline of the goodbye heartbeat.
pub(crate) const GOODBYE: Duration = Duration::from_millis(1500);
/// Pauses before a failed heartbeat is tried again; then the interval goes on.
pub(crate) const HEARTBEAT_RETRY: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];
/// How long a node that comes up again may stay `Unknown` before it is judged like any other.
pub(crate) const RECOVERY: Duration = Duration::from_mins(2);
/// By how much a node's clock may differ from ours before we say so.
pub(crate) const CLOCK_SKEW: Duration = Duration::from_secs(30);
/// Silence after which the object of a node that drained is deleted.
pub(crate) const DRAIN_REAP: Duration = Duration::from_mins(10);
/// How long a pod's node is not ready before its object is deleted.
pub(crate) const NOT_READY_REAP: Duration = Duration::from_hours(24);
/// While so many nodes are silent, with claims or without, we may be the ones who hear nothing: claims
/// are taken back slowly.
pub(crate) const SILENT_NODES_MANY: usize = 4;
/// Then the claims of one node are taken back in so long.
pub(crate) const SLOW_TAKE_BACK: Duration = Duration::from_secs(10);
/// How long a session that differs from its node's must be seen before its claim is taken back: the
/// new one may be adopting it.
pub(crate) const SESSION_GONE: Duration = Duration::from_secs(10);
/// How long a placement on a healthy node may stay unclaimed.
pub(crate) const UNCLAIMED: Duration = Duration::from_mins(1);
/// Then that node is not tried again for this task for so long.
pub(crate) const UNCLAIMED_AVOID: Duration = Duration::from_mins(5);
/// How long a node that struck a task is avoided for it, if another fits.
pub(crate) const STRUCK_AVOID: Duration = Duration::from_mins(10);
/// Heartbeats after the claim that must leave a run out before it counts as missing.
pub(crate) const MISSING_BEATS: u32 = 2;
/// How long a claim must be known before its run counts as missing: by then the node has beaten again,
/// so that what it shows is no older than the claim, however its clock was set.
pub(crate) const MISSING_KNOWN: Duration = Duration::from_secs(35);
/// A run that did not move for so long is stuck.
pub(crate) const STUCK: Duration = Duration::from_mins(30);
/// How long after its time is up the holder may take to end a task.
pub(crate) const TIMEOUT_GRACE: Duration = Duration::from_mins(2);
/// How long the holder of a cancelled task may take to end it.
pub(crate) const CANCEL_GRACE: Duration = Duration::from_mins(1);
/// Turns of progress in a lost claim that make its strike the first again.
pub(crate) const PROGRESS_TURNS: i64 = 5;
/// The pause before a second try where `spec.retry.backoffSeconds` is absent, in seconds.
pub(crate) const BACKOFF_SECONDS_DEFAULT: i64 = 10;
/// The longest pause between two tries.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_mins(10);
/// How long an absent Agent is waited for (manifests may come in any order).
pub(crate) const AGENT_MISSING_MAX: Duration = Duration::from_secs(5);
/// How long an absent dependency is waited for.
pub(crate) const DEPENDENCY_MISSING_MAX: Duration = Duration::from_hours(1);
/// After a refusal: that node is not tried again for this task for so long.
pub(crate) const REFUSED_AVOID: Duration = Duration::from_mins(1);
/// Things that needs ask of nodes (a role, a label, a model …) that are kept as bits; when there are
/// more, all are learnt again as they are asked for.
pub(crate) const ATOMS_MAX: usize = 4096;
/// A control loop's first and longest pause after a store error.
pub(crate) const STORE_RETRY_MIN: Duration = Duration::from_millis(200);
/// See [`STORE_RETRY_MIN`].
pub(crate) const STORE_RETRY_MAX: Duration = Duration::from_secs(30);
/// How long a run may take to hand over when its node drains.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(20);
/// How long runs may finish when `spec.drain` of their node names no deadline, in seconds.
pub(crate) const DRAIN_BY_SPEC_SECONDS: i64 = 3600;
/// What a node that drains may take beyond that for its children and its last writes; then it leaves
/// and its claims stay for the next life.
pub(crate) const DRAIN_GRACE: Duration = Duration::from_secs(6);
/// How soon a claim that seems lost is checked again when the store could not be asked.
pub(crate) const CLAIM_CHECK_RETRY: Duration = Duration::from_secs(2);
/// The least time between two looks at a run's progress.
pub(crate) const PROGRESS_SHOW_MIN: Duration = Duration::from_millis(200);
/// The least time between two looks at a task's time limit.
pub(crate) const TIMEOUT_CHECK_MIN: Duration = Duration::from_millis(100);
/// Lost races after which the end of a run is written with pauses between the tries.
pub(crate) const CONFLICTS_AT_ONCE_MAX: usize = 8;
/// The longest message that is written of a task, in characters.
pub(crate) const MESSAGE_CHARS_MAX: usize = 2048;
/// How long a Workload's step facts are gathered before they are written.
pub(crate) const STEPS_FOLD: Duration = Duration::from_secs(2);
/// Characters of a step's summary that its Workload keeps, with everything else in
/// [`STEP_NOTE_CHARS_MAX`] and [`STEP_NOTES_MAX`]: a step's record stays below 8192
/// characters.
pub(crate) const STEP_SUMMARY_CHARS_MAX: usize = 1000;
/// Characters of one finding or advisory in a step's record.
pub(crate) const STEP_NOTE_CHARS_MAX: usize = 250;
/// Findings in a step's record, and advisories.
pub(crate) const STEP_NOTES_MAX: usize = 8;
/// How soon a Workload whose task the store refused is tried again, then twice that each time up to
/// [`STORE_RETRY_MAX`].
pub(crate) const RENDER_RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest pause between two looks at an ended Workload that is to be deleted some day.
pub(crate) const TTL_LOOK_MAX: Duration = Duration::from_hours(1);
/// Fix rounds of an issue where `spec.maxReviewIterations` is absent.
pub(crate) const REVIEW_ITERATIONS_DEFAULT: i32 = 1;
/// How often the counts in a waiting message are refreshed.
pub(crate) const WAITING_REFRESH: Duration = Duration::from_secs(30);
/// Writes that the low-priority lane makes in a [`LANE_WINDOW`] while nothing urgent is on its way.
pub(crate) const LANE_WRITES: usize = 50;
/// The same while something urgent is.
pub(crate) const LANE_WRITES_BUSY: usize = 10;
/// The time in which the lane's writes are counted.
pub(crate) const LANE_WINDOW: Duration = Duration::from_secs(1);
/// How long the lane stays slower after the store asked for less.
pub(crate) const LANE_RECOVERS: Duration = Duration::from_secs(30);
/// Each so-manieth write of the lane is the oldest, whatever its rank.
pub(crate) const LANE_OLDEST_EVERY: u32 = 8;
/// How long everybody else leaves the lease record alone after they saw it change.
pub(crate) const LEASE: Duration = Duration::from_secs(15);
/// How often the leader renews it.
pub(crate) const LEASE_RENEW: Duration = Duration::from_secs(3);
/// How soon the leader tries again when it could not renew.
pub(crate) const LEASE_RETRY: Duration = Duration::from_millis(500);
/// How often a candidate looks at it, and so how long a lease that was given back stays free.
pub(crate) const LEASE_LOOK: Duration = Duration::from_secs(2);
/// How long an answer about the lease is waited for.
pub(crate) const LEASE_CALL_MAX: Duration = Duration::from_secs(2);
/// The leader stops acting so long after the start of its last good renewal, on its boot clock.
pub(crate) const LEADER_ACTS: Duration = Duration::from_secs(10);
/// How long a write of the leader is waited for; what comes later is not known to have been done.
pub(crate) const LEADER_WRITE: Duration = Duration::from_secs(4);
/// How long a write that had no answer may still be done: what it would take stays taken so long,
/// unless somebody else writes the object.
pub(crate) const LATE_WRITE: Duration = Duration::from_secs(15);
/// How often the counts of tasks that wait for room are taken again while the fleet changes.
pub(crate) const COUNTS_REFRESH: Duration = Duration::from_secs(1);
/// How long a run waits for the machine that holds its journal where `spec.resumeWaitSeconds` is
/// absent.
pub(crate) const RESUME_WAIT: Duration = Duration::from_mins(10);
/// Strikes, with no progress between them, from which on the machine that holds a run's journal is not
/// tried again if another fits.
pub(crate) const JOURNAL_STRIKES: i64 = 2;
/// Store events that are taken in one pass.
pub(crate) const EVENTS_AT_ONCE: usize = 1024;
/// Passes after which a reconciliation that never settles gives up.
pub(crate) const RECONCILE_PASSES_MAX: usize = 64;
/// The first and the longest pause before a write that the store refused is tried again.
pub(crate) const REFUSED_RETRY_MIN: Duration = Duration::from_secs(1);
/// See [`REFUSED_RETRY_MIN`].
pub(crate) const REFUSED_RETRY_MAX: Duration = Duration::from_mins(5);
/// How long the answers to low-priority writes are gathered before the rules look at them.
pub(crate) const LANE_SETTLES: Duration = Duration::from_secs(1);
/// A rule is not run again sooner because of the time alone.
pub(crate) const PLAN_AGAIN_MIN: Duration = Duration::from_millis(1);
/// The part of the room for concurrent writes that the lane may take: one in so many.
pub(crate) const LANE_AT_ONCE_SHARE: usize = 4;
/// The most writes in a second that may be configured for the lane.
pub(crate) const LANE_WRITES_MAX: usize = 1000;
/// The most concurrent writes that may be configured.
pub(crate) const WRITES_AT_ONCE_MAX: usize = 1024;
/// Decided writes that go out at the same time, unless it is configured.
pub(crate) const WRITES_AT_ONCE: usize = 64;
/// Hex characters of the hash in a task name that had to be made unique.
pub(crate) const WORKLOAD_HASH_CHARS: usize = 10;
/// Tries that may end by the infrastructure where `spec.retry.maxAttempts` is absent.
pub(crate) const RETRY_ATTEMPTS_DEFAULT: i32 = 3;
/// Records kept in `status.attempts`.
pub(crate) const ATTEMPTS_KEPT: usize = 10;
/// The largest `status.result`, in bytes of JSON.
pub(crate) const RESULT_BYTES_MAX: usize = 65_536;
/// The least free disk for a claim, in GiB.
pub const CLAIM_DISK_GB_MIN: i32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inequalities_of_the_protocol_hold() {
        assert!(PERMIT_WINDOW < NODE_DEAD);
        assert!(HEARTBEAT * 5 / 2 < NODE_DEAD);
        assert!(HEARTBEAT * 11 / 10 < TWIN_CHECK);
        assert!(HEARTBEAT * 11 / 10 < MISSING_KNOWN);
        assert!(HEARTBEAT_MIN <= HEARTBEAT);
        assert!(STORE_RETRY_MIN < STORE_RETRY_MAX);
        // A sleep is noticed before a silence can be judged by it, and soon.
        assert!(SLEPT < SLEEP_LOOK && SLEEP_LOOK < HEARTBEAT);
        // A write that the last leader began has ended when the next one may begin.
        assert!(LEADER_ACTS + LEADER_WRITE < LEASE);
        assert!(LEADER_WRITE < LATE_WRITE);
        // One renewal may be lost without an answer and is tried again in time.
        assert!(LEASE_RENEW + 3 * LEASE_CALL_MAX + LEASE_RETRY < LEADER_ACTS);
        assert!(LEASE_LOOK < LEASE);
        assert!(UNCLAIMED < UNCLAIMED_AVOID && DRAIN_DEADLINE + DRAIN_GRACE < CANCEL_GRACE);
        assert!(DRAIN_DEADLINE + DRAIN_GRACE < TIMEOUT_GRACE, "the holder ends it first");
        assert!(SESSION_GONE < HEARTBEAT && SLOW_TAKE_BACK < NODE_DEAD);
        assert!(NODE_DEAD < RECOVERY && RECOVERY < DRAIN_REAP && DRAIN_REAP < NOT_READY_REAP);
        assert!(CLOCK_SKEW < NODE_DEAD, "a clock that is off is said before its node looks dead");
        assert!(RENDER_RETRY_MIN < STORE_RETRY_MAX);
        // Findings of one text each, advisories of two, the word and the branch.
        let texts = STEP_SUMMARY_CHARS_MAX + STEP_NOTE_CHARS_MAX * (STEP_NOTES_MAX * 3 + 2);
        assert!(texts <= 8192);
        assert!(COUNTS_REFRESH < WAITING_REFRESH);
        // A machine that only restarts is back before its runs start afresh elsewhere.
        assert!(NODE_DEAD < RESUME_WAIT);
        // A machine that keeps a run's journal may fail it once; it does not take the last try, too.
        assert!(1 < JOURNAL_STRIKES && JOURNAL_STRIKES < i64::from(RETRY_ATTEMPTS_DEFAULT));
        // Refusals and placements that nobody claims use up the patience for such a machine.
        assert!(REFUSED_AVOID < RESUME_WAIT && UNCLAIMED_AVOID < RESUME_WAIT);
    }
}
