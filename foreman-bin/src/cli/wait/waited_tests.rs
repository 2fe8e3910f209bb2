use foreman_core::model::API_VERSION;
use serde_json::{Value, json};

use super::*;

fn found(kind: AnyKind, name: &str, status: &Value) -> Found {
    let json = json!({"apiVersion": API_VERSION, "kind": kind.names().kind,
        "metadata": {"name": name, "namespace": "default", "uid": name, "resourceVersion": "1",
            "generation": 2},
        "spec": {"kind": "freeform", "payload": {}, "intent": "x"}, "status": status});
    Found { kind, json }
}

fn task_end_of(status: &Value) -> Option<(Exit, Option<String>)> {
    let found = found(AnyKind::AgenticTask, "a", status);
    let mut waited = Waited::new(&found);
    waited.task(&found.typed().expect("a task"));
    waited.end().map(|end| (end.exit, end.finished))
}

#[test]
fn a_task_ends_with_the_code_of_what_it_came_to() {
    let finished = |reason: &str| {
        json!({"type": "Finished", "status": "True", "reason": reason,
        "message": "", "lastTransitionTime": "2026-11-24T10:00:00Z"})
    };
    let cases = [
        (json!({}), None),
        (json!({"phase": "Running"}), None),
        (json!({"phase": "Succeeded", "verdict": "GO"}), Some((Exit::OnTarget, "Succeeded"))),
        (
            json!({"phase": "Succeeded", "verdict": "NO-GO"}),
            Some((Exit::NotOnTarget, "NotOnTarget")),
        ),
        (json!({"phase": "Failed"}), Some((Exit::Infrastructure, "Infrastructure"))),
        (
            json!({"phase": "Succeeded", "verdict": "Skipped", "conditions": [finished("Succeeded")]}),
            Some((Exit::OnTarget, "Succeeded")),
        ),
        (
            json!({"phase": "Failed", "conditions": [finished("Cancelled")]}),
            Some((Exit::NotOnTarget, "Cancelled")),
        ),
    ];
    for (status, wanted) in cases {
        let wanted = wanted.map(|(exit, reason)| (exit, Some(reason.to_owned())));
        assert_eq!(task_end_of(&status), wanted, "{status}");
    }
}

#[test]
fn a_spent_budget_ends_the_wait_unless_it_was_raised_since() {
    let spent = |generation: i64| {
        json!({"phase": "Pending", "observedGeneration": generation,
        "waiting": {"reason": "BudgetExhausted", "message": "10 of 10 tokens are spent"}})
    };
    assert_eq!(task_end_of(&spent(2)), Some((Exit::NeedsPerson, None)));
    assert_eq!(task_end_of(&spent(1)), None);
    let suspended = json!({"phase": "Pending", "waiting": {"reason": "Suspended"}});
    assert_eq!(task_end_of(&suspended), None, "whoever paused it lets it go on");
}

#[test]
fn a_workload_ends_with_its_condition_or_its_phase() {
    let end = |status: &Value| {
        let found = found(AnyKind::Workload, "w", status);
        let mut waited = Waited::new(&found);
        waited.workload(&found.typed().expect("a workload"));
        waited.end().map(|end| (end.exit, end.words))
    };
    assert_eq!(end(&json!({"phase": "Dispatched"})), None);
    let good = (Exit::OnTarget, "Succeeded (not verified)".to_owned());
    assert_eq!(end(&json!({"phase": "Completed"})), Some(good));
    let bad = (Exit::NotOnTarget, "NotOnTarget".to_owned());
    assert_eq!(end(&json!({"phase": "Failed"})), Some(bad));
    let condition = json!([{"type": "Finished", "status": "True", "reason": "Infrastructure",
        "message": "", "lastTransitionTime": "2026-11-24T10:00:00Z"}]);
    let broken = (Exit::Infrastructure, "Infrastructure".to_owned());
    assert_eq!(end(&json!({"phase": "Failed", "conditions": condition})), Some(broken));
}

#[test]
fn what_a_full_reading_does_not_show_is_gone_and_another_of_its_name_is_not_it() {
    let found = found(AnyKind::AgenticTask, "a", &json!({}));
    let mut waited = Waited::new(&found);
    waited.reading_begins();
    let mut other: Object<AgenticTask> = found.typed().expect("a task");
    other.meta.uid = Uid::new("another");
    assert!(waited.task(&other).is_empty());
    assert_eq!(waited.end(), None);
    waited.reading_ends();
    assert_eq!(waited.end().map(|end| end.words), Some("was deleted".to_owned()));
    let mut unreadable = Waited::new(&found);
    unreadable.is_unreadable(&found.key());
    unreadable.reading_ends();
    assert_eq!(unreadable.end(), None, "it is there");
}

#[test]
fn the_worst_of_several_counts() {
    let all = [Exit::OnTarget, Exit::NeedsPerson, Exit::NotOnTarget, Exit::Infrastructure];
    for (at, one) in all.into_iter().enumerate() {
        for (there, other) in all.into_iter().enumerate() {
            assert_eq!(worse(one, other), all[at.max(there)]);
        }
    }
}
