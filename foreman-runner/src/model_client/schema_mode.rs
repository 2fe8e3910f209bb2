//! Calls as constrained JSON: the answer *is* the call, one branch of a schema a tool.

use serde_json::{Value, json};

use super::message::ToolCall;
use super::text_calls::lenient_json;
use crate::limits::SCHEMA_THOUGHT_CHARS_MAX;
use crate::tool::ToolSpec;

/// The schema of an answer: `{thought, tool, arguments}`, one branch a tool.
pub fn response_schema(tools: &[ToolSpec]) -> Value {
    let mut branches: Vec<Value> = tools
        .iter()
        .map(|tool| {
            json!({
                "type": "object",
                "properties": {
                    "thought": { "type": "string", "maxLength": SCHEMA_THOUGHT_CHARS_MAX },
                    "tool": { "const": tool.name },
                    "arguments": tool.parameters,
                },
                "required": ["thought", "tool", "arguments"],
                "additionalProperties": false,
            })
        })
        .collect();
    if branches.len() == 1 { branches.remove(0) } else { json!({ "anyOf": branches }) }
}

/// What the system message says about the form of the answer.
pub(super) fn instructions(tools: &[ToolSpec]) -> String {
    let mut text = String::from(
        "Answer with exactly one JSON object {\"thought\": …, \"tool\": …, \"arguments\": {…}} and nothing else. \
         It calls one tool; you get its result in the next message. The tools:\n",
    );
    for tool in tools {
        let line = format!(
            "- {}: {} Arguments (JSON schema): {}\n",
            tool.name, tool.description, tool.parameters
        );
        text.push_str(&line);
    }
    text
}

/// The answer as history shows it.
pub(super) fn render_call(thought: &str, call: &ToolCall) -> String {
    let arguments: Value =
        serde_json::from_str(&call.arguments_for_history()).unwrap_or(Value::Null);
    json!({ "thought": thought, "tool": call.name, "arguments": arguments }).to_string()
}

/// Reads an answer: (thought, call), or why it is none.
pub(super) fn parse(content: &str) -> Result<(String, ToolCall), String> {
    let text = content.trim();
    let text = text.strip_prefix("```json").or_else(|| text.strip_prefix("```")).unwrap_or(text);
    let text = text.strip_suffix("```").unwrap_or(text).trim();
    let value = lenient_json(text).or_else(|error| {
        // Some servers let the model go on after the object.
        serde_json::Deserializer::from_str(text)
            .into_iter::<Value>()
            .next()
            .and_then(Result::ok)
            .ok_or(error)
    });
    let map = match value {
        Ok(Value::Object(map)) => map,
        Ok(_) => return Err("the answer is JSON, but not an object".to_owned()),
        Err(error) => return Err(format!("the answer is not valid JSON: {error}")),
    };
    let Some(name) = map.get("tool").or_else(|| map.get("name")).and_then(Value::as_str) else {
        return Err(
            "the answer names no tool: it needs the keys thought, tool and arguments".to_owned()
        );
    };
    let arguments = match map.get("arguments").or_else(|| map.get("parameters")) {
        None | Some(Value::Null) => "{}".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let thought = map.get("thought").and_then(Value::as_str).unwrap_or("").to_owned();
    Ok((thought, ToolCall { id: String::new(), name: name.to_owned(), arguments }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_or_explained() {
        let (thought, call) =
            parse(r#"{"thought": "look", "tool": "read_file", "arguments": {"path": "a"}}"#)
                .expect("a call");
        assert_eq!(
            (thought.as_str(), call.name.as_str(), call.arguments.as_str()),
            ("look", "read_file", r#"{"path":"a"}"#)
        );
        assert!(parse("```json\n{\"tool\": \"x\", \"arguments\": {}}\n```").is_ok());
        assert!(parse("{\"tool\": \"x\", \"arguments\": {}}\n\n\n\n").is_ok());
        assert!(parse("{\"tool\": \"x\"} and more").is_ok());
        for (text, why) in [
            ("", "not valid JSON"),
            ("{\"tool\": \"x\", \"argu", "not valid JSON"),
            ("[]", "not an object"),
            ("{\"thought\": \"x\"}", "names no tool"),
            ("{\"tool\": 3}", "names no tool"),
        ] {
            assert!(parse(text).expect_err(text).contains(why), "{text}");
        }
    }

    #[test]
    fn one_branch_a_tool() {
        let tool = |name: &str| ToolSpec {
            name: name.into(),
            description: "d".into(),
            parameters: json!({"type": "object"}),
        };
        let schema = response_schema(&[tool("a"), tool("b")]);
        assert_eq!(schema.pointer("/anyOf/1/properties/tool/const"), Some(&json!("b")));
        assert_eq!(
            response_schema(&[tool("a")]).pointer("/properties/tool/const"),
            Some(&json!("a"))
        );
    }
}
