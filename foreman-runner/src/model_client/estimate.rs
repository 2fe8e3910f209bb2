//! Own estimates of token counts: one for planning, one as a bound that no tokenizer goes below.

use super::message::Message;
use crate::tool::ToolSpec;

/// Characters a token has on average. Code has about 3.5, prose about 4.5.
const CHARS_PER_TOKEN: u64 = 4;
/// Characters a token has at the very most, over a whole conversation without long runs.
const CHARS_PER_TOKEN_MAX: u64 = 8;
/// Tokens that role and separators of one message take.
const TOKENS_PER_MESSAGE: u64 = 4;
/// A run of one character counts as one, plus one for each of these.
const RUN_CHARS_PER_UNIT: u64 = 64;
/// A prompt shorter than this by the lower bound is not judged: templates and rounding rule there.
const TOKENS_JUDGED_MIN: u64 = 512;

/// About how many tokens a text has.
pub fn estimate_text(text: &str) -> u64 {
    (text.chars().count() as u64).div_ceil(CHARS_PER_TOKEN)
}

/// About how many tokens these messages have.
pub fn estimate_messages(messages: &[Message]) -> u64 {
    messages
        .iter()
        .map(|message| {
            let calls: u64 = message
                .tool_calls()
                .iter()
                .map(|c| estimate_text(&c.name) + estimate_text(&c.arguments))
                .sum();
            estimate_text(message.content()) + calls + TOKENS_PER_MESSAGE
        })
        .sum()
}

/// About how many tokens the descriptions of the tools have.
pub(crate) fn estimate_tools(tools: &[ToolSpec]) -> u64 {
    tools
        .iter()
        .map(|tool| estimate_text(&tool.description) + estimate_text(&tool.parameters.to_string()))
        .sum()
}

/// What the server said it read, against what it was sent: `Some(expected)` when it must have cut the
/// prompt. Tools are left out of the expectation, because servers render them differently.
pub(super) fn truncated(messages: &[Message], prompt_tokens: u64) -> Option<u64> {
    if prompt_tokens == 0 {
        return None;
    }
    let units: u64 = messages.iter().map(|message| units(message.content())).sum();
    let expected = units / CHARS_PER_TOKEN_MAX;
    (expected >= TOKENS_JUDGED_MIN && prompt_tokens < expected).then_some(expected)
}

/// Characters, with long runs of the same one (rules, progress bars, indentation) counted as few:
/// tokenizers merge them.
fn units(text: &str) -> u64 {
    let mut total = 0;
    let mut run: u64 = 0;
    let mut last = None;
    for c in text.chars() {
        if last == Some(c) {
            run += 1;
            if run.is_multiple_of(RUN_CHARS_PER_UNIT) {
                total += 1;
            }
        } else {
            total += 1;
            run = 0;
            last = Some(c);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_prompt_is_noticed_and_an_honest_count_is_not() {
        let text = "fn main() { let answer = 42; }\n".repeat(2_000); // 62,000 characters
        let messages = [Message::system("s"), Message::user(text)];
        assert!(estimate_messages(&messages) > 15_000);
        assert!(truncated(&messages, 4_096).is_some(), "Ollama's default context");
        assert_eq!(truncated(&messages, 14_000), None);
        assert_eq!(truncated(&messages, 0), None, "the server did not say");
    }

    #[test]
    fn runs_and_short_prompts_are_not_held_against_a_server() {
        let bars = "=".repeat(200_000);
        assert_eq!(truncated(&[Message::user(bars)], 700), None);
        assert_eq!(truncated(&[Message::user("hello")], 1), None);
    }
}
