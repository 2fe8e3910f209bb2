//! Objects: metadata, spec and status of one kind.

use std::collections::BTreeMap;
use std::fmt::Debug;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::ids::{Key, Revision, Uid};
use super::meta::{Meta, OwnerReference};

/// The API group of every kind.
pub const GROUP: &str = "foreman.llmkube.dev";
/// The one API version.
pub const VERSION: &str = "v1alpha1";
/// Group and version as manifests name them.
pub const API_VERSION: &str = "foreman.llmkube.dev/v1alpha1";

/// Whether a kind lives in namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One object of a name per namespace.
    Namespaced,
    /// One object of a name.
    Cluster,
}

/// A column of `kubectl get`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// The heading.
    pub name: &'static str,
    /// `string`, `integer`, `boolean` or `date`.
    pub kind: &'static str,
    /// Where the value stands.
    pub json_path: &'static str,
    /// 0 = always shown, 1 = with `-o wide`.
    pub priority: i32,
}

impl Column {
    /// A column that is always shown.
    pub const fn always(name: &'static str, kind: &'static str, json_path: &'static str) -> Self {
        Self { name, kind, json_path, priority: 0 }
    }

    /// A column of `-o wide`.
    pub const fn wide(name: &'static str, kind: &'static str, json_path: &'static str) -> Self {
        Self { name, kind, json_path, priority: 1 }
    }
}

/// What a kind is called and how it is shown.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    /// In manifests, e.g. `FleetNode`.
    pub kind: &'static str,
    /// In URLs, e.g. `fleetnodes`.
    pub plural: &'static str,
    /// Lower-case singular, e.g. `fleetnode`.
    pub singular: &'static str,
    /// The short name, e.g. `fn`.
    pub short: &'static str,
    /// A word of ours for the command line, e.g. `node`.
    pub alias: &'static str,
    /// Namespaced or not.
    pub scope: Scope,
    /// The columns of `kubectl get`, in order.
    pub columns: &'static [Column],
    /// JSON paths that a watch may select by.
    pub selectable: &'static [&'static str],
}

/// One kind of object.
pub trait Kind: Sized + Debug + Clone + Copy + PartialEq + Eq + Send + Sync + 'static {
    /// What people ask for.
    type Spec: Debug
        + Clone
        + PartialEq
        + Serialize
        + DeserializeOwned
        + JsonSchema
        + Send
        + Sync
        + 'static;
    /// What Foreman observed.
    type Status: Debug
        + Clone
        + Default
        + PartialEq
        + Serialize
        + DeserializeOwned
        + JsonSchema
        + Send
        + Sync
        + 'static;
    /// What it is called.
    const NAMES: Names;

    /// The key of the object `name` of this kind, in `namespace` where the kind has namespaces.
    fn key(namespace: &str, name: &str) -> Key {
        match Self::NAMES.scope {
            Scope::Namespaced => Key::namespaced(namespace, name),
            Scope::Cluster => Key::cluster(name),
        }
    }
}

/// An object as a store holds it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(bound = "")]
pub struct Object<K: Kind> {
    /// Metadata.
    #[serde(rename = "metadata")]
    pub meta: Meta,
    /// What people ask for.
    pub spec: K::Spec,
    /// What Foreman observed; default where nothing was written.
    #[serde(default)]
    pub status: K::Status,
}

impl<K: Kind> Object<K> {
    /// Where it lives.
    pub fn key(&self) -> Key {
        Key { namespace: self.meta.namespace.clone(), name: self.meta.name.clone() }
    }

    /// The store's identity of it.
    pub fn uid(&self) -> &Uid {
        &self.meta.uid
    }

    /// The version of it, for a compare-and-swap.
    pub fn revision(&self) -> &Revision {
        &self.meta.resource_version
    }

    /// Reads an object from its JSON.
    ///
    /// # Errors
    /// Where the JSON does not fit the kind.
    pub fn from_json(json: &Value) -> Result<Self, serde_json::Error> {
        Self::deserialize(json)
    }

    /// The object that a store holds under `key`. One that says another name or namespace of itself
    /// is no object: a write to it would go elsewhere.
    ///
    /// # Errors
    /// Which name it says, in words for [`StoreError::Unreadable`](crate::ports::StoreError).
    pub fn held_under(self, key: &Key) -> Result<Self, String> {
        let own = self.key();
        if own == *key {
            return Ok(self);
        }
        Err(format!(
            "metadata says that its name is {:?}, but it is stored as {key}",
            own.to_string()
        ))
    }

    /// Reads the object that a store holds under `key`.
    ///
    /// # Errors
    /// Why it is none, in words for [`StoreError::Unreadable`](crate::ports::StoreError): its JSON
    /// does not fit the kind, or it says another name of itself.
    pub fn read_under(key: &Key, json: &Value) -> Result<Self, String> {
        Self::from_json(json).map_err(|error| error.to_string())?.held_under(key)
    }

    /// The object as a manifest.
    pub fn to_json(&self) -> Value {
        json!({
            "apiVersion": API_VERSION,
            "kind": K::NAMES.kind,
            "metadata": plain(&self.meta),
            "spec": plain(&self.spec),
            "status": plain(&self.status),
        })
    }

    /// An owner reference to this object, as its controller.
    pub fn as_owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: API_VERSION.to_owned(),
            kind: K::NAMES.kind.to_owned(),
            name: self.meta.name.clone(),
            uid: self.meta.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}

impl<K: Kind> Serialize for Object<K> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

/// JSON of a wire struct.
#[expect(clippy::expect_used, reason = "wire structs have string keys and no fallible field")]
pub(crate) fn plain<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).expect("a wire struct is plain JSON")
}

/// An object that is to be created: what a client may say of it.
#[derive(Debug, Clone, PartialEq)]
pub struct NewObject<K: Kind> {
    /// Where it shall live.
    pub key: Key,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Owners.
    pub owner_references: Vec<OwnerReference>,
    /// What is asked for.
    pub spec: K::Spec,
}

impl<K: Kind> NewObject<K> {
    /// A new object without labels, annotations or owners.
    pub fn new(key: Key, spec: K::Spec) -> Self {
        Self {
            key,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            owner_references: Vec::new(),
            spec,
        }
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// The manifest of it, without what the store adds.
    pub fn to_json(&self) -> Value {
        let mut meta = Map::new();
        meta.insert("name".to_owned(), json!(self.key.name));
        if let Some(namespace) = &self.key.namespace {
            meta.insert("namespace".to_owned(), json!(namespace));
        }
        if !self.labels.is_empty() {
            meta.insert("labels".to_owned(), json!(self.labels));
        }
        if !self.annotations.is_empty() {
            meta.insert("annotations".to_owned(), json!(self.annotations));
        }
        if !self.owner_references.is_empty() {
            meta.insert("ownerReferences".to_owned(), plain(&self.owner_references));
        }
        json!({
            "apiVersion": API_VERSION,
            "kind": K::NAMES.kind,
            "metadata": meta,
            "spec": plain(&self.spec),
        })
    }
}
