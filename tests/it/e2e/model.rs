//! A model server that answers from a script, counts what it is asked, and can be held at a turn.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::support::within;

/// A scripted model.
pub(super) struct Model {
    url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    /// The coder's turn (from 1) at which no answer comes until it is let go.
    held_at: watch::Sender<Option<usize>>,
    reached: watch::Sender<usize>,
    /// How often the coder asked for each turn.
    asked: Mutex<BTreeMap<usize, usize>>,
    /// How many reviews are still to reject the change.
    rejections: Mutex<usize>,
    /// The last message that the coder was shown at each turn.
    shown: Mutex<BTreeMap<usize, String>>,
}

impl Model {
    /// A model whose coder gets no answer at `held_at`.
    pub(super) async fn start(held_at: Option<usize>) -> Self {
        Self::rejecting(held_at, 0).await
    }

    /// As [`Self::start`], with so many reviews that reject the change.
    pub(super) async fn rejecting(held_at: Option<usize>, reviews: usize) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let url = format!("http://{}/v1", listener.local_addr().expect("bound"));
        let shared = Arc::new(Shared {
            held_at: watch::channel(held_at).0,
            reached: watch::channel(0).0,
            asked: Mutex::default(),
            rejections: Mutex::new(reviews),
            shown: Mutex::default(),
        });
        let router = Router::new()
            .route(
                "/v1/models",
                get(async || Json(json!({"object": "list", "data": [{"id": "test-model"}]}))),
            )
            .route("/v1/chat/completions", post(chat))
            .with_state(shared.clone());
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("served");
        });
        Self { url, shared, task }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Waits until the coder asked for that turn.
    pub(super) async fn reached(&self, turn: usize) {
        let mut reached = self.shared.reached.subscribe();
        within(reached.wait_for(|reached| *reached >= turn)).await.expect("the server lives");
    }

    pub(super) fn let_go(&self) {
        self.shared.held_at.send_replace(None);
    }

    /// The last message that the coder was shown at that turn.
    pub(super) fn shown(&self, turn: usize) -> String {
        self.shared.shown.lock().expect("no panic").get(&turn).cloned().unwrap_or_default()
    }

    /// How often the coder asked for each turn.
    pub(super) fn asked(&self) -> BTreeMap<usize, usize> {
        self.shared.asked.lock().expect("no panic").clone()
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The calls of the coder and of the reviewer, turn by turn.
fn script(coder: bool, rejects: bool) -> Vec<(&'static str, Value)> {
    let submit =
        json!({"verdict": "GO", "summary": "done \u{1b}[2J", "commit_message": "Greet the world"});
    if rejects {
        let finding = json!({"severity": "major", "message": "say who is greeted"});
        let verdict = json!({"verdict": "NO-GO", "summary": "not yet", "findings": [finding]});
        return vec![("git_diff", json!({})), ("submit_result", verdict)];
    }
    if !coder {
        return vec![("git_diff", json!({})), ("submit_result", submit)];
    }
    let again = json!({"path": "greet.sh", "old_string": "greet()", "new_string": "# Greets $1, or the world.\ngreet()"});
    let fix = json!({"path": "greet.sh", "old_string": "$1!", "new_string": "${1:-world}!"});
    vec![
        ("read_file", json!({"path": "greet.sh"})),
        ("bash", json!({"command": "sh test.sh"})),
        ("str_replace", fix),
        ("bash", json!({"command": "sh test.sh"})),
        ("submit_result", submit.clone()),
        // What a reviewer sent back.
        ("str_replace", again),
        ("submit_result", submit),
    ]
}

/// Whether this review rejects; the one that says so counts.
fn rejects(shared: &Shared, done: usize) -> bool {
    let mut left = shared.rejections.lock().expect("no panic");
    let rejects = *left > 0;
    if rejects && done > 0 {
        *left -= 1;
    }
    rejects
}

async fn chat(State(shared): State<Arc<Shared>>, Json(request): Json<Value>) -> Response {
    let tools = request["tools"].as_array().cloned().unwrap_or_default();
    let coder = tools.iter().any(|tool| tool["function"]["name"] == "str_replace");
    let messages = request["messages"].as_array().cloned().unwrap_or_default();
    let done = messages.iter().filter(|message| message["role"] == "assistant").count();
    if coder {
        let turn = done + 1;
        *shared.asked.lock().expect("no panic").entry(turn).or_default() += 1;
        let last = messages.last().map(Value::to_string).unwrap_or_default();
        shared.shown.lock().expect("no panic").insert(turn, last);
        shared.reached.send_modify(|reached| *reached = turn.max(*reached));
        let mut held = shared.held_at.subscribe();
        held.wait_for(|held| *held != Some(turn)).await.expect("the server lives");
    }
    let rejects = !coder && rejects(&shared, done);
    let mut script = script(coder, rejects);
    let (tool, arguments) = script.swap_remove(done.min(script.len() - 1));
    let call = json!({"index": 0, "id": format!("c{done}"), "type": "function",
        "function": {"name": tool, "arguments": arguments.to_string()}});
    let chunk = |delta: Value, finish: Value| {
        format!(
            "data: {}\n\n",
            json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        )
    };
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 10}});
    let body = [
        chunk(json!({"role": "assistant", "tool_calls": [call]}), Value::Null),
        chunk(json!({}), json!("tool_calls")),
        format!("data: {usage}\n\n"),
        "data: [DONE]\n\n".to_owned(),
    ];
    let body = futures::stream::iter(body.map(Ok::<_, Infallible>));
    ([("content-type", "text/event-stream")], axum::body::Body::from_stream(body)).into_response()
}
