//! The corpus of manifests on the real API server: it stores what the stores without one store, and
//! refuses what they refuse, at the same fields.

use std::fs;
use std::path::Path;

use foreman_core::model::manifest::AnyKind;
use serde_json::Value;

use super::{Answer, Cluster, collection};
use crate::repository::{canonical, files, fixture};

/// Refuse what the definition does not know, instead of dropping it.
const STRICT: &str = "fieldValidation=Strict";
/// At least so many of the malformed manifests are objects that can be sent to a server.
const SENT_MIN: usize = 35;
/// What a server writes into metadata, and the namespace, which is another one for each run.
const OF_THE_SERVER: [&str; 6] =
    ["creationTimestamp", "generation", "managedFields", "namespace", "resourceVersion", "uid"];

/// The documents of a file that are objects of our kinds, as they were written.
fn objects(path: &Path) -> Vec<(AnyKind, Value)> {
    let Ok(text) = fs::read_to_string(path) else { return Vec::new() };
    let documents: Vec<Option<Value>> = serde_saphyr::from_multiple(&text).unwrap_or_default();
    documents
        .into_iter()
        .flatten()
        .filter_map(|document| {
            let kind = AnyKind::ALL.into_iter().find(|kind| document["kind"] == kind.names().kind);
            Some((kind?, document))
        })
        .collect()
}

/// Applies an object as a client does: everything but the status, then the status. The first answer
/// that is a refusal, else the object as it is stored.
async fn applied(cluster: &Cluster, kind: AnyKind, mut object: Value) -> Answer {
    let status = object.as_object_mut().and_then(|object| object.remove("status"));
    let path = collection(kind, Some(&cluster.namespace));
    let created = cluster.ask("POST", &format!("{path}?{STRICT}"), Some(&object)).await;
    let (Some(status), 201) = (status, created.code) else { return created };
    let name = created.json["metadata"]["name"].as_str().expect("a name").to_owned();
    // Replaced whole: a merge patch would drop the nulls inside free JSON.
    let mut whole = created.json;
    whole["status"] = status;
    cluster.ask("PUT", &format!("{path}/{name}/status?{STRICT}"), Some(&whole)).await
}

async fn delete(cluster: &Cluster, kind: AnyKind, object: &Value) {
    let path = collection(kind, Some(&cluster.namespace));
    if let Some(name) = object["metadata"]["name"].as_str() {
        cluster.ask("DELETE", &format!("{path}/{name}"), None).await;
    }
}

fn comparable(mut object: Value) -> String {
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.retain(|field, _| !OF_THE_SERVER.contains(&field.as_str()));
    }
    canonical(&object)
}

#[tokio::test]
async fn the_golden_manifests_are_stored_as_elsewhere() {
    let Some(cluster) = Cluster::new("the corpus on Kubernetes").await else { return };
    let mut wrong = Vec::new();
    for file in files(&fixture("manifests"), ".yaml") {
        let stored = fs::read_to_string(file.with_extension("stored.json")).expect("the JSON");
        let stored: Vec<Value> = serde_json::from_str(&stored).expect("JSON");
        let objects = objects(&file);
        assert_eq!(objects.len(), stored.len(), "{}", file.display());
        for ((kind, mut object), wanted) in objects.into_iter().zip(stored) {
            // What a server wrote into a manifest that was exported is not a client's to say.
            if let Some(meta) = object["metadata"].as_object_mut() {
                meta.retain(|field, _| !OF_THE_SERVER.contains(&field.as_str()));
            }
            let Answer { code, json } = applied(&cluster, kind, object).await;
            if !(200..300).contains(&code) {
                wrong.push(format!("{}: {code} {}", file.display(), json["message"]));
            } else if comparable(json.clone()) != comparable(wanted.clone()) {
                let (found, wanted) = (comparable(json.clone()), comparable(wanted));
                wrong.push(format!("{}: stored\n{found}\nand not\n{wanted}", file.display()));
            }
            delete(&cluster, kind, &json).await;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The fields that a refusal names; none where the server could not even read the object.
fn fields(refusal: &Value) -> Vec<String> {
    let causes = refusal["details"]["causes"].as_array();
    let fields = causes.into_iter().flatten().filter_map(|cause| cause["field"].as_str());
    fields.filter(|field| !field.is_empty() && *field != "<nil>").map(str::to_owned).collect()
}

/// Whether a field of ours and one of the server are the same place: the server names the whole map
/// of labels, the item of a list that is there twice, and the name that absent metadata lacks.
fn same_place(ours: &str, theirs: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with(['[', '.']))
    };
    ours == theirs || within(ours, theirs) || within(theirs, ours)
}

async fn refused_like_us(cluster: &Cluster, file: &Path, wrong: &mut Vec<String>) -> usize {
    let mut sent = 0;
    for (kind, object) in objects(file) {
        let mut copy = object.clone();
        let ours = kind.admit(&mut copy);
        let faults: Vec<_> = ours.violations.iter().map(|fault| fault.field.clone()).collect();
        let faults: Vec<_> = faults.into_iter().chain(ours.pruned).collect();
        // The other documents of a file are good ones.
        if faults.is_empty() {
            continue;
        }
        let Answer { code, json } = applied(cluster, kind, object).await;
        delete(cluster, kind, &json).await;
        sent += 1;
        let refused = (400..500).contains(&code);
        let found = fields(&json);
        let named = found.is_empty()
            || faults.iter().any(|ours| found.iter().any(|theirs| same_place(ours, theirs)));
        if !refused || !named {
            wrong.push(format!(
                "{}: {code} {} at {found:?}, we find {faults:?}",
                file.display(),
                json["message"]
            ));
        }
    }
    sent
}

#[tokio::test]
async fn the_malformed_manifests_are_refused_as_elsewhere() {
    let Some(cluster) = Cluster::new("the malformed corpus on Kubernetes").await else { return };
    let (mut wrong, mut sent) = (Vec::new(), 0);
    for file in files(&fixture("rejected"), ".yaml") {
        sent += refused_like_us(&cluster, &file, &mut wrong).await;
    }
    assert!(sent >= SENT_MIN, "only {sent} objects were sent");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
