//! Objects to test with, and a watcher that checks what it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::task::Poll;

use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::{Value, json};

use super::Subject;
use crate::model::agent::AgentSpec;
use crate::model::{
    API_VERSION, Agent, AgenticTask, AgenticTaskPayload, AgenticTaskSpec, FleetNode, FleetNodeSpec,
    Key, Kind, NewObject, Object, TaskKind, Workload, WorkloadSpec,
};
use crate::ports::store::Part;
use crate::ports::{Change, Expect, Query, Store, StoreError, StoreEvent};

/// A task of the subject's namespace.
pub(super) fn task(subject: &dyn Subject, name: &str) -> NewObject<AgenticTask> {
    task_in(subject.namespace(), name)
}

pub(super) fn task_in(namespace: &str, name: &str) -> NewObject<AgenticTask> {
    let payload =
        AgenticTaskPayload { prompt: Some("do it".to_owned()), ..AgenticTaskPayload::default() };
    let spec = AgenticTaskSpec::new(TaskKind::Freeform, payload);
    NewObject::new(Key::namespaced(namespace, name), spec)
}

/// A node; its name begins with the subject's prefix.
pub(super) fn node(subject: &dyn Subject, name: &str) -> NewObject<FleetNode> {
    let name = format!("{}-{name}", subject.prefix());
    let spec = FleetNodeSpec { node_name: name.clone(), ..FleetNodeSpec::default() };
    NewObject::new(Key::cluster(name), spec)
}

pub(super) fn workload(subject: &dyn Subject, name: &str) -> NewObject<Workload> {
    let spec = WorkloadSpec { intent: "mend it".to_owned(), ..WorkloadSpec::default() };
    NewObject::new(Key::namespaced(subject.namespace(), name), spec)
}

pub(super) fn agent(subject: &dyn Subject, name: &str) -> NewObject<Agent> {
    let spec: AgentSpec = serde_json::from_value(json!({"role": "coder", "tools": ["bash"]}))
        .expect("an Agent's spec");
    NewObject::new(Key::namespaced(subject.namespace(), name), spec)
}

/// A task as another version might have stored it.
pub(super) fn raw_task(key: &Key, status: &Value) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "AgenticTask",
        "metadata": {"name": key.name, "namespace": key.namespace, "generation": 1,
            "uid": "99999999-0000-4000-8000-000000000001",
            "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"kind": "freeform", "payload": {"prompt": "do it", "branchStrategy": "reset"}},
        "status": status,
    })
}

pub(super) fn status<K: Kind>() -> Change<K> {
    Change::of(Part::Status)
}

pub(super) fn spec<K: Kind>() -> Change<K> {
    Change::of(Part::Spec)
}

pub(super) fn meta<K: Kind>() -> Change<K> {
    Change::of(Part::Meta)
}

pub(super) async fn created<K: Kind>(
    store: &(impl Store<K> + ?Sized),
    new: NewObject<K>,
) -> Object<K> {
    let key = new.key.clone();
    store.create(new).await.unwrap_or_else(|error| fail(&format!("create {key}: {error}")))
}

pub(super) async fn patched<K: Kind>(
    store: &(impl Store<K> + ?Sized),
    key: &Key,
    change: Change<K>,
) -> Object<K> {
    let patched = store.patch(key, change, Expect::Any).await;
    patched.unwrap_or_else(|error| fail(&format!("patch {key}: {error}")))
}

/// The object, which must be there.
pub(super) async fn present<K: Kind>(store: &(impl Store<K> + ?Sized), key: &Key) -> Object<K> {
    match store.get(key).await {
        Ok(Some(object)) => object,
        Ok(None) => fail(&format!("{key} is absent")),
        Err(error) => fail(&format!("get {key}: {error}")),
    }
}

pub(super) async fn names<K: Kind>(store: &(impl Store<K> + ?Sized), query: Query) -> Vec<String> {
    let listing = store.list(&query).await.expect("list");
    listing.objects.into_iter().map(|object| object.meta.name).collect()
}

/// Ends the case.
#[expect(clippy::panic, reason = "this is how a case fails")]
pub(super) fn fail(what: &str) -> ! {
    panic!("{what}")
}

#[track_caller]
pub(super) fn assert_invalid<T: std::fmt::Debug>(result: Result<T, StoreError>, wanted: &str) {
    match result {
        Err(StoreError::Invalid { field, rule }) => {
            assert_eq!(field, wanted, "{rule}");
            assert!(!rule.is_empty(), "no rule for {field}");
        }
        other => assert_eq!(format!("{other:?}"), format!("Invalid {{ {wanted} }}")),
    }
}

/// Lets every other future of the same task go on once.
pub(super) async fn yield_once() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A watcher that holds the events against the rules of the port.
pub(super) struct Watching<K: Kind> {
    events: BoxStream<'static, Result<StoreEvent<K>, StoreError>>,
    /// What it has been told is there.
    pub(super) objects: BTreeMap<String, Object<K>>,
    pub(super) unreadable: BTreeSet<String>,
    /// What a full reading, if one goes on, has not shown yet.
    unseen: Option<BTreeSet<String>>,
    /// Full readings so far.
    pub(super) syncs: usize,
}

impl<K: Kind> Watching<K> {
    /// Opens a watch and reads it up to the first `SyncEnd`.
    pub(super) async fn open(store: &(impl Store<K> + ?Sized), query: Query) -> Self {
        let mut watching = Self::unread(store, query);
        let first = watching.next().await;
        assert_eq!(first, StoreEvent::SyncStart, "a watch begins with SyncStart");
        while watching.unseen.is_some() {
            watching.next().await;
        }
        watching
    }

    /// Opens a watch and reads nothing yet.
    pub(super) fn unread(store: &(impl Store<K> + ?Sized), query: Query) -> Self {
        let events = store.watch(query);
        let (objects, unreadable) = (BTreeMap::new(), BTreeSet::new());
        Self { events, objects, unreadable, unseen: None, syncs: 0 }
    }

    /// The next event.
    pub(super) async fn next(&mut self) -> StoreEvent<K> {
        let event = match self.events.next().await {
            Some(Ok(event)) => event,
            Some(Err(error)) => fail(&format!("the watch says: {error}")),
            None => fail("the watch ended"),
        };
        self.take(&event);
        event
    }

    /// Reads until what it was told satisfies `wanted`, outside a full reading.
    pub(super) async fn until(&mut self, wanted: impl Fn(&Self) -> bool) {
        while self.unseen.is_some() || self.syncs == 0 || !wanted(self) {
            self.next().await;
        }
    }

    fn take(&mut self, event: &StoreEvent<K>) {
        match event {
            StoreEvent::SyncStart => {
                assert!(self.unseen.is_none(), "SyncStart within a full reading");
                let known = self.objects.keys().chain(&self.unreadable);
                self.unseen = Some(known.cloned().collect());
            }
            StoreEvent::SyncEnd => {
                let Some(gone) = self.unseen.take() else { fail("SyncEnd without SyncStart") };
                self.objects.retain(|key, _| !gone.contains(key));
                self.unreadable.retain(|key| !gone.contains(key));
                self.syncs += 1;
            }
            StoreEvent::Upsert(object) => {
                let key = object.key().to_string();
                let reading = self.unseen.is_some();
                if let Some(unseen) = &mut self.unseen {
                    unseen.remove(&key);
                }
                self.unreadable.remove(&key);
                let old = self.objects.insert(key.clone(), (**object).clone());
                if let Some(old) = old.filter(|_| !reading) {
                    assert_eq!(old.uid(), object.uid(), "{key} has a new uid without a Gone");
                }
            }
            StoreEvent::Unreadable { key, reason } => {
                assert!(!reason.is_empty(), "no reason why {key} is unreadable");
                let key = key.to_string();
                if let Some(unseen) = &mut self.unseen {
                    unseen.remove(&key);
                }
                self.objects.remove(&key);
                self.unreadable.insert(key);
            }
            StoreEvent::Gone { key, uid } => {
                let key = key.to_string();
                let unreadable = self.unreadable.remove(&key);
                match self.objects.remove(&key) {
                    Some(old) => assert_eq!(old.uid(), uid, "another {key} is gone"),
                    None => assert!(unreadable, "{key} is gone and was never there"),
                }
            }
        }
    }
}
