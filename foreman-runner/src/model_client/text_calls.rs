//! Calls that a model wrote as text, because the server or the model knows no better.

use serde_json::{Map, Value};

use super::message::ToolCall;

/// What was found in a text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct TextCalls {
    /// The calls, ids empty.
    pub(super) calls: Vec<ToolCall>,
    /// The text without them and without what the model invented as their result.
    pub(super) rest: String,
    /// Something that was marked as a call and is none.
    pub(super) problem: Option<String>,
}

/// Sets `<think>…</think>` apart: (reasoning, answer).
pub(super) fn split_thought(content: &str) -> (String, String) {
    if let Some((before, after)) = content.split_once("</think>") {
        let thought = before.trim_start().strip_prefix("<think>").unwrap_or(before);
        return (thought.trim().to_owned(), after.trim_start().to_owned());
    }
    match content.trim_start().strip_prefix("<think>") {
        Some(thought) => (thought.trim().to_owned(), String::new()),
        None => (String::new(), content.to_owned()),
    }
}

/// Finds calls in a text. `known` are the names of the tools: JSON without any mark counts as a call
/// only when it names one of them or has the exact form of a call.
pub(super) fn extract(content: &str, known: &[&str]) -> TextCalls {
    // A model that plays the tool's part invents results; nothing after that is worth anything.
    let text = content.split("<tool_response>").next().unwrap_or(content);
    for marks in [
        Marks { open: "<tool_call>", close: "</tool_call>" },
        Marks { open: "<function=", close: "</function>" },
        Marks { open: "[TOOL_CALLS]", close: "\u{0}" },
        Marks { open: "<|python_tag|>", close: "<|" },
    ] {
        if text.contains(marks.open) {
            return marked(text, marks);
        }
    }
    let fenced = fenced(text, known);
    if !fenced.calls.is_empty() {
        return fenced;
    }
    let trimmed = text.trim();
    if trimmed.starts_with(['{', '[']) {
        let calls = calls_in(trimmed, |call| is_call(call, known));
        if !calls.is_empty() {
            return TextCalls { calls, ..TextCalls::default() };
        }
    }
    TextCalls { rest: content.to_owned(), ..TextCalls::default() }
}

/// JSON as models write it: strict first, then with raw line breaks inside strings escaped.
pub(super) fn lenient_json(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(text)
        .or_else(|error| serde_json::from_str(&escape_controls(text)).map_err(|_| error))
}

#[derive(Clone, Copy)]
struct Marks {
    open: &'static str,
    close: &'static str,
}

fn marked(text: &str, marks: Marks) -> TextCalls {
    let mut found = TextCalls::default();
    let mut parts = text.split(marks.open);
    parts.next().unwrap_or("").trim().clone_into(&mut found.rest);
    for part in parts {
        let inside = part.split(marks.close).next().unwrap_or(part).trim();
        let calls = if marks.open == "<function=" {
            xml_call(inside).into_iter().collect()
        } else if let Some(function) = inside.strip_prefix("<function=") {
            xml_call(function).into_iter().collect()
        } else {
            calls_in(inside, |_| true)
        };
        if calls.is_empty() {
            let why = lenient_json(inside)
                .err()
                .map_or_else(|| "it lacks name and arguments".to_owned(), |e| e.to_string());
            found.problem = Some(format!("the text after {} is no call: {why}", marks.open));
        }
        found.calls.extend(calls);
    }
    found
}

fn fenced(text: &str, known: &[&str]) -> TextCalls {
    let mut found = TextCalls::default();
    let mut rest = String::new();
    for (at, part) in text.split("```").enumerate() {
        if at % 2 == 0 {
            rest.push_str(part);
            continue;
        }
        // The first line of a fence names its language.
        let body = part.split_once('\n').map_or(part, |(_, body)| body);
        let body = if part.trim_start().starts_with(['{', '[']) { part } else { body };
        let calls = calls_in(body.trim(), |call| is_call(call, known));
        if calls.is_empty() {
            rest.push_str("```");
            rest.push_str(part);
            rest.push_str("```");
        }
        found.calls.extend(calls);
    }
    rest.trim().clone_into(&mut found.rest);
    found
}

/// The calls that a piece of JSON holds: one object, a list of them, or several one after the other.
fn calls_in(text: &str, accept: impl Fn(&Map<String, Value>) -> bool) -> Vec<ToolCall> {
    let values: Vec<Value> = match lenient_json(text) {
        Ok(value) => vec![value],
        // Something follows; what came before it counts.
        Err(_) => serde_json::Deserializer::from_str(&escape_controls(text))
            .into_iter()
            .map_while(Result::ok)
            .collect(),
    };
    values
        .into_iter()
        .flat_map(|value| match value {
            Value::Array(items) => items,
            other @ (Value::Object(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)) => vec![other],
        })
        .filter_map(|value| match value {
            Value::Object(map) if accept(&map) => call_of(&map),
            Value::Object(_)
            | Value::Array(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_) => None,
        })
        .collect()
}

fn name_of(map: &Map<String, Value>) -> Option<&str> {
    ["name", "tool", "tool_name", "function"].into_iter().find_map(|key| map.get(key)?.as_str())
}

fn is_call(map: &Map<String, Value>, known: &[&str]) -> bool {
    let map = map.get("function").and_then(Value::as_object).unwrap_or(map);
    let exact = map.contains_key("name")
        && map.contains_key("arguments")
        && map.keys().all(|key| matches!(key.as_str(), "name" | "arguments" | "id" | "type"));
    exact || name_of(map).is_some_and(|name| known.contains(&name))
}

fn call_of(map: &Map<String, Value>) -> Option<ToolCall> {
    let map = map.get("function").and_then(Value::as_object).unwrap_or(map);
    let name = name_of(map)?.to_owned();
    let arguments =
        ["arguments", "parameters", "args", "input"].into_iter().find_map(|key| map.get(key))?;
    let arguments = match arguments {
        Value::String(text) => text.clone(),
        Value::Object(_) | Value::Null => arguments.to_string(),
        Value::Array(_) | Value::Bool(_) | Value::Number(_) => return None,
    };
    Some(ToolCall { id: String::new(), name, arguments })
}

/// `NAME><parameter=KEY>VALUE</parameter>…`, the form of some coding models.
fn xml_call(text: &str) -> Option<ToolCall> {
    let (name, body) = text.split_once('>')?;
    let mut arguments = Map::new();
    for part in body.split("<parameter=").skip(1) {
        let (key, value) = part.split_once('>')?;
        let value = value.split("</parameter>").next().unwrap_or(value);
        let value = value.strip_prefix('\n').unwrap_or(value);
        let value = value.strip_suffix('\n').unwrap_or(value);
        arguments.insert(key.trim().to_owned(), Value::String(value.to_owned()));
    }
    let name = name.trim();
    let plain = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    plain.then(|| ToolCall {
        id: String::new(),
        name: name.to_owned(),
        arguments: Value::Object(arguments).to_string(),
    })
}

/// Escapes control characters inside JSON strings; everything else stays.
fn escape_controls(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let (mut inside, mut escaped) = (false, false);
    for c in text.chars() {
        match c {
            '\n' if inside => out.push_str("\\n"),
            '\r' if inside => out.push_str("\\r"),
            '\t' if inside => out.push_str("\\t"),
            c if inside && c.is_control() => out.push(' '),
            c => out.push(c),
        }
        match c {
            '"' if !escaped => inside = !inside,
            _ => {}
        }
        escaped = inside && c == '\\' && !escaped;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["read_file", "bash"];

    fn found(text: &str) -> Vec<(String, String)> {
        extract(text, KNOWN).calls.into_iter().map(|c| (c.name, c.arguments)).collect()
    }

    fn read(path: &str) -> Vec<(String, String)> {
        vec![("read_file".into(), format!("{{\"path\":\"{path}\"}}"))]
    }

    #[test]
    fn calls_in_every_dialect() {
        let json = r#"{"name": "read_file", "arguments": {"path": "a"}}"#;
        for text in [
            json.to_owned(),
            format!("Let me look.\n```json\n{json}\n```\nThen I go on."),
            format!("```\n{json}\n```"),
            format!("```{json}```"),
            format!("<tool_call>\n{json}\n</tool_call>"),
            format!("<tool_call>{json}"),
            format!("[TOOL_CALLS][{json}]"),
            format!("<|python_tag|>{json}<|eom_id|>"),
            format!("{json}\n\n\n\n  trailing words"),
            format!("```json\n{json}\n```\n<tool_response>\n```json\n{json}\n```"),
            r#"{"tool": "read_file", "parameters": {"path": "a"}}"#.to_owned(),
            r#"{"type": "function", "function": {"name": "read_file", "arguments": "{\"path\":\"a\"}"}}"#.to_owned(),
            "<tool_call>\n<function=read_file>\n<parameter=path>\na\n</parameter>\n</function>\n</tool_call>".to_owned(),
            "<function=read_file><parameter=path>a</parameter></function>".to_owned(),
        ] {
            assert_eq!(found(&text), read("a"), "{text}");
        }
    }

    #[test]
    fn raw_line_breaks_in_strings_are_repaired() {
        let text = "```json\n{\"name\": \"bash\", \"arguments\": {\"command\": \"a \\\"q\\\"\nb\tc\"}}\n```";
        assert_eq!(found(text), [("bash".to_owned(), r#"{"command":"a \"q\"\nb\tc"}"#.to_owned())]);
    }

    #[test]
    fn prose_and_other_json_are_no_calls() {
        for text in [
            "I would read_file now.",
            "```json\n{\"name\": \"my-package\", \"version\": \"1.0.0\"}\n```",
            "```rust\nfn main() {}\n```",
            "{\"a\": 1}",
            "[1, 2]",
            "{",
            "``` ``` `",
        ] {
            let result = extract(text, KNOWN);
            assert!(result.calls.is_empty(), "{text}");
            assert_eq!(result.rest, text);
        }
    }

    #[test]
    fn a_marked_call_that_is_none_is_said() {
        let result = extract("I try <tool_call>{\"name\": </tool_call>", KNOWN);
        assert!(result.calls.is_empty());
        assert_eq!(result.rest, "I try");
        assert!(result.problem.is_some_and(|p| p.contains("<tool_call> is no call")));
        assert!(
            extract("<tool_call>{\"a\":1}</tool_call>", KNOWN)
                .problem
                .is_some_and(|p| p.contains("lacks name"))
        );
    }

    #[test]
    fn thoughts_are_set_apart() {
        let owned = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(split_thought("<think>\nhm\n</think>\n\nyes"), owned("hm", "yes"));
        assert_eq!(split_thought("hm</think>yes"), owned("hm", "yes"));
        assert_eq!(split_thought("<think>never closed"), owned("never closed", ""));
        assert_eq!(split_thought("plain"), owned("", "plain"));
    }
}
