//! The store: where objects live, and how they change.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::model::agent::Agent;
use crate::model::agent_release::AgentRelease;
use crate::model::agentic_task::{AgenticTask, TaskPhase};
use crate::model::fleet_node::FleetNode;
use crate::model::ids::{Key, Revision, Uid};
use crate::model::model_profile::ModelProfile;
use crate::model::object::{Kind, NewObject, Object, plain};
use crate::model::schema;
use crate::model::workload::Workload;

/// What went wrong with a store, and so what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The object is not at the expected revision: read it again, decide again.
    #[error("the object changed meanwhile")]
    Conflict,
    /// There is no such object.
    #[error("no such object")]
    NotFound,
    /// A create met an object of that name.
    #[error("an object of that name exists already")]
    AlreadyExists {
        /// Whose name it is, where the store tells.
        uid: Option<Uid>,
    },
    /// The object is there, but it does not fit its kind.
    #[error("the object cannot be read: {reason}")]
    Unreadable {
        /// Where it does not fit.
        reason: String,
    },
    /// A rule of the schema is broken: tell a person.
    #[error("{field}: {rule}")]
    Invalid {
        /// The field's path.
        field: String,
        /// The rule.
        rule: String,
    },
    /// The object is too large: tell a person.
    #[error("the object has {bytes} bytes, at most {max} are allowed")]
    TooLarge {
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        max: usize,
    },
    /// Not allowed: tell a person.
    #[error("not allowed: {reason}")]
    Denied {
        /// What was refused.
        reason: String,
    },
    /// The store cannot be reached or is overloaded: back off.
    #[error("the store is unavailable: {reason}")]
    Unavailable {
        /// What happened.
        reason: String,
        /// How long the store asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// Sent, and no answer came: read again before anything else.
    #[error("it is not known whether the write was done: {reason}")]
    Uncertain {
        /// What happened.
        reason: String,
    },
}

/// Which version of an object a write is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// Whatever it is now.
    Any,
    /// Exactly this one, else [`StoreError::Conflict`].
    At(Revision),
}

/// Which objects a list or a watch is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Only this namespace.
    pub namespace: Option<String>,
    /// Only objects with all of these labels.
    pub labels: BTreeMap<String, String>,
    /// Only objects whose `.status.assignedNode` is this.
    pub assigned_node: Option<String>,
    /// Only objects whose `.status.phase` is this.
    pub phase: Option<String>,
}

impl Query {
    /// Everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// Everything in a namespace.
    pub fn in_namespace(namespace: impl Into<String>) -> Self {
        Self { namespace: Some(namespace.into()), ..Self::default() }
    }

    /// Adds a label that must match.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Only tasks placed on this node.
    #[must_use]
    pub fn assigned_to(mut self, node: impl Into<String>) -> Self {
        self.assigned_node = Some(node.into());
        self
    }

    /// Whether an object's JSON is in this query.
    pub fn matches(&self, object: &Value) -> bool {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let equal = |wanted: &Option<String>, pointer: &str| {
            wanted.as_deref().is_none_or(|wanted| text(pointer) == Some(wanted))
        };
        let labels = object.pointer("/metadata/labels");
        equal(&self.namespace, "/metadata/namespace")
            && equal(&self.assigned_node, "/status/assignedNode")
            && equal(&self.phase, "/status/phase")
            && self.labels.iter().all(|(name, value)| {
                labels.and_then(|all| all.get(name)).and_then(Value::as_str) == Some(value)
            })
    }
}

/// The answer to a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing<K: Kind> {
    /// The objects, by key.
    pub objects: Vec<Object<K>>,
    /// Objects that do not fit their kind: key and reason.
    pub unreadable: Vec<(Key, String)>,
    /// The store's revision at this moment.
    pub revision: Revision,
}

/// What a watch tells.
#[derive(Debug, Clone, PartialEq)]
pub enum StoreEvent<K: Kind> {
    /// A full reading begins: what is not seen before [`StoreEvent::SyncEnd`] is gone.
    SyncStart,
    /// The object is like this now.
    Upsert(Box<Object<K>>),
    /// The object is there, but does not fit its kind.
    Unreadable {
        /// The object.
        key: Key,
        /// Where it does not fit.
        reason: String,
    },
    /// The full reading is complete.
    SyncEnd,
    /// The object left the query or was deleted; a `get` tells which.
    Gone {
        /// The object.
        key: Key,
        /// Which of that name.
        uid: Uid,
    },
}

/// Holds objects of one kind.
#[async_trait]
pub trait Store<K: Kind>: Send + Sync {
    /// The object as it is now (linearizable).
    async fn get(&self, key: &Key) -> Result<Option<Object<K>>, StoreError>;

    /// The objects of a query. One that cannot be read does not fail the list.
    async fn list(&self, query: &Query) -> Result<Listing<K>, StoreError>;

    /// Makes an object that must not be there yet.
    async fn create(&self, new: NewObject<K>) -> Result<Object<K>, StoreError>;

    /// Changes one part of an object. A change that changes nothing keeps the revision.
    async fn patch(
        &self,
        key: &Key,
        change: Change<K>,
        expect: Expect,
    ) -> Result<Object<K>, StoreError>;

    /// Deletes the object of that name and uid, and what it owns.
    async fn delete(&self, key: &Key, uid: &Uid, expect: Expect) -> Result<(), StoreError>;

    /// First everything, then every change, until dropped. A watcher that falls behind is told
    /// everything again, never silently left behind.
    fn watch(&self, query: Query) -> BoxStream<'static, Result<StoreEvent<K>, StoreError>>;
}

macro_rules! store_of {
    ($(#[$meta:meta])* $name:ident, $kind:ty) => {
        $(#[$meta])*
        pub trait $name: Store<$kind> {}
        impl<T: Store<$kind> + ?Sized> $name for T {}
    };
}
store_of!(
    /// Holds `FleetNode`s.
    NodeStore,
    FleetNode
);
store_of!(
    /// Holds `AgenticTask`s.
    TaskStore,
    AgenticTask
);
store_of!(
    /// Holds `Workload`s.
    WorkloadStore,
    Workload
);
store_of!(
    /// Holds `Agent`s.
    AgentStore,
    Agent
);
store_of!(
    /// Holds `AgentRelease`s.
    ReleaseStore,
    AgentRelease
);
store_of!(
    /// Holds `ModelProfile`s.
    ProfileStore,
    ModelProfile
);

/// One store per kind.
#[derive(Clone)]
pub struct Stores {
    /// `FleetNode`s.
    pub nodes: Arc<dyn NodeStore>,
    /// `AgenticTask`s.
    pub tasks: Arc<dyn TaskStore>,
    /// `Workload`s.
    pub workloads: Arc<dyn WorkloadStore>,
    /// `Agent`s.
    pub agents: Arc<dyn AgentStore>,
    /// `AgentRelease`s.
    pub releases: Arc<dyn ReleaseStore>,
    /// `ModelProfile`s.
    pub profiles: Arc<dyn ProfileStore>,
}

impl Stores {
    /// The stores of a backend that holds every kind.
    pub fn of<S>(store: &Arc<S>) -> Self
    where
        S: NodeStore
            + TaskStore
            + WorkloadStore
            + AgentStore
            + ReleaseStore
            + ProfileStore
            + 'static,
    {
        Self {
            nodes: store.clone(),
            tasks: store.clone(),
            workloads: store.clone(),
            agents: store.clone(),
            releases: store.clone(),
            profiles: store.clone(),
        }
    }
}

impl Stores {
    /// Waits until a task has ended and gives it as it is then.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] once there is no such task; what the watch says when it breaks.
    pub async fn wait_for_end(&self, key: &Key) -> Result<Object<AgenticTask>, StoreError> {
        let mut query = Query::all();
        query.namespace.clone_from(&key.namespace);
        let mut events = self.tasks.watch(query);
        let mut synced = false;
        let mut seen = false;
        while let Some(event) = events.next().await {
            match event? {
                StoreEvent::Upsert(task) if task.key() == *key => {
                    seen = true;
                    if task.status.known_phase().is_some_and(TaskPhase::is_terminal) {
                        return Ok(*task);
                    }
                }
                StoreEvent::Gone { key: gone, .. } if gone == *key => seen = false,
                StoreEvent::SyncStart => (synced, seen) = (false, false),
                StoreEvent::SyncEnd => synced = true,
                StoreEvent::Upsert(_) | StoreEvent::Gone { .. } | StoreEvent::Unreadable { .. } => {
                }
            }
            if synced && !seen {
                return Err(StoreError::NotFound);
            }
        }
        let reason = "the watch ended".to_owned();
        Err(StoreError::Unavailable { reason, retry_after: None })
    }
}

impl std::fmt::Debug for Stores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stores").finish_non_exhaustive()
    }
}

/// The part of an object that a change is about. A write never touches two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Labels, annotations, owner references.
    Meta,
    /// What people ask for.
    Spec,
    /// What Foreman observed.
    Status,
}

impl Part {
    /// The part's field of the object.
    pub const fn field(self) -> &'static str {
        match self {
            Self::Meta => "metadata",
            Self::Spec => "spec",
            Self::Status => "status",
        }
    }
}

/// What a writer says of one field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Field<T> {
    /// Leave it as it is.
    #[default]
    Keep,
    /// Make it this. A struct replaces: its known fields that are absent are cleared.
    Set(T),
    /// Remove it.
    Clear,
}

impl<T> Field<T> {
    /// Sets what is there, clears what is not.
    pub fn from_option(value: Option<T>) -> Self {
        value.map_or(Self::Clear, Self::Set)
    }
}

/// A change of one part of an object, as an RFC 7396 merge patch. Built by one struct per writer.
#[derive(Debug, Clone, PartialEq)]
pub struct Change<K: Kind> {
    part: Part,
    patch: Map<String, Value>,
    kind: PhantomData<K>,
}

impl<K: Kind> Change<K> {
    /// A change of that part which changes nothing yet.
    pub fn of(part: Part) -> Self {
        Self { part, patch: Map::new(), kind: PhantomData }
    }

    /// The part it is about.
    pub fn part(&self) -> Part {
        self.part
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.patch.is_empty()
    }

    /// Says what becomes of a field of the part.
    #[must_use]
    pub fn field<T: Serialize>(mut self, name: &'static str, field: &Field<T>) -> Self {
        match field {
            Field::Keep => {}
            Field::Clear => {
                self.patch.insert(name.to_owned(), Value::Null);
            }
            Field::Set(value) => {
                let mut value = plain(value);
                let below = schema::at(schema::of::<K>(), &[self.part.field(), name]);
                if let Some(below) = below {
                    replace(&mut value, below);
                }
                self.patch.insert(name.to_owned(), value);
            }
        }
        self
    }

    /// Sets a field whatever it was.
    #[must_use]
    pub fn set<T: Serialize>(self, name: &'static str, value: T) -> Self {
        self.field(name, &Field::Set(value))
    }

    /// Removes a field.
    #[must_use]
    pub fn clear(self, name: &'static str) -> Self {
        self.field(name, &Field::<Value>::Clear)
    }

    /// Sets or removes (`None`) single annotations; the others stay.
    #[must_use]
    pub fn annotations<'a>(
        mut self,
        annotations: impl IntoIterator<Item = (&'a str, Option<String>)>,
    ) -> Self {
        let map: Map<String, Value> = annotations
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.map_or(Value::Null, Value::String)))
            .collect();
        self.patch.insert("annotations".to_owned(), Value::Object(map));
        self
    }

    /// Sets or removes (`None`) single labels; the others stay.
    #[must_use]
    pub fn labels<'a>(
        mut self,
        labels: impl IntoIterator<Item = (&'a str, Option<String>)>,
    ) -> Self {
        let map: Map<String, Value> = labels
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.map_or(Value::Null, Value::String)))
            .collect();
        self.patch.insert("labels".to_owned(), Value::Object(map));
        self
    }

    /// The change that makes the whole spec this one: fields of `current` that are not in `next`
    /// are removed, maps and free JSON included. Hence only under [`Expect::At`].
    pub fn replace_spec(current: &K::Spec, next: &K::Spec) -> Self {
        let patch = match difference(&plain(current), &plain(next)) {
            Some(Value::Object(patch)) => patch,
            _ => Map::new(),
        };
        Self { part: Part::Spec, patch, kind: PhantomData }
    }

    /// A change of the status by a ready merge patch of it, e.g. a [`difference`].
    pub(crate) fn status_patch(patch: Option<Value>) -> Self {
        let patch = match patch {
            Some(Value::Object(patch)) => patch,
            _ => Map::new(),
        };
        Self { part: Part::Status, patch, kind: PhantomData }
    }

    /// The merge patch of the whole object, with the revision inside where one is expected.
    pub fn to_merge_patch(&self, revision: Option<&Revision>) -> Value {
        let mut patch = Map::new();
        patch.insert(self.part.field().to_owned(), Value::Object(self.patch.clone()));
        if let Some(revision) = revision {
            let meta = patch.entry("metadata").or_insert_with(|| json!({}));
            if let Some(meta) = meta.as_object_mut() {
                meta.insert("resourceVersion".to_owned(), json!(revision));
            }
        }
        Value::Object(patch)
    }
}

/// Renders known fields that are absent as null and drops nulls inside free JSON, so that the
/// merge replaces what it means to replace and keeps what it does not know.
fn replace(value: &mut Value, schema: &Value) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        if value.is_object() {
            strip_nulls(value);
        }
        return;
    };
    if let Some(map) = value.as_object_mut() {
        for (name, below) in properties {
            match map.get_mut(name) {
                Some(child) => replace(child, below),
                None => {
                    map.insert(name.clone(), Value::Null);
                }
            }
        }
    }
}

fn strip_nulls(value: &mut Value) {
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, child| !child.is_null());
        map.values_mut().for_each(strip_nulls);
    }
}

/// The merge patch that turns `current` into `next`; absent when they are equal.
pub(crate) fn difference(current: &Value, next: &Value) -> Option<Value> {
    match (current, next) {
        (Value::Object(before), Value::Object(after)) => {
            let mut patch: Map<String, Value> = before
                .keys()
                .filter(|name| !after.contains_key(*name))
                .map(|name| (name.clone(), Value::Null))
                .collect();
            for (name, value) in after {
                match before.get(name) {
                    Some(old) => {
                        if let Some(below) = difference(old, value) {
                            patch.insert(name.clone(), below);
                        }
                    }
                    None => {
                        patch.insert(name.clone(), value.clone());
                    }
                }
            }
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        _ => (current != next).then(|| next.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fleet_node::{Accelerator, Capability};

    #[test]
    fn set_of_a_struct_clears_its_absent_known_fields() {
        let capability =
            Capability { accelerator: Some(Accelerator::Cuda.into()), ..Capability::default() };
        let change = Change::<FleetNode>::of(Part::Status).set("capability", &capability);
        let patch = change.to_merge_patch(None);
        assert_eq!(patch["status"]["capability"]["accelerator"], "cuda");
        assert_eq!(patch["status"]["capability"].get("totalRAMGB"), Some(&Value::Null));
        assert_eq!(patch["status"].get("phase"), None);
    }

    #[test]
    fn the_revision_goes_inside_the_patch() {
        let change = Change::<FleetNode>::of(Part::Meta).annotations([("a", None)]);
        let patch = change.to_merge_patch(Some(&Revision::new("7")));
        assert_eq!(
            patch,
            json!({"metadata": {"annotations": {"a": null}, "resourceVersion": "7"}})
        );
    }

    #[test]
    fn a_difference_merges_into_the_wanted_value() {
        let before = json!({"a": 1, "b": {"c": 2, "d": [1]}, "e": 5});
        let after = json!({"a": 1, "b": {"d": [2]}, "f": {"g": 1}});
        let patch = difference(&before, &after).expect("they differ");
        let mut merged = before.clone();
        crate::model::apiserver::merge(&mut merged, &patch);
        assert_eq!(merged, after);
        assert_eq!(difference(&after, &after), None);
    }
}
