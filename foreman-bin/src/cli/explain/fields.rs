//! What a field means, from the schema: as `kubectl explain`.

use std::fmt::Write as _;

use foreman_core::model::API_VERSION;
use serde_json::Value;

use crate::exit::{Exit, Failure};
use crate::output::{self, Paint, paint};
use crate::target;

/// The explanation of `KIND[.field…]`.
pub(super) fn text(path: &str) -> Result<String, Failure> {
    let mut parts = path.split('.');
    let word = parts.next().unwrap_or_default();
    let kind = target::kind_of(word).map_err(|failure| {
        failure.next(format!("to explain an object, name its kind: task/{word} or workload/{word}"))
    })?;
    let mut here = kind.schema();
    let mut walked = kind.names().alias.to_owned();
    let mut required = false;
    for part in parts {
        let name = part.split('[').next().unwrap_or_default();
        let object = below(here);
        let Some(next) = object.get("properties").and_then(|fields| fields.get(name)) else {
            return Err(unknown(object, &walked, name));
        };
        required = is_required(object, name);
        here = next;
        let _infallible = write!(walked, ".{name}");
    }
    let heading = |text: &str| paint(Paint::Strong, text);
    let mut text = format!(
        "{}  {}\n{}  {API_VERSION}\n",
        heading("KIND:   "),
        kind.names().kind,
        heading("VERSION:")
    );
    if path.contains('.') {
        let must = if required { " -required-" } else { "" };
        let _infallible =
            writeln!(text, "{}  {walked} <{}>{must}", heading("FIELD:  "), type_of(here));
    }
    let about = description(here);
    if !about.is_empty() {
        let _infallible = writeln!(text, "\n{}\n{}", heading("DESCRIPTION:"), indented(&about, 2));
    }
    for rule in rules(here) {
        let _infallible = writeln!(text, "  {rule}");
    }
    let object = below(here);
    if let Some(fields) = object.get("properties").and_then(Value::as_object) {
        let _infallible = writeln!(text, "\n{}", heading("FIELDS:"));
        for (name, field) in fields {
            let must = if is_required(object, name) { " -required-" } else { "" };
            let _infallible = writeln!(text, "  {name} <{}>{must}", type_of(field));
            for line in std::iter::once(description(field)).chain(rules(field)) {
                if !line.is_empty() {
                    let _infallible = writeln!(text, "{}", indented(&line, 4));
                }
            }
        }
    }
    Ok(text)
}

/// The object whose fields a path goes on with: that of the items of a list.
fn below(schema: &Value) -> &Value {
    let inner = schema.get("items").or_else(|| {
        schema.get("additionalProperties").filter(|inner| inner.get("properties").is_some())
    });
    inner.map_or(schema, below)
}

fn unknown(object: &Value, walked: &str, name: &str) -> Failure {
    let fields = object.get("properties").and_then(Value::as_object);
    let known: Vec<&str> = fields.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let failure = Failure::new(Exit::Usage, format!("{walked} has no field {name:?}"));
    match target::near(&known, name).first() {
        Some(near) => failure.next(format!("did you mean {walked}.{near}?")),
        None => failure.next(format!("foreman explain {walked}")),
    }
}

fn is_required(object: &Value, name: &str) -> bool {
    let required = object.get("required").and_then(Value::as_array);
    required.is_some_and(|names| names.iter().any(|one| one == name))
}

fn type_of(schema: &Value) -> String {
    if let Some(items) = schema.get("items") {
        return format!("[]{}", type_of(items));
    }
    if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        return format!("map[string]{}", type_of(values));
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("object") => "Object".to_owned(),
        Some(name) => name.to_owned(),
        None if schema.get("x-kubernetes-int-or-string").is_some() => {
            "integer or string".to_owned()
        }
        None => "any".to_owned(),
    }
}

fn description(schema: &Value) -> String {
    schema.get("description").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Default, allowed values and bounds, one a line.
fn rules(schema: &Value) -> Vec<String> {
    let mut rules = Vec::new();
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        let values: Vec<_> = values.iter().map(output::cell).collect();
        rules.push(format!("one of: {}", values.join(", ")));
    }
    for (key, word) in [
        ("default", "default"),
        ("minimum", "at least"),
        ("maximum", "at most"),
        ("minLength", "at least this long"),
        ("maxLength", "at most this long"),
        ("minItems", "at least this many"),
        ("maxItems", "at most this many"),
        ("pattern", "pattern"),
        ("format", "format"),
    ] {
        let plain = schema.get(key).map(output::cell).filter(|text| !text.is_empty());
        let noise = key == "format" && plain.as_deref().is_some_and(|text| text.starts_with("int"));
        if let (Some(text), false) = (plain, noise) {
            rules.push(format!("{word}: {text}"));
        }
    }
    rules
}

fn indented(text: &str, by: usize) -> String {
    let pad = " ".repeat(by);
    let lines: Vec<String> = text.lines().map(|line| format!("{pad}{}", line.trim())).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(path: &str) -> String {
        anstream::adapter::strip_str(&text(path).expect("known")).to_string()
    }

    #[test]
    fn fields_are_explained_from_the_schema() {
        let text = plain("workload.spec.pipeline");
        assert!(text.contains("FIELD:    workload.spec.pipeline <[]Object>"), "{text}");
        assert!(text.contains("agentRef <Object> -required-"), "{text}");
        let text = plain("task.spec.kind");
        assert!(text.contains("one of: issue-fix, verify"), "{text}");
        assert!(text.contains("-required-"), "{text}");
        let text = plain("wl.spec.pipeline[0].payload.branch");
        assert!(text.contains("<string>"), "{text}");
    }

    #[test]
    fn every_field_of_every_kind_can_be_explained() {
        fn walk(path: &str, schema: &Value) {
            assert!(!plain(path).is_empty());
            let fields = below(schema).get("properties").and_then(Value::as_object);
            for (name, field) in fields.into_iter().flatten() {
                walk(&format!("{path}.{name}"), field);
            }
        }
        for kind in foreman_core::model::manifest::AnyKind::ALL {
            walk(kind.names().alias, kind.schema());
        }
    }

    #[test]
    fn an_unknown_field_names_a_near_one() {
        let failure = text("task.spec.payload.promt").expect_err("unknown");
        assert_eq!(failure.hints(), ["did you mean task.spec.payload.prompt?"]);
        assert_eq!(text("nothing").expect_err("unknown").exit(), Exit::Usage);
    }
}
