//! A model whose answer depends only on the conversation that it is shown, so that a request that is
//! sent again is answered again. It keeps every request byte by byte, and can be held at a turn.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::within;

/// Tokens of each prompt, as the server counts them.
pub(crate) const PROMPT_TOKENS: i64 = 100;
/// Tokens of each answer.
pub(crate) const ANSWER_TOKENS: i64 = 10;

/// One tool call a turn; the last one is repeated.
pub(crate) type Script = Vec<(&'static str, Value)>;

/// The model server, until dropped.
pub(crate) struct Model {
    pub(crate) url: String,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    coder: Script,
    reviewer: Script,
    /// The coder's turn, from 1, that gets no answer until it is let go.
    held: watch::Sender<Option<usize>>,
    /// What the coder asked, as it came.
    asked: watch::Sender<Vec<Asked>>,
    failures: Mutex<Vec<String>>,
}

/// One request of the coder.
#[derive(Debug, Clone)]
struct Asked {
    turn: usize,
    raw: String,
}

impl Drop for Model {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Model {
    pub(crate) async fn start(coder: Script, reviewer: Script) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let url = format!("http://{}/v1", listener.local_addr().expect("bound"));
        let shared = Arc::new(Shared {
            coder,
            reviewer,
            held: watch::Sender::new(None),
            asked: watch::Sender::default(),
            failures: Mutex::default(),
        });
        let models = json!({"object": "list", "data": [{"id": "test-model"}]});
        let router = Router::new()
            .route("/v1/models", get(async || Json(models)))
            .route("/v1/chat/completions", post(chat))
            .with_state(shared.clone());
        let serving = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("served");
        });
        Self { url, shared, serving }
    }

    /// Gives no answer at this turn of the coder.
    pub(crate) fn hold(&self, turn: usize) {
        self.shared.held.send_replace(Some(turn));
    }

    pub(crate) fn let_go(&self) {
        self.shared.held.send_replace(None);
    }

    /// Waits until the coder has asked for that turn so many times.
    pub(crate) async fn asked_for(&self, turn: usize, times: usize) {
        let mut asked = self.shared.asked.subscribe();
        let what = format!("request {times} for turn {turn}");
        let enough =
            |asked: &Vec<Asked>| asked.iter().filter(|one| one.turn == turn).count() >= times;
        within(&what, asked.wait_for(enough)).await.expect("the server lives");
    }

    /// How often the coder asked for each turn.
    pub(crate) fn turns(&self) -> BTreeMap<usize, usize> {
        let mut turns = BTreeMap::new();
        for asked in self.shared.asked.borrow().iter() {
            *turns.entry(asked.turn).or_default() += 1;
        }
        turns
    }

    /// The coder's requests must each go on with the one before, byte by byte, and differ in nothing
    /// else: that is what keeps a server's cache warm, and a conversation the same after a crash.
    pub(crate) fn assert_one_conversation(&self) {
        let asked = self.shared.asked.borrow().clone();
        let parts: Vec<_> = asked.iter().map(|asked| split(&asked.raw)).collect();
        for (before, after) in parts.iter().zip(parts.iter().skip(1)) {
            assert!(
                after.messages.starts_with(before.messages),
                "{before:?}\nis no beginning of\n{after:?}"
            );
            assert_eq!((before.head, before.tail), (after.head, after.tail));
        }
        assert_eq!(*self.shared.failures.lock().expect("unpoisoned"), Vec::<String>::new());
    }
}

/// A request around its messages, which are without the brackets.
#[derive(Debug)]
struct Parts<'a> {
    head: &'a str,
    messages: &'a str,
    tail: &'a str,
}

fn split(raw: &str) -> Parts<'_> {
    const BEGIN: &str = "\"messages\":[";
    let (head, rest) = raw.split_once(BEGIN).expect("messages");
    let (mut depth, mut in_text, mut escaped) = (1_usize, false, false);
    for (at, byte) in rest.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let (messages, tail) = rest.split_at(at);
            return Parts { head, messages, tail };
        }
    }
    panic!("the messages have no end: {raw}");
}

async fn chat(State(shared): State<Arc<Shared>>, raw: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&raw).expect("JSON");
    let tools = request["tools"].as_array().cloned().unwrap_or_default();
    let is_coder = tools.iter().any(|tool| tool["function"]["name"] == "str_replace");
    let messages = request["messages"].as_array().cloned().unwrap_or_default();
    let turn = 1 + messages.iter().filter(|message| message["role"] == "assistant").count();
    if is_coder {
        let raw = String::from_utf8(raw.to_vec()).expect("UTF-8");
        shared.asked.send_modify(|asked| asked.push(Asked { turn, raw }));
        let mut held = shared.held.subscribe();
        held.wait_for(|held| *held != Some(turn)).await.expect("the server lives");
    }
    let script = if is_coder { &shared.coder } else { &shared.reviewer };
    let Some((tool, arguments)) = script.get(turn - 1).or(script.last()) else {
        shared.failures.lock().expect("unpoisoned").push(format!("no answer for turn {turn}"));
        return axum::http::StatusCode::BAD_REQUEST.into_response();
    };
    answer(turn, tool, arguments)
}

fn answer(turn: usize, tool: &str, arguments: &Value) -> Response {
    let event = |value: Value| format!("data: {value}\n\n");
    let chunk = |delta: Value, finish: Value| {
        event(json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}))
    };
    let function = json!({"name": tool, "arguments": arguments.to_string()});
    let call =
        json!({"index": 0, "id": format!("call-{turn}"), "type": "function", "function": function});
    let usage = json!({"prompt_tokens": PROMPT_TOKENS, "completion_tokens": ANSWER_TOKENS});
    let body = [
        chunk(
            json!({"role": "assistant", "content": arguments["says"], "tool_calls": [call]}),
            Value::Null,
        ),
        chunk(json!({}), json!("tool_calls")),
        event(json!({"choices": [], "usage": usage})),
        "data: [DONE]\n\n".to_owned(),
    ];
    let body = futures::stream::iter(body.map(Ok::<_, Infallible>));
    ([("content-type", "text/event-stream")], Body::from_stream(body)).into_response()
}
