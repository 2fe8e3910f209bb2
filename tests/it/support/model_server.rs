//! An OpenAI-compatible model server on a real socket that answers from a script, streaming.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::within;

/// What the server does with one request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Calls one tool, its arguments in fragments.
    Call(&'static str, Value),
    /// Calls several tools in one message.
    Calls(Vec<(&'static str, Value)>),
    /// Says something and calls nothing.
    Say(&'static str),
    /// Begins to answer and never ends.
    Hang,
    /// Another status, with this content type and body.
    Status(u16, &'static str, String),
    /// A stream of these bytes, as they are.
    Raw(String),
    /// What a sensible coder does next, by what it is shown: mend first, then submit.
    Next,
}

/// The answer that ends a coder's run.
pub(crate) fn submit(verdict: &str) -> Act {
    Act::Call(
        "submit_result",
        json!({"verdict": verdict, "summary": "as asked", "commit_message": "Greet the world\n\nWhen nobody is named."}),
    )
}

/// The answer that ends a reviewer's run.
pub(crate) fn review(verdict: &str) -> Act {
    let finding = json!({"severity": "major", "message": "it greets the wrong one"});
    let findings = if verdict == "GO" { vec![] } else { vec![finding] };
    let summary = "read it all";
    let arguments = json!({"verdict": verdict, "summary": summary, "findings": findings});
    Act::Call("submit_result", arguments)
}

/// The answer that mends the greeting.
pub(crate) fn mend() -> Act {
    Act::Call(
        "str_replace",
        json!({"path": "greet.sh", "old_string": "$1", "new_string": "${1:-world}"}),
    )
}

/// The answer that runs a command.
pub(crate) fn bash(command: &str) -> Act {
    Act::Call("bash", json!({"command": command}))
}

/// The answer that reads a file.
pub(crate) fn read(path: &str) -> Act {
    Act::Call("read_file", json!({"path": path}))
}

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The body as bytes.
    pub(crate) raw: Bytes,
    /// The body.
    pub(crate) body: Value,
    /// The header `authorization`.
    pub(crate) authorization: Option<String>,
}

impl Asked {
    /// The messages as they were sent, one JSON text each.
    pub(crate) fn messages(&self) -> Vec<String> {
        let messages = self.body.get("messages").and_then(Value::as_array);
        messages.into_iter().flatten().map(Value::to_string).collect()
    }
}

struct Script {
    acts: Mutex<VecDeque<Act>>,
    asked: Mutex<Vec<Asked>>,
    count: watch::Sender<usize>,
}

/// The server, until dropped.
pub(crate) struct ModelServer {
    pub(crate) url: String,
    script: Arc<Script>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ModelServer {
    /// A server with this script; after its end it refuses.
    pub(crate) async fn new(acts: Vec<Act>) -> Self {
        foreman_probe::install_tls_provider();
        let script = Arc::new(Script {
            acts: Mutex::new(acts.into()),
            asked: Mutex::default(),
            count: watch::Sender::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let router =
            Router::new().route("/v1/chat/completions", post(chat)).with_state(Arc::clone(&script));
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("served");
        });
        Self { url, script, task }
    }

    /// Goes on with these answers.
    pub(crate) fn then(&self, acts: Vec<Act>) {
        self.script.acts.lock().expect("unpoisoned").extend(acts);
    }

    /// Throws away what is left of the script.
    pub(crate) fn forget(&self) {
        self.script.acts.lock().expect("unpoisoned").clear();
    }

    /// The requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.script.asked.lock().expect("unpoisoned").clone()
    }

    /// Answers that were not asked for yet.
    pub(crate) fn left(&self) -> usize {
        self.script.acts.lock().expect("unpoisoned").len()
    }

    /// Waits for the request with this number, from 1.
    pub(crate) async fn asked_times(&self, number: usize) {
        let mut count = self.script.count.subscribe();
        let waiting = count.wait_for(|count| *count >= number);
        within("a request to the model", waiting).await.expect("the server lives");
    }
}

async fn chat(State(script): State<Arc<Script>>, headers: HeaderMap, raw: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&raw).unwrap_or(Value::Null);
    let authorization = headers.get("authorization");
    let authorization = authorization.and_then(|it| it.to_str().ok()).map(str::to_owned);
    let sent = raw.len();
    let asked = Asked { raw, body: body.clone(), authorization };
    script.asked.lock().expect("unpoisoned").push(asked);
    let act = script.acts.lock().expect("unpoisoned").pop_front();
    script.count.send_modify(|count| *count += 1);
    let act = match act {
        Some(Act::Next) => {
            let edited =
                body.get("messages").is_some_and(|it| it.to_string().contains("str_replace"));
            Some(if edited { submit("GO") } else { mend() })
        }
        other => other,
    };
    match act {
        // Played above.
        Some(Act::Next) => unreachable!("replaced"),
        Some(Act::Call(name, arguments)) => streamed(&called(&[(name, arguments)], sent)),
        Some(Act::Calls(calls)) => streamed(&called(&calls, sent)),
        Some(Act::Say(text)) => {
            let mut events =
                vec![chunk(&json!({"role": "assistant", "content": text}), &Value::Null)];
            events.extend(ended("stop", sent));
            streamed(&events)
        }
        Some(Act::Hang) => {
            let first =
                chunk(&json!({"role": "assistant", "content": "let me think"}), &Value::Null);
            let first = stream::iter([Ok::<_, Infallible>(first)]);
            answer(Body::from_stream(first.chain(stream::pending())))
        }
        Some(Act::Status(code, kind, body)) => {
            let code = StatusCode::from_u16(code).expect("a status");
            (code, [("content-type", kind)], body).into_response()
        }
        Some(Act::Raw(body)) => answer(Body::from(body)),
        None => {
            let body = json!({"error": {"message": "the script is over"}}).to_string();
            (StatusCode::BAD_REQUEST, [("content-type", "application/json")], body).into_response()
        }
    }
}

fn answer(body: Body) -> Response {
    ([("content-type", "text/event-stream")], body).into_response()
}

fn streamed(events: &[String]) -> Response {
    let pieces: Vec<Result<String, Infallible>> = events.iter().cloned().map(Ok).collect();
    answer(Body::from_stream(stream::iter(pieces)))
}

pub(crate) fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn chunk(delta: &Value, finish: &Value) -> String {
    event(&json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}))
}

/// A round number, so that sums can be told; but not where a client would take it for a prompt cut.
fn prompt_tokens(sent: usize) -> usize {
    const SMALL_BYTES: usize = 8 << 10;
    if sent < SMALL_BYTES { 100 } else { sent / 4 }
}

fn ended(finish: &str, sent: usize) -> Vec<String> {
    let usage = json!({
        "prompt_tokens": prompt_tokens(sent),
        "completion_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 40},
    });
    vec![
        chunk(&json!({}), &json!(finish)),
        event(&json!({"choices": [], "usage": usage})),
        "data: [DONE]\n\n".to_owned(),
    ]
}

/// Characters of a fragment of arguments.
const FRAGMENT_CHARS: usize = 7;

fn called(calls: &[(&str, Value)], sent: usize) -> Vec<String> {
    let mut events = vec![chunk(&json!({"role": "assistant", "content": ""}), &Value::Null)];
    for (index, (name, arguments)) in calls.iter().enumerate() {
        let function = json!({"name": name, "arguments": ""});
        let call = json!({"index": index, "id": format!("call-{index}"), "type": "function", "function": function});
        events.push(chunk(&json!({"tool_calls": [call]}), &Value::Null));
        let arguments: Vec<char> = arguments.to_string().chars().collect();
        for fragment in arguments.chunks(FRAGMENT_CHARS) {
            let fragment: String = fragment.iter().collect();
            let call = json!({"index": index, "function": {"arguments": fragment}});
            events.push(chunk(&json!({"tool_calls": [call]}), &Value::Null));
        }
    }
    events.extend(ended("tool_calls", sent));
    events
}
