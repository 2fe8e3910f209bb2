//! Custom resource definitions, made from the core's schemas and names.

use foreman_core::model::manifest::AnyKind;
use foreman_core::model::object::{Column, GROUP, Names, Scope, VERSION};
use foreman_core::model::{
    Agent, AgentRelease, AgenticTask, FleetNode, Kind, ModelProfile, Workload, schema,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionNames,
    CustomResourceDefinitionSpec, CustomResourceDefinitionVersion, CustomResourceSubresourceStatus,
    CustomResourceSubresources, CustomResourceValidation, SelectableField,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Number, Value};

/// The first lines of every generated file.
const HEADER: &str = "# Made by `cargo xtask crds` from foreman-core/src/model. Do not edit.\n";

/// The definition of kind `K`.
///
/// # Panics
/// Never for the kinds of the core: a test builds the definition of each.
pub fn of<K: Kind>() -> CustomResourceDefinition {
    let names = &K::NAMES;
    CustomResourceDefinition {
        metadata: ObjectMeta {
            name: Some(format!("{}.{GROUP}", names.plural)),
            ..ObjectMeta::default()
        },
        spec: CustomResourceDefinitionSpec {
            group: GROUP.to_owned(),
            names: CustomResourceDefinitionNames {
                kind: names.kind.to_owned(),
                list_kind: Some(format!("{}List", names.kind)),
                plural: names.plural.to_owned(),
                short_names: Some(vec![names.short.to_owned()]),
                singular: Some(names.singular.to_owned()),
                ..CustomResourceDefinitionNames::default()
            },
            scope: match names.scope {
                Scope::Namespaced => "Namespaced",
                Scope::Cluster => "Cluster",
            }
            .to_owned(),
            versions: vec![version(names, schema::of::<K>())],
            ..CustomResourceDefinitionSpec::default()
        },
        status: None,
    }
}

/// The definition of a kind given as a value.
pub fn of_kind(kind: AnyKind) -> CustomResourceDefinition {
    match kind {
        AnyKind::FleetNode => of::<FleetNode>(),
        AnyKind::AgenticTask => of::<AgenticTask>(),
        AnyKind::Workload => of::<Workload>(),
        AnyKind::Agent => of::<Agent>(),
        AnyKind::AgentRelease => of::<AgentRelease>(),
        AnyKind::ModelProfile => of::<ModelProfile>(),
    }
}

/// The file name of a kind's definition, e.g. `foreman.llmkube.dev_fleetnodes.yaml`.
pub fn file_name(kind: AnyKind) -> String {
    format!("{GROUP}_{}.yaml", kind.names().plural)
}

/// A kind's definition as JSON: keys in order, bounds as integers, nothing null.
///
/// # Panics
/// Never: the types of k8s-openapi serialise to plain JSON.
#[expect(clippy::expect_used, reason = "the types of k8s-openapi serialise to plain JSON")]
pub fn to_json(kind: AnyKind) -> Value {
    let json = serde_json::to_value(of_kind(kind)).expect("a definition is plain JSON");
    canonical(json)
}

/// A kind's definition as a YAML file: the same text every time.
///
/// # Panics
/// Never: plain JSON with text keys has a YAML form.
#[expect(clippy::expect_used, reason = "plain JSON with text keys has a YAML form")]
pub fn to_yaml(kind: AnyKind) -> String {
    let yaml = serde_saphyr::to_string(&to_json(kind)).expect("plain JSON has a YAML form");
    format!("{HEADER}{yaml}")
}

#[expect(clippy::expect_used, reason = "a test builds the definition of every kind")]
fn version(names: &Names, schema: &Value) -> CustomResourceDefinitionVersion {
    let schema = serde_json::from_value(schema.clone()).expect("a structural schema");
    let selectable: Vec<_> = names
        .selectable
        .iter()
        .map(|path| SelectableField { json_path: (*path).to_owned() })
        .collect();
    CustomResourceDefinitionVersion {
        additional_printer_columns: Some(names.columns.iter().map(column).collect()),
        name: VERSION.to_owned(),
        schema: Some(CustomResourceValidation { open_api_v3_schema: Some(schema) }),
        selectable_fields: Some(selectable).filter(|fields| !fields.is_empty()),
        served: true,
        storage: true,
        subresources: Some(CustomResourceSubresources {
            scale: None,
            status: Some(CustomResourceSubresourceStatus(Value::Object(Map::new()))),
        }),
        ..CustomResourceDefinitionVersion::default()
    }
}

fn column(column: &Column) -> CustomResourceColumnDefinition {
    CustomResourceColumnDefinition {
        json_path: column.json_path.to_owned(),
        name: column.name.to_owned(),
        priority: Some(column.priority).filter(|priority| *priority != 0),
        type_: column.kind.to_owned(),
        ..CustomResourceColumnDefinition::default()
    }
}

/// Sorts keys whatever `serde_json` was built with, and writes whole numbers as integers:
/// k8s-openapi keeps bounds as floats, an API server prints them as integers.
fn canonical(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().collect();
            entries.sort_by(|one, other| one.0.cmp(&other.0));
            entries.into_iter().map(|(name, child)| (name, canonical(child))).collect()
        }
        Value::Array(list) => list.into_iter().map(canonical).collect(),
        Value::Number(number) => Value::Number(whole(number)),
        Value::Null | Value::Bool(_) | Value::String(_) => value,
    }
}

fn whole(number: Number) -> Number {
    if !number.is_f64() {
        return number;
    }
    let text = number.as_f64().map(|float| float.to_string());
    text.and_then(|text| text.parse::<i64>().ok()).map_or(number, Number::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_schema_survives_the_kubernetes_types() {
        for kind in AnyKind::ALL {
            let json = to_json(kind);
            let schema = json.pointer("/spec/versions/0/schema/openAPIV3Schema");
            assert_eq!(schema, Some(&canonical(kind.schema().clone())), "{kind:?}");
        }
    }

    #[test]
    fn names_columns_and_subresource_are_those_of_the_kind() {
        let json = to_json(AnyKind::AgenticTask);
        assert_eq!(json["metadata"]["name"], "agentictasks.foreman.llmkube.dev");
        assert_eq!(json["spec"]["scope"], "Namespaced");
        assert_eq!(json["spec"]["names"]["shortNames"], json!(["at"]));
        let version = &json["spec"]["versions"][0];
        assert_eq!(version["subresources"], json!({"status": {}}));
        assert_eq!(
            version["selectableFields"],
            json!([{"jsonPath": ".status.assignedNode"}, {"jsonPath": ".status.phase"}])
        );
        assert_eq!(
            version["additionalPrinterColumns"][0],
            json!({"name": "Phase", "type": "string", "jsonPath": ".status.phase"})
        );
        assert_eq!(
            version["additionalPrinterColumns"][5],
            json!({"name": "Reason", "type": "string", "jsonPath": ".status.waiting.reason",
                   "priority": 1})
        );
    }

    #[test]
    fn a_yaml_file_reads_back_as_the_json() {
        for kind in AnyKind::ALL {
            let yaml = to_yaml(kind);
            let back: Value = serde_saphyr::from_str(&yaml).expect("reads");
            assert_eq!(back, to_json(kind), "{kind:?}");
            assert!(!yaml.contains('\t') && yaml.lines().all(|line| line.trim_end() == line));
        }
    }

    #[test]
    fn whole_numbers_become_integers_and_others_stay() {
        let numbers = json!([1.0, 500.0, -3.0, 0.5, 7]);
        assert_eq!(canonical(numbers).to_string(), "[1,500,-3,0.5,7]");
    }
}
