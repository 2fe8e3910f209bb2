//! What an API server does to a write: drop nulls, default, prune, validate, keep the books. The
//! stores without one call this, so that a manifest means the same everywhere.

mod admit;
mod metadata;

use serde_json::{Map, Value, json};

pub use admit::{Admitted, Violation, admit};
pub use metadata::{
    ANNOTATION_BYTES_MAX, LABEL_VALUE_BYTES_MAX, META_FIELDS, check_label_value,
    check_qualified_name,
};

use super::ids::{Key, Revision, Uid};
use super::object::{Kind, NewObject};
use super::time::WallTime;
use crate::ports::store::{Change, Part, StoreError};

/// The largest object, in bytes of JSON: etcd's default request limit.
pub const OBJECT_BYTES_MAX: usize = 1_572_864;

/// The object that a create makes, without `resourceVersion`; status is not the client's to set.
///
/// # Errors
/// `Invalid` names the first broken rule, `TooLarge` the limit.
pub fn create<K: Kind>(new: &NewObject<K>, uid: &Uid, now: WallTime) -> Result<Value, StoreError> {
    let mut object = new.to_json();
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.insert("uid".to_owned(), json!(uid));
        meta.insert("generation".to_owned(), json!(1));
        meta.insert("creationTimestamp".to_owned(), json!(now));
    }
    accept::<K>(object, None)
}

/// What a patch makes of an object.
#[derive(Debug, PartialEq)]
pub enum Patched {
    /// Nothing changed: the revision stays.
    Same,
    /// The object as it is now, still with the old `resourceVersion`.
    Changed(Value),
}

/// Applies a change to an object. What was wrong with the object before and is the same now does not
/// refuse the change (an API server calls it ratcheting): else nobody could write beside a value that
/// a newer version allows, or mend one of two faults.
///
/// # Errors
/// `Invalid` names the first rule that the change breaks, `TooLarge` the limit.
pub fn patch<K: Kind>(current: &Value, change: &Change<K>) -> Result<Patched, StoreError> {
    let mut next = current.clone();
    merge(&mut next, &change.to_merge_patch(None));
    let mut next = accept::<K>(next, Some(current))?;
    if next == *current {
        return Ok(Patched::Same);
    }
    if change.part() == Part::Spec && next.get("spec") != current.get("spec") {
        let generation = current.pointer("/metadata/generation").and_then(Value::as_i64);
        if let Some(meta) = next.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.insert("generation".to_owned(), json!(generation.unwrap_or(0) + 1));
        }
    }
    Ok(Patched::Changed(next))
}

/// Writes the revision into an object.
pub fn set_revision(object: &mut Value, revision: &Revision) {
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.insert("resourceVersion".to_owned(), json!(revision));
    }
}

/// The key of an object's JSON; absent when it has no name.
pub fn key_of(object: &Value) -> Option<Key> {
    let name = object.pointer("/metadata/name")?.as_str()?.to_owned();
    let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
    Some(Key { namespace: namespace.map(ToOwned::to_owned), name })
}

/// The uid of an object's JSON; empty when there is none.
pub fn uid_of(object: &Value) -> Uid {
    Uid::new(object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default())
}

/// The uids of an object's owners.
pub fn owners_of(object: &Value) -> Vec<Uid> {
    let references = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    references
        .into_iter()
        .flatten()
        .filter_map(|owner| owner.get("uid").and_then(Value::as_str).map(Uid::new))
        .collect()
}

fn accept<K: Kind>(mut object: Value, before: Option<&Value>) -> Result<Value, StoreError> {
    drop_empty(&mut object);
    let mut admitted = admit::<K>(&mut object);
    if let Some(before) = before.filter(|_| !admitted.violations.is_empty()) {
        let old = admit::<K>(&mut before.clone()).violations;
        admitted.violations.retain(|violation| !old.contains(violation));
    }
    if let Some(first) = admitted.violations.first() {
        let more = match admitted.violations.len() - 1 {
            0 => String::new(),
            others => format!(" (and {others} more)"),
        };
        return Err(StoreError::Invalid {
            field: first.field.clone(),
            rule: format!("{}{more}", first.rule),
        });
    }
    let bytes = json_bytes(&object);
    if bytes > OBJECT_BYTES_MAX {
        return Err(StoreError::TooLarge { bytes, max: OBJECT_BYTES_MAX });
    }
    Ok(object)
}

/// How long an object's JSON is, without making it.
fn json_bytes(object: &Value) -> usize {
    struct Counter(usize);
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    match serde_json::to_writer(&mut counter, object) {
        Ok(()) => counter.0,
        // A `Value` is always JSON, and the counter takes everything.
        Err(_) => usize::MAX,
    }
}

/// Drops what a merge may leave behind and what means the same as absence, so that a patch which
/// removes what is not there changes nothing.
fn drop_empty(object: &mut Value) {
    let empty = |value: &Value| match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    let Some(object) = object.as_object_mut() else {
        return;
    };
    if object.get("status").is_some_and(empty) {
        object.remove("status");
    }
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["labels", "annotations", "ownerReferences"] {
            if meta.get(field).is_some_and(empty) {
                meta.remove(field);
            }
        }
    }
}

/// RFC 7396 as API servers do it: also in the objects of a list, which is replaced whole, a null is
/// dropped.
pub fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        drop_nulls_of_items(target);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(target) = target.as_object_mut() else {
        return;
    };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

fn drop_nulls_of_items(value: &mut Value) {
    value.as_array_mut().into_iter().flatten().for_each(drop_nulls);
}

fn drop_nulls(value: &mut Value) {
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, child| !child.is_null());
        map.values_mut().for_each(drop_nulls);
    }
    drop_nulls_of_items(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merge_patch_follows_the_rfc() {
        let cases = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!({"a": [1]}), json!([2]), json!([2])),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
            (
                json!({}),
                json!({"a": [1, null, {"b": null, "c": [{"d": null}]}]}),
                json!({"a": [1, null, {"c": [{}]}]}),
            ),
        ];
        for (mut target, patch, wanted) in cases {
            merge(&mut target, &patch);
            assert_eq!(target, wanted);
        }
    }
}
