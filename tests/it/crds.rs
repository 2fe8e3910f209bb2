//! The custom resource definitions: the files are current, and Kubernetes would take them.

use std::collections::BTreeSet;
use std::fs;

use foreman_core::model::manifest::AnyKind;
use foreman_kube::crd;
use serde_json::{Value, json};

use crate::repository::{files, root, walk};

/// The most selectable fields that Kubernetes allows.
const SELECTABLE_MAX: usize = 8;
/// Keywords that a structural schema must not have at all.
const FORBIDDEN: [&str; 11] = [
    "$ref",
    "allOf",
    "anyOf",
    "const",
    "definitions",
    "dependencies",
    "deprecated",
    "oneOf",
    "patternProperties",
    "readOnly",
    "uniqueItems",
];

#[test]
fn the_files_are_what_the_structs_make() {
    let directory = root().join("deploy/crds");
    let mut wanted = BTreeSet::new();
    for kind in AnyKind::ALL {
        let name = crd::file_name(kind);
        let text = fs::read_to_string(directory.join(&name)).unwrap_or_default();
        assert!(
            text == crd::to_yaml(kind),
            "{name} is stale: run `cargo xtask crds` and commit it"
        );
        wanted.insert(name);
    }
    let there: BTreeSet<String> = files(&directory, "")
        .iter()
        .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
        .collect();
    assert_eq!(there, wanted);
}

#[test]
fn every_file_is_one_definition_of_its_kind() {
    for kind in AnyKind::ALL {
        let text = fs::read_to_string(root().join("deploy/crds").join(crd::file_name(kind)));
        let json: Value = serde_saphyr::from_str(&text.expect("the file")).expect("YAML");
        assert_eq!(json["apiVersion"], "apiextensions.k8s.io/v1");
        assert_eq!(json["kind"], "CustomResourceDefinition");
        let (names, group) = (&json["spec"]["names"], &json["spec"]["group"]);
        let name = format!("{}.{}", names["plural"].as_str().unwrap(), group.as_str().unwrap());
        assert_eq!(json["metadata"], json!({ "name": name }));
        assert_eq!(json["spec"]["versions"].as_array().map(Vec::len), Some(1));
        let version = &json["spec"]["versions"][0];
        assert_eq!((&version["served"], &version["storage"]), (&json!(true), &json!(true)));
        assert_eq!(version["schema"]["openAPIV3Schema"], *kind.schema());
    }
}

/// Kubernetes' rules for structural schemas; what each break is.
fn structural_faults(schema: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    walk(schema, &mut |path, schema, _| {
        let map = schema.as_object().expect("an object");
        let mut fault = |what: String| faults.push(format!("{path}: {what}"));
        for word in FORBIDDEN.into_iter().filter(|word| map.contains_key(*word)) {
            fault(format!("{word} is not structural"));
        }
        let free = schema["x-kubernetes-preserve-unknown-fields"] == true
            || schema["x-kubernetes-int-or-string"] == true;
        match schema.get("type").map(|found| found.as_str()) {
            Some(Some("object" | "array" | "string" | "integer" | "number" | "boolean")) => {}
            Some(other) => fault(format!("type {other:?}")),
            None if free => {}
            None => fault("has no type".to_owned()),
        }
        if map.contains_key("properties") && map.contains_key("additionalProperties") {
            fault("properties and additionalProperties exclude each other".to_owned());
        }
        if schema["type"] == "array" && !schema["items"].is_object() {
            fault("an array needs the schema of its items".to_owned());
        }
        if path.starts_with("metadata.") {
            fault("nothing but the type may be said of metadata".to_owned());
        }
        let properties = schema["properties"].as_object();
        for name in schema["required"].as_array().into_iter().flatten() {
            if !properties.is_some_and(|all| all.contains_key(name.as_str().unwrap_or_default())) {
                fault(format!("requires {name}, which it has not"));
            }
        }
        if let Some(keys) = schema["x-kubernetes-list-map-keys"].as_array() {
            list_map_faults(schema, keys, &mut fault);
        }
        if let Some(default) = map.get("default").filter(|default| !fits(default, schema)) {
            fault(format!("its default {default} breaks its own rules"));
        }
    });
    faults
}

/// A list that is a map needs scalar keys, each required in its items or with a default.
fn list_map_faults(schema: &Value, keys: &[Value], fault: &mut dyn FnMut(String)) {
    if schema["x-kubernetes-list-type"] != "map" {
        fault("list-map-keys without list-type map".to_owned());
    }
    let items = &schema["items"];
    for key in keys {
        let below = &items["properties"][key.as_str().unwrap_or_default()];
        let required = items["required"].as_array().is_some_and(|all| all.contains(key));
        if !["string", "integer", "boolean"].iter().any(|scalar| below["type"] == *scalar) {
            fault(format!("key {key} is no scalar of its items"));
        }
        if !required && below.get("default").is_none() {
            fault(format!("key {key} is neither required nor defaulted"));
        }
    }
}

/// Whether a scalar default keeps the type, enum and bounds beside it.
fn fits(default: &Value, schema: &Value) -> bool {
    let kind = match default {
        Value::String(_) => "string",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::Null | Value::Array(_) | Value::Object(_) => return false,
    };
    let listed = schema["enum"].as_array().is_none_or(|all| all.contains(default));
    let number = default.as_i64();
    let at_least = number.zip(schema["minimum"].as_i64()).is_none_or(|(number, min)| number >= min);
    let at_most = number.zip(schema["maximum"].as_i64()).is_none_or(|(number, max)| number <= max);
    schema["type"] == kind && listed && at_least && at_most
}

#[test]
fn the_schemas_are_structural() {
    for kind in AnyKind::ALL {
        assert_eq!(structural_faults(kind.schema()), Vec::<String>::new(), "{kind:?}");
    }
}

#[test]
fn the_checker_finds_what_kubernetes_refuses() {
    let broken = json!({"type": "object", "required": ["gone"], "properties": {
        "a": {},
        "b": {"type": "array"},
        "c": {"type": "string", "anyOf": []},
        "d": {"type": "integer", "minimum": 1, "default": 0},
        "e": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
              "items": {"type": "object", "properties": {"k": {"type": "string"}}}},
        "f": {"type": ["string", "null"]},
        "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
    }});
    let found = structural_faults(&broken);
    for part in [
        ".: requires \"gone\"",
        "a: has no type",
        "b: an array needs",
        "c: anyOf is not structural",
        "d: its default 0 breaks",
        "e: key \"k\" is neither required nor defaulted",
        "f: type None",
        "metadata.name: nothing but the type",
    ] {
        assert!(found.iter().any(|fault| fault.starts_with(part)), "{part} not in {found:#?}");
    }
    assert_eq!(found.len(), 8, "{found:#?}");
}

/// The schema at a simple JSON path such as `.status.phase`; absent when it leads nowhere.
fn at<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    path.strip_prefix('.')?.split('.').try_fold(schema, |here, name| here["properties"].get(name))
}

#[test]
fn selectable_fields_are_scalars_that_exist() {
    for kind in AnyKind::ALL {
        let selectable = kind.names().selectable;
        assert!(selectable.len() <= SELECTABLE_MAX);
        for path in selectable {
            let found = at(kind.schema(), path).unwrap_or_else(|| panic!("{kind:?} {path}"));
            assert!(
                ["string", "integer", "boolean"].iter().any(|one| found["type"] == *one),
                "{path}"
            );
        }
    }
}

#[test]
fn printer_columns_show_fields_that_exist_by_their_type() {
    for kind in AnyKind::ALL {
        for column in kind.names().columns {
            let path = column.json_path;
            // Metadata has no schema here, and filters and indices lead into lists.
            let plain = !path.starts_with(".metadata") && !path.contains('[');
            let Some(found) = plain.then(|| at(kind.schema(), path)) else {
                continue;
            };
            let found = found.unwrap_or_else(|| panic!("{kind:?} {path} leads nowhere"));
            let wanted = if column.kind == "date" { "string" } else { column.kind };
            assert_eq!(found["type"], wanted, "{kind:?} {path}");
            assert_eq!(column.kind == "date", found["format"] == "date-time", "{kind:?} {path}");
        }
    }
}
