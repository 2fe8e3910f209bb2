//! Puts one answer together from the fragments that servers send, each in its own way.

use serde_json::Value;

use super::faults::{ServerFault, plain, server_fault};
use super::message::ToolCall;
use super::{CallUsage, Delta, FinishReason};
use crate::limits::CALLS_PER_MESSAGE_MAX;

/// What has arrived of one answer so far.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    pub(super) content: String,
    pub(super) reasoning: String,
    pub(super) finish: Option<FinishReason>,
    pub(super) usage: CallUsage,
    pub(super) saw_choice: bool,
    pub(super) saw_usage: bool,
    calls: Vec<Partial>,
}

/// Why a chunk cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ChunkFault {
    Server(ServerFault),
    TooManyCalls,
}

#[derive(Debug, Default)]
struct Partial {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
}

impl Partial {
    fn is_complete(&self) -> bool {
        !self.name.is_empty()
            && serde_json::from_str::<serde::de::IgnoredAny>(&self.arguments).is_ok()
    }
}

impl Assembly {
    /// Takes one chunk of a stream, or a whole answer that was not streamed.
    pub(super) fn chunk(
        &mut self,
        chunk: &Value,
        on_delta: &mut (dyn FnMut(Delta) + Send),
    ) -> Result<(), ChunkFault> {
        if let Some(fault) = server_fault(chunk) {
            return Err(ChunkFault::Server(fault));
        }
        self.usage(chunk);
        let Some(choice) = chunk.get("choices").and_then(Value::as_array).and_then(|choices| {
            // Only the first choice counts; we never ask for more.
            choices.iter().find(|c| c.get("index").and_then(Value::as_u64).unwrap_or(0) == 0)
        }) else {
            return Ok(());
        };
        self.saw_choice = true;
        let delta = choice
            .get("delta")
            .filter(|d| !d.is_null())
            .or_else(|| choice.get("message"))
            .unwrap_or(&Value::Null);
        let content = text_of(delta.get("content"));
        if !content.is_empty() {
            self.content.push_str(&content);
            on_delta(Delta::Content(content));
        }
        let thought = [delta.get("reasoning_content"), delta.get("reasoning")]
            .into_iter()
            .map(text_of)
            .find(|t| !t.is_empty());
        if let Some(thought) = thought {
            self.reasoning.push_str(&thought);
            on_delta(Delta::Reasoning(thought));
        }
        match delta.get("tool_calls") {
            Some(Value::Array(fragments)) => {
                for fragment in fragments {
                    self.fragment(fragment, on_delta)?;
                }
            }
            Some(fragment @ Value::Object(_)) => self.fragment(fragment, on_delta)?,
            _ => {}
        }
        if let Some(function) = delta.get("function_call").filter(|f| f.is_object()) {
            self.fragment(&serde_json::json!({ "index": 0, "function": function }), on_delta)?;
        }
        if let Some(word) =
            choice.get("finish_reason").and_then(Value::as_str).filter(|w| !w.is_empty())
        {
            self.finish = Some(FinishReason::from_wire(word));
        }
        Ok(())
    }

    /// The calls, in the order in which they began.
    pub(super) fn take_calls(&mut self) -> Vec<ToolCall> {
        std::mem::take(&mut self.calls)
            .into_iter()
            .filter(|call| !(call.name.is_empty() && call.arguments.trim().is_empty()))
            .map(|call| ToolCall { id: call.id, name: call.name, arguments: call.arguments })
            .collect()
    }

    /// Whether anything of an answer has arrived.
    pub(super) fn is_empty(&self) -> bool {
        self.content.is_empty() && self.reasoning.is_empty() && self.calls.is_empty()
    }

    fn fragment(
        &mut self,
        fragment: &Value,
        on_delta: &mut (dyn FnMut(Delta) + Send),
    ) -> Result<(), ChunkFault> {
        let function = fragment.get("function").unwrap_or(fragment);
        let index = fragment.get("index").and_then(Value::as_u64);
        let id = fragment.get("id").map(plain).unwrap_or_default();
        let name = function.get("name").and_then(Value::as_str).unwrap_or("");
        let at = match self.place(index, &id, name) {
            Some(at) => at,
            None if self.calls.len() >= CALLS_PER_MESSAGE_MAX => {
                return Err(ChunkFault::TooManyCalls);
            }
            None => {
                self.calls.push(Partial { index, ..Partial::default() });
                self.calls.len() - 1
            }
        };
        let Some(call) = self.calls.get_mut(at) else {
            return Ok(());
        };
        if call.id.is_empty() {
            call.id.clone_from(&id);
        }
        if call.name.is_empty() && !name.is_empty() {
            name.clone_into(&mut call.name);
            on_delta(Delta::Call { name: name.to_owned() });
        } else if name != call.name && call.arguments.is_empty() && id.is_empty() {
            // A name in pieces. A name that is repeated whole changes nothing.
            call.name.push_str(name);
        }
        match function.get("arguments") {
            Some(Value::String(piece)) => call.arguments.push_str(piece),
            Some(whole @ (Value::Object(_) | Value::Array(_))) => {
                call.arguments = whole.to_string();
            }
            _ => {}
        }
        Ok(())
    }

    /// Which call a fragment belongs to; none = it begins a new one.
    fn place(&self, index: Option<u64>, id: &str, name: &str) -> Option<usize> {
        if let Some(index) = index {
            let at = self.calls.iter().rposition(|call| call.index == Some(index))?;
            let call = self.calls.get(at)?;
            // Servers that number every call 0: a new id with a name after a complete call is a new one.
            let another = !id.is_empty()
                && id != call.id
                && !call.id.is_empty()
                && !name.is_empty()
                && call.is_complete();
            return (!another).then_some(at);
        }
        if !id.is_empty() {
            if let Some(at) = self.calls.iter().rposition(|call| call.id == id) {
                return Some(at);
            }
            // An id that comes after the first fragment of a call that has none.
            return self.calls.len().checked_sub(1).filter(|at| {
                name.is_empty()
                    && self
                        .calls
                        .get(*at)
                        .is_some_and(|call| call.id.is_empty() && !call.is_complete())
            });
        }
        let last = self.calls.len().checked_sub(1)?;
        let begins_anew =
            !name.is_empty() && self.calls.get(last).is_some_and(Partial::is_complete);
        (!begins_anew).then_some(last)
    }

    fn usage(&mut self, chunk: &Value) {
        let number = |value: Option<&Value>| value.and_then(Value::as_u64).unwrap_or(0);
        if let Some(usage) = chunk.get("usage").filter(|u| u.is_object()) {
            let details = usage.get("prompt_tokens_details");
            self.saw_usage = true;
            self.usage.prompt_tokens =
                number(usage.get("prompt_tokens")).max(self.usage.prompt_tokens);
            self.usage.completion_tokens =
                number(usage.get("completion_tokens")).max(self.usage.completion_tokens);
            self.usage.cached_tokens =
                number(details.and_then(|d| d.get("cached_tokens"))).max(self.usage.cached_tokens);
        }
        if let Some(timings) = chunk.get("timings").filter(|t| t.is_object()) {
            let cached = number(timings.get("cache_n"));
            self.usage.cached_tokens = self.usage.cached_tokens.max(cached);
            if self.usage.prompt_tokens == 0 {
                self.usage.prompt_tokens = number(timings.get("prompt_n")) + cached;
                self.saw_usage |= self.usage.prompt_tokens > 0;
            }
            if self.usage.completion_tokens == 0 {
                self.usage.completion_tokens = number(timings.get("predicted_n"));
            }
        }
        if self.usage.cached_tokens > self.usage.prompt_tokens {
            // This server counts only what it computed.
            self.usage.prompt_tokens += self.usage.cached_tokens;
        }
    }
}

fn text_of(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn assemble(fragments: &[Value]) -> Vec<(String, String, String)> {
        let mut assembly = Assembly::default();
        for fragment in fragments {
            let chunk = json!({"choices": [{"delta": {"tool_calls": fragment}}]});
            assembly.chunk(&chunk, &mut |_| {}).expect("no fault");
        }
        assembly.take_calls().into_iter().map(|c| (c.id, c.name, c.arguments)).collect()
    }

    fn call(id: &str, name: &str, arguments: &str) -> (String, String, String) {
        (id.into(), name.into(), arguments.into())
    }

    #[test]
    fn one_byte_fragments_of_two_calls_interleaved() {
        let mut fragments = vec![
            json!([{"index": 0, "id": "a", "type": "function", "function": {"name": "grep", "arguments": ""}}]),
            json!([{"index": 1, "id": "b", "type": "function", "function": {"name": "bash", "arguments": ""}}]),
        ];
        for (x, y) in r#"{"p":"x"}"#.chars().zip(r#"{"c":"y"}"#.chars()) {
            fragments.push(json!([{"index": 0, "function": {"arguments": x.to_string()}}]));
            fragments.push(json!([{"index": 1, "function": {"arguments": y.to_string()}}]));
        }
        assert_eq!(
            assemble(&fragments),
            [call("a", "grep", r#"{"p":"x"}"#), call("b", "bash", r#"{"c":"y"}"#)]
        );
    }

    #[test]
    fn servers_without_index_or_id() {
        let by_id = [
            json!([{"id": "a", "function": {"name": "grep", "arguments": "{\"p\":"}}]),
            json!([{"id": "a", "function": {"arguments": "1}"}}]),
            json!([{"id": "b", "function": {"name": "grep", "arguments": "{}"}}]),
        ];
        assert_eq!(assemble(&by_id), [call("a", "grep", "{\"p\":1}"), call("b", "grep", "{}")]);
        let by_name = [
            json!([{"function": {"name": "grep", "arguments": "{\"p\":"}}]),
            json!([{"function": {"arguments": "1}"}}]),
            json!([{"function": {"name": "bash", "arguments": "{}"}}]),
        ];
        assert_eq!(assemble(&by_name), [call("", "grep", "{\"p\":1}"), call("", "bash", "{}")]);
    }

    #[test]
    fn names_repeated_or_in_pieces_and_arguments_as_an_object() {
        let repeated = [
            json!([{"index": 0, "id": "a", "function": {"name": "grep", "arguments": "{\"p\""}}]),
            json!([{"index": 0, "id": "a", "function": {"name": "grep", "arguments": ":1}"}}]),
        ];
        assert_eq!(assemble(&repeated), [call("a", "grep", "{\"p\":1}")]);
        let pieces = [
            json!([{"index": 0, "id": "a", "function": {"name": "read_"}}]),
            json!([{"index": 0, "function": {"name": "file", "arguments": {"path": "x"}}}]),
        ];
        assert_eq!(assemble(&pieces), [call("a", "read_file", "{\"path\":\"x\"}")]);
        let single =
            [json!({"index": 0, "id": "a", "function": {"name": "grep", "arguments": {}}})];
        assert_eq!(assemble(&single), [call("a", "grep", "{}")]);
    }

    #[test]
    fn every_call_numbered_zero_and_absurd_indexes() {
        let zeros = [
            json!([{"index": 0, "id": "a", "function": {"name": "grep", "arguments": "{}"}}]),
            json!([{"index": 0, "id": "b", "function": {"name": "bash", "arguments": "{"}}, {"index": 0, "function": {"arguments": "}"}}]),
        ];
        assert_eq!(assemble(&zeros), [call("a", "grep", "{}"), call("b", "bash", "{}")]);
        let absurd = [
            json!([{"index": -1, "id": "a", "function": {"name": "grep", "arguments": "{}"}}]),
            json!([{"index": u64::MAX, "id": "b", "function": {"name": "bash", "arguments": "{}"}}]),
        ];
        assert_eq!(assemble(&absurd), [call("a", "grep", "{}"), call("b", "bash", "{}")]);
    }

    #[test]
    fn too_many_calls_are_a_fault() {
        let mut assembly = Assembly::default();
        let calls: Vec<Value> = (0..=CALLS_PER_MESSAGE_MAX)
            .map(|i| json!({"index": i, "function": {"name": "x"}}))
            .collect();
        let chunk = json!({"choices": [{"delta": {"tool_calls": calls}}]});
        assert_eq!(assembly.chunk(&chunk, &mut |_| {}), Err(ChunkFault::TooManyCalls));
    }

    #[test]
    fn odd_types_never_panic() {
        for chunk in [
            json!(null),
            json!([]),
            json!({"choices": {}}),
            json!({"choices": [null]}),
            json!({"choices": [{"delta": "x"}]}),
            json!({"choices": [{"delta": {"tool_calls": [1, null, {"function": 3}], "content": 7}}]}),
            json!({"choices": [{"delta": {"content": [{"text": "a"}, {"image": 1}]}, "finish_reason": 3}]}),
            json!({"usage": {"prompt_tokens": -4, "prompt_tokens_details": 1}, "timings": []}),
        ] {
            let mut assembly = Assembly::default();
            assert_eq!(assembly.chunk(&chunk, &mut |_| {}), Ok(()), "{chunk}");
            assert!(assembly.take_calls().is_empty(), "{chunk}");
        }
    }

    #[test]
    fn usage_in_both_dialects() {
        let mut assembly = Assembly::default();
        let chunk = json!({"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 60}}});
        assembly.chunk(&chunk, &mut |_| {}).expect("no fault");
        assert_eq!(
            assembly.usage,
            CallUsage {
                prompt_tokens: 100,
                cached_tokens: 60,
                completion_tokens: 7,
                estimated: false
            }
        );
        let mut assembly = Assembly::default();
        assembly
            .chunk(
                &json!({"timings": {"prompt_n": 10, "cache_n": 90, "predicted_n": 5}}),
                &mut |_| {},
            )
            .expect("no fault");
        assert_eq!(
            assembly.usage,
            CallUsage {
                prompt_tokens: 100,
                cached_tokens: 90,
                completion_tokens: 5,
                estimated: false
            }
        );
    }
}
