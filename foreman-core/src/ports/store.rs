//! The store: where objects live, and how they change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt};
use serde_json::Value;

use crate::model::agent::Agent;
use crate::model::agent_release::AgentRelease;
use crate::model::agentic_task::AgenticTask;
use crate::model::fleet_node::FleetNode;
use crate::model::ids::{Key, Revision, Uid};
use crate::model::model_profile::ModelProfile;
use crate::model::object::{Kind, NewObject, Object};
use crate::model::workload::Workload;

pub use super::change::{Change, Field, Part};

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
                    if task.status.has_ended() {
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
