//! The structural schema of each kind, generated from its structs: one source for the custom
//! resource definitions, for the stores without an API server and for `foreman validate`.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::object::Kind;

/// Marks JSON whose unknown fields are kept.
pub const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
/// Marks a value that is an integer or a string.
pub const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

static SCHEMAS: LazyLock<Mutex<BTreeMap<&'static str, &'static Value>>> =
    LazyLock::new(Mutex::default);

/// The structural schema (`OpenAPI` v3, as in a custom resource definition) of a kind.
pub fn of<K: Kind>() -> &'static Value {
    let mut schemas = SCHEMAS.lock().unwrap_or_else(PoisonError::into_inner);
    schemas.entry(K::NAMES.kind).or_insert_with(|| Box::leak(Box::new(generate::<K>())))
}

/// The part of a kind's schema below `spec` or `status`, along property names.
pub(crate) fn at<'a>(schema: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(schema, |here, name| here.get("properties")?.get(*name))
}

fn generate<K: Kind>() -> Value {
    let mut settings = SchemaSettings::openapi3();
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    let generator = settings.into_generator();
    let mut spec = generator.clone().into_root_schema_for::<K::Spec>().to_value();
    let mut status = generator.into_root_schema_for::<K::Status>().to_value();
    structural(&mut spec, false);
    structural(&mut status, true);
    json!({
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": { "type": "object" },
            "spec": spec,
            "status": status,
        },
    })
}

/// Makes a generated schema structural. `open` (below status) keeps unknown fields of every object.
fn structural(schema: &mut Value, open: bool) {
    let Some(map) = schema.as_object_mut() else {
        return;
    };
    for noise in ["title", "nullable", "$schema"] {
        map.remove(noise);
    }
    single_type(map);
    whole_bounds(map);
    if map.get("additionalProperties").is_some_and(Value::is_boolean) {
        map.remove("additionalProperties");
    }
    if let Some(properties) = map.get_mut("properties").and_then(Value::as_object_mut) {
        for property in properties.values_mut() {
            structural(property, open);
        }
    }
    for child in ["items", "additionalProperties"] {
        if let Some(child) = map.get_mut(child) {
            structural(child, open);
        }
    }
    let is_object = map.get("type").and_then(Value::as_str) == Some("object");
    if open && is_object && !map.contains_key("additionalProperties") {
        map.insert(PRESERVE.to_owned(), Value::Bool(true));
    }
}

/// `["string", "null"]` and nulls in an enum come from `Option`; absence is how we say that.
fn single_type(map: &mut Map<String, Value>) {
    if let Some(types) = map.get("type").and_then(Value::as_array) {
        let one = types.iter().find(|name| name.as_str() != Some("null")).cloned();
        if let Some(one) = one {
            map.insert("type".to_owned(), one);
        }
    }
    if let Some(values) = map.get_mut("enum").and_then(Value::as_array_mut) {
        values.retain(|value| !value.is_null());
    }
}

/// Bounds of integers are integers, as an API server prints them.
fn whole_bounds(map: &mut Map<String, Value>) {
    for bound in ["minimum", "maximum"] {
        let whole = map.get(bound).and_then(Value::as_f64).map(|number| format!("{number:.0}"));
        if let Some(number) = whole.and_then(|text| text.parse::<i64>().ok()) {
            map.insert(bound.to_owned(), json!(number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Agent, AgenticTask, FleetNode, Workload};

    fn no_foreign_words(schema: &Value, path: &str) {
        if let Some(map) = schema.as_object() {
            for word in ["anyOf", "oneOf", "allOf", "$ref", "nullable", "const", "title"] {
                assert!(!map.contains_key(word), "{word} at {path}: {schema}");
            }
            for (name, child) in
                map.get("properties").and_then(Value::as_object).into_iter().flatten()
            {
                no_foreign_words(child, &format!("{path}.{name}"));
            }
            for child in ["items", "additionalProperties"] {
                if let Some(child) = map.get(child) {
                    no_foreign_words(child, &format!("{path}[]"));
                }
            }
        }
    }

    #[test]
    fn schemas_are_structural() {
        no_foreign_words(of::<FleetNode>(), "FleetNode");
        no_foreign_words(of::<AgenticTask>(), "AgenticTask");
        no_foreign_words(of::<Workload>(), "Workload");
        no_foreign_words(of::<Agent>(), "Agent");
    }

    #[test]
    fn bounds_defaults_and_openness_are_there() {
        let agent = of::<Agent>();
        let turns = at(agent, &["spec", "maxTurns"]).expect("maxTurns");
        assert_eq!(turns["default"], json!(50));
        assert_eq!(turns["maximum"], json!(500));
        assert_eq!(turns["format"], json!("int32"));
        let node = of::<FleetNode>();
        assert_eq!(at(node, &["status", "capability"]).expect("there")[PRESERVE], json!(true));
        assert!(at(node, &["spec"]).expect("there").get(PRESERVE).is_none());
        assert!(at(node, &["spec", "roles"]).expect("there").get("default").is_none());
    }
}
