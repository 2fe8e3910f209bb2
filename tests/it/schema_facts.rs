//! Our schema is a superset of the existing system's: its every line, as a fixture, is walked against
//! what we generate, and each difference is named.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use foreman_core::model::manifest::AnyKind;
use serde_json::{Map, Value, json};

use crate::repository::{fixture, walk};

/// What a line of the fixture says of a path, besides its kind and path.
const FACTS: [&str; 15] = [
    "type",
    "format",
    "default",
    "enum",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "pattern",
    "x-kubernetes-map-type",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
];
/// Says that a value may be null. No schema of ours may: nulls are dropped before defaults come.
const NULLABLE: &str = "nullable";
const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
/// Keywords that carry no rule.
const PROSE: [&str; 5] = ["description", "properties", "items", "additionalProperties", "required"];

fn facts() -> Vec<Map<String, Value>> {
    let text = fs::read_to_string(fixture("existing-schema.jsonl")).expect("the fixture");
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
}

fn kind_of(name: &str) -> AnyKind {
    let found = AnyKind::ALL.into_iter().find(|kind| kind.names().kind == name);
    found.unwrap_or_else(|| panic!("we have no kind {name}"))
}

/// The paths of a kind in the fixture.
fn old_paths(facts: &[Map<String, Value>]) -> BTreeMap<(String, String), Map<String, Value>> {
    let paths = facts.iter().filter(|line| line.contains_key("path"));
    paths
        .map(|line| {
            let text = |key: &str| line[key].as_str().expect("a text").to_owned();
            ((text("kind"), text("path")), line.clone())
        })
        .collect()
}

/// What our schema says of a path, in the fixture's words.
fn said(path: &str, schema: &Value, required: bool) -> Map<String, Value> {
    let mut said = Map::new();
    for fact in FACTS {
        // The existing status prunes, ours keeps what newer writers wrote: api.md rule 4.
        let ours_alone = fact == PRESERVE && path.starts_with("status") && path != "status.result";
        if let Some(value) = schema.get(fact).filter(|_| !ours_alone) {
            said.insert(fact.to_owned(), value.clone());
        }
    }
    if schema["x-kubernetes-int-or-string"] == true {
        said.insert("type".to_owned(), json!("int-or-string"));
    }
    said.entry("type").or_insert(json!("any"));
    said.insert("required".to_owned(), json!(required));
    said
}

#[test]
fn every_line_of_the_existing_schema_is_ours_too() {
    let facts = facts();
    let old = old_paths(&facts);
    assert!(old.len() > 400, "the fixture is cut short: {} paths", old.len());
    let mut ours = BTreeMap::new();
    for kind in AnyKind::ALL {
        walk(kind.schema(), &mut |path, schema, required| {
            let key = (kind.names().kind.to_owned(), path.to_owned());
            ours.insert(key, said(path, schema, required));
        });
    }
    let mut differences = Vec::new();
    for ((kind, path), line) in &old {
        let Some(said) = ours.get(&(kind.clone(), path.clone())) else {
            differences.push(format!("{kind} {path}: is missing"));
            continue;
        };
        let names: BTreeSet<&String> = line
            .keys()
            .chain(said.keys())
            .filter(|name| !["kind", "path"].contains(&name.as_str()))
            .collect();
        for name in names {
            if line.get(name) != said.get(name) {
                let show =
                    |value: Option<&Value>| value.map_or("absent".to_owned(), Value::to_string);
                differences.push(format!(
                    "{kind} {path}: {name} was {}, is {}",
                    show(line.get(name)),
                    show(said.get(name))
                ));
            }
        }
    }
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences.join("\n")
    );
}

#[test]
fn the_fixture_knows_no_rule_that_this_test_does_not() {
    for line in facts() {
        for name in line.keys() {
            let known = FACTS.contains(&name.as_str())
                || ["names", "kind", "path", "required"].contains(&name.as_str());
            assert!(known, "{name} in {line:?}");
        }
    }
}

#[test]
fn names_scopes_and_columns_are_equal_and_ours_follow_with_priority_1() {
    let mut kinds = 0;
    for line in facts() {
        let Some(old) = line.get("names") else {
            continue;
        };
        kinds += 1;
        let kind = kind_of(old["kind"].as_str().expect("a kind"));
        let crd = foreman_kube::crd::to_json(kind);
        let (names, version) = (&crd["spec"]["names"], &crd["spec"]["versions"][0]);
        assert_eq!(names["kind"], old["kind"]);
        assert_eq!(names["plural"], old["plural"], "{kind:?}");
        assert_eq!(names["singular"], old["singular"], "{kind:?}");
        assert_eq!(names["shortNames"], old["shortNames"], "{kind:?}");
        assert_eq!(crd["spec"]["scope"], old["scope"], "{kind:?}");
        assert_eq!(version["name"], old["version"], "{kind:?}");
        let subresources: Vec<_> =
            version["subresources"].as_object().expect("there").keys().cloned().collect();
        assert_eq!(json!(subresources), old["subresources"], "{kind:?}");
        let columns = version["additionalPrinterColumns"].as_array().expect("columns");
        let before = old["columns"].as_array().expect("columns");
        assert!(columns.len() >= before.len(), "{kind:?} lost a column");
        let (first, rest) = columns.split_at(before.len());
        assert_eq!(first, before, "{kind:?}");
        for column in rest {
            assert_eq!(column["priority"], 1, "{kind:?} {column}");
        }
    }
    assert_eq!(kinds, AnyKind::ALL.len());
}

#[test]
fn additions_are_optional_and_have_no_default() {
    let old = old_paths(&facts());
    let mut additions = 0;
    for kind in AnyKind::ALL {
        let name = kind.names().kind;
        let is_old = |path: &str| old.contains_key(&(name.to_owned(), path.to_owned()));
        walk(kind.schema(), &mut |path, schema, required| {
            if is_old(path) || path == "metadata" {
                return;
            }
            additions += 1;
            // A field of a new struct may be required in it; a new field of an old struct may not.
            let parent = path.rsplit_once('.').map_or(".", |(parent, _)| parent);
            assert!(!(required && is_old(parent)), "{name} {path} is new and required");
            // References keep the old default of their own name wherever they are used.
            let reference = path == "spec.planner.agentRef.name";
            assert!(
                schema.get("default").is_none() || reference,
                "{name} {path} is new and has a default"
            );
        });
    }
    assert!(additions > 50, "only {additions} additions are seen");
}

#[test]
fn nothing_is_nullable_and_no_keyword_is_unknown() {
    for kind in AnyKind::ALL {
        walk(kind.schema(), &mut |path, schema, _| {
            for word in schema.as_object().expect("a schema is an object").keys() {
                assert_ne!(word, NULLABLE, "{kind:?} {path}");
                let known = FACTS.contains(&word.as_str()) || PROSE.contains(&word.as_str());
                assert!(known, "{kind:?} {path}: {word}");
            }
        });
    }
}

#[test]
fn status_keeps_unknown_fields_at_every_depth_and_spec_prunes() {
    for kind in AnyKind::ALL {
        walk(kind.schema(), &mut |path, schema, _| {
            let keeps = schema[PRESERVE] == true;
            if path == "status" || path.starts_with("status.") {
                let closed =
                    schema["type"] == "object" && schema.get("additionalProperties").is_none();
                assert!(keeps || !closed, "{kind:?} {path} drops what newer writers wrote");
            } else if path.starts_with("spec") {
                assert!(
                    !keeps || path == "spec.chatTemplateKwargs{}",
                    "{kind:?} {path} hides typos"
                );
            }
        });
    }
}
