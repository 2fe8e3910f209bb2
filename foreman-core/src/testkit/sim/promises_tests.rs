use std::time::Duration;

use super::super::remote::Commit;
use super::*;

fn second(seconds: u64) -> Instant {
    nanos(Duration::from_secs(seconds))
}

fn commit(uid: &str, attempt: i64) -> Commit {
    Commit { sha: 7, uid: Uid::new(uid), attempt }
}

/// What a push of attempt 1 of `mine` breaks that looked at the branch first in second 10 and arrives in
/// second 100.
fn broken(facts: &mut Facts, before: Option<&Commit>, sent: u64) -> Vec<u8> {
    let commit = commit("mine", 1);
    let push = Push { branch: "b", before, commit: &commit, began: second(10), sent: second(sent) };
    pushed(facts, second(100), &push);
    facts.violations.iter().map(|violation| violation.promise).collect()
}

/// Attempt 1 of `mine` was granted, and its claim ended in that second.
fn lost_in(seconds: Option<u64>) -> Facts {
    let mut facts = Facts::default();
    let task = facts.tasks.entry(Uid::new("mine")).or_default();
    task.attempt = 1;
    task.lost.extend(seconds.map(|seconds| (1, second(seconds))));
    facts
}

#[test]
fn a_push_may_arrive_after_its_claim_ended_if_it_had_left_before() {
    assert_eq!(broken(&mut lost_in(None), None, 99), Vec::<u8>::new());
    for (lost, sent) in [(95, 94), (80, 88)] {
        assert_eq!(
            broken(&mut lost_in(Some(lost)), None, sent),
            Vec::<u8>::new(),
            "lost {lost}, sent {sent}"
        );
    }
    assert_eq!(broken(&mut lost_in(Some(80)), None, 89), [1]);
}

#[test]
fn a_push_of_what_was_never_granted_or_after_a_later_attempt_is_told() {
    assert_eq!(broken(&mut Facts::default(), None, 99), [1]);
    let mut facts = lost_in(None);
    facts.tasks.entry(Uid::new("mine")).or_default().pushes.push(2);
    assert_eq!(broken(&mut facts, None, 99), [2]);
}

#[test]
fn the_work_of_another_task_may_be_replaced_only_if_it_was_there_at_the_start() {
    for (pushed_at, wanted) in [(9, vec![]), (11, vec![2])] {
        let mut facts = lost_in(None);
        let other = facts.tasks.entry(Uid::new("other")).or_default();
        other.pushed_at = second(pushed_at);
        other.deleted_at = Some(second(12));
        assert_eq!(broken(&mut facts, Some(&commit("other", 1)), 99), wanted, "{pushed_at}");
    }
}
