use serde_json::{Value, json};

use super::*;

fn child(spec: &Value, marked: bool, phase: &str) -> Object<AgenticTask> {
    let mut all = json!({"kind": "freeform", "payload": {}});
    for (name, value) in spec.as_object().expect("an object") {
        all[name.as_str()] = value.clone();
    }
    let annotations = if marked { json!({ANNOTATION_SUSPENDED_BY: "w"}) } else { json!({}) };
    Object::from_json(&json!({
        "metadata": {"name": "w-a", "namespace": "d", "uid": "u", "resourceVersion": "1",
            "annotations": annotations},
        "spec": all, "status": {"phase": phase}}))
    .expect("valid")
}

fn asked(spec: &Value) -> WorkloadSpec {
    let mut all = json!({"intent": "x"});
    for (name, value) in spec.as_object().expect("an object") {
        all[name.as_str()] = value.clone();
    }
    serde_json::from_value(all).expect("a spec")
}

/// What is written next, as a merge patch.
fn line(workload: &Value, spec: &Value, marked: bool) -> Value {
    let change = next("w", &asked(workload), &child(spec, marked, "Pending"), true);
    change.map_or(Value::Null, |change| change.to_merge_patch(None))
}

#[test]
fn suspend_is_copied_with_a_mark_and_only_marked_children_are_resumed() {
    let mark = json!({"metadata": {"annotations": {ANNOTATION_SUSPENDED_BY: "w"}}});
    let unmark = json!({"metadata": {"annotations": {ANNOTATION_SUSPENDED_BY: null}}});
    let (on, off) = (json!({"spec": {"suspend": true}}), json!({"spec": {"suspend": false}}));
    let (paused, resumed, absent) =
        (json!({"suspend": true}), json!({"suspend": false}), json!({}));
    let cases = [
        (&paused, &absent, false, mark),
        (&paused, &absent, true, on.clone()),
        (&paused, &resumed, true, on),
        (&paused, &paused, true, Value::Null),
        (&paused, &paused, false, Value::Null),
        (&resumed, &paused, true, off.clone()),
        (&absent, &paused, true, off),
        (&absent, &resumed, true, unmark.clone()),
        (&absent, &absent, true, unmark),
        // A person suspended that one.
        (&absent, &paused, false, Value::Null),
        (&resumed, &paused, false, Value::Null),
        (&absent, &absent, false, Value::Null),
    ];
    for (workload, spec, marked, wanted) in cases {
        assert_eq!(line(workload, spec, marked), wanted, "{workload} over {spec}, {marked}");
    }
}

#[test]
fn cancel_goes_first_and_what_has_ended_is_left_alone() {
    let both = json!({"cancel": true, "suspend": true});
    assert_eq!(line(&both, &json!({}), false), json!({"spec": {"cancel": true}}));
    let pending = child(&json!({}), false, "Pending");
    let change = next("w", &asked(&json!({})), &pending, false).expect("its step is gone");
    assert_eq!(change.to_merge_patch(None), json!({"spec": {"cancel": true}}));
    let ended = child(&json!({}), true, "Succeeded");
    assert_eq!(next("w", &asked(&both), &ended, false), None);
    // Cancelled already: whatever else is due.
    let cancelled = json!({"cancel": true});
    assert_eq!(line(&cancelled, &cancelled, false), Value::Null);
}
