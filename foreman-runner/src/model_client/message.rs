//! The messages of a conversation, as they are kept in the journal.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One message. The order and the alternation of roles are the loop's business.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub enum Message {
    /// The standing orders.
    System {
        /// Text.
        content: String,
    },
    /// What a person or the loop says.
    User {
        /// Text.
        content: String,
    },
    /// What the model said.
    Assistant {
        /// Text; may be empty when there are calls.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        content: String,
        /// Its reasoning: kept for people, never sent again.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reasoning: String,
        /// The calls it made, ids unique within the conversation.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ToolCall>,
    },
    /// The answer to one call.
    Tool {
        /// Id of the call.
        tool_call_id: String,
        /// Name of the tool.
        name: String,
        /// The result, or `{"error": …}`.
        content: String,
    },
}

impl Message {
    /// A system message.
    pub fn system(content: impl Into<String>) -> Self {
        Self::System { content: content.into() }
    }

    /// A user message.
    pub fn user(content: impl Into<String>) -> Self {
        Self::User { content: content.into() }
    }

    /// The text of the message, without reasoning and calls.
    pub fn content(&self) -> &str {
        match self {
            Self::System { content }
            | Self::User { content }
            | Self::Assistant { content, .. }
            | Self::Tool { content, .. } => content,
        }
    }

    /// The calls of an assistant message; none for others.
    pub fn tool_calls(&self) -> &[ToolCall] {
        match self {
            Self::Assistant { tool_calls, .. } => tool_calls,
            Self::System { .. } | Self::User { .. } | Self::Tool { .. } => &[],
        }
    }
}

/// One call of a tool, as the model gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Its id.
    pub id: String,
    /// The tool.
    pub name: String,
    /// The arguments as text: meant to be a JSON object, not checked.
    pub arguments: String,
}

impl ToolCall {
    /// The arguments as an object, or why they are none. Empty text and `null` count as `{}`.
    pub fn parse_arguments(&self) -> Result<Map<String, Value>, String> {
        let text = self.arguments.trim();
        if text.is_empty() {
            return Ok(Map::new());
        }
        match super::text_calls::lenient_json(text) {
            Ok(Value::Object(map)) => Ok(map),
            Ok(Value::Null) => Ok(Map::new()),
            // Some models encode the object once more as a string.
            Ok(Value::String(inner)) => match serde_json::from_str(&inner) {
                Ok(Value::Object(map)) => Ok(map),
                _ => Err("the arguments are a string, not a JSON object".to_owned()),
            },
            Ok(Value::Array(_)) => Err("the arguments are a list, not a JSON object".to_owned()),
            Ok(Value::Bool(_) | Value::Number(_)) => {
                Err("the arguments are a single value, not a JSON object".to_owned())
            }
            Err(error) => Err(format!("the arguments are not valid JSON: {error}")),
        }
    }

    /// The arguments in a form that every server accepts in the history: strict servers parse them
    /// and refuse the whole request otherwise. Deterministic, so the prefix stays byte-identical.
    pub(super) fn arguments_for_history(&self) -> String {
        match serde_json::from_str::<Value>(&self.arguments) {
            Ok(Value::Object(_)) => self.arguments.clone(),
            _ => match self.parse_arguments() {
                Ok(map) => Value::Object(map).to_string(),
                Err(_) => serde_json::json!({ "unparsable_arguments": self.arguments }).to_string(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(arguments: &str) -> ToolCall {
        ToolCall { id: "1".into(), name: "t".into(), arguments: arguments.into() }
    }

    #[test]
    fn arguments_are_read_leniently_and_replayed_strictly() {
        for (given, parsed, replayed) in [
            ("", Some("{}"), "{}"),
            ("null", Some("{}"), "{}"),
            (r#"{"a": 1}"#, Some(r#"{"a":1}"#), r#"{"a": 1}"#),
            (r#""{\"a\":1}""#, Some(r#"{"a":1}"#), r#"{"a":1}"#),
            ("{\"a\": \"x\ny\"}", Some(r#"{"a":"x\ny"}"#), r#"{"a":"x\ny"}"#),
            ("[1]", None, r#"{"unparsable_arguments":"[1]"}"#),
            ("{\"a\": ", None, r#"{"unparsable_arguments":"{\"a\": "}"#),
        ] {
            let call = call(given);
            assert_eq!(
                call.parse_arguments().ok().map(|m| Value::Object(m).to_string()).as_deref(),
                parsed,
                "{given}"
            );
            assert_eq!(call.arguments_for_history(), replayed, "{given}");
        }
    }
}
