//! The body of a request. Deterministic: the same conversation gives the same bytes, so that each
//! request begins with the bytes of the one before and the server's prompt cache holds.

use serde_json::{Map, Value, json};

use super::message::Message;
use super::schema_mode;
use super::{CallMode, ChatRequest};

/// Stands for an assistant message that has neither text nor calls: servers refuse an empty one.
const EMPTY_REPLY: &str = "(no answer)";

/// What a server turned out not to accept; remembered for the life of the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Without {
    pub(super) temperature: bool,
    pub(super) stream_options: bool,
    pub(super) max_tokens: bool,
}

pub(super) fn body(request: &ChatRequest<'_>, without: Without) -> Value {
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model));
    body.insert("messages".into(), Value::Array(messages(request)));
    match request.mode {
        _ if request.tools.is_empty() => {}
        CallMode::Native => {
            let tools: Vec<Value> = request
                .tools
                .iter()
                .map(|tool| {
                    let function = json!({"name": tool.name, "description": tool.description, "parameters": tool.parameters});
                    json!({"type": "function", "function": function})
                })
                .collect();
            body.insert("tools".into(), Value::Array(tools));
            body.insert("tool_choice".into(), json!("auto"));
        }
        CallMode::Schema => {
            let schema = schema_mode::response_schema(request.tools);
            let format = json!({"type": "json_schema", "json_schema": {"name": "call", "strict": true, "schema": schema}});
            body.insert("response_format".into(), format);
        }
    }
    let limit = if without.max_tokens { "max_completion_tokens" } else { "max_tokens" };
    body.insert(limit.into(), json!(request.output_tokens_max));
    if let Some(temperature) = request.temperature.filter(|_| !without.temperature) {
        body.insert("temperature".into(), json!(temperature));
    }
    if !request.chat_template_kwargs.is_empty() {
        body.insert(
            "chat_template_kwargs".into(),
            Value::Object(request.chat_template_kwargs.clone()),
        );
    }
    body.insert("stream".into(), json!(true));
    if !without.stream_options {
        body.insert("stream_options".into(), json!({"include_usage": true}));
    }
    Value::Object(body)
}

fn messages(request: &ChatRequest<'_>) -> Vec<Value> {
    let mut out: Vec<Value> = Vec::with_capacity(request.messages.len());
    for message in request.messages {
        match request.mode {
            CallMode::Native => match message {
                Message::User { content } => push_merged(&mut out, ("user", content.clone())),
                Message::System { .. } | Message::Assistant { .. } | Message::Tool { .. } => {
                    out.push(native(message));
                }
            },
            CallMode::Schema => push_merged(&mut out, schema(message, request)),
        }
    }
    out
}

fn native(message: &Message) -> Value {
    match message {
        Message::System { content } => json!({"role": "system", "content": content}),
        Message::User { content } => json!({"role": "user", "content": content}),
        Message::Tool { tool_call_id, name, content } => {
            json!({"role": "tool", "tool_call_id": tool_call_id, "name": name, "content": content})
        }
        Message::Assistant { content, tool_calls, reasoning: _ } if tool_calls.is_empty() => {
            let content = if content.trim().is_empty() { EMPTY_REPLY } else { content };
            json!({"role": "assistant", "content": content})
        }
        Message::Assistant { content, tool_calls, reasoning: _ } => {
            let calls: Vec<Value> = tool_calls
                .iter()
                .map(|call| {
                    let function =
                        json!({"name": call.name, "arguments": call.arguments_for_history()});
                    json!({"id": call.id, "type": "function", "function": function})
                })
                .collect();
            json!({"role": "assistant", "content": content, "tool_calls": calls})
        }
    }
}

/// In schema mode calls and results are plain text: small models' templates know no tool role.
fn schema(message: &Message, request: &ChatRequest<'_>) -> (&'static str, String) {
    match message {
        Message::System { content } => {
            ("system", format!("{content}\n\n{}", schema_mode::instructions(request.tools)))
        }
        Message::User { content } => ("user", content.clone()),
        Message::Tool { name, content, .. } => ("user", format!("Result of {name}:\n{content}")),
        Message::Assistant { content, tool_calls, .. } => {
            let calls: Vec<String> =
                tool_calls.iter().map(|call| schema_mode::render_call(content, call)).collect();
            let text = if calls.is_empty() { content.clone() } else { calls.join("\n") };
            ("assistant", if text.trim().is_empty() { EMPTY_REPLY.to_owned() } else { text })
        }
    }
}

/// Merges neighbours of one role: many templates want user and assistant to alternate.
fn push_merged(out: &mut Vec<Value>, (role, text): (&'static str, String)) {
    if let Some(Value::Object(last)) = out.last_mut()
        && last.get("role").and_then(Value::as_str) == Some(role)
        && let Some(Value::String(content)) = last.get_mut("content")
    {
        content.push_str("\n\n");
        content.push_str(&text);
        return;
    }
    out.push(json!({"role": role, "content": text}));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model_client::ToolCall;
    use crate::tool::ToolSpec;

    fn conversation() -> Vec<Message> {
        let call = |id: &str, arguments: &str| ToolCall {
            id: id.into(),
            name: "read_file".into(),
            arguments: arguments.into(),
        };
        let assistant = |content: &str, tool_calls: Vec<ToolCall>| Message::Assistant {
            content: content.into(),
            reasoning: "secret thought".into(),
            tool_calls,
        };
        let result = |id: &str| Message::Tool {
            tool_call_id: id.into(),
            name: "read_file".into(),
            content: "text".into(),
        };
        vec![
            Message::system("orders"),
            Message::user("task"),
            assistant("", vec![]),
            Message::user("call a tool"),
            assistant("look", vec![call("a", "{\"path\": \"x\"}"), call("b", "{broken")]),
            result("a"),
            result("b"),
            Message::user("two turns left"),
        ]
    }

    fn render(mode: CallMode, messages: &[Message]) -> Value {
        let tools = [ToolSpec {
            name: "read_file".into(),
            description: "Reads.".into(),
            parameters: json!({"type": "object"}),
        }];
        let kwargs = Map::new();
        let request = ChatRequest {
            model: "m",
            messages,
            tools: &tools,
            mode,
            temperature: Some(0.5),
            output_tokens_max: 100,
            chat_template_kwargs: &kwargs,
        };
        body(&request, Without::default())
    }

    #[test]
    fn native_history_has_content_everywhere_and_no_reasoning() {
        let body = render(CallMode::Native, &conversation());
        let text = body.to_string();
        assert!(!text.contains("secret thought"));
        let messages = body.get("messages").and_then(Value::as_array).expect("messages");
        assert!(messages.iter().all(|m| m.get("content").is_some_and(Value::is_string)));
        assert_eq!(messages.get(2).and_then(|m| m.get("content")), Some(&json!(EMPTY_REPLY)));
        assert_eq!(
            body.pointer("/messages/4/tool_calls/1/function/arguments"),
            Some(&json!(r#"{"unparsable_arguments":"{broken"}"#))
        );
        assert_eq!(body.get("stream"), Some(&json!(true)));
    }

    #[test]
    fn schema_history_alternates_and_needs_no_tool_role() {
        let body = render(CallMode::Schema, &conversation());
        let roles: Vec<&str> = body
            .get("messages")
            .and_then(Value::as_array)
            .expect("messages")
            .iter()
            .filter_map(|m| m.get("role")?.as_str())
            .collect();
        assert_eq!(roles, ["system", "user", "assistant", "user", "assistant", "user"]);
        assert!(body.get("tools").is_none());
        assert_eq!(
            body.pointer("/response_format/json_schema/schema/properties/tool/const"),
            Some(&json!("read_file"))
        );
    }

    #[test]
    fn a_longer_conversation_begins_with_the_shorter_one() {
        let all = conversation();
        for mode in [CallMode::Native, CallMode::Schema] {
            let long = messages_of(&render(mode, &all));
            for end in 2..all.len() {
                let mut short = messages_of(&render(mode, all.get(..end).unwrap_or(&[])));
                let (_, last) = short.pop().expect("a message");
                assert_eq!(long.get(..short.len()), Some(short.as_slice()), "{mode:?} {end}");
                // Only where neighbours merge may the last message grow, and then only at its end.
                let grown = long.get(short.len()).expect("a message");
                assert!(grown.1.starts_with(&last), "{mode:?} {end}");
            }
        }
    }

    fn messages_of(body: &Value) -> Vec<(String, String)> {
        let messages = body.get("messages").and_then(Value::as_array).cloned().unwrap_or_default();
        let word = |m: &Value, key: &str| {
            m.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        messages.iter().map(|m| (word(m, "role"), word(m, "content"))).collect()
    }

    #[test]
    fn what_a_server_refused_is_left_out() {
        let kwargs = Map::new();
        let request = ChatRequest {
            model: "m",
            messages: &[],
            tools: &[],
            mode: CallMode::Native,
            temperature: Some(0.1),
            output_tokens_max: 1,
            chat_template_kwargs: &kwargs,
        };
        let body =
            body(&request, Without { temperature: true, stream_options: true, max_tokens: true });
        assert!(
            body.get("temperature").is_none()
                && body.get("stream_options").is_none()
                && body.get("tools").is_none()
        );
    }
}
