use serde_json::{Value, json};

use super::*;
use crate::model::outcome::Decision;
use crate::task::take_back;

fn task(spec: &Value, annotations: &Value, status: &Value) -> Object<AgenticTask> {
    let mut spec = spec.clone();
    spec["kind"] = json!("freeform");
    spec["payload"] = json!({});
    let meta = json!({"name": "t", "namespace": "d", "uid": "u", "resourceVersion": "1",
        "annotations": annotations});
    Object::from_json(&json!({"metadata": meta, "spec": spec, "status": status})).expect("a task")
}

fn at(seconds: i64) -> WallTime {
    WallTime::from_unix_seconds(1_795_000_000 + seconds)
}

/// A closed claim: attempt, how it ended, the turn that was reached.
fn claim(attempt: i64, ended: &str, turn: i64) -> Value {
    let mut record = json!({"attempt": attempt, "node": format!("n{attempt}"), "turn": turn,
        "startedAt": at(attempt * 100)});
    if !ended.is_empty() {
        record["ended"] = json!(ended);
        record["endedAt"] = json!(at(attempt * 100 + 50));
    }
    record
}

fn notes(strikes: i64, struck: &str) -> Value {
    json!({ANNOTATION_CLAIM_EXPIRIES: strikes.to_string(), ANNOTATION_STRUCK: struck})
}

fn counted(task: &Object<AgenticTask>) -> Option<(i64, i64, String)> {
    let counted = count_ended(task)?;
    Some((counted.strikes, counted.struck.attempt, counted.nodes.join(" ")))
}

#[test]
fn ends_that_are_strikes_count_once_each_above_what_was_counted() {
    let pending = |attempts: Value, notes: &Value| {
        task(&json!({}), notes, &json!({"phase": "Pending", "attempts": attempts}))
    };
    let none = json!({});
    for (end, strikes) in [
        ("HandedBack", 1),
        ("NodeLost", 1),
        ("SessionLost", 1),
        ("Missing", 1),
        ("Infrastructure", 1),
        ("Adopted", 1),
        ("", 1),
        ("Finished", 0),
        ("Drained", 0),
        ("Suspended", 0),
        ("Refused", 0),
        ("Cancelled", 0),
        ("TimedOut", 0),
        ("BudgetExhausted", 0),
        ("SomethingNew", 0),
    ] {
        let task = pending(json!([claim(1, end, 0)]), &none);
        assert_eq!(counted(&task).map_or(0, |(strikes, ..)| strikes), strikes, "{end}");
    }
    let three = json!([claim(1, "NodeLost", 0), claim(2, "Drained", 0), claim(3, "Adopted", 0)]);
    assert_eq!(counted(&pending(three.clone(), &none)), Some((2, 3, "n1 n3".into())));
    assert_eq!(counted(&pending(three.clone(), &notes(1, "1/n1"))), Some((2, 3, "n3".into())));
    assert_eq!(counted(&pending(three.clone(), &notes(2, "3/n3"))), None);
    assert_eq!(counted(&pending(three.clone(), &notes(7, "3/other"))), None, "whatever the node");
    assert_eq!(counted(&pending(three, &notes(7, "garbled"))), Some((9, 3, "n1 n3".into())));
}

#[test]
fn the_claim_that_holds_is_no_strike() {
    let attempts = json!([claim(1, "Adopted", 0), claim(2, "", 0)]);
    let with = |phase: &str, attempt: i64| {
        let status = json!({"phase": phase, "attempt": attempt, "assignedNode": "n2",
            "attempts": attempts});
        task(&json!({}), &json!({}), &status)
    };
    assert_eq!(counted(&with("Running", 2)), Some((1, 1, "n1".into())));
    assert_eq!(counted(&with("Pending", 2)), Some((2, 2, "n1 n2".into())), "nobody closed it");
    assert_eq!(counted(&with("Scheduled", 2)), Some((2, 2, "n1 n2".into())));
}

#[test]
fn five_turns_of_progress_make_a_strike_the_first_again() {
    let pending = |attempts: Value, notes: &Value| {
        counted(&task(&json!({}), notes, &json!({"phase": "Pending", "attempts": attempts})))
            .map(|(strikes, ..)| strikes)
    };
    let two = |first, second| json!([claim(1, "NodeLost", first), claim(2, "NodeLost", second)]);
    assert_eq!(pending(two(0, 4), &notes(1, "1/n1")), Some(2));
    assert_eq!(pending(two(0, 5), &notes(1, "1/n1")), Some(1));
    assert_eq!(pending(two(9, 13), &notes(1, "1/n1")), Some(2), "turns count over all claims");
    assert_eq!(pending(two(9, 14), &notes(2, "1/n1")), Some(1));
    assert_eq!(pending(json!([claim(1, "NodeLost", 5)]), &notes(2, "0/x")), Some(1));
    assert_eq!(pending(json!([claim(7, "NodeLost", 50)]), &notes(2, "6/x")), Some(3), "unknown");
    let running = |turn| {
        let status = json!({"phase": "Running", "attempt": 2, "assignedNode": "n",
            "attempts": [claim(1, "Drained", 10), claim(2, "", 0)]});
        count_present(&task(&json!({}), &notes(2, "1/n1"), &status), turn).map(|c| c.strikes)
    };
    assert_eq!(running(None), Some(3));
    assert_eq!(running(Some(14)), Some(3));
    assert_eq!(running(Some(15)), Some(1));
}

#[test]
fn what_was_written_of_a_strike_is_read_back_as_counted() {
    let mut task = task(
        &json!({}),
        &json!({}),
        &json!({"phase": "Running", "attempt": 4, "assignedNode": "a.b"}),
    );
    assert!(!is_counted(&task));
    let counted = count_present(&task, None).expect("it holds a claim");
    let patch = take_back::strike(&counted).to_merge_patch(None);
    let written = &patch["metadata"]["annotations"];
    assert_eq!(*written, notes(1, "4/a.b"));
    task.meta.annotations = serde_json::from_value(written.clone()).expect("texts");
    assert!(is_counted(&task));
    assert_eq!(count_ended(&task), None);
    task.status.assigned_node = Some("other".into());
    assert!(!is_counted(&task), "another placement");
    task.status.assigned_node = None;
    assert_eq!(count_present(&task, None), None);
    assert!(!is_counted(&task));
}

#[test]
fn a_note_of_a_claim_that_never_was_hides_no_strike() {
    let status = json!({"phase": "Pending", "attempt": 2,
        "attempts": [claim(1, "NodeLost", 0), claim(2, "NodeLost", 0)]});
    let noted = |struck: &str| count_ended(&task(&json!({}), &notes(0, struck), &status));
    for broken in ["3/n", "9223372036854775807/n"] {
        assert_eq!(noted(broken).map(|counted| counted.strikes), Some(2), "{broken}");
    }
    assert_eq!(noted("1/n1").map(|counted| counted.strikes), Some(1));
    assert_eq!(noted("2/n2"), None);
}

#[test]
fn a_placement_that_looks_like_the_one_that_was_counted_is_told_apart_first() {
    let with = |struck: &str, attempt: i64| {
        let status = json!({"phase": "Pending", "attempt": attempt,
            "attempts": [claim(1, "NodeLost", 0)]});
        task(&json!({}), &notes(1, struck), &status)
    };
    let node = |name| NodeName::parse(name).expect("valid");
    assert!(!is_ambiguous(&with("1/n1", 1), &node("other")));
    assert!(!is_ambiguous(&with("1/n1", 2), &node("n1")), "a claim was granted since");
    let mut again = with("1/n1", 1);
    assert!(is_ambiguous(&again, &node("n1")));
    let patch = take_back::rearm(&again).to_merge_patch(None);
    let Value::Object(written) = patch["metadata"]["annotations"].clone() else { panic!() };
    for (name, text) in written {
        again.meta.annotations.insert(name, text.as_str().expect("a text").to_owned());
    }
    assert!(!is_ambiguous(&again, &node("n1")));
    assert_eq!((strikes(&again), count_ended(&again)), (1, None), "what was counted stays so");
    again.status.phase = Some(TaskPhase::Scheduled.into());
    again.status.assigned_node = Some("n1".into());
    assert!(!is_counted(&again));
    assert_eq!(count_present(&again, None).map(|counted| counted.strikes), Some(2));
}

#[test]
fn a_task_ends_at_its_limit_and_says_what_it_was() {
    let with = |strikes: i64, retry: Value, attempts: Value| {
        let outcome = json!({"decision": "Go", "verification": "Passed",
            "infrastructure": "GitUnavailable"});
        let status = json!({"phase": "Pending", "attempts": attempts, "outcome": outcome, "conditions": [
            {"type": "Running", "status": "False", "reason": "InfrastructureError",
             "message": "GitUnavailable: no route", "lastTransitionTime": at(0)}]});
        let task = task(&json!({"retry": retry}), &notes(strikes, "3/n3"), &status);
        let said = |end: &OperatorEnd| (end.outcome.decision, end.outcome.infrastructure);
        used_up(&task).map(|end| (end.reason, said(&end), end.message))
    };
    let broken = json!([claim(3, "Infrastructure", 0)]);
    let lost = json!([claim(3, "HandedBack", 0)]);
    assert_eq!(with(2, json!({}), broken.clone()), None);
    assert_eq!(
        with(3, json!({}), broken.clone()),
        Some((
            "InfrastructureError",
            (Decision::Go, Infrastructure::GitUnavailable),
            "3 of 3 tries were ended by the infrastructure, the last: GitUnavailable: no route"
                .into()
        ))
    );
    assert_eq!(
        with(3, json!({}), lost.clone()),
        Some((
            "ClaimExpiryLimitReached",
            (Decision::None, Infrastructure::Error),
            "3 of 3 claims were lost, the last: HandedBack on node n3".into()
        ))
    );
    assert_eq!(with(4, json!({"maxAttempts": 5}), lost.clone()), None);
    assert!(with(1, json!({"maxAttempts": 1}), lost.clone()).is_some());
    assert!(with(1, json!({"maxAttempts": -4}), lost).is_some(), "one try at least");
}

#[test]
fn a_run_that_was_taken_over_once_too_often_ends_and_a_counted_one_that_lives_does_not() {
    let running = |attempt: i64, notes: &Value, last: &str| {
        let attempts = json!([
            claim(1, "Adopted", 0),
            claim(2, "Adopted", 0),
            claim(3, last, 0),
            claim(4, "", 0)
        ]);
        let status = json!({"phase": "Running", "attempt": attempt, "assignedNode": "n",
            "attempts": attempts});
        used_up_in_flight(&task(&json!({}), notes, &status)).is_some()
    };
    assert!(running(4, &notes(3, "3/n3"), "Adopted"));
    assert!(!running(4, &notes(2, "3/n3"), "Adopted"));
    assert!(!running(4, &notes(3, "4/n"), "Adopted"), "its own strike: it came back");
    assert!(!running(4, &notes(3, "3/n3"), "Drained"));
}

#[test]
fn the_pause_doubles_from_the_second_strike_on_and_has_an_end() {
    let pause_of = |strikes: i64, retry: Value| {
        pause(&task(&json!({"retry": retry}), &notes(strikes, "1/n"), &json!({}))).as_secs()
    };
    let pauses: Vec<_> = (0..10).map(|strikes| pause_of(strikes, json!({}))).collect();
    assert_eq!(pauses, [0, 0, 10, 20, 40, 80, 160, 320, 600, 600]);
    assert_eq!(pause_of(3, json!({"backoffSeconds": 3})), 6);
    assert_eq!(pause_of(9, json!({"backoffSeconds": 0})), 0);
    assert_eq!(pause_of(i64::MAX, json!({"backoffSeconds": i64::MAX})), 600);
    assert_eq!(pause_of(-9, json!({})), 0);
}

#[test]
fn the_pause_counts_from_the_last_end_and_no_clock_makes_it_longer() {
    let left = |now: i64, waiting: Option<i64>| {
        let mut status = json!({"phase": "Pending", "attempts": [claim(1, "NodeLost", 0),
            claim(2, "NodeLost", 0)]});
        if let Some(since) = waiting {
            status["waiting"] = json!({"reason": "Backoff", "since": at(since)});
        }
        let task = task(&json!({}), &notes(2, "2/n2"), &status);
        backoff(&task, at(now)).map(|(left, message)| (left.as_secs(), message))
    };
    let words = || "2 of 3 strikes: 10 s between two tries".to_owned();
    assert_eq!(left(250, None), Some((10, words())));
    assert_eq!(left(259, None), Some((1, words())));
    assert_eq!(left(260, None), None);
    assert_eq!(left(-5_000, None), Some((10, words())), "the holder's clock was ahead");
    assert_eq!(left(-4_993, Some(-5_000)), Some((3, words())));
    assert_eq!(left(-4_990, Some(-5_000)), None);
}
