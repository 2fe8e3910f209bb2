//! The definitions as a real API server takes and serves them.

use foreman_core::model::manifest::AnyKind;
use foreman_core::model::object::{GROUP, Scope, VERSION};
use serde_json::{Value, json};

use super::{Answer, Cluster, collection};
use crate::repository::walk;

/// What `kubectl get` asks for.
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
/// At least so many scalars of the schemas have an enum or a bound that a patch can break.
const BROKEN_MIN: usize = 40;

/// A small object of each kind that every rule accepts.
fn smallest(kind: AnyKind, name: &str) -> Value {
    let spec = match kind {
        AnyKind::FleetNode => json!({"nodeName": name}),
        AnyKind::AgenticTask => json!({"kind": "freeform", "payload": {"prompt": "do it"}}),
        AnyKind::Workload => json!({"intent": "mend it"}),
        AnyKind::Agent => json!({"role": "coder", "tools": ["bash"]}),
        AnyKind::AgentRelease => json!({"agentKind": "foreman-agent", "version": "0.1.0"}),
        AnyKind::ModelProfile => json!({}),
    };
    json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind.names().kind,
        "metadata": {"name": name}, "spec": spec})
}

/// The path of a new small object.
async fn made(cluster: &Cluster, kind: AnyKind) -> String {
    // Its name differs from those of other tests also where the kind has no namespaces.
    let name = format!("{}-small", cluster.namespace);
    let path = collection(kind, Some(&cluster.namespace));
    cluster.must("POST", &path, smallest(kind, &name)).await;
    format!("{path}/{name}")
}

#[tokio::test]
async fn every_kind_is_discovered_by_all_its_names() {
    let Some(cluster) = Cluster::new("discovery on Kubernetes").await else { return };
    let list = cluster.must("GET", &format!("/apis/{GROUP}/{VERSION}"), Value::Null).await;
    let resources = list["resources"].as_array().expect("resources");
    for kind in AnyKind::ALL {
        let names = kind.names();
        let find = |name: &str| {
            let found = resources.iter().find(|resource| resource["name"] == name);
            found.unwrap_or_else(|| panic!("{name} is not served: {list}"))
        };
        let found = find(names.plural);
        assert_eq!(found["kind"], names.kind);
        assert_eq!(found["singularName"], names.singular);
        assert_eq!(found["shortNames"], json!([names.short]));
        assert_eq!(found["namespaced"], names.scope == Scope::Namespaced);
        find(&format!("{}/status", names.plural));
    }
}

/// What operator and agent look for at their start.
#[tokio::test]
async fn the_served_schema_has_the_fields_of_a_claim() {
    let Some(cluster) = Cluster::new("the served schema on Kubernetes").await else { return };
    let path = format!("/openapi/v3/apis/{GROUP}/{VERSION}");
    let schema = cluster.must("GET", &path, Value::Null).await;
    let schemas = schema["components"]["schemas"].as_object().expect("schemas");
    let (_, task) = schemas
        .iter()
        .find(|(name, _)| name.ends_with(".AgenticTask"))
        .expect("the schema of tasks");
    for field in ["attempt", "session"] {
        assert!(task["properties"]["status"]["properties"][field].is_object(), "{field}: {task}");
    }
}

/// A value that breaks the enum or a bound of a scalar, if it has any.
fn breaking(schema: &Value) -> Option<Value> {
    if schema["enum"].is_array() {
        return Some(json!("Neither"));
    }
    if let Some(minimum) = schema["minimum"].as_i64() {
        return Some(json!(minimum - 1));
    }
    let length = schema["minLength"].as_i64().unwrap_or_default();
    match schema["type"].as_str() {
        Some("string") if length > 0 => Some(json!("")),
        Some("string") if schema["format"] == "date-time" => Some(json!("yesterday")),
        Some("integer") if schema["format"] == "int32" => Some(json!(1_i64 << 31)),
        _ => None,
    }
}

/// A merge patch of one field.
fn change_of(path: &str, value: Value) -> Value {
    path.rsplit('.').fold(value, |below, name| {
        let mut map = serde_json::Map::new();
        map.insert(name.to_owned(), below);
        Value::Object(map)
    })
}

#[tokio::test]
async fn every_enum_and_every_bound_is_kept() {
    let Some(cluster) = Cluster::new("enums and bounds on Kubernetes").await else { return };
    let (mut tried, mut wrong) = (0, Vec::new());
    for kind in AnyKind::ALL {
        let object = made(&cluster, kind).await;
        let mut broken = Vec::new();
        walk(kind.schema(), &mut |path, schema, _| {
            let inside = path.starts_with("spec.") || path.starts_with("status.");
            if let Some(value) = breaking(schema).filter(|_| inside && !path.contains(['[', '{'])) {
                broken.push((path.to_owned(), value));
            }
        });
        for (field, value) in broken {
            let part = if field.starts_with("status.") { "/status" } else { "" };
            let change = change_of(&field, value);
            let path = format!("{object}{part}?dryRun=All");
            let Answer { code, json } = cluster.ask("PATCH", &path, Some(&change)).await;
            let causes = json["details"]["causes"].as_array();
            // A format is checked by another library, which names its field in words only.
            let last = field.rsplit('.').next().expect("a name");
            let named = causes.into_iter().flatten().any(|cause| {
                let words = cause["message"].as_str().unwrap_or_default();
                cause["field"] == field.as_str()
                    || words.ends_with(&format!(".{last}"))
                    || words.ends_with(&format!(" {last}"))
            });
            if code != 422 || !named {
                wrong.push(format!("{} {change}: {code} {}", kind.names().kind, json["message"]));
            }
            tried += 1;
        }
    }
    assert!(tried >= BROKEN_MIN, "only {tried} rules were broken");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn the_columns_are_what_kubectl_shows() {
    let Some(cluster) = Cluster::new("printer columns on Kubernetes").await else { return };
    for kind in AnyKind::ALL {
        let object = made(&cluster, kind).await;
        let Answer { code, json } = cluster.ask_as("GET", &object, None, TABLE).await;
        assert_eq!((code, &json["kind"]), (200, &json!("Table")), "{json}");
        let shown = json["columnDefinitions"].as_array().expect("columns");
        let shown: Vec<_> = shown
            .iter()
            .map(|column| (column["name"].as_str().expect("a name"), column["priority"].as_i64()))
            .collect();
        let columns = kind.names().columns.iter();
        let columns = columns.map(|column| (column.name, Some(i64::from(column.priority))));
        let wanted: Vec<_> = std::iter::once(("Name", Some(0))).chain(columns).collect();
        assert_eq!(shown, wanted, "{}", kind.names().kind);
    }
}

#[tokio::test]
async fn a_row_shows_the_values_of_its_object() {
    let Some(cluster) = Cluster::new("rows on Kubernetes").await else { return };
    let task = made(&cluster, AnyKind::AgenticTask).await;
    let status = json!({"status": {"phase": "Pending", "assignedNode": "n1",
        "waiting": {"reason": "NodesBusy", "message": "m"}}});
    cluster.must("PATCH", &format!("{task}/status"), status).await;
    let Answer { json, .. } = cluster.ask_as("GET", &task, None, TABLE).await;
    let columns = json["columnDefinitions"].as_array().expect("columns");
    let cell = |name: &str| {
        let place = columns.iter().position(|column| column["name"] == name).expect("a column");
        json["rows"][0]["cells"][place].clone()
    };
    assert_eq!((cell("Phase"), cell("Reason")), (json!("Pending"), json!("NodesBusy")));
}

#[tokio::test]
async fn the_status_is_written_apart() {
    let Some(cluster) = Cluster::new("the status subresource on Kubernetes").await else { return };
    for kind in AnyKind::ALL {
        let path = collection(kind, Some(&cluster.namespace));
        let name = format!("{}-apart", cluster.namespace);
        let mut object = smallest(kind, &name);
        object["status"] = json!({"observedGeneration": 7});
        let created = cluster.must("POST", &path, object).await;
        assert_eq!(created.get("status"), None, "a create writes no status: {created}");
        let both = json!({"metadata": {"labels": {"a": "b"}}, "status": {"observedGeneration": 7}});
        let patched = cluster.must("PATCH", &format!("{path}/{name}"), both.clone()).await;
        assert_eq!(patched.get("status"), None, "a patch of the object writes none: {patched}");
        let both = json!({"spec": {"unknown": 1}, "status": {"observedGeneration": 7}});
        let patched = cluster.must("PATCH", &format!("{path}/{name}/status"), both).await;
        assert_eq!(patched["status"]["observedGeneration"], 7);
        assert_eq!(patched["spec"], created["spec"], "a patch of the status writes no spec");
        assert_eq!(patched["metadata"]["generation"], 1);
    }
}
