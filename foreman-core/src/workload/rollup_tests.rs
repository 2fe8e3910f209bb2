use serde_json::{Value, json};

use super::*;

fn step(name: &str, fields: Value) -> StepRecord {
    let mut fields = fields;
    fields["name"] = json!(name);
    serde_json::from_value(fields).expect("a record")
}

fn settled(name: &str, phase: &str, verdict: &str, verification: &str) -> StepRecord {
    step(
        name,
        json!({"phase": phase, "verdict": verdict, "verification": verification,
            "infrastructure": "Ok", "settled": true}),
    )
}

fn broken(name: &str, infrastructure: &str) -> StepRecord {
    step(
        name,
        json!({"phase": "Failed", "verdict": "INCOMPLETE", "verification": "NotVerified",
            "infrastructure": infrastructure, "settled": true}),
    )
}

/// A plan of unrelated steps, one a record.
fn plan_of(steps: &[StepRecord]) -> Plan {
    let pipeline: Vec<_> = steps
        .iter()
        .map(|step| {
            json!({"name": step.name, "kind": "freeform", "agentRef": {"name": "a"}, "payload": {}})
        })
        .collect();
    let spec: crate::model::workload::WorkloadSpec =
        serde_json::from_value(json!({"intent": "x", "pipeline": pipeline})).expect("a spec");
    let steps = crate::workload::expand::desired(&spec).unwrap_or_default();
    Plan { steps, ..Plan::default() }
}

/// phase, counts, `Completed`, `Finished`
fn line(steps: &[StepRecord]) -> String {
    let roll_up = roll_up(steps, &plan_of(steps));
    let counts = (roll_up.succeeded, roll_up.failed, roll_up.incomplete);
    let completed = roll_up.completed.map_or("-", |(_, reason)| reason);
    format!("{} {counts:?} {completed} {}", roll_up.phase, roll_up.finished.unwrap_or("-"))
}

#[test]
fn steps_roll_up() {
    let go = || settled("code", "Succeeded", "GO", "Passed");
    let pass = || settled("verify", "Succeeded", "GATE-PASS", "Passed");
    let no_go = || settled("review", "Succeeded", "NO-GO", "NotApplicable");
    let skipped = || settled("late", "Succeeded", "Skipped", "NotApplicable");
    let resolved = || {
        let mut step = settled("done", "Succeeded", "NO-GO", "NotApplicable");
        step.reason = Some(OutcomeReason::AlreadyResolved.into());
        step
    };
    let cases = [
        (vec![step("a", json!({}))], "Planned (0, 0, 0) - -"),
        (vec![step("a", json!({"phase": "Pending"}))], "Dispatched (0, 0, 0) - -"),
        (vec![go(), step("b", json!({}))], "Dispatched (1, 0, 0) - -"),
        (vec![go(), pass()], "Completed (2, 0, 0) AllChildrenSucceeded Succeeded"),
        (vec![resolved(), skipped()], "Completed (0, 0, 0) AllAlreadyResolved Succeeded"),
        (vec![resolved(), go()], "Completed (1, 0, 0) AllChildrenSucceeded Succeeded"),
        (vec![go(), no_go()], "Failed (1, 0, 1) ChildrenIncomplete NotOnTarget"),
        (
            vec![go(), settled("v", "Succeeded", "GATE-FAIL", "Failed")],
            "Failed (1, 0, 1) ChildrenIncomplete NotOnTarget",
        ),
        (vec![go(), broken("b", "NodeLost")], "Failed (1, 1, 0) ChildrenFailed Infrastructure"),
        (vec![broken("b", "Cancelled")], "Failed (0, 1, 0) ChildrenFailed Cancelled"),
        (vec![broken("b", "Newer")], "Failed (0, 1, 0) ChildrenFailed Infrastructure"),
        (vec![no_go(), broken("b", "Ok")], "Failed (0, 1, 1) ChildrenFailed NotOnTarget"),
        // Settled, but in words that we do not know: never a success.
        (
            vec![settled("a", "Succeeded", "GO?", "Passed")],
            "Failed (0, 0, 1) ChildrenIncomplete NotOnTarget",
        ),
        (
            vec![settled("a", "Finished", "GO", "Passed")],
            "Failed (0, 1, 0) ChildrenFailed NotOnTarget",
        ),
        (vec![], "Completed (0, 0, 0) AllAlreadyResolved Succeeded"),
    ];
    for (steps, wanted) in cases {
        assert_eq!(line(&steps), wanted, "{steps:?}");
    }
}

#[test]
fn work_that_no_gate_passed_is_named() {
    let unverified = |name: &str| settled(name, "Succeeded", "GO", "NotVerified");
    let spec: crate::model::workload::WorkloadSpec = serde_json::from_value(json!({
        "intent": "x", "pipeline": [
            {"name": "a", "kind": "issue-fix", "agentRef": {}, "payload": {}},
            {"name": "b", "kind": "issue-fix", "agentRef": {}, "payload": {}},
            {"name": "lint", "kind": "freeform", "agentRef": {}, "payload": {}, "dependsOn": ["a"]},
            {"name": "verify", "kind": "verify", "agentRef": {}, "payload": {},
                "dependsOn": ["lint"]}]}))
    .expect("a spec");
    let steps = crate::workload::expand::desired(&spec).expect("a plan");
    let plan = Plan { steps, ..Plan::default() };
    let gate = settled("verify", "Succeeded", "GATE-PASS", "Passed");
    let named = |steps: &[StepRecord]| roll_up(steps, &plan).unverified;
    let none = Vec::<String>::new();
    assert_eq!(named(&[unverified("a"), unverified("b")]), ["a", "b"]);
    assert_eq!(named(&[unverified("a"), gate.clone()]), none, "the gate is after a");
    assert_eq!(named(&[unverified("b"), gate.clone()]), ["b"], "that gate never saw b");
    let mut doubtful = gate;
    doubtful.verification = Some(Open::Other("PassedTwice".into()));
    assert_eq!(named(&[unverified("a"), doubtful]), ["a", "verify"]);
    let newer = settled("a", "Succeeded", "GO", "PassedTwice");
    assert_eq!(named(&[newer]), ["a"], "a word that we do not know is no verification");
    assert_eq!(named(&[settled("a", "Succeeded", "GO", "Passed")]), none);
    assert_eq!(named(&[settled("a", "Succeeded", "GO", "NotApplicable")]), none);
}

#[test]
fn a_settled_record_never_changes_and_a_running_child_says_little() {
    let child = |status: Value| -> Object<AgenticTask> {
        Object::from_json(&json!({
            "metadata": {"name": "w-a", "namespace": "d", "uid": "u", "resourceVersion": "1"},
            "spec": {"kind": "verify", "payload": {}}, "status": status}))
        .expect("valid")
    };
    let record = step("a", json!({"task": "w-a", "kept": 1}));
    let running = fold(&record, Some(&child(json!({"phase": "Running"}))));
    assert_eq!(
        running,
        step("a", json!({"task": "w-a", "kept": 1, "uid": "u", "phase": "Running"}))
    );
    let ended = child(json!({"phase": "Succeeded", "verdict": "GATE-PASS"}));
    let folded = fold(&running, Some(&ended));
    assert_eq!(
        folded,
        step(
            "a",
            json!({"task": "w-a", "kept": 1, "uid": "u", "phase": "Succeeded",
                "verdict": "GATE-PASS", "verification": "Passed", "infrastructure": "Ok",
                "settled": true})
        )
    );
    let other = child(json!({"phase": "Failed"}));
    assert_eq!(fold(&folded, Some(&other)), folded);
    assert_eq!(fold(&folded, None), folded);
    assert_eq!(fold(&record, None), record);
}

fn child(uid: &str, status: &Value) -> Object<AgenticTask> {
    Object::from_json(&json!({
        "metadata": {"name": "a", "namespace": "default", "uid": uid, "resourceVersion": "1"},
        "spec": {"kind": "freeform", "payload": {}}, "status": status}))
    .expect("a task")
}

#[test]
fn a_record_keeps_what_its_tasks_spent() {
    let usage = |tokens: i64| json!({"promptTokens": tokens, "completionTokens": 1, "turns": 2});
    let paused = child("one", &json!({"phase": "Pending", "usage": usage(40)}));
    let known = fold(&step("a", json!({})), Some(&paused));
    let spent = |record: &StepRecord| record.spent.clone().unwrap_or_default().tokens;
    assert_eq!((spent(&known), known.spent_before.clone()), (Some(41), None));
    let runs = child("one", &json!({"phase": "Running", "usage": usage(70)}));
    assert_eq!(fold(&known, Some(&runs)).spent, known.spent, "not written for each turn");
    assert_eq!(fold(&known, None), known, "it is gone");
    let other = child("two", &json!({"phase": "Pending"}));
    let other = fold(&known, Some(&other));
    assert_eq!((spent(&other), other.spent_before.clone()), (None, known.spent.clone()));
    let ended = child("two", &json!({"phase": "Succeeded", "verdict": "GO", "usage": usage(9)}));
    let ended = fold(&other, Some(&ended));
    assert_eq!((spent(&ended), ended.spent_before), (Some(10), known.spent));
}
