// tidy: the four steps of an admission walk the same schema and read best one after the other.
//! What the schema does to an object, in an API server's order: drop nulls, default, prune,
//! validate.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{LazyLock, PoisonError, RwLock};

use regex_lite::Regex;
use serde_json::{Value, json};

use super::metadata;
use crate::model::object::Kind;
use crate::model::schema::{self, INT_OR_STRING, PRESERVE};
use crate::model::time::WallTime;

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
    pub(super) fn new(field: impl Into<String>, rule: impl Into<String>) -> Self {
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
    prune(object, root, Path::Root, &mut admitted.pruned);
    metadata::prune(object, &mut admitted.pruned);
    validate(object, root, Path::Root, 0, &mut admitted.violations);
    metadata::validate::<K>(object, &mut admitted.violations);
    admitted
}

/// Where in an object we are. It becomes text only for what is wrong: an admission is on the way of
/// every write, and most have nothing to say.
#[derive(Clone, Copy)]
enum Path<'a> {
    Root,
    Field(&'a Self, &'a str),
    Item(&'a Self, usize),
}

impl Path<'_> {
    fn is_root(self) -> bool {
        matches!(self, Self::Root)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Field(Path::Root, name) => f.write_str(name),
            Path::Field(parent, name) => write!(f, "{parent}.{name}"),
            Path::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

impl From<Path<'_>> for String {
    fn from(path: Path<'_>) -> Self {
        path.to_string()
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
                for child in list.iter_mut() {
                    drop_nulls(child, below);
                }
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
                for child in map.values_mut() {
                    default(child, below);
                }
            }
        }
        Value::Array(list) => {
            if let Some(below) = schema.get("items") {
                for child in list.iter_mut() {
                    default(child, below);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Fields of the root that every object has, whatever its schema says.
const ROOT_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

fn prune(value: &mut Value, schema: &Value, path: Path<'_>, pruned: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            if let Some(below) = schema.get("additionalProperties") {
                for (name, child) in map.iter_mut() {
                    prune(child, below, Path::Field(&path, name), pruned);
                }
                return;
            }
            let keep_unknown = is_preserving(schema);
            map.retain(|name, _| {
                let known = properties.is_some_and(|all| all.contains_key(name));
                if !known && !keep_unknown {
                    pruned.push(Path::Field(&path, name).to_string());
                }
                known || keep_unknown
            });
            for (name, child) in map.iter_mut() {
                if path.is_root() && ROOT_FIELDS.contains(&name.as_str()) {
                    continue;
                }
                if let Some(below) = properties.and_then(|all| all.get(name)) {
                    prune(child, below, Path::Field(&path, name), pruned);
                }
            }
        }
        Value::Array(list) => {
            if let Some(below) = schema.get("items") {
                for (index, child) in list.iter_mut().enumerate() {
                    prune(child, below, Path::Item(&path, index), pruned);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn validate(value: &Value, schema: &Value, path: Path<'_>, depth: usize, out: &mut Vec<Violation>) {
    if depth > DEPTH_MAX {
        out.push(Violation::new(path, format!("must not be nested deeper than {DEPTH_MAX}")));
        return;
    }
    if !has_type(value, schema) {
        let wanted = schema.get("type").and_then(Value::as_str).unwrap_or("integer or string");
        out.push(Violation::new(path, format!("must be of type {wanted}, got {}", shown(value))));
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
                    out.push(Violation::new(Path::Field(&path, name), "is required"));
                }
            }
            let properties = schema.get("properties").and_then(Value::as_object);
            for (name, child) in map {
                if path.is_root() && ROOT_FIELDS.contains(&name.as_str()) {
                    continue;
                }
                let below = properties.and_then(|all| all.get(name));
                if let Some(below) = below.or_else(|| schema.get("additionalProperties")) {
                    validate(child, below, Path::Field(&path, name), depth + 1, out);
                }
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn check_list(
    list: &[Value],
    schema: &Value,
    path: Path<'_>,
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
            validate(child, below, Path::Item(&path, index), depth + 1, out);
        }
    }
    let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
    if let Some(key) = keys.and_then(|keys| keys.first()).and_then(Value::as_str) {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, child) in list.iter().enumerate() {
            let Some(name) = child.get(key).and_then(Value::as_str) else {
                continue;
            };
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

/// The value's type, and where it is short the value: `string "50"`, `array`.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null | Value::Array(_) | Value::Object(_) => type_of(value).to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            format!("{} {}", type_of(value), short(value))
        }
    }
}

/// The value as a message may show it: at most 60 characters.
pub(super) fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 {
        return text;
    }
    text.chars().take(57).chain("...".chars()).collect()
}

fn check_number(value: &Value, schema: &Value, path: Path<'_>, out: &mut Vec<Violation>) {
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

fn check_text(text: &str, schema: &Value, path: Path<'_>, out: &mut Vec<Violation>) {
    let length = || text.chars().count() as u64;
    if let Some(min) = schema.get("minLength").and_then(Value::as_u64)
        && length() < min
    {
        out.push(Violation::new(path, format!("must have at least {min} character(s)")));
    }
    if let Some(max) = schema.get("maxLength").and_then(Value::as_u64)
        && length() > max
    {
        out.push(Violation::new(
            path,
            format!("must have at most {max} characters, got {}", length()),
        ));
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
        && !matches_pattern(pattern, text)
    {
        let shown = short(&json!(text));
        out.push(Violation::new(path, format!("must match {pattern}, got {shown}")));
    }
    if schema.get("format").and_then(Value::as_str) == Some("date-time") && !is_date_time(text) {
        let shown = short(&json!(text));
        out.push(Violation::new(
            path,
            format!("must be an RFC 3339 time such as 2026-11-24T10:00:00Z, got {shown}"),
        ));
    }
}

/// The patterns of our schemas, compiled once each; one that does not compile matches nothing.
static PATTERNS: LazyLock<RwLock<BTreeMap<String, Option<Regex>>>> = LazyLock::new(RwLock::default);

fn matches_pattern(pattern: &str, text: &str) -> bool {
    let fits = |regex: &Option<Regex>| regex.as_ref().is_some_and(|regex| regex.is_match(text));
    let known = PATTERNS.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(regex) = known.get(pattern) {
        return fits(regex);
    }
    drop(known);
    let mut known = PATTERNS.write().unwrap_or_else(PoisonError::into_inner);
    fits(known.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).ok()))
}

/// RFC 3339 to the letter. [`WallTime`] reads more than an API server lets in: no seconds, a space
/// for the `T`, a leap second.
fn is_date_time(text: &str) -> bool {
    static FORM: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(
            "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-5][0-9](\\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$",
        )
        .ok()
    });
    FORM.as_ref().is_some_and(|form| form.is_match(text)) && text.parse::<WallTime>().is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::object::API_VERSION;
    use crate::model::{Agent, AgenticTask};

    #[expect(clippy::needless_pass_by_value, reason = "cases read better with values")]
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
        let mut object =
            task(json!({"kind": "fix", "payload": {"issue": 0}, "timeoutSeconds": -1}));
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
    fn metadata_is_checked_field_by_field() {
        let mut object = task(json!({"kind": "verify", "payload": {}}));
        object["apiVersion"] = json!("v1");
        object["metadata"] = json!({"name": 7, "namespace": null, "lables": {}, "uid": null,
            "labels": {"a": 1, "b c": ""}, "annotations": ["x"]});
        let admitted = admit::<AgenticTask>(&mut object);
        assert_eq!(admitted.pruned, ["metadata.lables"]);
        let said: Vec<_> =
            admitted.violations.iter().map(|one| format!("{}: {}", one.field, one.rule)).collect();
        assert_eq!(
            said,
            [
                "apiVersion: must be foreman.llmkube.dev/v1alpha1, got \"v1\"",
                "metadata.name: must be of type string, got number 7",
                "metadata.namespace: is required",
                "metadata.labels[a]: must be of type string, got number 1",
                "metadata.labels[b c]: must consist of letters, digits, '-', '_' or '.', with a letter or digit at both ends, got \"b c\"",
                "metadata.annotations: must be of type object, got array",
            ]
        );
    }

    #[test]
    fn dates_are_those_of_an_api_server() {
        for good in ["2026-11-24T10:00:00Z", "2026-11-24t10:00:00.123456+02:00"] {
            assert!(is_date_time(good), "{good}");
        }
        for bad in [
            "2026-11-24",
            "2026-11-24 10:00:00Z",
            "2026-11-24T10:00Z",
            "2026-11-24T10:00:00",
            "2026-11-24T23:59:60Z",
            "2026-13-24T10:00:00Z",
            "2026-02-30T10:00:00Z",
            "yesterday",
        ] {
            assert!(!is_date_time(bad), "{bad}");
        }
    }
}
