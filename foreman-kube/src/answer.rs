//! What the server answers: objects as JSON, without what nobody here reads.

use foreman_core::model::apiserver::key_of;
use foreman_core::model::{Key, Kind, Object, Revision};
use foreman_core::ports::StoreError;
use serde_json::Value;

/// One page of a list.
#[derive(Debug)]
pub(crate) struct Page {
    /// The objects under the keys that they say of themselves.
    pub(crate) objects: Vec<(Key, Value)>,
    /// How to ask for the next page; absent on the last.
    pub(crate) next: Option<String>,
    /// The revision of the list.
    pub(crate) revision: Revision,
}

impl Page {
    /// The page of a list's JSON.
    pub(crate) fn of(mut list: Value) -> Self {
        let text = |pointer: &str| {
            let text = list.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            text.to_owned()
        };
        let next = Some(text("/metadata/continue")).filter(|next| !next.is_empty());
        let revision = Revision::new(text("/metadata/resourceVersion"));
        let items = match list.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        };
        Self { objects: items.into_iter().map(keyed).collect(), next, revision }
    }
}

/// An object with its key, slimmed.
pub(crate) fn keyed(mut object: Value) -> (Key, Value) {
    slim(&mut object);
    let key = key_of(&object).unwrap_or_else(|| Key { namespace: None, name: String::new() });
    (key, object)
}

/// Drops the record of who wrote which field: often larger than the object, and read by nobody here.
pub(crate) fn slim(object: &mut Value) {
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("managedFields");
    }
}

/// The object that the server holds under a key.
pub(crate) fn typed<K: Kind>(key: &Key, mut object: Value) -> Result<Object<K>, StoreError> {
    slim(&mut object);
    Object::read_under(key, &object).map_err(|reason| StoreError::Unreadable { reason })
}
