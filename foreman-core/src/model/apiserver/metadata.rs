//! Metadata: the same rules for every kind, whatever its schema says.

use serde_json::{Map, Value};

use super::admit::{Violation, short, shown};
use crate::model::ids;
use crate::model::object::{API_VERSION, Kind, Scope};

/// The longest label value, in bytes.
pub const LABEL_VALUE_BYTES_MAX: usize = 63;
/// The most bytes of all annotations of an object.
pub const ANNOTATION_BYTES_MAX: usize = 262_144;

/// The fields of Kubernetes' `ObjectMeta`. An API server drops any other.
pub const META_FIELDS: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Drops what is null and what `ObjectMeta` does not know.
pub(super) fn prune(object: &mut Value, pruned: &mut Vec<String>) {
    let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    meta.retain(|name, value| {
        let known = META_FIELDS.contains(&name.as_str());
        if !known {
            pruned.push(format!("metadata.{name}"));
        }
        known && !value.is_null()
    });
}

/// Checks what every object has in common: version, kind, name, namespace, labels, annotations.
pub(super) fn validate<K: Kind>(object: &Value, out: &mut Vec<Violation>) {
    for (field, wanted) in [("apiVersion", API_VERSION), ("kind", K::NAMES.kind)] {
        match object.get(field) {
            None => out.push(Violation::new(field, format!("is required, use {wanted}"))),
            Some(found) if found.as_str() == Some(wanted) => {}
            Some(found) => {
                out.push(Violation::new(field, format!("must be {wanted}, got {}", short(found))));
            }
        }
    }
    let Some(meta) = object.get("metadata") else {
        out.push(Violation::new("metadata", "is required"));
        return;
    };
    let Some(meta) = meta.as_object() else {
        let rule = format!("must be of type object, got {}", shown(meta));
        out.push(Violation::new("metadata", rule));
        return;
    };
    if !meta.contains_key("name") {
        out.push(Violation::new("metadata.name", "is required"));
    }
    if let Some(name) = text_of(meta, "name", out)
        && let Err(error) = ids::check_object_name(name)
    {
        out.push(Violation::new("metadata.name", error.to_string()));
    }
    let namespace = meta.get("namespace");
    match (K::NAMES.scope, namespace) {
        (Scope::Namespaced, None) => {
            out.push(Violation::new("metadata.namespace", "is required"));
        }
        (Scope::Namespaced, Some(_)) => {
            if let Some(name) = text_of(meta, "namespace", out)
                && let Err(error) = ids::check_label_name(name)
            {
                out.push(Violation::new("metadata.namespace", error.to_string()));
            }
        }
        (Scope::Cluster, None) => {}
        (Scope::Cluster, Some(_)) => out.push(Violation::new(
            "metadata.namespace",
            format!("must be absent, {} is cluster-scoped", K::NAMES.kind),
        )),
    }
    check_labels(meta, out);
    check_annotations(meta, out);
}

fn check_labels(meta: &Map<String, Value>, out: &mut Vec<Violation>) {
    let Some(labels) = text_map(meta, "labels", out) else {
        return;
    };
    for (name, value) in labels {
        let path = format!("metadata.labels[{name}]");
        if let Err(rule) = check_qualified_name(name) {
            out.push(Violation::new(&path, rule));
        }
        let Some(value) = value.as_str() else {
            let rule = format!("must be of type string, got {}", shown(value));
            out.push(Violation::new(path, rule));
            continue;
        };
        if let Err(rule) = check_label_value(value) {
            out.push(Violation::new(path, rule));
        }
    }
}

fn check_annotations(meta: &Map<String, Value>, out: &mut Vec<Violation>) {
    let Some(annotations) = text_map(meta, "annotations", out) else {
        return;
    };
    let mut bytes = 0;
    for (name, value) in annotations {
        let path = format!("metadata.annotations[{name}]");
        if let Err(rule) = check_qualified_name(&name.to_lowercase()) {
            out.push(Violation::new(&path, rule));
        }
        if let Some(value) = value.as_str() {
            bytes += name.len() + value.len();
        } else {
            let rule = format!("must be of type string, got {}", shown(value));
            out.push(Violation::new(path, rule));
        }
    }
    if bytes > ANNOTATION_BYTES_MAX {
        out.push(Violation::new(
            "metadata.annotations",
            format!("must have at most {ANNOTATION_BYTES_MAX} bytes, got {bytes}"),
        ));
    }
}

fn text_of<'a>(
    meta: &'a Map<String, Value>,
    field: &str,
    out: &mut Vec<Violation>,
) -> Option<&'a str> {
    let value = meta.get(field)?;
    if !value.is_string() {
        let rule = format!("must be of type string, got {}", shown(value));
        out.push(Violation::new(format!("metadata.{field}"), rule));
    }
    value.as_str()
}

fn text_map<'a>(
    meta: &'a Map<String, Value>,
    field: &str,
    out: &mut Vec<Violation>,
) -> Option<&'a Map<String, Value>> {
    let value = meta.get(field)?;
    if !value.is_object() {
        let rule = format!("must be of type object, got {}", shown(value));
        out.push(Violation::new(format!("metadata.{field}"), rule));
    }
    value.as_object()
}

/// Checks a label value: at most 63 bytes, letters, digits, `-`, `_`, `.`, with a letter or digit at
/// both ends; empty is allowed.
///
/// # Errors
/// The rule that the value breaks.
pub fn check_label_value(value: &str) -> Result<(), String> {
    if value.len() > LABEL_VALUE_BYTES_MAX {
        return Err(format!(
            "must have at most {LABEL_VALUE_BYTES_MAX} bytes, got {}",
            value.len()
        ));
    }
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let ends = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    if value.chars().all(inner) && ends(value.chars().next()) && ends(value.chars().next_back()) {
        return Ok(());
    }
    Err(format!(
        "must consist of letters, digits, '-', '_' or '.', with a letter or digit at both ends, got {value:?}"
    ))
}

/// Checks a label or annotation name: `[prefix/]name`.
///
/// # Errors
/// The rule that the name breaks.
pub fn check_qualified_name(name: &str) -> Result<(), String> {
    let local = match name.split_once('/') {
        Some((prefix, local)) => {
            ids::check_object_name(prefix)
                .map_err(|error| format!("prefix {prefix:?}: {error}"))?;
            local
        }
        None => name,
    };
    if local.is_empty() {
        return Err(format!("name {name:?} has no part after the prefix"));
    }
    check_label_value(local)
}
