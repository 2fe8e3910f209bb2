//! Lists and their queries.

use futures::stream::StreamExt;
use serde_json::json;

use super::Subject;
use super::support::{
    assert_invalid, created, meta, names, node, patched, present, raw_task, status, task, task_in,
};
use crate::model::{Key, TaskPhase};
use crate::ports::{Expect, Query, StoreError, StoreEvent};

fn here(subject: &dyn Subject) -> Query {
    Query::in_namespace(subject.namespace())
}

fn in_phase(subject: &dyn Subject, phase: TaskPhase) -> Query {
    Query { phase: Some(phase.to_string()), ..here(subject) }
}

/// A list holds every object as `get` shows it, sorted by key.
pub async fn a_list_is_complete_and_by_key(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let empty = tasks.list(&here(subject)).await.expect("list");
    assert_eq!((empty.objects, empty.unreadable), (Vec::new(), Vec::new()));
    for name in ["b", "a.b", "c", "a", "a-b"] {
        created(&*tasks, task(subject, name)).await;
    }
    let listing = tasks.list(&here(subject)).await.expect("list");
    let found: Vec<_> = listing.objects.iter().map(|object| object.meta.name.as_str()).collect();
    assert_eq!(found, ["a", "a-b", "a.b", "b", "c"]);
    assert_eq!(listing.unreadable, []);
    for object in &listing.objects {
        assert_eq!(present(&*tasks, &object.key()).await, *object);
    }
    assert!(!listing.revision.as_str().is_empty());
}

/// A namespace's list holds that namespace.
pub async fn lists_by_namespace(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    created(&*tasks, task(subject, "a")).await;
    created(&*tasks, task_in(subject.other_namespace(), "b")).await;
    assert_eq!(names(&*tasks, here(subject)).await, ["a"]);
    assert_eq!(names(&*tasks, Query::in_namespace(subject.other_namespace())).await, ["b"]);
    assert_eq!(names(&*tasks, Query::in_namespace("empty")).await, Vec::<String>::new());
    let all = names(&*tasks, Query::all()).await;
    assert!(all.contains(&"a".to_owned()) && all.contains(&"b".to_owned()), "{all:?}");
}

/// All labels of a query must match, exactly.
pub async fn lists_by_labels(subject: &dyn Subject) {
    let stores = subject.stores();
    let tasks = &stores.tasks;
    let owner = "foreman.llmkube.dev/workload";
    created(&**tasks, task(subject, "a").label(owner, "w1").label("team", "core")).await;
    created(&**tasks, task(subject, "b").label(owner, "w1")).await;
    created(&**tasks, task(subject, "c").label(owner, "w12")).await;
    created(&**tasks, task(subject, "d")).await;
    let query = |value: &str| here(subject).label(owner, value);
    assert_eq!(names(&**tasks, query("w1")).await, ["a", "b"]);
    assert_eq!(names(&**tasks, query("w1").label("team", "core")).await, ["a"]);
    assert_eq!(names(&**tasks, query("w")).await, Vec::<String>::new());
    let made = created(&*stores.nodes, node(subject, "a").label("zone", subject.prefix())).await;
    let query = Query::all().label("zone", subject.prefix());
    assert_eq!(names(&*stores.nodes, query).await, [made.meta.name]);
}

/// `.status.assignedNode` and `.status.phase` select, alone and together.
pub async fn lists_by_node_and_phase(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let placed = [
        ("a", Some("n1"), Some(TaskPhase::Running)),
        ("b", Some("n1"), Some(TaskPhase::Scheduled)),
        ("c", Some("n2"), Some(TaskPhase::Running)),
        ("d", None, Some(TaskPhase::Pending)),
        ("e", None, None),
    ];
    for (name, node, phase) in placed {
        let key = created(&*tasks, task(subject, name)).await.key();
        let node = crate::ports::Field::from_option(node);
        let phase = crate::ports::Field::from_option(phase);
        let change = status().field("assignedNode", &node).field("phase", &phase);
        patched(&*tasks, &key, change).await;
    }
    assert_eq!(names(&*tasks, here(subject).assigned_to("n1")).await, ["a", "b"]);
    assert_eq!(names(&*tasks, in_phase(subject, TaskPhase::Running)).await, ["a", "c"]);
    let both = in_phase(subject, TaskPhase::Running).assigned_to("n1");
    assert_eq!(names(&*tasks, both).await, ["a"]);
    assert_eq!(names(&*tasks, here(subject).assigned_to("n3")).await, Vec::<String>::new());
}

/// What moves between queries is in the list of the one it is in now.
pub async fn lists_follow_changes(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let key = created(&*tasks, task(subject, "a").label("lane", "slow")).await.key();
    patched(&*tasks, &key, status().set("assignedNode", "n1").set("phase", "Running")).await;
    patched(&*tasks, &key, status().set("assignedNode", "n2")).await;
    assert_eq!(names(&*tasks, here(subject).assigned_to("n1")).await, Vec::<String>::new());
    assert_eq!(names(&*tasks, here(subject).assigned_to("n2")).await, ["a"]);
    assert_eq!(names(&*tasks, in_phase(subject, TaskPhase::Running)).await, ["a"]);
    patched(&*tasks, &key, status().clear("assignedNode").set("phase", "Pending")).await;
    assert_eq!(names(&*tasks, here(subject).assigned_to("n2")).await, Vec::<String>::new());
    assert_eq!(names(&*tasks, in_phase(subject, TaskPhase::Pending)).await, ["a"]);
    patched(&*tasks, &key, meta().labels([("lane", Some("fast".to_owned()))])).await;
    assert_eq!(names(&*tasks, here(subject).label("lane", "slow")).await, Vec::<String>::new());
    assert_eq!(names(&*tasks, here(subject).label("lane", "fast")).await, ["a"]);
}

/// A text in a query is compared, whatever it looks like.
pub async fn texts_in_queries_are_only_compared(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let key = created(&*tasks, task(subject, "a").label("team", "core")).await.key();
    let odd = "n'; DROP TABLE objects; --\"%_*\\";
    patched(&*tasks, &key, status().set("assignedNode", odd)).await;
    assert_eq!(names(&*tasks, here(subject).assigned_to(odd)).await, ["a"]);
    for hostile in ["' OR '1'='1", "%", "*", "\" OR \"\"=\"", "n'"] {
        let found = names(&*tasks, here(subject).assigned_to(hostile)).await;
        assert_eq!(found, Vec::<String>::new(), "{hostile}");
    }
    assert_eq!(names(&*tasks, here(subject)).await, ["a"]);
}

/// One object that does not fit its kind is named in the list, and the others are there.
pub async fn an_unreadable_object_fails_no_list(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let key = Key::namespaced(subject.namespace(), "b");
    let mut raw = raw_task(&key, &json!({"phase": "Running", "attempt": "many"}));
    if !subject.put_raw("AgenticTask", &key, raw.clone()).await {
        return;
    }
    created(&*tasks, task(subject, "a")).await;
    created(&*tasks, task(subject, "c")).await;
    let listing = tasks.list(&here(subject)).await.expect("list");
    let found: Vec<_> = listing.objects.iter().map(|object| object.meta.name.as_str()).collect();
    assert_eq!(found, ["a", "c"]);
    let unreadable: Vec<_> = listing.unreadable.iter().map(|(key, _)| key).collect();
    assert_eq!(unreadable, [&key]);
    let read = tasks.get(&key).await;
    assert!(matches!(read, Err(StoreError::Unreadable { .. })), "{read:?}");
    // One that does not even say its own name is known by its key.
    raw.as_object_mut().expect("an object").remove("metadata");
    if !subject.put_raw("AgenticTask", &key, raw).await {
        return;
    }
    let listing = tasks.list(&Query::all()).await.expect("list");
    assert!(listing.unreadable.iter().any(|(unreadable, _)| *unreadable == key), "{listing:?}");
    assert_eq!(names(&*tasks, here(subject)).await, ["a", "c"]);
}

/// An object that says another name or namespace of itself than the one it is stored under is
/// unreadable: what is decided about it would be written elsewhere.
pub async fn an_object_of_another_name_is_unreadable(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let key = Key::namespaced(subject.namespace(), "b");
    let others = [
        Key::namespaced(subject.namespace(), ""),
        Key::namespaced(subject.namespace(), "elsewhere"),
        Key::namespaced(subject.other_namespace(), "b"),
        Key::cluster("b"),
    ];
    for other in others {
        let raw = raw_task(&other, &json!({"phase": "Pending"}));
        if !subject.put_raw("AgenticTask", &key, raw).await {
            return;
        }
        let read = tasks.get(&key).await;
        assert!(matches!(read, Err(StoreError::Unreadable { .. })), "{other}: {read:?}");
        let listing = tasks.list(&Query::all()).await.expect("list");
        assert_eq!(listing.objects, [], "{other}");
        let unreadable: Vec<_> = listing.unreadable.iter().map(|(key, _)| key).collect();
        assert_eq!(unreadable, [&key], "{other}");
        let written = tasks.patch(&key, status().set("attempt", 1), Expect::Any).await;
        assert!(matches!(written, Err(StoreError::Unreadable { .. })), "{other}: {written:?}");
        let mut events = tasks.watch(Query::all());
        loop {
            match events.next().await.expect("goes on").expect("no error") {
                StoreEvent::Unreadable { key: told, .. } => break assert_eq!(told, key),
                StoreEvent::SyncStart => {}
                event @ (StoreEvent::Upsert(_) | StoreEvent::SyncEnd | StoreEvent::Gone { .. }) => {
                    assert_eq!(format!("{event:?}"), "Unreadable", "{other}");
                }
            }
        }
    }
}

/// An unreadable object is no dead end: a patch of what is wrong mends it, and it can be deleted.
pub async fn an_unreadable_object_can_be_mended_and_deleted(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let key = Key::namespaced(subject.namespace(), "b");
    let raw = raw_task(&key, &json!({"attempt": "many", "phase": "Running"}));
    if !subject.put_raw("AgenticTask", &key, raw.clone()).await {
        return;
    }
    let uid = crate::model::apiserver::uid_of(&raw);
    // What a write does not mend it need not answer for, but a new fault is still refused.
    let worse = tasks.patch(&key, status().set("phase", "Dancing"), Expect::Any).await;
    assert_invalid(worse, "status.phase");
    let mended = patched(&*tasks, &key, status().set("attempt", 4)).await;
    assert_eq!((mended.status.attempt, mended.uid()), (Some(4), &uid));
    assert!(subject.put_raw("AgenticTask", &key, raw).await, "it could a moment ago");
    tasks.delete(&key, &uid, Expect::Any).await.expect("delete");
    assert_eq!(tasks.get(&key).await, Ok(None));
}
