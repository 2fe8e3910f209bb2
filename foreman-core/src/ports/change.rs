//! Changes: what one writer says of one part of an object, as a merge patch.

use std::marker::PhantomData;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::model::ids::Revision;
use crate::model::object::{Kind, plain};
use crate::model::schema;

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
    /// are removed, maps and free JSON included. Hence only under [`Expect::At`](super::store::Expect::At).
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
    use crate::model::FleetNode;
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
