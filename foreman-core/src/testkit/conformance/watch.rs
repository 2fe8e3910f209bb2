//! Watching.

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::json;

use super::Subject;
use super::support::{
    Watching, agent, created, meta, patched, raw_task, status, task, task_in, workload,
};
use crate::model::{AgenticTask, Key, Object};
use crate::ports::{Expect, Query, StoreEvent};

fn here(subject: &dyn Subject) -> Query {
    Query::in_namespace(subject.namespace())
}

fn upsert(object: &Object<AgenticTask>) -> StoreEvent<AgenticTask> {
    StoreEvent::Upsert(Box::new(object.clone()))
}

fn gone(object: &Object<AgenticTask>) -> StoreEvent<AgenticTask> {
    StoreEvent::Gone { key: object.key(), uid: object.uid().clone() }
}

/// `SyncStart`, what is there, `SyncEnd`; nothing there is a reading too.
pub async fn a_watch_begins_with_everything(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let mut watching = Watching::unread(&*tasks, here(subject));
    assert_eq!(watching.next().await, StoreEvent::SyncStart);
    assert_eq!(watching.next().await, StoreEvent::SyncEnd);
    let made =
        [created(&*tasks, task(subject, "a")).await, created(&*tasks, task(subject, "b")).await];
    let watching = Watching::open(&*tasks, here(subject)).await;
    assert_eq!(watching.objects.values().cloned().collect::<Vec<_>>(), made);
}

/// A change that is waited for arrives as it was made, and nothing else does.
pub async fn a_watch_tells_every_change(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let mut watching = Watching::open(&*tasks, here(subject)).await;
    let made = created(&*tasks, task(subject, "a")).await;
    assert_eq!(watching.next().await, upsert(&made));
    let change = meta().labels([("absent", None)]);
    let same = patched(&*tasks, &made.key(), change).await;
    assert_eq!(same.revision(), made.revision());
    for attempt in 1..=5 {
        let after = patched(&*tasks, &made.key(), status().set("attempt", attempt)).await;
        assert_eq!(watching.next().await, upsert(&after));
    }
    tasks.delete(&made.key(), made.uid(), Expect::Any).await.expect("delete");
    assert_eq!(watching.next().await, gone(&made));
    let other = created(&*tasks, task(subject, "b")).await;
    assert_eq!(watching.next().await, upsert(&other));
}

/// What no longer fits the query is gone, and comes back when it fits again.
pub async fn what_leaves_the_query_is_gone(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let made = created(&*tasks, task(subject, "a").label("lane", "fast")).await;
    let key = made.key();
    let placed =
        patched(&*tasks, &key, status().set("assignedNode", "n1").set("phase", "Running")).await;
    let running = Query { phase: Some("Running".to_owned()), ..here(subject) };
    let mut of_node = Watching::open(&*tasks, here(subject).assigned_to("n1")).await;
    let mut of_lane = Watching::open(&*tasks, here(subject).label("lane", "fast")).await;
    let mut of_phase = Watching::open(&*tasks, running).await;
    let known = [of_node.objects.len(), of_lane.objects.len(), of_phase.objects.len()];
    assert_eq!(known, [1, 1, 1]);
    let moved = patched(&*tasks, &key, status().set("assignedNode", "n2")).await;
    assert_eq!(of_node.next().await, gone(&placed));
    assert_eq!(of_lane.next().await, upsert(&moved));
    let change = meta().labels([("lane", Some("slow".to_owned()))]);
    patched(&*tasks, &key, change).await;
    assert_eq!(of_lane.next().await, gone(&placed));
    patched(&*tasks, &key, status().set("phase", "Pending")).await;
    of_phase.until(|watching| watching.objects.is_empty()).await;
    let back =
        patched(&*tasks, &key, status().set("assignedNode", "n1").set("phase", "Running")).await;
    assert_eq!(of_node.next().await, upsert(&back));
    assert_eq!(of_phase.next().await, upsert(&back));
}

/// An object that was deleted and made again between two looks is gone, and new.
pub async fn a_new_uid_is_gone_and_new(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let old = created(&*tasks, task(subject, "a")).await;
    let mut watching = Watching::open(&*tasks, here(subject)).await;
    tasks.delete(&old.key(), old.uid(), Expect::Any).await.expect("delete");
    let new = created(&*tasks, task(subject, "a")).await;
    assert_eq!(watching.next().await, gone(&old));
    assert_eq!(watching.next().await, upsert(&new));
}

/// Other kinds, other namespaces and other labels are not heard of.
pub async fn a_watch_is_about_its_query_only(subject: &dyn Subject) {
    let stores = subject.stores();
    let query = here(subject).label("team", "core");
    let mut watching = Watching::open(&*stores.tasks, query).await;
    created(&*stores.workloads, workload(subject, "a")).await;
    created(&*stores.agents, agent(subject, "a")).await;
    created(&*stores.tasks, task_in(subject.other_namespace(), "a").label("team", "core")).await;
    created(&*stores.tasks, task(subject, "b").label("team", "edge")).await;
    created(&*stores.tasks, task(subject, "c")).await;
    let heard = created(&*stores.tasks, task(subject, "d").label("team", "core")).await;
    assert_eq!(watching.next().await, upsert(&heard));
}

/// A cascade tells of each object that it took.
pub async fn a_cascade_is_told_object_by_object(subject: &dyn Subject) {
    if !subject.cascades() {
        return;
    }
    let stores = subject.stores();
    let owner = created(&*stores.workloads, workload(subject, "w")).await;
    for name in ["a", "b", "c"] {
        let mut child = task(subject, name);
        child.owner_references.push(owner.as_owner());
        created(&*stores.tasks, child).await;
    }
    let stays = created(&*stores.tasks, task(subject, "d")).await;
    let mut workloads = Watching::open(&*stores.workloads, here(subject)).await;
    let mut tasks = Watching::open(&*stores.tasks, here(subject)).await;
    assert_eq!(tasks.objects.len(), 4);
    stores.workloads.delete(&owner.key(), owner.uid(), Expect::Any).await.expect("delete");
    workloads.until(|watching| watching.objects.is_empty()).await;
    tasks.until(|watching| watching.objects.len() == 1).await;
    assert_eq!(tasks.objects.values().next(), Some(&stays));
    assert_eq!(tasks.syncs, 1, "it was told by Gone, not by reading again");
}

/// One object that does not fit its kind is named, and the watch goes on.
pub async fn an_unreadable_object_fails_no_watch(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let key = Key::namespaced(subject.namespace(), "b");
    let raw = raw_task(&key, &json!({"attempt": "many"}));
    if !subject.put_raw("AgenticTask", &key, raw.clone()).await {
        return;
    }
    created(&*tasks, task(subject, "a")).await;
    let mut watching = Watching::open(&*tasks, here(subject)).await;
    assert_eq!((watching.objects.len(), watching.unreadable.len()), (1, 1));
    let mended = patched(&*tasks, &key, status().set("attempt", 4)).await;
    assert_eq!(watching.next().await, upsert(&mended));
    assert!(subject.put_raw("AgenticTask", &key, raw).await, "it could a moment ago");
    let told = watching.next().await;
    let named = matches!(&told, StoreEvent::Unreadable { key: named, .. } if *named == key);
    assert!(named, "{told:?}");
    let other = created(&*tasks, task(subject, "c")).await;
    assert_eq!(watching.next().await, upsert(&other));
    tasks.delete(&key, mended.uid(), Expect::Any).await.expect("delete");
    assert_eq!(watching.next().await, gone(&mended));
}

/// What is written between the opening of a watch and its first reading, or during it, is told.
pub async fn writes_during_the_first_reading_are_not_missed(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    for round in 0..20 {
        let name = |suffix: &str| format!("r{round}-{suffix}");
        let mut watching = Watching::unread(&*tasks, here(subject));
        let before = created(&*tasks, task(subject, &name("a"))).await;
        let first = watching.next();
        let during = created(&*tasks, task(subject, &name("b")));
        let (_, during) = futures::join!(first, during);
        let after = created(&*tasks, task(subject, &name("c"))).await;
        let wanted = [before, during, after].map(|object| object.key().to_string());
        watching.until(|seen| wanted.iter().all(|key| seen.objects.contains_key(key))).await;
    }
}

/// A watcher that does not read for long is told what is there in the end, by whatever way.
pub async fn a_watcher_that_is_behind_ends_up_right(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    for name in ["kept", "left", "deleted", "remade"] {
        created(&*tasks, task(subject, name)).await;
    }
    let mut watching = Watching::open(&*tasks, here(subject)).await;
    let key = |name: &str| Key::namespaced(subject.namespace(), name);
    let mut writes = FuturesUnordered::new();
    for attempt in 1..=subject.changes_past_any_buffer() {
        if writes.len() == 64 {
            writes.next().await;
        }
        let (tasks, key) = (tasks.clone(), key("kept"));
        writes.push(async move { patched(&*tasks, &key, status().set("attempt", attempt)).await });
    }
    while writes.next().await.is_some() {}
    for name in ["deleted", "remade"] {
        let uid = super::support::present(&*tasks, &key(name)).await.meta.uid;
        tasks.delete(&key(name), &uid, Expect::Any).await.expect("delete");
    }
    created(&*tasks, task(subject, "remade")).await;
    patched(&*tasks, &key("left"), status().set("phase", "Failed")).await;
    created(&*tasks, task(subject, "last")).await;
    let last = key("last").to_string();
    watching.until(|watching| watching.objects.contains_key(&last)).await;
    let told: Vec<_> = watching.objects.into_values().collect();
    // A Map from `a/b` texts and a list by key agree on the order here.
    assert_eq!(told, tasks.list(&here(subject)).await.expect("list").objects);
}

/// A watch that is dropped, at any point, is nobody else's business.
pub async fn a_dropped_watch_disturbs_nobody(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    created(&*tasks, task(subject, "a")).await;
    drop(Watching::unread(&*tasks, here(subject)));
    let mut kept = Watching::open(&*tasks, here(subject)).await;
    let mut half = Watching::unread(&*tasks, here(subject));
    half.next().await;
    drop(half);
    drop(Watching::open(&*tasks, here(subject)).await);
    let made = created(&*tasks, task(subject, "b")).await;
    assert_eq!(kept.next().await, upsert(&made));
}

/// A change by another handle is told like one's own, in whatever order they mix.
pub async fn a_watch_hears_other_handles(subject: &dyn Subject) {
    let (ours, theirs) = (subject.stores().tasks, subject.second_handle().tasks);
    let mut watching = Watching::open(&*ours, here(subject)).await;
    for round in 0..5 {
        let made = created(&*theirs, task(subject, &format!("theirs-{round}"))).await;
        let own = created(&*ours, task(subject, &format!("ours-{round}"))).await;
        assert_eq!(watching.next().await, upsert(&made));
        assert_eq!(watching.next().await, upsert(&own));
        let after = patched(&*theirs, &own.key(), status().set("attempt", round + 1)).await;
        assert_eq!(watching.next().await, upsert(&after));
        theirs.delete(&made.key(), made.uid(), Expect::Any).await.expect("delete");
        assert_eq!(watching.next().await, gone(&made));
    }
}
