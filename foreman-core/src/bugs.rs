//! Seeded bugs: safety rules that can be broken on purpose, one at a time, so that the simulator's
//! checks are seen to find something. Compiled in with the feature `seeded-bugs` only, which no
//! default and no program turns on; without it [`on`] is the constant `false`.

/// A safety rule that is broken where [`on`] says so.
#[cfg_attr(
    not(feature = "seeded-bugs"),
    expect(unreachable_pub, reason = "the testkit shows it with the feature")
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// The end of a run is written without a look at whether its claim still holds.
    NoFenceAtTheEnd,
    /// A node whose heartbeat is written old is dead at first sight, before it was listened to.
    NoGraceAtStart,
    /// The scheduler gives a node one task more than it has slots.
    SchedulerSlotOffByOne,
    /// An agent starts one run more than it has slots.
    AgentSlotOffByOne,
    /// A holder that gives a task back leaves its session and claim time on it.
    ReleaseKeepsClaim,
    /// A permit is given however old the last heartbeat is.
    PermitWindowIgnored,
    /// A placement whose answer was lost counts as not done, and its room as free.
    UncertainPlacementFailed,
    /// A claim whose answer was lost counts as granted.
    UncertainClaimGranted,
    /// The mark of the claim that was counted is not honoured: its strike is counted again.
    StrikeCountedTwice,
    /// A step whose task vanished before it ended is not made again.
    LostStepStaysLost,
    /// A dependency that is under way counts as on target.
    DependencyInFlight,
    /// A permit is given without a fresh read of the task.
    PermitWithoutRead,
    /// A placement raises the attempt.
    PlacementRaisesAttempt,
    /// The pause between two tries is not kept.
    BackoffForgotten,
    /// The time that a control loop slept counts as a silence of every node.
    SilenceWhileAsleep,
    /// A claim is taken back on what the watch showed, without a fresh read of its node.
    NoConfirmingRead,
    /// A workload completes although a step is not settled.
    CompletesUnsettled,
    /// An Agent's limit is compared without the placements whose write is under way.
    AgentLimitStale,
    /// A result that comes after the operator's end replaces it.
    LateResultWins,
    /// An agent that drains leaves its runs without giving them back.
    DrainDropsRuns,
    /// A claim is written whatever the task is by now, instead of as a compare-and-swap.
    ClaimUnconditional,
    /// Two claims within a second carry the same claim time.
    ClaimTimesAlike,
    /// A task is written Pending before there is a reason why it waits.
    PendingUnexplained,
    /// A control loop takes the claims of all silent nodes back at once, however many are silent.
    MassTakeBack,
    /// What placed tasks may still spend does not count against their Workload's budget.
    ReservationForgotten,
    /// What a dead holder may have spent is not charged to its task.
    DeadHolderUncharged,
    /// Memory that a placement needs is not reserved.
    MemoryNotReserved,
    /// A leader goes on after the time of its last renewal is over.
    LeaderActsTooLong,
    /// A task is placed without asking whether it may go to a model in the cloud.
    PolicyNotAsked,
}

/// Whether that rule is broken in the run that this thread simulates.
#[cfg(not(feature = "seeded-bugs"))]
pub(crate) const fn on(_: Bug) -> bool {
    false
}

#[cfg(feature = "seeded-bugs")]
pub(crate) use seeded::on;
#[cfg(feature = "seeded-bugs")]
pub use seeded::with;

#[cfg(feature = "seeded-bugs")]
mod seeded {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static BROKEN: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    pub(crate) fn on(bug: Bug) -> bool {
        BROKEN.get() == Some(bug)
    }

    /// What `run` returns while that rule is broken on this thread; none = all are kept.
    pub fn with<T>(bug: Option<Bug>, run: impl FnOnce() -> T) -> T {
        struct Before(Option<Bug>);
        impl Drop for Before {
            fn drop(&mut self) {
                BROKEN.set(self.0);
            }
        }
        let _before = Before(BROKEN.replace(bug));
        run()
    }
}

#[cfg(feature = "seeded-bugs")]
impl Bug {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::NoFenceAtTheEnd,
        Self::NoGraceAtStart,
        Self::SchedulerSlotOffByOne,
        Self::AgentSlotOffByOne,
        Self::ReleaseKeepsClaim,
        Self::PermitWindowIgnored,
        Self::UncertainPlacementFailed,
        Self::UncertainClaimGranted,
        Self::StrikeCountedTwice,
        Self::LostStepStaysLost,
        Self::DependencyInFlight,
        Self::PermitWithoutRead,
        Self::PlacementRaisesAttempt,
        Self::BackoffForgotten,
        Self::SilenceWhileAsleep,
        Self::NoConfirmingRead,
        Self::CompletesUnsettled,
        Self::AgentLimitStale,
        Self::LateResultWins,
        Self::DrainDropsRuns,
        Self::ClaimUnconditional,
        Self::ClaimTimesAlike,
        Self::PendingUnexplained,
        Self::MassTakeBack,
        Self::ReservationForgotten,
        Self::DeadHolderUncharged,
        Self::MemoryNotReserved,
        Self::LeaderActsTooLong,
        Self::PolicyNotAsked,
    ];

    /// The promises of product.md that it may break; 0 = a rule of the core refused to go on, 13 = work
    /// went to the cloud although that was forbidden.
    pub const fn breaks(self) -> &'static [u8] {
        match self {
            Self::NoFenceAtTheEnd => &[0, 1],
            Self::ReleaseKeepsClaim
            | Self::UncertainClaimGranted
            | Self::PlacementRaisesAttempt
            | Self::ClaimTimesAlike => &[1],
            Self::PermitWindowIgnored | Self::PermitWithoutRead => &[1, 2],
            Self::LostStepStaysLost | Self::StrikeCountedTwice | Self::BackoffForgotten => &[3],
            // A claim that nobody holds, or a task that ran again after its end: whichever comes first.
            Self::LateResultWins | Self::ClaimUnconditional => &[1, 3],
            Self::DependencyInFlight => &[4],
            Self::CompletesUnsettled => &[5],
            Self::PendingUnexplained => &[6],
            Self::SchedulerSlotOffByOne
            | Self::AgentSlotOffByOne
            | Self::UncertainPlacementFailed
            | Self::AgentLimitStale
            | Self::ReservationForgotten
            | Self::DeadHolderUncharged
            | Self::MemoryNotReserved
            | Self::LeaderActsTooLong => &[7],
            Self::DrainDropsRuns => &[8],
            Self::NoGraceAtStart
            | Self::SilenceWhileAsleep
            | Self::NoConfirmingRead
            | Self::MassTakeBack => &[9],
            Self::PolicyNotAsked => &[13],
        }
    }

    /// Its name on the command line, and what it breaks, for people.
    #[expect(clippy::too_many_lines, reason = "a table: a line or two a bug")]
    pub const fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::NoFenceAtTheEnd => {
                ("no-fence-at-the-end", "a run's end is written although its claim is lost")
            }
            Self::NoGraceAtStart => {
                ("no-grace-at-start", "a node is dead at first sight because its heartbeat is old")
            }
            Self::SchedulerSlotOffByOne => {
                ("scheduler-slot-off-by-one", "a node is given one task more than it has slots")
            }
            Self::AgentSlotOffByOne => {
                ("agent-slot-off-by-one", "an agent starts one run more than it has slots")
            }
            Self::ReleaseKeepsClaim => {
                ("release-keeps-claim", "a task that is given back keeps session and claim time")
            }
            Self::PermitWindowIgnored => {
                ("permit-window-ignored", "effects are allowed however old the last heartbeat is")
            }
            Self::UncertainPlacementFailed => (
                "uncertain-placement-failed",
                "a placement without an answer counts as not done, its room as free",
            ),
            Self::UncertainClaimGranted => {
                ("uncertain-claim-granted", "a claim without an answer counts as granted")
            }
            Self::StrikeCountedTwice => {
                ("strike-counted-twice", "a lost claim that was counted is counted again")
            }
            Self::LostStepStaysLost => {
                ("lost-step-stays-lost", "a step whose task vanished unsettled is not made again")
            }
            Self::DependencyInFlight => {
                ("dependency-in-flight", "a dependency that is under way counts as on target")
            }
            Self::PermitWithoutRead => {
                ("permit-without-read", "effects are allowed without a fresh read of the claim")
            }
            Self::PlacementRaisesAttempt => {
                ("placement-raises-attempt", "a placement raises the attempt")
            }
            Self::BackoffForgotten => {
                ("backoff-forgotten", "a task is tried again without the pause after its strikes")
            }
            Self::SilenceWhileAsleep => {
                ("silence-while-asleep", "what the control loop slept counts as the nodes' silence")
            }
            Self::NoConfirmingRead => {
                ("no-confirming-read", "a claim is taken back without a fresh read of its node")
            }
            Self::CompletesUnsettled => {
                ("completes-unsettled", "a workload completes with a step that is not settled")
            }
            Self::AgentLimitStale => {
                ("agent-limit-stale", "an Agent's limit is read without placements under way")
            }
            Self::LateResultWins => {
                ("late-result-wins", "a result after the operator's end replaces it")
            }
            Self::DrainDropsRuns => {
                ("drain-drops-runs", "an agent that drains leaves without giving its runs back")
            }
            Self::ClaimUnconditional => {
                ("claim-unconditional", "a claim is written without compare-and-swap")
            }
            Self::ClaimTimesAlike => {
                ("claim-times-alike", "claims within a second carry the same claim time")
            }
            Self::PendingUnexplained => {
                ("pending-unexplained", "a task is Pending before there is a reason")
            }
            Self::MassTakeBack => {
                ("mass-take-back", "the claims of many silent nodes are taken back at once")
            }
            Self::ReservationForgotten => (
                "reservation-forgotten",
                "allowances of tasks in flight do not count against the budget",
            ),
            Self::DeadHolderUncharged => {
                ("dead-holder-uncharged", "what a dead holder may have spent counts for nothing")
            }
            Self::MemoryNotReserved => {
                ("memory-not-reserved", "memory that a placed task needs counts as free")
            }
            Self::LeaderActsTooLong => {
                ("leader-acts-too-long", "a leader that cannot renew its lease goes on acting")
            }
            Self::PolicyNotAsked => {
                ("policy-not-asked", "a task is placed whatever its Agent's model and the policy")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(feature = "seeded-bugs"))]
    const _: () = assert!(!on(Bug::NoFenceAtTheEnd), "without the feature no rule can be broken");

    #[cfg(feature = "seeded-bugs")]
    #[test]
    fn one_rule_is_broken_and_until_the_run_ends() {
        assert!(Bug::ALL.iter().all(|bug| !on(*bug)));
        with(Some(Bug::NoConfirmingRead), || {
            let broken: Vec<_> = Bug::ALL.iter().filter(|bug| on(**bug)).collect();
            assert_eq!(broken, [&Bug::NoConfirmingRead]);
            with(None, || assert!(!on(Bug::NoConfirmingRead)));
            assert!(on(Bug::NoConfirmingRead));
        });
        assert!(!on(Bug::NoConfirmingRead));
    }

    #[cfg(feature = "seeded-bugs")]
    #[test]
    fn every_bug_is_listed_once_and_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Bug::ALL.iter().map(|b| b.told().0).collect();
        assert_eq!(names.len(), Bug::ALL.len());
        assert!(Bug::ALL.windows(2).all(|pair| pair[0] < pair[1]), "in their order");
    }
}
