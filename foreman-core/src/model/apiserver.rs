//! What an API server does to a write: drop nulls, default, prune, validate, keep the books. The
//! stores without one call this, so that a manifest means the same everywhere.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::ids::{self, Key, Revision, Uid};
use super::object::{API_VERSION, Kind, NewObject, Scope};
use super::schema::{self, INT_OR_STRING, PRESERVE};
use super::time::WallTime;
use crate::ports::store::{Change, Part, StoreError};

/// The largest object, in bytes of JSON: etcd's default request limit.
pub const OBJECT_BYTES_MAX: usize = 1_572_864;
/// The longest label value, in bytes.
pub const LABEL_VALUE_BYTES_MAX: usize = 63;
/// The most bytes of all annotations of an object.
pub const ANNOTATION_BYTES_MAX: usize = 262_144;
/// Deeper JSON is refused.
const DEPTH_MAX: usize = 64;

/// A field that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The path, e.g. `spec.pipeline[0].name`.
    pub field: String,
    /// The rule, e.g. `must match ^[a-z0-9][a-z0-9-]*$, got "A"`.
    pub rule: String,
}

impl Violation {
    fn new(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { field: field.into(), rule: rule.into() }
    }
}

/// What the schema does to a value, in an API server's order.
#[derive(Debug, Default)]
pub struct Admitted {
    /// Paths of fields that the schema does not know and that were dropped.
    pub pruned: Vec<String>,
    /// Rules that the value breaks.
    pub violations: Vec<Violation>,
}

/// Drops nulls, defaults, prunes and validates a whole object of kind `K` in place.
pub fn admit<K: Kind>(object: &mut Value) -> Admitted {
    let mut admitted = Admitted::default();
    let root = schema::of::<K>();
    drop_nulls(object, root);
    default(object, root);
    prune(object, root, "", &mut admitted.pruned);
    validate(object, root, "", 0, &mut admitted.violations);
    check_meta::<K>(object, &mut admitted.violations);
    admitted
}

/// The object that a create makes, without `resourceVersion`; status is not the client's to set.
pub fn create<K: Kind>(
    new: &NewObject<K>,
    uid: &Uid,
    now: WallTime,
) -> Result<Value, StoreError> {
    let mut object = new.to_json();
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.insert("uid".to_owned(), json!(uid));
        meta.insert("generation".to_owned(), json!(1));
        meta.insert("creationTimestamp".to_owned(), json!(now));
    }
    accept::<K>(object)
}

/// What a patch makes of an object.
#[derive(Debug, PartialEq)]
pub enum Patched {
    /// Nothing changed: the revision stays.
    Same,
    /// The object as it is now, still with the old `resourceVersion`.
    Changed(Value),
}

/// Applies a change to an object.
pub fn patch<K: Kind>(current: &Value, change: &Change<K>) -> Result<Patched, StoreError> {
    let mut next = current.clone();
    merge(&mut next, &change.to_merge_patch(None));
    let mut next = accept::<K>(next)?;
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

fn accept<K: Kind>(mut object: Value) -> Result<Value, StoreError> {
    let admitted = admit::<K>(&mut object);
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
    let bytes = object.to_string().len();
    if bytes > OBJECT_BYTES_MAX {
        return Err(StoreError::TooLarge { bytes, max: OBJECT_BYTES_MAX });
    }
    Ok(object)
}

/// RFC 7396.
pub fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(target) = target.as_object_mut() else { return };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

fn is_preserving(schema: &Value) -> bool {
    schema.get(PRESERVE).and_then(Value::as_bool) == Some(true)
}

fn drop_nulls(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(map) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let additional = schema.get("additionalProperties");
            map.retain(|name, child| {
                let known = properties.is_some_and(|all| all.contains_key(name));
                !(child.is_null() && (known || additional.is_some()))
            });
            for (name, child) in map.iter_mut() {
                if let Some(below) = properties.and_then(|all| all.get(name)).or(additional) {
                    drop_nulls(child, below);
                }
            }
        }
        Value::Array(list) => {
            if let Some(below) = schema.get("items") {
                list.iter_mut().for_each(|child| drop_nulls(child, below));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn default(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(map) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            for (name, below) in properties.into_iter().flatten() {
                if let Some(fallback) = below.get("default") {
                    map.entry(name.clone()).or_insert_with(|| fallback.clone());
                }
                if let Some(child) = map.get_mut(name) {
                    default(child, below);
                }
            }
            if let Some(below) = schema.get("additionalProperties") {
                map.values_mut().for_each(|child| default(child, below));
            }
        }
        Value::Array(list) => {
            if let Some(below) = schema.get("items") {
                list.iter_mut().for_each(|child| default(child, below));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Fields of the root that every object has, whatever its schema says.
const ROOT_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

fn prune(value: &mut Value, schema: &Value, path: &str, pruned: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            if let Some(below) = schema.get("additionalProperties") {
                for (name, child) in map.iter_mut() {
                    prune(child, below, &format!("{path}.{name}"), pruned);
                }
                return;
            }
            let keep_unknown = is_preserving(schema);
            map.retain(|name, _| {
                let known = properties.is_some_and(|all| all.contains_key(name));
                if !known && !keep_unknown {
                    pruned.push(join(path, name));
                }
                known || keep_unknown
            });
            for (name, child) in map.iter_mut() {
                if path.is_empty() && ROOT_FIELDS.contains(&name.as_str()) {
                    continue;
                }
                if let Some(below) = properties.and_then(|all| all.get(name)) {
                    prune(child, below, &join(path, name), pruned);
                }
            }
        }
        Value::Array(list) => {
            if let Some(below) = schema.get("items") {
                for (index, child) in list.iter_mut().enumerate() {
                    prune(child, below, &format!("{path}[{index}]"), pruned);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn validate(value: &Value, schema: &Value, path: &str, depth: usize, out: &mut Vec<Violation>) {
    if depth > DEPTH_MAX {
        out.push(Violation::new(path, format!("must not be nested deeper than {DEPTH_MAX}")));
        return;
    }
    if !has_type(value, schema) {
        let wanted = schema.get("type").and_then(Value::as_str).unwrap_or("integer or string");
        out.push(Violation::new(path, format!("must be of type {wanted}, got {}", type_of(value))));
        return;
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        let list = allowed.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
        out.push(Violation::new(path, format!("must be one of {list}, got {}", short(value))));
    }
    match value {
        Value::Number(_) => check_number(value, schema, path, out),
        Value::String(text) => check_text(text, schema, path, out),
        Value::Array(list) => check_list(list, schema, path, depth, out),
        Value::Object(map) => {
            for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
                if let Some(name) = name.as_str().filter(|name| !map.contains_key(*name)) {
                    out.push(Violation::new(join(path, name), "is required"));
                }
            }
            let properties = schema.get("properties").and_then(Value::as_object);
            for (name, child) in map {
                if path.is_empty() && ROOT_FIELDS.contains(&name.as_str()) {
                    continue;
                }
                let below = properties.and_then(|all| all.get(name));
                if let Some(below) = below.or_else(|| schema.get("additionalProperties")) {
                    validate(child, below, &join(path, name), depth + 1, out);
                }
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn check_list(
    list: &[Value],
    schema: &Value,
    path: &str,
    depth: usize,
    out: &mut Vec<Violation>,
) {
    if let Some(min) = schema.get("minItems").and_then(Value::as_u64)
        && (list.len() as u64) < min
    {
        out.push(Violation::new(path, format!("must have at least {min} item(s)")));
    }
    if let Some(below) = schema.get("items") {
        for (index, child) in list.iter().enumerate() {
            validate(child, below, &format!("{path}[{index}]"), depth + 1, out);
        }
    }
    let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
    if let Some(key) = keys.and_then(|keys| keys.first()).and_then(Value::as_str) {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, child) in list.iter().enumerate() {
            let Some(name) = child.get(key).and_then(Value::as_str) else { continue };
            if seen.insert(name, index).is_some() {
                out.push(Violation::new(
                    format!("{path}[{index}].{key}"),
                    format!("must be unique, {name:?} is there twice"),
                ));
            }
        }
    }
}

fn has_type(value: &Value, schema: &Value) -> bool {
    if schema.get(INT_OR_STRING).and_then(Value::as_bool) == Some(true) {
        return value.is_i64() || value.is_u64() || value.is_string();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        _ => true,
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The value as a message may show it: at most 60 characters.
fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 {
        return text;
    }
    text.chars().take(57).chain("...".chars()).collect()
}

fn check_number(value: &Value, schema: &Value, path: &str, out: &mut Vec<Violation>) {
    let (low, high) = match schema.get("format").and_then(Value::as_str) {
        Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => (i64::MIN, i64::MAX),
    };
    let low = schema.get("minimum").and_then(Value::as_i64).unwrap_or(low).max(low);
    let high = schema.get("maximum").and_then(Value::as_i64).unwrap_or(high).min(high);
    match value.as_i64() {
        Some(number) if number < low => {
            out.push(Violation::new(path, format!("must be at least {low}, got {number}")));
        }
        Some(number) if number > high => {
            out.push(Violation::new(path, format!("must be at most {high}, got {number}")));
        }
        Some(_) => {}
        None => out.push(Violation::new(path, format!("must be at most {high}, got {value}"))),
    }
}

fn check_text(text: &str, schema: &Value, path: &str, out: &mut Vec<Violation>) {
    let length = text.chars().count() as u64;
    if let Some(min) = schema.get("minLength").and_then(Value::as_u64)
        && length < min
    {
        out.push(Violation::new(path, format!("must have at least {min} character(s)")));
    }
    if let Some(max) = schema.get("maxLength").and_then(Value::as_u64)
        && length > max
    {
        out.push(Violation::new(path, format!("must have at most {max} characters, got {length}")));
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
        let fits = regex_lite::Regex::new(pattern).is_ok_and(|regex| regex.is_match(text));
        if !fits {
            let shown = short(&json!(text));
            out.push(Violation::new(path, format!("must match {pattern}, got {shown}")));
        }
    }
    if schema.get("format").and_then(Value::as_str) == Some("date-time")
        && text.parse::<WallTime>().is_err()
    {
        let shown = short(&json!(text));
        out.push(Violation::new(
            path,
            format!("must be an RFC 3339 time such as 2026-11-24T10:00:00Z, got {shown}"),
        ));
    }
}

fn check_meta<K: Kind>(object: &Value, out: &mut Vec<Violation>) {
    if object.get("apiVersion").and_then(Value::as_str) != Some(API_VERSION) {
        out.push(Violation::new("apiVersion", format!("must be {API_VERSION}")));
    }
    if object.get("kind").and_then(Value::as_str) != Some(K::NAMES.kind) {
        out.push(Violation::new("kind", format!("must be {}", K::NAMES.kind)));
    }
    let Some(meta) = object.get("metadata").and_then(Value::as_object) else {
        out.push(Violation::new("metadata", "is required"));
        return;
    };
    match meta.get("name").and_then(Value::as_str) {
        None => out.push(Violation::new("metadata.name", "is required")),
        Some(name) => {
            if let Err(error) = ids::check_object_name(name) {
                out.push(Violation::new("metadata.name", error.to_string()));
            }
        }
    }
    let namespace = meta.get("namespace").and_then(Value::as_str);
    match (K::NAMES.scope, namespace) {
        (Scope::Namespaced, None) => {
            out.push(Violation::new("metadata.namespace", "is required"));
        }
        (Scope::Namespaced, Some(name)) => {
            if let Err(error) = ids::check_label_name(name) {
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
    let Some(labels) = text_map(meta, "labels", out) else { return };
    for (name, value) in labels {
        let path = format!("metadata.labels[{name}]");
        if let Err(rule) = check_qualified_name(name) {
            out.push(Violation::new(&path, rule));
        }
        let Some(value) = value.as_str() else {
            out.push(Violation::new(path, "must be of type string"));
            continue;
        };
        if let Err(rule) = check_label_value(value) {
            out.push(Violation::new(path, rule));
        }
    }
}

fn check_annotations(meta: &Map<String, Value>, out: &mut Vec<Violation>) {
    let Some(annotations) = text_map(meta, "annotations", out) else { return };
    let mut bytes = 0;
    for (name, value) in annotations {
        let path = format!("metadata.annotations[{name}]");
        if let Err(rule) = check_qualified_name(&name.to_lowercase()) {
            out.push(Violation::new(&path, rule));
        }
        match value.as_str() {
            Some(value) => bytes += name.len() + value.len(),
            None => out.push(Violation::new(path, "must be of type string")),
        }
    }
    if bytes > ANNOTATION_BYTES_MAX {
        out.push(Violation::new(
            "metadata.annotations",
            format!("must have at most {ANNOTATION_BYTES_MAX} bytes, got {bytes}"),
        ));
    }
}

fn text_map<'a>(
    meta: &'a Map<String, Value>,
    field: &str,
    out: &mut Vec<Violation>,
) -> Option<&'a Map<String, Value>> {
    let value = meta.get(field)?;
    if value.as_object().is_none() {
        out.push(Violation::new(format!("metadata.{field}"), "must be of type object"));
    }
    value.as_object()
}

/// Checks a label value: at most 63 bytes, letters, digits, `-`, `_`, `.`, with a letter or digit at
/// both ends; empty is allowed.
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
fn check_qualified_name(name: &str) -> Result<(), String> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Agent, AgenticTask};

    fn task(spec: Value) -> Value {
        json!({"apiVersion": API_VERSION, "kind": "AgenticTask",
               "metadata": {"name": "a", "namespace": "default"}, "spec": spec})
    }

    #[test]
    fn nulls_go_before_defaults_come() {
        let mut object = task(json!({"kind": "verify", "payload": {"branchStrategy": null},
            "requiredCapability": {"accelerator": null}}));
        let admitted = admit::<AgenticTask>(&mut object);
        assert_eq!(admitted.violations, []);
        assert_eq!(object["spec"]["payload"]["branchStrategy"], "reset");
        assert_eq!(object["spec"]["requiredCapability"]["accelerator"], "any");
    }

    #[test]
    fn unknown_fields_of_the_spec_are_pruned_and_named_those_of_the_status_stay() {
        let mut object = task(json!({"kind": "verify", "payload": {"promt": "x"}}));
        object["status"] = json!({"phase": "Running", "newField": {"x": null},
            "conditions": [{"type": "A", "status": "True", "reason": "B", "message": "",
                            "lastTransitionTime": "2026-11-24T10:00:00Z", "more": 1}]});
        let admitted = admit::<AgenticTask>(&mut object);
        assert_eq!(admitted.pruned, ["spec.payload.promt"]);
        assert_eq!(admitted.violations, []);
        assert_eq!(object["status"]["newField"], json!({"x": null}));
        assert_eq!(object["status"]["conditions"][0]["more"], 1);
    }

    #[test]
    fn violations_name_field_and_rule() {
        let mut object = task(json!({"kind": "fix", "payload": {"issue": 0}, "timeoutSeconds": -1}));
        let rules = admit::<AgenticTask>(&mut object).violations;
        let fields: Vec<_> = rules.iter().map(|one| one.field.as_str()).collect();
        assert_eq!(fields, ["spec.kind", "spec.payload.issue", "spec.timeoutSeconds"]);
        assert_eq!(
            rules[0].rule,
            "must be one of issue-fix, verify, review, freeform, integrate, reconcile, got \"fix\""
        );
    }

    #[test]
    fn lists_with_a_minimum_and_unique_keys() {
        let mut object = json!({"apiVersion": API_VERSION, "kind": "Agent",
            "metadata": {"name": "a", "namespace": "default"},
            "spec": {"role": "coder", "tools": []}});
        let rules = admit::<Agent>(&mut object).violations;
        assert_eq!(rules, [Violation::new("spec.tools", "must have at least 1 item(s)")]);
    }

    #[test]
    fn merge_patch_follows_the_rfc() {
        let cases = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [1]}), json!([2]), json!([2])),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ];
        for (mut target, patch, wanted) in cases {
            merge(&mut target, &patch);
            assert_eq!(target, wanted);
        }
    }
}
