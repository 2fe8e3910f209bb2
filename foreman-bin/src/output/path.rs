//! The JSON paths of printer columns: fields, `[N]`, `[*]`, `['name']` and `[?(@.field=="value")]`.

use serde_json::Value;

/// One step of a path.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
    Each,
    Where { field: String, value: String },
}

/// The value at a path such as `.status.conditions[?(@.type=="Finished")].reason`; absent where the
/// path leads nowhere or is none.
pub fn at<'v>(object: &'v Value, path: &str) -> Option<&'v Value> {
    all(object, path).first().copied()
}

/// All values at a path: `[*]` and `[?(…)]` can lead to several.
pub fn all<'v>(object: &'v Value, path: &str) -> Vec<&'v Value> {
    let Some(steps) = steps(path) else { return Vec::new() };
    steps.iter().fold(vec![object], |values, step| {
        values.into_iter().flat_map(|value| after(value, step)).collect()
    })
}

/// Whether the text is a path.
pub fn is_path(path: &str) -> bool {
    steps(path).is_some_and(|steps| !steps.is_empty())
}

/// Where one step leads.
fn after<'v>(value: &'v Value, step: &Step) -> Vec<&'v Value> {
    let items = || value.as_array().map(Vec::as_slice).unwrap_or_default().iter();
    match step {
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::Index(index) => value.get(index).into_iter().collect(),
        Step::Each => match value {
            Value::Object(fields) => fields.values().collect(),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => items().collect(),
        },
        Step::Where { field, value: wanted } => items()
            .filter(|item| item.get(field).is_some_and(|found| cell(found) == *wanted))
            .collect(),
    }
}

/// A value as a cell shows it.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn steps(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = path.trim().trim_start_matches('{').trim_end_matches('}');
    rest = rest.strip_prefix('$').unwrap_or(rest);
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix("[?(@.") {
            let (test, after) = inside.split_once(")]")?;
            let (field, value) = test.split_once("==")?;
            let value = value.trim().trim_matches(|c| c == '"' || c == '\'').to_owned();
            steps.push(Step::Where { field: field.trim().to_owned(), value });
            rest = after;
        } else if let Some(after) = rest.strip_prefix("[*]") {
            steps.push(Step::Each);
            rest = after;
        } else if let Some(inside) = rest.strip_prefix("['") {
            let (name, after) = inside.split_once("']")?;
            steps.push(Step::Field(name.replace("\\.", ".")));
            rest = after;
        } else if let Some(inside) = rest.strip_prefix('[') {
            let (index, after) = inside.split_once(']')?;
            steps.push(Step::Index(index.parse().ok()?));
            rest = after;
        } else {
            let (name, after) = field(rest.strip_prefix('.').unwrap_or(rest))?;
            steps.push(Step::Field(name));
            rest = after;
        }
    }
    Some(steps)
}

/// A field's name up to the next dot or bracket (`\.` is a dot in the name), and what follows.
fn field(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    let end = loop {
        match chars.next() {
            None => break text.len(),
            Some((at, '.' | '[')) => break at,
            Some((_, '\\')) => name.push(chars.next()?.1),
            Some((_, c)) => name.push(c),
        }
    };
    (!name.is_empty()).then(|| (name, text.get(end..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_of_columns_find_their_values() {
        let object = json!({
            "metadata": {"labels": {"foreman.llmkube.dev/workload": "w"}},
            "status": {
                "conditions": [{"type": "Other"}, {"type": "Finished", "reason": "Succeeded"}],
                "capability": {"models": [{"name": "qwen"}]},
                "attempt": 2, "done": true,
            },
        });
        let cases = [
            (".status.attempt", "2"),
            ("{.status.done}", "true"),
            ("$.status.capability.models[0].name", "qwen"),
            (".status.conditions[?(@.type==\"Finished\")].reason", "Succeeded"),
            (".metadata.labels['foreman\\.llmkube\\.dev/workload']", "w"),
            (".metadata.labels.foreman\\.llmkube\\.dev/workload", "w"),
        ];
        for (path, value) in cases {
            assert_eq!(at(&object, path).map(cell).as_deref(), Some(value), "{path}");
        }
        let kinds: Vec<String> =
            all(&object, ".status.conditions[*].type").into_iter().map(cell).collect();
        assert_eq!(kinds, ["Other", "Finished"]);
        for path in [".status.none", ".status.conditions[7]", "[", ".status.conditions[?(@.x", ".."]
        {
            assert_eq!(at(&object, path), None, "{path}");
        }
    }

    #[test]
    fn every_column_of_every_kind_is_a_path() {
        for kind in foreman_core::model::manifest::AnyKind::ALL {
            for column in kind.names().columns {
                assert!(steps(column.json_path).is_some(), "{}", column.json_path);
            }
        }
    }
}
