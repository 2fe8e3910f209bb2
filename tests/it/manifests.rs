//! Golden manifests: each is read, checked, defaulted to a known JSON, and comes unchanged through the
//! structs; together they write every field of every kind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use foreman_bin::manifest_file::{self, Located};
use foreman_core::model::manifest::{AnyKind, Manifest};
use foreman_core::model::{
    Agent, AgentRelease, AgenticTask, FleetNode, Kind, ModelProfile, Object, Workload,
};
use serde_json::{Value, json};

use crate::repository::{canonical, files, fixture, root, walk};

/// Set to `1`, the tests write the stored JSON instead of comparing it.
const UPDATE: &str = "FOREMAN_UPDATE_GOLDEN";
const GOLDEN_MIN: usize = 25;

fn read(path: &Path) -> Vec<Located<Manifest>> {
    let paths = [path.to_path_buf()];
    manifest_file::read(&paths, &mut std::io::empty(), "default")
        .unwrap_or_else(|problems| panic!("{problems}"))
}

fn golden() -> Vec<(String, Vec<Located<Manifest>>)> {
    let paths = files(&fixture("manifests"), ".yaml");
    assert!(paths.len() >= GOLDEN_MIN, "only {} golden manifests", paths.len());
    paths.iter().map(|path| (path.display().to_string(), read(path))).collect()
}

#[test]
fn each_is_stored_as_its_json_says() {
    for (file, manifests) in golden() {
        let objects: Vec<_> = manifests.into_iter().map(|one| one.value.object).collect();
        let text = canonical(&Value::Array(objects));
        let stored = file.replace(".yaml", ".stored.json");
        if std::env::var(UPDATE).is_ok_and(|value| value == "1") {
            fs::write(&stored, &text).expect("write");
        }
        let wanted = fs::read_to_string(&stored).unwrap_or_default();
        assert!(
            text == wanted,
            "{stored} differs; if that is meant, run with {UPDATE}=1\nnow:\n{text}\nbefore:\n{wanted}"
        );
    }
}

/// The object as a store would hand it out.
fn as_stored(mut object: Value) -> Value {
    let meta = object["metadata"].as_object_mut().expect("metadata");
    for (field, value) in
        [("uid", json!("u-1")), ("resourceVersion", json!("1")), ("generation", json!(1))]
    {
        meta.entry(field).or_insert(value);
    }
    object.as_object_mut().expect("an object").entry("status").or_insert(json!({}));
    without_empty_lists(&mut object);
    object
}

/// An empty list is the absence of items: our writers leave it out.
fn without_empty_lists(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, child| !child.as_array().is_some_and(Vec::is_empty));
            map.values_mut().for_each(without_empty_lists);
        }
        Value::Array(list) => list.iter_mut().for_each(without_empty_lists),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn through_structs<K: Kind>(object: &Value) -> Value {
    Object::<K>::from_json(object).expect("fits its structs").to_json()
}

#[test]
fn each_comes_unchanged_through_the_structs() {
    let mut kinds = BTreeSet::new();
    for (file, manifests) in golden() {
        for manifest in manifests {
            let object = as_stored(manifest.value.object);
            let kind = manifest.value.kind;
            kinds.insert(kind);
            let written = match kind {
                AnyKind::FleetNode => through_structs::<FleetNode>(&object),
                AnyKind::AgenticTask => through_structs::<AgenticTask>(&object),
                AnyKind::Workload => through_structs::<Workload>(&object),
                AnyKind::Agent => through_structs::<Agent>(&object),
                AnyKind::AgentRelease => through_structs::<AgentRelease>(&object),
                AnyKind::ModelProfile => through_structs::<ModelProfile>(&object),
            };
            assert_eq!(canonical(&written), canonical(&object), "{file}");
        }
    }
    assert_eq!(kinds.len(), AnyKind::ALL.len(), "only {kinds:?}");
}

#[test]
fn admitting_twice_changes_nothing() {
    for (file, manifests) in golden() {
        for manifest in manifests {
            let mut again = manifest.value.object.clone();
            let admitted = manifest.value.kind.admit(&mut again);
            assert_eq!((admitted.pruned, admitted.violations), (vec![], vec![]), "{file}");
            assert_eq!(again, manifest.value.object, "{file}");
        }
    }
}

/// The paths of the schema that a value writes.
fn written(value: &Value, schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    if value.is_null() {
        return;
    }
    found.insert(path.to_owned());
    for (name, child) in value.as_object().into_iter().flatten() {
        if let Some(below) = schema["properties"].get(name) {
            written(child, below, &format!("{path}.{name}"), found);
        } else if let Some(below) = schema.get("additionalProperties") {
            written(child, below, &format!("{path}{{}}"), found);
        }
    }
    if let Some(below) = schema.get("items") {
        for child in value.as_array().into_iter().flatten() {
            written(child, below, &format!("{path}[]"), found);
        }
    }
}

#[test]
fn together_they_write_every_field() {
    let mut found: BTreeMap<AnyKind, BTreeSet<String>> = BTreeMap::new();
    for path in files(&fixture("manifests"), ".yaml") {
        // As written, before any default.
        let text = fs::read_to_string(&path).expect("the file");
        let documents: Vec<Option<Value>> = serde_saphyr::from_multiple(&text).expect("YAML");
        for document in documents.into_iter().flatten() {
            let kind = AnyKind::ALL.into_iter().find(|kind| document["kind"] == kind.names().kind);
            let kind = kind.expect("a kind of ours");
            for part in ["spec", "status"] {
                let schema = &kind.schema()["properties"][part];
                written(&document[part], schema, part, found.entry(kind).or_default());
            }
        }
    }
    let mut missing = Vec::new();
    for kind in AnyKind::ALL {
        let written = &found[&kind];
        walk(kind.schema(), &mut |path, _, _| {
            let counts = path.starts_with("spec") || path.starts_with("status");
            if counts && !written.contains(path) {
                missing.push(format!("{} {path}", kind.names().kind));
            }
        });
    }
    assert!(missing.is_empty(), "no golden manifest writes:\n{}", missing.join("\n"));
}

#[test]
fn the_examples_for_people_are_good_and_commented() {
    let directory = root().join("examples/manifests");
    let mut names = BTreeSet::new();
    for path in files(&directory, ".yaml") {
        assert!(!read(&path).is_empty());
        let text = fs::read_to_string(&path).expect("the file");
        let comments = text.lines().filter(|line| line.contains('#')).count();
        assert!(comments >= 5, "{} explains nothing", path.display());
        names.insert(path.file_name().expect("a name").to_string_lossy().into_owned());
    }
    for wanted in [
        "agent-coder.yaml",
        "agent-reviewer.yaml",
        "agent-verifier.yaml",
        "node.yaml",
        "task-freeform.yaml",
        "workload-issues.yaml",
        "workload-pipeline.yaml",
    ] {
        assert!(names.contains(wanted), "{wanted} is gone");
    }
    // What a person applies together.
    let together =
        manifest_file::read(&[directory], &mut std::io::empty(), "default").expect("good");
    let agents: BTreeSet<_> = together
        .iter()
        .filter(|one| one.value.kind == AnyKind::Agent)
        .map(|one| one.value.object["metadata"]["name"].to_string())
        .collect();
    for one in &together {
        for reference in references(&one.value.object) {
            assert!(agents.contains(&reference), "{:?} refers to {reference}", one.place);
        }
    }
}

/// The Agents that an object names.
fn references(object: &Value) -> Vec<String> {
    let spec = &object["spec"];
    let steps = spec["pipeline"].as_array().into_iter().flatten().map(|step| &step["agentRef"]);
    let singles = ["agentRef", "coderAgentRef", "verifierAgentRef"].map(|field| &spec[field]);
    let reviewers = spec["reviewerAgentRefs"].as_array().into_iter().flatten();
    steps
        .chain(singles)
        .chain(reviewers)
        .map(|reference| &reference["name"])
        .filter(|name| name.is_string())
        .map(Value::to_string)
        .collect()
}
