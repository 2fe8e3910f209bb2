//! From what a server sent to what the model meant: reasoning apart, calls found, tokens counted.

use super::assemble::Assembly;
use super::{
    CallMode, CallSource, CallUsage, ChatReply, ChatRequest, FinishReason, estimate, schema_mode,
    text_calls,
};

/// The answer with reasoning set apart and calls found, wherever they stand.
pub(super) fn reply_of(mut assembly: Assembly, request: &ChatRequest<'_>) -> ChatReply {
    let native = assembly.take_calls();
    let (thought, content) = text_calls::split_thought(&assembly.content);
    let mut reasoning = std::mem::take(&mut assembly.reasoning);
    if !thought.is_empty() {
        if !reasoning.is_empty() {
            reasoning.push('\n');
        }
        reasoning.push_str(&thought);
    }
    let mut reply = ChatReply {
        content,
        reasoning,
        source: if native.is_empty() { CallSource::None } else { CallSource::Native },
        tool_calls: native,
        finish: assembly.finish.unwrap_or(FinishReason::Stop),
        usage: usage_of(assembly.usage, assembly.saw_usage, request),
        problem: None,
    };
    if reply.source == CallSource::None
        && !reply.content.trim().is_empty()
        && !request.tools.is_empty()
    {
        find_calls(&mut reply, request);
    }
    if reply.usage.estimated {
        let calls: u64 =
            reply.tool_calls.iter().map(|call| estimate::estimate_text(&call.arguments)).sum();
        reply.usage.completion_tokens = estimate::estimate_text(&reply.content)
            + estimate::estimate_text(&reply.reasoning)
            + calls;
    }
    reply
}

fn find_calls(reply: &mut ChatReply, request: &ChatRequest<'_>) {
    match request.mode {
        CallMode::Schema => match schema_mode::parse(&reply.content) {
            Ok((thought, call)) => {
                reply.content = thought;
                reply.tool_calls = vec![call];
                reply.source = CallSource::Schema;
            }
            Err(problem) => reply.problem = Some(problem),
        },
        CallMode::Native => {
            let known: Vec<&str> = request.tools.iter().map(|tool| tool.name.as_str()).collect();
            let found = text_calls::extract(&reply.content, &known);
            reply.problem = found.problem;
            if !found.calls.is_empty() {
                reply.content = found.rest;
                reply.tool_calls = found.calls;
                reply.source = CallSource::Text;
                // Said for the calls that were understood; the others are answered by the loop.
                reply.problem = None;
            }
        }
    }
}

fn usage_of(seen: CallUsage, saw_usage: bool, request: &ChatRequest<'_>) -> CallUsage {
    if saw_usage {
        return seen;
    }
    let prompt_tokens =
        estimate::estimate_messages(request.messages) + estimate::estimate_tools(request.tools);
    CallUsage { prompt_tokens, estimated: true, ..seen }
}
