//! The scripted answers: what a competent model would do with the demonstration's repository, turn
//! by turn. Nothing here understands anything.

use serde_json::{Value, json};

use super::fixture::{FIX_NEW, FIX_OLD};

/// One answer: a call of a tool, after a line of text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) text: &'static str,
    pub(super) tool: &'static str,
    pub(super) arguments: Value,
}

fn coder() -> Vec<Answer> {
    vec![
        Answer {
            text: "[scripted] First the code.",
            tool: "read_file",
            arguments: json!({"path": "greet.sh"}),
        },
        Answer {
            text: "[scripted] Now see the test fail.",
            tool: "bash",
            arguments: json!({"command": "sh test.sh"}),
        },
        Answer {
            text: "[scripted] Without a name $1 is empty; give it a default.",
            tool: "str_replace",
            arguments: json!({"path": "greet.sh", "old_string": FIX_OLD, "new_string": FIX_NEW}),
        },
        Answer {
            text: "[scripted] The test again.",
            tool: "bash",
            arguments: json!({"command": "sh test.sh"}),
        },
        Answer {
            text: "[scripted] Done.",
            tool: "submit_result",
            arguments: json!({
                "verdict": "GO",
                "summary": "greet without a name greeted nobody; it now greets the world. sh test.sh passes.",
                "commit_message": "Greet the world when no name is given\n\nAn absent argument was printed as an empty name.",
            }),
        },
    ]
}

fn reviewer() -> Vec<Answer> {
    vec![
        Answer { text: "[scripted] The whole change.", tool: "git_diff", arguments: json!({}) },
        Answer {
            text: "[scripted] It does what was asked.",
            tool: "submit_result",
            arguments: json!({
                "verdict": "GO",
                "summary": "One line: a default for an absent name. It does what was asked and nothing else.",
                "findings": [],
            }),
        },
    ]
}

/// The answer to a request: which role asks shows in its tools, how far it came in its messages. A
/// conversation that went on after its last answer gets that one again.
pub(super) fn answer(request: &Value) -> Answer {
    let tools = request.get("tools").and_then(Value::as_array);
    let edits = tools
        .into_iter()
        .flatten()
        .any(|tool| tool.pointer("/function/name").and_then(Value::as_str) == Some("str_replace"));
    let messages = request.get("messages").and_then(Value::as_array);
    let done = messages
        .into_iter()
        .flatten()
        .filter(|message| message.get("role").and_then(Value::as_str) == Some("assistant"))
        .count();
    let mut script = if edits { coder() } else { reviewer() };
    script.swap_remove(done.min(script.len() - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(tools: &[&str], turns: usize) -> Value {
        let tools: Vec<Value> = tools
            .iter()
            .map(|name| json!({"type": "function", "function": {"name": name}}))
            .collect();
        let mut messages = vec![json!({"role": "system"}), json!({"role": "user"})];
        for _ in 0..turns {
            messages.extend([json!({"role": "assistant"}), json!({"role": "tool"})]);
        }
        json!({"tools": tools, "messages": messages})
    }

    #[test]
    fn the_role_shows_in_the_tools_and_the_turn_in_the_messages() {
        let calls = |tools: &[&str], turns: usize| -> Vec<&str> {
            (0..turns).map(|turn| answer(&request(tools, turn)).tool).collect()
        };
        let coder = ["read_file", "str_replace", "bash", "submit_result"];
        let told = ["read_file", "bash", "str_replace", "bash", "submit_result", "submit_result"];
        assert_eq!(calls(&coder, 6), told);
        let reviewer = ["read_file", "git_diff", "submit_result"];
        assert_eq!(calls(&reviewer, 3), ["git_diff", "submit_result", "submit_result"]);
    }

    #[test]
    fn a_request_that_is_none_gets_an_answer_all_the_same() {
        assert_eq!(answer(&json!({})).tool, "git_diff");
        assert_eq!(answer(&json!("x")).tool, "git_diff");
    }

    #[test]
    fn every_answer_says_that_it_is_scripted() {
        for answer in coder().into_iter().chain(reviewer()) {
            assert!(answer.text.starts_with("[scripted]"), "{answer:?}");
        }
    }
}
