//! Where the suites find the repository's files.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("tests/ is in the repository").to_path_buf()
}

/// A file or directory under `tests/fixtures`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures").join(name)
}

/// The files of a directory that end in `suffix`, by name.
pub(crate) fn files(directory: &PathBuf, suffix: &str) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().ends_with(suffix))
        .collect();
    files.sort();
    files
}

/// JSON with its keys in order, one value a line: what two texts of one value have in common.
pub(crate) fn canonical(value: &Value) -> String {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_by_key(|(name, _)| *name);
                entries.into_iter().map(|(name, child)| (name.clone(), sorted(child))).collect()
            }
            Value::Array(list) => list.iter().map(sorted).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
        }
    }
    let mut text = serde_json::to_string_pretty(&sorted(value)).expect("plain JSON");
    text.push('\n');
    text
}

/// One schema and where it stands: `spec.pipeline[].name`, `spec.nodeSelector{}`; `.` = the root.
pub(crate) fn walk<'a>(schema: &'a Value, visit: &mut dyn FnMut(&str, &'a Value, bool)) {
    fn below<'a>(
        path: &str,
        schema: &'a Value,
        required: bool,
        visit: &mut dyn FnMut(&str, &'a Value, bool),
    ) {
        visit(if path.is_empty() { "." } else { path }, schema, required);
        let names: Vec<&str> = schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|name| name.as_str().expect("a name"))
            .collect();
        for (name, child) in schema["properties"].as_object().into_iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            below(&path, child, names.contains(&name.as_str()), visit);
        }
        for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
            if let Some(child) = schema.get(key) {
                below(&format!("{path}{mark}"), child, false, visit);
            }
        }
    }
    below("", schema, false, visit);
}
