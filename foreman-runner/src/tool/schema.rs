//! A small checker for the arguments of tools: the part of JSON schema that our own tools use, with
//! the conversions that models need (a number given as text, a single word where a list is meant).

use serde_json::{Map, Value};

/// Checks `arguments` against the object schema `schema` and converts what is meant well. Unknown
/// arguments are dropped; nulls count as absent.
///
/// # Errors
/// What is wrong, in words for the model.
pub fn check_arguments(schema: &Value, arguments: &mut Map<String, Value>) -> Result<(), String> {
    arguments.retain(|_, value| !value.is_null());
    object(schema, arguments, "")
}

fn object(schema: &Value, map: &mut Map<String, Value>, at: &str) -> Result<(), String> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let unknown: Vec<String> = match properties {
        Some(known) => map.keys().filter(|key| !known.contains_key(*key)).cloned().collect(),
        None => Vec::new(),
    };
    for required in schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if !map.contains_key(required) {
            let hint = if unknown.is_empty() {
                String::new()
            } else {
                format!(" ({} is not known)", unknown.join(", "))
            };
            return Err(format!("the argument {} is missing{hint}", path(at, required)));
        }
    }
    if schema.get("additionalProperties") != Some(&Value::Bool(true)) {
        map.retain(|key, _| !unknown.contains(key));
    }
    for (key, property) in properties.into_iter().flatten() {
        if let Some(value) = map.get_mut(key) {
            check(property, value, &path(at, key))?;
        }
    }
    Ok(())
}

fn path(at: &str, key: &str) -> String {
    if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") }
}

fn check(schema: &Value, value: &mut Value, at: &str) -> Result<(), String> {
    if let Some(wanted) = schema.get("type").and_then(Value::as_str) {
        convert(wanted, value);
        let fits = match wanted {
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            _ => true,
        };
        if !fits {
            return Err(format!("the argument {at} must be of type {wanted}, not {}", kind(value)));
        }
    }
    if let Some(choices) = schema.get("enum").and_then(Value::as_array) {
        let same = |choice: &&Value| match (choice.as_str(), value.as_str()) {
            (Some(choice), Some(given)) => normal(choice) == normal(given),
            _ => *choice == value,
        };
        let Some(choice) = choices.iter().find(same) else {
            let words: Vec<String> = choices.iter().map(Value::to_string).collect();
            return Err(format!("the argument {at} must be one of {}", words.join(", ")));
        };
        *value = choice.clone();
    }
    bounds(schema, value, at)?;
    match value {
        Value::Object(map) => object(schema, map, at),
        Value::Array(items) => match schema.get("items") {
            Some(item_schema) => items
                .iter_mut()
                .enumerate()
                .try_for_each(|(i, item)| check(item_schema, item, &format!("{at}[{i}]"))),
            None => Ok(()),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn bounds(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let bound = |name: &str| schema.get(name).and_then(Value::as_i64);
    if let Some(number) = value.as_i64().or_else(|| value.as_u64().map(|_| i64::MAX)) {
        if let Some(minimum) = bound("minimum").filter(|minimum| number < *minimum) {
            return Err(format!("the argument {at} must be at least {minimum}"));
        }
        if let Some(maximum) = bound("maximum").filter(|maximum| number > *maximum) {
            return Err(format!("the argument {at} must be at most {maximum}"));
        }
    }
    let (size, least, most, unit) = match value {
        Value::String(text) => {
            (text.chars().count(), bound("minLength"), bound("maxLength"), "characters")
        }
        Value::Array(items) => (items.len(), bound("minItems"), bound("maxItems"), "entries"),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return Ok(()),
    };
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    if let Some(least) = least.filter(|least| size < *least) {
        return Err(format!("the argument {at} must have at least {least} {unit}"));
    }
    if let Some(most) = most.filter(|most| size > *most) {
        return Err(format!("the argument {at} must have at most {most} {unit}"));
    }
    Ok(())
}

/// What models write when they mean the right thing.
fn convert(wanted: &str, value: &mut Value) {
    let converted = match (wanted, &*value) {
        ("integer", Value::String(text)) => text.trim().parse::<i64>().ok().map(Value::from),
        // 3.0 is an integer to everyone but JSON readers.
        ("integer", Value::Number(number)) if !number.is_i64() && !number.is_u64() => number
            .as_f64()
            .filter(|f| f.fract() == 0.0)
            .and_then(|f| format!("{f:.0}").parse::<i64>().ok())
            .map(Value::from),
        ("number", Value::String(text)) => text
            .trim()
            .parse::<f64>()
            .ok()
            .and_then(|f| serde_json::Number::from_f64(f).map(Value::Number)),
        ("boolean", Value::String(text)) => match normal(text).as_str() {
            "TRUE" => Some(Value::Bool(true)),
            "FALSE" => Some(Value::Bool(false)),
            _ => None,
        },
        ("string", Value::Number(number)) => Some(Value::String(number.to_string())),
        ("array", Value::String(text)) => {
            serde_json::from_str::<Value>(text).ok().filter(Value::is_array)
        }
        ("object", Value::String(text)) => {
            serde_json::from_str::<Value>(text).ok().filter(Value::is_object)
        }
        ("array", Value::Object(_)) => Some(Value::Array(vec![value.clone()])),
        _ => None,
    };
    if let Some(converted) = converted {
        *value = converted;
    }
}

/// One spelling for `NO-GO`, `no_go` and `NoGo`.
fn normal(word: &str) -> String {
    word.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(arguments: &Value) -> Result<Value, String> {
        let schema = json!({
            "type": "object",
            "properties": {
                "path": {"type": "string", "minLength": 1, "maxLength": 5},
                "limit": {"type": "integer", "minimum": 0, "maximum": 9},
                "on": {"type": "boolean"},
                "verdict": {"type": "string", "enum": ["GO", "NO-GO"]},
                "list": {"type": "array", "maxItems": 2, "items": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
            },
            "required": ["path"],
        });
        let mut map = arguments.as_object().cloned().expect("an object");
        check_arguments(&schema, &mut map).map(|()| Value::Object(map))
    }

    #[test]
    fn what_is_meant_well_is_converted() {
        assert_eq!(
            run(
                &json!({"path": "a", "limit": "3", "on": "true", "verdict": "no_go", "extra": 1, "list": null})
            ),
            Ok(json!({"path": "a", "limit": 3, "on": true, "verdict": "NO-GO"}))
        );
        assert_eq!(run(&json!({"path": 7, "limit": 2.0})), Ok(json!({"path": "7", "limit": 2})));
        assert_eq!(
            run(&json!({"path": "a", "list": "[{\"n\": 1}]"})),
            Ok(json!({"path": "a", "list": [{"n": 1}]}))
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (arguments, why) in [
            (json!({}), "the argument path is missing"),
            (json!({"file_path": "a"}), "the argument path is missing (file_path is not known)"),
            (json!({"path": ""}), "the argument path must have at least 1 characters"),
            (json!({"path": "abcdef"}), "the argument path must have at most 5 characters"),
            (json!({"path": ["a"]}), "the argument path must be of type string, not a list"),
            (json!({"path": "a", "limit": -1}), "the argument limit must be at least 0"),
            (json!({"path": "a", "limit": u64::MAX}), "the argument limit must be at most 9"),
            (
                json!({"path": "a", "limit": 1.5}),
                "the argument limit must be of type integer, not a number",
            ),
            (
                json!({"path": "a", "verdict": "MAYBE"}),
                "the argument verdict must be one of \"GO\", \"NO-GO\"",
            ),
            (
                json!({"path": "a", "list": [{"n": "x"}]}),
                "the argument list[0].n must be of type integer, not a text",
            ),
            (json!({"path": "a", "list": [{}]}), "the argument list[0].n is missing"),
            (
                json!({"path": "a", "list": [1, 2, 3]}),
                "the argument list must have at most 2 entries",
            ),
        ] {
            assert_eq!(run(&arguments), Err(why.to_owned()), "{arguments}");
        }
    }
}
