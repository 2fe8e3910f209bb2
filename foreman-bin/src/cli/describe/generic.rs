//! The story of every other kind: metadata, fields, and what refers to it.

use foreman_core::model::manifest::AnyKind;
use foreman_core::model::shared::LocalObjectReference;
use serde_json::Value;

use super::Lines;
use crate::cli::fleet::Fleet;
use crate::cli::words;
use crate::cli::world::Found;
use crate::output;

/// How deep fields are shown line by line; below, they are shown as JSON.
const DEPTH_MAX: usize = 3;

pub(super) fn text(found: &Found, fleet: &Fleet) -> String {
    let mut lines = Lines::default();
    let key = found.key();
    lines.add("Name", key.to_string());
    lines.add("Kind", found.kind.names().kind);
    for field in ["labels", "annotations"] {
        let map = found.json.pointer(&format!("/metadata/{field}")).and_then(Value::as_object);
        let pairs = map.into_iter().flatten().map(|(name, value)| {
            format!("{}={}", words::clean(name), words::clean(&output::cell(value)))
        });
        lines.add_all(field, pairs);
    }
    let created = found.json.pointer("/metadata/creationTimestamp").and_then(Value::as_str);
    let created = created.and_then(|text| text.parse().ok());
    lines.add_some("Age", created.map(|at| output::age(at, fleet.now)));
    for part in ["spec", "status"] {
        if let Some(fields) = found.json.get(part).and_then(Value::as_object) {
            let mut flat = Vec::new();
            for (name, value) in fields {
                flatten(name, value, 1, &mut flat);
            }
            lines.add_all(part, flat);
        }
    }
    if found.kind == AnyKind::Agent {
        let tasks: Vec<_> = fleet
            .tasks
            .values()
            .filter(|task| {
                task.meta.namespace == key.namespace
                    && task.spec.agent_ref.as_ref().and_then(LocalObjectReference::named)
                        == Some(key.name.as_str())
                    && !task.status.has_ended()
            })
            .map(|task| format!("task/{} {}", task.meta.name, words::phase(task)))
            .collect();
        lines.add_all("Works for", tasks);
    }
    let next = match found.kind {
        AnyKind::FleetNode => fleet.command(&format!("explain {}", found.name())),
        AnyKind::AgenticTask
        | AnyKind::Workload
        | AnyKind::Agent
        | AnyKind::AgentRelease
        | AnyKind::ModelProfile => fleet.command(&format!("get {} -o yaml", found.name())),
    };
    lines.add("Next", next);
    lines.render()
}

fn flatten(path: &str, value: &Value, depth: usize, out: &mut Vec<String>) {
    match value {
        Value::Object(fields) if depth < DEPTH_MAX && !fields.is_empty() => {
            for (name, below) in fields {
                flatten(&format!("{path}.{name}"), below, depth + 1, out);
            }
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => {
            out.push(format!("{}: {}", words::clean(path), words::clean(&output::cell(value))));
        }
    }
}
