//! Objects as `kube` wants them: metadata it can read, and a body that is parsed when it is used.

use std::borrow::Cow;
use std::marker::PhantomData;

use foreman_core::model::object::{API_VERSION, GROUP, VERSION};
use foreman_core::model::{Key, Kind, NewObject, Object};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicResourceScope;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// An object of kind `K` on its way from or to an API server.
///
/// Spec and status stay JSON until [`Resource::to_object`] is called, so that one object that does
/// not fit its kind never fails the list or the watch it came with, and nothing that this version
/// does not know is lost on the way.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Resource<K: Kind> {
    /// The metadata, in Kubernetes' own form.
    pub metadata: ObjectMeta,
    /// Every other field as it came: `apiVersion`, `kind`, `spec`, `status`.
    #[serde(flatten)]
    body: Map<String, Value>,
    #[serde(skip)]
    kind: PhantomData<fn() -> K>,
}

/// An object that does not fit its kind. It is named and skipped, it fails nothing else.
#[derive(Debug, thiserror::Error)]
#[error("{kind} {key} cannot be read; correct or delete the object")]
pub struct Malformed {
    /// The kind.
    pub kind: &'static str,
    /// The object.
    pub key: Key,
    /// Where it does not fit.
    #[source]
    pub source: serde_json::Error,
}

impl<K: Kind> PartialEq for Resource<K> {
    fn eq(&self, other: &Self) -> bool {
        self.metadata == other.metadata && self.body == other.body
    }
}

impl<K: Kind> Resource<K> {
    /// The resource that a create sends: what a client may say, without what the server adds.
    pub fn of_new(new: &NewObject<K>) -> Self {
        Self::from_plain(new.to_json())
    }

    /// Where the object lives; the name is empty while the server has not generated one.
    pub fn key(&self) -> Key {
        Key {
            namespace: self.metadata.namespace.clone(),
            name: self.metadata.name.clone().unwrap_or_default(),
        }
    }

    /// The object in the core's form.
    ///
    /// # Errors
    /// [`Malformed`] when metadata, spec or status do not fit the kind.
    pub fn to_object(&self) -> Result<Object<K>, Malformed> {
        let malformed = |source| Malformed { kind: K::NAMES.kind, key: self.key(), source };
        let metadata = serde_json::to_value(&self.metadata).map_err(malformed)?;
        let mut json = self.body.clone();
        json.insert("metadata".to_owned(), metadata);
        Object::from_json(&Value::Object(json)).map_err(malformed)
    }

    #[expect(clippy::expect_used, reason = "the core writes metadata that Kubernetes reads")]
    fn from_plain(object: Value) -> Self {
        serde_json::from_value(object).expect("an object of the core is a resource")
    }
}

impl<K: Kind> From<&Object<K>> for Resource<K> {
    fn from(object: &Object<K>) -> Self {
        Self::from_plain(object.to_json())
    }
}

impl<K: Kind> kube::Resource for Resource<K> {
    type DynamicType = ();
    // Namespaced or not is a value of `Kind`, not a type: `Api::all_with(client, &())` and
    // `Api::namespaced_with(client, namespace, &())` are the constructors to use.
    type Scope = DynamicResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        K::NAMES.kind.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        VERSION.into()
    }

    fn api_version((): &()) -> Cow<'_, str> {
        API_VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::NAMES.plural.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use foreman_core::model::{AgenticTask, FleetNode};
    use kube::ResourceExt;
    use serde_json::json;

    use super::*;

    fn task(spec: &Value) -> Value {
        json!({
            "apiVersion": API_VERSION, "kind": "AgenticTask",
            "metadata": {
                "name": "fix", "namespace": "team", "uid": "u-1", "resourceVersion": "7",
                "generation": 2, "creationTimestamp": "2026-11-24T10:00:00Z",
                "labels": {"foreman.llmkube.dev/workload": "w"},
                "ownerReferences": [{"apiVersion": API_VERSION, "kind": "Workload", "name": "w",
                                     "uid": "u-0", "controller": true}],
            },
            "spec": spec,
            "status": {"phase": "Running", "fromTheFuture": {"x": [1, null]}},
        })
    }

    #[test]
    fn an_object_comes_through_both_forms_unchanged() {
        let json = task(&json!({"kind": "verify", "payload": {"branch": "b"}}));
        let resource: Resource<AgenticTask> = serde_json::from_value(json.clone()).expect("reads");
        assert_eq!(serde_json::to_value(&resource).expect("writes"), json);
        let object = resource.to_object().expect("fits");
        assert_eq!(object.to_json(), json);
        assert_eq!(Resource::from(&object), resource);
    }

    #[test]
    fn kube_sees_the_metadata() {
        let json = task(&json!({"kind": "verify", "payload": {}}));
        let mut resource: Resource<AgenticTask> = serde_json::from_value(json).expect("reads");
        assert_eq!(resource.name_any(), "fix");
        assert_eq!(resource.namespace().as_deref(), Some("team"));
        assert_eq!(resource.resource_version().as_deref(), Some("7"));
        resource.labels_mut().insert("a".to_owned(), "b".to_owned());
        let object = resource.to_object().expect("fits");
        assert_eq!(object.meta.labels.get("a").map(String::as_str), Some("b"));
    }

    #[test]
    fn one_malformed_object_does_not_fail_its_list() {
        let good = task(&json!({"kind": "verify", "payload": {}}));
        let bad = task(&json!({"kind": "verify", "payload": "a text"}));
        let list: Vec<Resource<AgenticTask>> =
            serde_json::from_value(json!([good, bad])).expect("the list reads");
        let read: Vec<_> = list.iter().map(Resource::to_object).collect();
        assert!(read[0].is_ok());
        let error = read[1].as_ref().expect_err("malformed");
        assert_eq!(
            error.to_string(),
            "AgenticTask team/fix cannot be read; correct or delete the object"
        );
        assert!(
            error.source.to_string().contains("expected struct AgenticTaskPayload"),
            "{error:?}"
        );
        assert!(!error.to_string().contains(&error.source.to_string()));
    }

    #[test]
    fn paths_follow_scope_and_plural() {
        type Task = Resource<AgenticTask>;
        type Node = Resource<FleetNode>;
        assert_eq!(
            <Task as kube::Resource>::url_path(&(), Some("team")),
            "/apis/foreman.llmkube.dev/v1alpha1/namespaces/team/agentictasks"
        );
        assert_eq!(
            <Node as kube::Resource>::url_path(&(), None),
            "/apis/foreman.llmkube.dev/v1alpha1/fleetnodes"
        );
    }

    #[test]
    fn a_create_sends_no_server_fields() {
        let spec = serde_json::from_value(json!({"nodeName": "studio"})).expect("spec");
        let new = NewObject::<FleetNode>::new(Key::cluster("studio"), spec);
        let sent = serde_json::to_value(Resource::of_new(&new)).expect("writes");
        assert_eq!(
            sent,
            json!({"apiVersion": API_VERSION, "kind": "FleetNode",
                   "metadata": {"name": "studio"}, "spec": {"nodeName": "studio"}})
        );
    }
}
