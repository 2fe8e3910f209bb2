//! Answers that no server should give and some do: each has one clear end, and none a panic.

use serde_json::{Value, json};

use super::scripted::{Asked, Part, Server, ask, event, finished, said, stream};

/// What became of an odd answer, in one word and its telling part.
fn verdict(asked: Asked) -> String {
    match asked.result {
        Ok(reply) if reply.problem.is_some() => {
            format!("problem {}", reply.problem.unwrap_or_default())
        }
        Ok(reply) if reply.tool_calls.is_empty() => format!("text {:?}", reply.content),
        Ok(reply) => {
            let calls: Vec<String> = reply
                .tool_calls
                .iter()
                .map(|call| match call.parse_arguments() {
                    Ok(arguments) => format!("{}{}", call.name, Value::Object(arguments)),
                    Err(why) => format!("{} {why}", call.name),
                })
                .collect();
            format!("calls {}", calls.join(" "))
        }
        Err(error) => format!("error {error}"),
    }
}

/// Answers and how the client must end with each.
fn cases() -> Vec<(String, &'static str)> {
    let calls = |fragments: Value| {
        event(&json!({"choices": [{"delta": {"tool_calls": fragments}}]})) + &finished()
    };
    let function = |name: &str, arguments: Value| json!([{"index": 0, "id": "a", "function": {"name": name, "arguments": arguments}}]);
    vec![
        (
            calls(function("read_file", json!("{\"path\": \"a"))),
            "calls read_file the arguments are not valid JSON",
        ),
        (
            calls(function("read_file", json!("not json"))),
            "calls read_file the arguments are not valid JSON",
        ),
        (calls(function("read_file", json!("[1]"))), "calls read_file the arguments are a list"),
        (
            calls(function("read_file", json!("\"x\""))),
            "calls read_file the arguments are a string",
        ),
        (calls(function("read_file", json!(["x"]))), "calls read_file the arguments are a list"),
        (calls(function("read_file", json!(null))), "calls read_file{}"),
        (
            calls(function("read_file", json!("{\"path\":\"a\"}{\"path\":\"b\"}"))),
            "calls read_file the arguments are not valid JSON",
        ),
        (calls(function("", json!("{}"))), "calls {}"),
        (calls(json!([{"index": -5, "function": {"name": "read_file"}}])), "calls read_file{}"),
        (calls(json!([{"index": 1e300, "function": 7}, null, "x", []])), "text \"\""),
        (
            calls(Value::Array(vec![json!({"function": {"name": "x", "arguments": "{}"}}); 65])),
            "error the model server",
        ),
        (
            said("<tool_call>{\"name\": \"read_file\", </tool_call>") + &finished(),
            "problem the text after <tool_call> is no call",
        ),
        (said("<think>still thinking") + &finished(), "text \"\""),
        (
            said(
                "```json\n{\"name\": \"read_file\", \"arguments\": {\"path\": \"a\"}}\n```\n<tool_response>made up",
            ) + &finished(),
            "calls read_file{\"path\":\"a\"}",
        ),
        (said("{\"name\": \"unknown\", \"arguments\": {}}") + &finished(), "calls unknown{}"),
        (finished(), "text \"\""),
        (
            "data: {\"choices\": [{\"delta\": {\"content\": \"a\"}}\n\n".into(),
            "error the model server",
        ),
        ("data: garbage\n\n".into(), "error the model server"),
        ("data: [DONE]\n\n".into(), "error the model server"),
        (
            event(&json!({"error": {"message": "model crashed", "code": 500}})),
            "error the model server",
        ),
        (
            event(&json!({"error": {"message": "bad template", "code": 400}})),
            "error the model server",
        ),
        (
            event(&json!({"choices": "none"})) + &event(&json!([])) + "data: null\n\n",
            "error the model server",
        ),
        ("\u{0}\u{1}\u{2}".into(), "error the model server"),
        (
            event(&json!({"choices": [{"delta": null, "message": null, "finish_reason": "stop"}]}))
                + "data: [DONE]\n\n",
            "text \"\"",
        ),
    ]
}

#[tokio::test]
async fn malformed_answers_each_have_one_clear_end() {
    let cases = cases();
    let script: Vec<Vec<Part>> = cases.iter().map(|(events, _)| stream(events)).collect();
    let server = Server::new(script).await;
    let client = server.client_with(|s| s.retries_max = 0);
    for (events, want) in &cases {
        let got = verdict(ask(&client).await);
        assert!(got.starts_with(want), "{events}\n{got}");
    }
    assert_eq!(server.count(), cases.len());
}
