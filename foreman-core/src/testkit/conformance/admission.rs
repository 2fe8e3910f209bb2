//! What an API server does to a write: default, prune, validate.

use serde_json::{Value, json};

use super::Subject;
use super::support::{
    agent, assert_invalid, created, fail, node, patched, present, spec, status, task, workload,
};
use crate::model::apiserver::OBJECT_BYTES_MAX;
use crate::model::{AgenticTask, Key, NewObject, TaskKind};
use crate::ports::{Change, Expect, StoreError};

/// Defaults of the schema are in the stored object.
pub async fn defaults_are_stored(subject: &dyn Subject) {
    let stores = subject.stores();
    let made = created(&*stores.agents, agent(subject, "a")).await;
    assert_eq!((made.spec.max_turns, made.spec.bash_timeout_seconds), (Some(50), Some(30)));
    let made = created(&*stores.tasks, task(subject, "a")).await;
    let strategy = made.spec.payload.branch_strategy.map(|strategy| strategy.to_string());
    assert_eq!(strategy.as_deref(), Some("reset"));
}

/// A null is dropped before defaults come, so that clearing a default sets it.
pub async fn a_cleared_default_comes_back(subject: &dyn Subject) {
    let agents = subject.stores().agents;
    let mut new = agent(subject, "a");
    new.spec.max_turns = Some(7);
    let key = created(&*agents, new).await.key();
    let after = patched(&*agents, &key, spec().clear("maxTurns")).await;
    assert_eq!(after.spec.max_turns, Some(50));
}

/// The spec holds what the schema knows.
pub async fn unknown_spec_fields_are_pruned(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let made = created(&*tasks, task(subject, "a")).await;
    let change = spec().set("frobnicate", true).set("payload", json!({"promt": "typo"}));
    let after = patched(&*tasks, &made.key(), change).await;
    assert_eq!(after.spec.payload.prompt, None, "payload was set and has no prompt");
    let change = spec().set("frobnicate", true);
    assert_eq!(
        patched(&*tasks, &made.key(), change).await,
        after,
        "only unknown fields: no change"
    );
}

/// A bad spec is refused by field and rule: type, enum, bounds, lengths, pattern, required.
pub async fn bad_specs_are_refused_by_field_and_rule(subject: &dyn Subject) {
    let stores = subject.stores();
    let key = created(&*stores.tasks, task(subject, "a")).await.key();
    let bad: [(Change<AgenticTask>, &str); 7] = [
        (spec().set("timeoutSeconds", -1), "spec.timeoutSeconds"),
        (spec().set("timeoutSeconds", "soon"), "spec.timeoutSeconds"),
        (spec().set("timeoutSeconds", 1_i64 << 40), "spec.timeoutSeconds"),
        (spec().set("kind", "fix"), "spec.kind"),
        (spec().set("payload", json!({"issue": 0})), "spec.payload.issue"),
        (spec().set("dependsOn", json!(["a", 1])), "spec.dependsOn[1]"),
        (spec().clear("payload"), "spec.payload"),
    ];
    for (change, field) in bad {
        assert_invalid(stores.tasks.patch(&key, change, Expect::Any).await, field);
    }
    let mut new = task(subject, "b");
    new.spec.kind = crate::model::Open::Other("fix".to_owned());
    assert_invalid(stores.tasks.create(new).await, "spec.kind");
    let mut new = workload(subject, "b");
    new.spec.intent = String::new();
    assert_invalid(stores.workloads.create(new).await, "spec.intent");
    let mut new = agent(subject, "b");
    new.spec.max_turns = Some(501);
    assert_invalid(stores.agents.create(new).await, "spec.maxTurns");
    let step = json!([{"name": "A", "kind": "freeform", "agentRef": {"name": "x"}, "payload": {}}]);
    let key = created(&*stores.workloads, workload(subject, "c")).await.key();
    let change = spec().set("pipeline", step);
    assert_invalid(
        stores.workloads.patch(&key, change, Expect::Any).await,
        "spec.pipeline[0].name",
    );
    assert_eq!(stores.tasks.get(&task(subject, "b").key).await, Ok(None));
}

/// Known fields of status are validated too.
pub async fn bad_status_is_refused_by_field_and_rule(subject: &dyn Subject) {
    let stores = subject.stores();
    let key = created(&*stores.tasks, task(subject, "a")).await.key();
    let bad: [(Change<AgenticTask>, &str); 4] = [
        (status().set("attempt", -1), "status.attempt"),
        (status().set("phase", "Dancing"), "status.phase"),
        (status().set("claimedAt", "yesterday"), "status.claimedAt"),
        (status().set("session", 5), "status.session"),
    ];
    for (change, field) in bad {
        assert_invalid(stores.tasks.patch(&key, change, Expect::Any).await, field);
    }
    let key = created(&*stores.nodes, node(subject, "a")).await.key();
    let update = json!({"targetVersion": "1", "url": "https://example.com/a", "sha256": "xyz"});
    let change = status().set("updateRequest", update);
    assert_invalid(
        stores.nodes.patch(&key, change, Expect::Any).await,
        "status.updateRequest.sha256",
    );
}

/// Names are DNS-1123 subdomains.
pub async fn names_are_dns_subdomains(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    for good in ["a", "0", "a-b.c-d", &"x".repeat(253)] {
        created(&*tasks, task(subject, good)).await;
    }
    for bad in ["A", "a_b", "-a", "a-", "a..b", ".a", "a/b", "ä", "a b", &"x".repeat(254)] {
        assert_invalid(tasks.create(task(subject, bad)).await, "metadata.name");
    }
}

/// Labels are what Kubernetes allows.
pub async fn labels_are_checked(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let good = task(subject, "a").label("example.com/a_B.c", "v-1_x.Y").label("empty", "");
    created(&*tasks, good).await;
    let long = "x".repeat(64);
    for (name, value) in
        [("a", "b c"), ("a", "-b"), ("a", long.as_str()), ("a b", "c"), ("/a", "b"), ("-a", "b")]
    {
        match tasks.create(task(subject, "b").label(name, value)).await {
            Err(StoreError::Invalid { field, .. }) => {
                assert!(field.starts_with("metadata.labels"), "{name}={value}: {field}");
            }
            other => fail(&format!("{name}={value}: {other:?}")),
        }
    }
}

/// A list that is a map by a key has each key once.
pub async fn a_type_stands_once_in_a_condition_list(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let made = created(&*tasks, task(subject, "a")).await;
    let condition = |status: &str| {
        json!({"type": "Ready", "status": status, "reason": "R", "message": "",
               "lastTransitionTime": "2026-11-24T10:00:00Z"})
    };
    let twice = status().set("conditions", [condition("True"), condition("False")]);
    let refused = tasks.patch(&made.key(), twice, Expect::Any).await;
    assert!(matches!(refused, Err(StoreError::Invalid { .. })), "{refused:?}");
    assert_eq!(present(&*tasks, &made.key()).await, made);
}

fn with_prompt(subject: &dyn Subject, name: &str, bytes: usize) -> NewObject<AgenticTask> {
    let mut new = task(subject, name);
    new.spec.payload.prompt = Some("x".repeat(bytes));
    new
}

/// One mebibyte of text is stored and read back.
pub async fn an_object_may_be_large(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let made = created(&*tasks, with_prompt(subject, "a", 1 << 20)).await;
    let read = present(&*tasks, &made.key()).await;
    assert_eq!(read.spec.payload.prompt.as_deref().map(str::len), Some(1 << 20));
}

/// What is over the limit is refused and named as such, on create and on patch.
pub async fn too_large_is_refused(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let refused = tasks.create(with_prompt(subject, "a", OBJECT_BYTES_MAX)).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
    let key = Key::namespaced(subject.namespace(), "a");
    assert_eq!(tasks.get(&key).await, Ok(None));
    let half = OBJECT_BYTES_MAX / 2 + 1;
    let made = created(&*tasks, with_prompt(subject, "a", half)).await;
    assert_eq!(made.spec.kind, TaskKind::Freeform.into());
    let change = status().set("result", json!({"extra": Value::String("x".repeat(half))}));
    let refused = tasks.patch(&made.key(), change, Expect::Any).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
    assert_eq!(present(&*tasks, &made.key()).await.revision(), made.revision());
}
