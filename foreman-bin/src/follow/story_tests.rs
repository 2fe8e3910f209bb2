use serde_json::{Value, json};

use super::*;

fn task(status: &Value) -> Object<AgenticTask> {
    let object = json!({
        "metadata": {
            "name": "w-code", "namespace": "default", "uid": "u1", "resourceVersion": "1",
            "labels": {"foreman.llmkube.dev/workload": "w"},
        },
        "spec": {"kind": "issue-fix", "payload": {}},
        "status": status,
    });
    Object::from_json(&object).expect("a task")
}

fn condition(kind: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": kind, "status": "True", "reason": reason, "message": message,
        "lastTransitionTime": "2026-11-24T10:00:00Z",
    })
}

fn words(facts: &[Fact]) -> Vec<String> {
    facts
        .iter()
        .map(|fact| match &fact.what {
            What::Waiting { reason, message } => format!("waiting {reason}: {message}"),
            What::Placed { why } => format!("placed on {:?}: {}", fact.node, why.join(" + ")),
            What::Started => format!("started {:?}", fact.attempt),
            What::Released { ended, turn, .. } => format!("released {ended} {turn:?}"),
            What::Ended(ended) => format!("ended {} {}", ended.verdict, ended.message),
            What::Begun(_)
            | What::Planned { .. }
            | What::Run(_)
            | What::Moved { .. }
            | What::Finished { .. }
            | What::Notice { .. } => format!("{:?}", fact.what),
        })
        .collect()
}

#[test]
fn a_task_is_told_from_waiting_to_its_end_and_nothing_twice() {
    let mut story = Story::default();
    let steps = [
        (json!({}), vec![]),
        (
            json!({"phase": "Pending", "waiting": {"reason": "NodesBusy", "message": "1 busy"}}),
            vec!["waiting NodesBusy: 1 busy".to_owned()],
        ),
        (
            json!({"phase": "Scheduled", "assignedNode": "n", "conditions": [condition("Scheduled", "FleetNodeAssigned", "placed on n: idle")]}),
            vec!["placed on Some(\"n\"): idle".to_owned()],
        ),
        (
            json!({"phase": "Running", "assignedNode": "n", "attempt": 1}),
            vec!["started Some(1)".to_owned()],
        ),
        (
            json!({"phase": "Pending", "attempt": 1, "attempts": [{"attempt": 1, "ended": "Drained"}], "checkpoint": {"turn": 4}}),
            vec!["released Drained Some(4)".to_owned()],
        ),
        // The watch skipped Scheduled.
        (
            json!({"phase": "Running", "assignedNode": "n", "attempt": 2}),
            vec!["placed on Some(\"n\"): ".to_owned(), "started Some(2)".to_owned()],
        ),
        (
            json!({"phase": "Succeeded", "assignedNode": "n", "attempt": 2, "verdict": "GO", "conditions": [condition("Finished", "Succeeded", "done")]}),
            vec!["ended GO done".to_owned()],
        ),
    ];
    for (status, expected) in steps {
        assert_eq!(words(&story.task(&task(&status))), expected, "{status}");
        assert_eq!(words(&story.task(&task(&status))), Vec::<String>::new(), "{status}");
    }
}

#[test]
fn a_workload_is_planned_and_finished_once() {
    let mut story = Story::default();
    let workload = |status: Value| {
        let object = json!({
            "metadata": {"name": "w", "namespace": "default", "uid": "w1", "resourceVersion": "1"},
            "spec": {"intent": "x"}, "status": status,
        });
        Object::<Workload>::from_json(&object).expect("a workload")
    };
    assert!(story.workload(&workload(json!({}))).is_empty());
    let steps = json!([{"name": "code", "task": "w-code"}]);
    let planned = workload(json!({"phase": "Planned", "steps": steps}));
    assert_eq!(story.workload(&planned).len(), 1);
    assert_eq!(story.workload(&planned).len(), 0);
    let done = workload(json!({
        "phase": "Completed", "steps": steps, "conditions": [condition("Finished", "Succeeded", "1 succeeded")],
    }));
    let facts = story.workload(&done);
    let expected = What::Finished { reason: "Succeeded".into(), message: "1 succeeded".into() };
    assert_eq!(facts, [Fact::of_workload(Some("w"), expected)]);
    assert!(story.workload(&done).is_empty());
}

#[test]
fn an_event_of_a_run_gets_its_workload_and_node() {
    let mut story = Story::default();
    let running = task(&json!({"phase": "Running", "assignedNode": "n", "attempt": 1}));
    story.task(&running);
    let fact = story.run(&running.key(), 1, RunEvent::TurnStarted { turn: 1 });
    assert_eq!(fact.workload.as_deref(), Some("w"));
    assert_eq!(fact.node.as_deref(), Some("n"));
}

#[test]
fn runs_of_other_processes_are_told_by_their_nodes() {
    let mut story = Story::default();
    let running = task(&json!({"phase": "Running", "assignedNode": "n", "attempt": 1}));
    story.task(&running);
    let node = |turn: i64| {
        let runs = json!([
            {"task": "default/w-code", "uid": "u1", "attempt": 1, "stage": "Model", "turn": turn, "tokens": 40},
            {"task": "default/unknown", "turn": 9},
        ]);
        let object = json!({
            "metadata": {"name": "n", "uid": "n1", "resourceVersion": "1"},
            "spec": {"nodeName": "n"}, "status": {"runs": runs},
        });
        Object::<FleetNode>::from_json(&object).expect("a node")
    };
    let facts = story.node(&node(3));
    assert_eq!(facts.len(), 1);
    assert_eq!(facts[0].what, What::Moved { stage: "Model".into(), turn: 3, tokens: 40 });
    assert_eq!(facts[0].workload.as_deref(), Some("w"));
    assert!(story.node(&node(3)).is_empty(), "nothing moved");
    story.run(&running.key(), 1, RunEvent::TurnStarted { turn: 4 });
    assert!(story.node(&node(4)).is_empty(), "it tells of itself");
}

#[test]
fn a_placement_has_a_reason_each() {
    let told = |message: &str| reasons(message, Some("n"));
    assert_eq!(
        told("placed on n: model loaded, 0/1 slots used"),
        ["model loaded", "0/1 slots used"]
    );
    assert_eq!(told("placed on n: idle"), ["idle"]);
    assert_eq!(told(""), Vec::<String>::new());
}

#[test]
fn a_reason_from_before_the_spec_was_changed_is_not_told() {
    let waits = |observed: i64| {
        let waiting = json!({"reason": "BudgetExhausted", "message": "1 of 1 turns"});
        let status =
            json!({"phase": "Pending", "observedGeneration": observed, "waiting": waiting});
        let mut task = task(&status);
        task.meta.generation = 2;
        Story::default().task(&task)
    };
    assert!(waits(1).is_empty(), "the spec was raised since");
    assert_eq!(waits(2).len(), 1);
}
