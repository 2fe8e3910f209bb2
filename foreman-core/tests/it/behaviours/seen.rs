//! What a case sees: objects as JSON, events, and the writes of the control loops.

use std::sync::{Arc, Mutex};

use foreman_core::model::object::Kind;
use foreman_core::model::{Agent, AgenticTask, FleetNode, Object, Workload};
use foreman_core::ports::{Event, Recorder, Stores};
use foreman_core::testkit::fault::{Call, FaultyStore, Operation};
use serde_json::Value;

/// Keeps the events that were told.
#[derive(Default)]
pub(crate) struct Told(pub(super) Mutex<Vec<Event>>);

impl Recorder for Told {
    fn record(&self, event: Event) {
        self.0.lock().expect("no panic").push(event);
    }
}

impl Told {
    /// The events of that reason so far, as `key: message`.
    pub(crate) fn of(&self, reason: &str) -> Vec<String> {
        let told = self.0.lock().expect("no panic");
        let of = told.iter().filter(|event| event.reason == reason);
        of.map(|event| format!("{}: {}", event.key.name, event.message)).collect()
    }
}

/// The stores as the control loops see them: each can be broken.
pub(crate) struct Seen {
    pub(crate) nodes: Arc<FaultyStore<FleetNode>>,
    pub(crate) tasks: Arc<FaultyStore<AgenticTask>>,
    pub(crate) workloads: Arc<FaultyStore<Workload>>,
    pub(crate) agents: Arc<FaultyStore<Agent>>,
}

impl Seen {
    pub(super) fn of(stores: &Stores) -> Self {
        Self {
            nodes: FaultyStore::new(stores.nodes.clone()),
            tasks: FaultyStore::new(stores.tasks.clone()),
            workloads: FaultyStore::new(stores.workloads.clone()),
            agents: FaultyStore::new(stores.agents.clone()),
        }
    }

    /// Writes so far, as operation, name and patch.
    pub(crate) fn writes(&self) -> Vec<String> {
        let write = |call: &Call| {
            matches!(call.operation, Operation::Create | Operation::Patch | Operation::Delete)
        };
        let calls = self.nodes.calls().into_iter();
        let calls = calls.chain(self.tasks.calls()).chain(self.workloads.calls());
        calls
            .chain(self.agents.calls())
            .filter(write)
            .map(|call| {
                format!("{:?} {} {}", call.operation, call.name, call.patch.unwrap_or_default())
            })
            .collect()
    }
}

/// An object as a reader of its JSON sees it; `null` when it is not there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shown(pub(crate) Value);

impl Shown {
    pub(super) fn of<K: Kind>(object: Option<Object<K>>) -> Self {
        Self(object.map_or(Value::Null, |object| object.to_json()))
    }

    pub(crate) fn is_there(&self) -> bool {
        !self.0.is_null()
    }

    pub(crate) fn at(&self, pointer: &str) -> Value {
        self.0.pointer(pointer).cloned().unwrap_or_default()
    }

    /// A text or number; empty when it is not there.
    pub(crate) fn text(&self, pointer: &str) -> String {
        match self.0.pointer(pointer) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }

    pub(crate) fn phase(&self) -> String {
        self.text("/status/phase")
    }

    pub(crate) fn node(&self) -> String {
        self.text("/status/assignedNode")
    }

    /// Phase, verdict and failure reason of a task, as `Failed/INCOMPLETE/InfrastructureError`.
    pub(crate) fn end(&self) -> String {
        let parts = ["/status/phase", "/status/verdict", "/status/failureReason"];
        let parts = parts.map(|part| self.text(part));
        parts.join("/").trim_end_matches('/').to_owned()
    }

    /// A condition as `True/Reason`; empty when it is not there.
    pub(crate) fn condition(&self, kind: &str) -> String {
        let found = self.find(kind);
        found.map_or(String::new(), |found| {
            let part = |name: &str| found.get(name).and_then(Value::as_str).unwrap_or_default();
            format!("{}/{}", part("status"), part("reason"))
        })
    }

    /// The message of a condition; empty when it is not there.
    pub(crate) fn message(&self, kind: &str) -> String {
        let message = self.find(kind).and_then(|found| found.get("message"));
        message.and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    fn find(&self, kind: &str) -> Option<&Value> {
        let conditions = self.0.pointer("/status/conditions")?.as_array()?;
        conditions.iter().find(|one| one.get("type").and_then(Value::as_str) == Some(kind))
    }

    pub(crate) fn annotation(&self, name: &str) -> String {
        let found = self.0.pointer("/metadata/annotations").and_then(|all| all.get(name));
        found.and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    pub(crate) fn labelled(&self, name: &str) -> String {
        let found = self.0.pointer("/metadata/labels").and_then(|all| all.get(name));
        found.and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}
