//! Patching: merge semantics, revisions, generations.

use std::collections::BTreeSet;

use serde_json::json;

use super::Subject;
use super::support::{agent, created, meta, node, patched, present, raw_task, spec, status, task};
use crate::model::fleet_node::{Accelerator, Capability, Cpu, NodePhase, RunSummary};
use crate::model::{AgenticTask, Key, Open, Revision, TaskPhase};
use crate::ports::{Change, Expect, StoreError};

/// Fields that a patch does not name stay, in its part and in the others.
pub async fn a_patch_changes_only_what_it_names(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let made = created(&*tasks, task(subject, "a").label("team", "core")).await;
    let change = status().set("assignedNode", "n1").set("phase", TaskPhase::Scheduled);
    patched(&*tasks, &made.key(), change).await;
    let after = patched(&*tasks, &made.key(), status().set("attempt", 3)).await;
    assert_eq!(after.status.assigned_node.as_deref(), Some("n1"));
    assert_eq!(after.status.phase, Some(TaskPhase::Scheduled.into()));
    assert_eq!(after.status.attempt, Some(3));
    assert_eq!((&after.spec, &after.meta.labels), (&made.spec, &made.meta.labels));
    assert_eq!(present(&*tasks, &made.key()).await, after);
}

/// A patch makes nothing.
pub async fn a_patch_of_an_absent_object_is_not_found(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let key = task(subject, "absent").key;
    let change = || status::<AgenticTask>().set("attempt", 1);
    assert_eq!(tasks.patch(&key, change(), Expect::Any).await, Err(StoreError::NotFound));
    let at = Expect::At(Revision::new("1"));
    assert_eq!(tasks.patch(&key, change(), at).await, Err(StoreError::NotFound));
    assert_eq!(tasks.get(&key).await, Ok(None));
}

/// `At` is a compare-and-swap; `Any` takes what is there.
pub async fn a_patch_at_an_old_revision_is_a_conflict(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let made = created(&*tasks, task(subject, "a")).await;
    let at = |object: &crate::model::Object<AgenticTask>| Expect::At(object.revision().clone());
    let second = tasks.patch(&made.key(), status().set("attempt", 1), at(&made)).await;
    let second = second.expect("at the current revision");
    let late = tasks.patch(&made.key(), status().set("attempt", 9), at(&made)).await;
    assert_eq!(late, Err(StoreError::Conflict));
    assert_eq!(present(&*tasks, &made.key()).await, second);
    // Also when the late patch would change nothing.
    let late = tasks.patch(&made.key(), status().set("attempt", 1), at(&made)).await;
    assert_eq!(late, Err(StoreError::Conflict));
    assert_eq!(
        patched(&*tasks, &made.key(), status().set("attempt", 2)).await.status.attempt,
        Some(2)
    );
}

/// A write without a difference is no write: no revision, no event, no churn.
pub async fn a_patch_that_changes_nothing_keeps_the_revision(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let made = created(&*tasks, task(subject, "a").label("team", "core")).await;
    let before = patched(&*tasks, &made.key(), status().set("phase", "Pending")).await;
    let same: [Change<AgenticTask>; 7] = [
        status(),
        status().set("phase", TaskPhase::Pending),
        status().clear("assignedNode"),
        spec().set("kind", "freeform"),
        spec().clear("priority"),
        meta().labels([("team", Some("core".to_owned())), ("absent", None)]),
        meta().annotations([("absent", None)]),
    ];
    for change in same {
        let after = patched(&*tasks, &made.key(), change.clone()).await;
        assert_eq!(after, before, "{change:?}");
        let at = Expect::At(before.revision().clone());
        assert_eq!(tasks.patch(&made.key(), change, at).await, Ok(before.clone()));
    }
}

/// Two states of an object never share a revision.
pub async fn every_change_has_a_revision_of_its_own(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let made = created(&*tasks, task(subject, "a")).await;
    let mut seen = BTreeSet::from([made.revision().clone()]);
    for attempt in [1, 2, 1, 2] {
        let after = patched(&*tasks, &made.key(), status().set("attempt", attempt)).await;
        assert!(seen.insert(after.revision().clone()), "{} came twice", after.revision());
    }
}

/// `generation` counts what people asked for, nothing else.
pub async fn the_generation_moves_with_the_spec_only(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let key = created(&*tasks, task(subject, "a")).await.key();
    let steps: [(Change<AgenticTask>, i64); 6] = [
        (status().set("attempt", 1), 1),
        (spec().set("priority", 5), 2),
        (spec().set("priority", 5), 2),
        (meta().labels([("a", Some("b".to_owned()))]), 2),
        (spec().clear("priority").set("suspend", true), 3),
        (status().set("observedGeneration", 3), 3),
    ];
    for (change, generation) in steps {
        let after = patched(&*tasks, &key, change.clone()).await;
        assert_eq!(after.meta.generation, generation, "{change:?}");
    }
}

/// A spec patch leaves status alone, a status patch leaves spec alone, whatever is in the other.
pub async fn spec_and_status_are_apart(subject: &dyn Subject) {
    let nodes = subject.stores().nodes;
    let made = created(&*nodes, node(subject, "a")).await;
    let ready = patched(&*nodes, &made.key(), status().set("phase", NodePhase::Ready)).await;
    assert_eq!(ready.spec, made.spec);
    let cordoned = patched(&*nodes, &made.key(), spec().set("unschedulable", true)).await;
    assert_eq!(cordoned.status, ready.status);
    let beaten = patched(&*nodes, &made.key(), status().set("session", "s1")).await;
    assert_eq!(beaten.spec, cordoned.spec);
}

/// `Set` of a struct clears its absent known fields (a dead GPU must not stay `cuda`) at every depth;
/// fields of a newer version survive.
pub async fn a_set_struct_replaces_and_keeps_what_it_does_not_know(subject: &dyn Subject) {
    let nodes = subject.stores().nodes;
    let key = created(&*nodes, node(subject, "a")).await.key();
    let before = json!({"accelerator": "cuda", "totalRAMGB": 64, "future": {"x": 1},
        "cpu": {"cores": 8, "arch": "amd64", "future": 2}, "installedModels": ["m"]});
    let full = patched(&*nodes, &key, status().set("capability", before)).await;
    let capability = full.status.capability.expect("capability");
    assert_eq!(capability.accelerator, Some(Accelerator::Cuda.into()));
    let next =
        Capability { cpu: Some(Cpu { cores: Some(4), ..Cpu::default() }), ..Capability::default() };
    let after = patched(&*nodes, &key, status().set("capability", &next)).await;
    let after = after.status.capability.expect("capability");
    assert_eq!(after.extra.get("future"), Some(&json!({"x": 1})));
    let cpu = after.cpu.clone().expect("cpu");
    assert_eq!((cpu.cores, cpu.arch, cpu.extra.get("future")), (Some(4), None, Some(&json!(2))));
    assert_eq!((after.accelerator, after.total_ram_gb), (None, None));
    assert_eq!(after.installed_models, Vec::<String>::new());
}

/// A list has no parts: the new one stands for the old one.
pub async fn a_list_is_replaced_whole(subject: &dyn Subject) {
    let nodes = subject.stores().nodes;
    let key = created(&*nodes, node(subject, "a")).await.key();
    let run = |task: &str| RunSummary { task: task.to_owned(), ..RunSummary::default() };
    let two = [run("default/a"), run("default/b")];
    let after = patched(&*nodes, &key, status().set("runs", &two)).await;
    assert_eq!(after.status.runs, two);
    let after = patched(&*nodes, &key, status().set("runs", [run("default/c")])).await;
    assert_eq!(after.status.runs, [run("default/c")]);
    let after = patched(&*nodes, &key, status().set("runs", Vec::<RunSummary>::new())).await;
    assert_eq!(after.status.runs, []);
}

/// Entries that vanish from a map vanish from the object, under a compare-and-swap.
pub async fn a_replaced_spec_loses_map_entries(subject: &dyn Subject) {
    let agents = subject.stores().agents;
    let mut new = agent(subject, "a");
    for (name, value) in [("gone", json!(1)), ("kept", json!({"deep": [1], "x": 1}))] {
        let value = serde_json::from_value(value).expect("free JSON");
        new.spec.chat_template_kwargs.insert(name.to_owned(), value);
    }
    let before = created(&*agents, new).await;
    let mut next = before.spec.clone();
    next.chat_template_kwargs.remove("gone");
    let kept = serde_json::from_value(json!({"deep": [2]})).expect("free JSON");
    next.chat_template_kwargs.insert("kept".to_owned(), kept);
    let change = Change::replace_spec(&before.spec, &next);
    let at = Expect::At(before.revision().clone());
    let after = agents.patch(&before.key(), change, at).await.expect("patch");
    assert_eq!(after.spec, next);
    assert_eq!(present(&*agents, &before.key()).await.spec, next);
}

/// What a newer version wrote into status is there after we wrote, but for nulls, which a merge
/// patch drops at every depth.
pub async fn unknown_status_fields_survive(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let key = created(&*tasks, task(subject, "a")).await.key();
    let future = json!({"deep": [1, null, {"x": [2, {}]}], "text": "x"});
    let written = json!({"deep": [1, null, {"x": [2, {"gone": null}], "null": null}], "text": "x"});
    let change = status()
        .set("fromTheFuture", written)
        .set("waiting", json!({"reason": "NoNodes", "hint": 7}));
    patched(&*tasks, &key, change).await;
    let after = patched(&*tasks, &key, status().set("phase", TaskPhase::Pending)).await;
    assert_eq!(after.status.extra.get("fromTheFuture"), Some(&future));
    let waiting = after.status.waiting.clone().expect("waiting");
    assert_eq!(waiting.extra.get("hint"), Some(&json!(7)));
    assert_eq!(present(&*tasks, &key).await, after);
}

/// An enum value of a newer version is kept by every write that is not about it.
pub async fn unknown_enum_values_survive(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let key = Key::namespaced(subject.namespace(), "a");
    if !subject.put_raw("AgenticTask", &key, raw_task(&key, &json!({"phase": "Levitating"}))).await
    {
        return;
    }
    let levitating = Some(Open::Other("Levitating".to_owned()));
    assert_eq!(present(&*tasks, &key).await.status.phase, levitating);
    let after = patched(&*tasks, &key, status().set("attempt", 2)).await;
    assert_eq!((after.status.attempt, &after.status.phase), (Some(2), &levitating));
    let after = patched(&*tasks, &key, spec().set("priority", 1)).await;
    assert_eq!(after.status.phase, levitating);
    // Writing such a value is still refused.
    let written = tasks.patch(&key, status().set("phase", "Flying"), Expect::Any).await;
    super::support::assert_invalid(written, "status.phase");
}

/// One label or annotation is set or removed, the others stay.
pub async fn labels_and_annotations_change_one_by_one(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let key =
        created(&*tasks, task(subject, "a").label("team", "core").label("tier", "1")).await.key();
    let text = |text: &str| Some(text.to_owned());
    let change = meta().labels([("tier", None), ("zone", text("z1"))]);
    patched(&*tasks, &key, change).await;
    let change = meta().annotations([("example.com/a", text("1")), ("example.com/b", text("2"))]);
    patched(&*tasks, &key, change).await;
    let after = patched(&*tasks, &key, meta().annotations([("example.com/a", None)])).await;
    let labels: Vec<_> = after.meta.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(labels, [("team", "core"), ("zone", "z1")]);
    let notes: Vec<_> = after.meta.annotations.into_iter().collect();
    assert_eq!(notes, [("example.com/b".to_owned(), "2".to_owned())]);
}

/// `Clear` removes; what was never there may be cleared.
pub async fn a_cleared_field_is_absent(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let key = created(&*tasks, task(subject, "a")).await.key();
    let change =
        status().set("session", "s").set("claimedAt", "2026-11-24T10:00:00Z").set("attempt", 1);
    patched(&*tasks, &key, change).await;
    let change = status().clear("session").clear("claimedAt").clear("startedAt");
    let after = patched(&*tasks, &key, change).await;
    assert_eq!((after.status.session, after.status.claimed_at), (None, None));
    assert_eq!(after.status.attempt, Some(1));
}

/// A patch that is refused for one field does nothing for the others.
pub async fn a_refused_patch_leaves_the_object(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let made = created(&*tasks, task(subject, "a")).await;
    let change = status().set("session", "s").set("attempt", -1);
    let refused = tasks.patch(&made.key(), change, Expect::Any).await;
    super::support::assert_invalid(refused, "status.attempt");
    assert_eq!(present(&*tasks, &made.key()).await, made);
}

/// A read that begins after a write ended shows it.
pub async fn what_was_written_is_read(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let key = created(&*tasks, task(subject, "a")).await.key();
    for attempt in 1..=50 {
        let written = patched(&*tasks, &key, status().set("attempt", attempt)).await;
        assert_eq!(present(&*tasks, &key).await, written);
    }
}
