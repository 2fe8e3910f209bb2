//! A model server that is none: it speaks the OpenAI protocol on 127.0.0.1 and answers from a
//! script. So the demonstration goes through the very code that a real model's answers go through.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::script::{self, Answer};

/// The name under which the script appears where a model's name stands.
pub const MODEL_NAME: &str = "scripted-demo";
/// What every screen says of it.
pub const LABEL: &str = "scripted answers (no model)";
/// The context that it claims, in tokens.
pub const CONTEXT_TOKENS: u64 = 65_536;
/// The largest request it reads, in bytes.
const REQUEST_BYTES_MAX: usize = 16 << 20;
/// Pause between two pieces of an answer, so that a person can see it come.
const PIECE_PAUSE: Duration = Duration::from_millis(40);
/// Characters of a piece of an answer.
const PIECE_CHARS: usize = 48;
/// Bytes that are taken for one token: the numbers of a script are estimates anyway.
const BYTES_PER_TOKEN: usize = 4;

/// The server, until dropped or stopped.
#[derive(Debug)]
pub struct ScriptedServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<io::Result<()>>,
}

impl ScriptedServer {
    /// Starts on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// No port could be had.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = axum::serve(listener, router()).with_graceful_shutdown(async {
            // A dropped sender means the same.
            stopped.await.unwrap_or_default();
        });
        let task = tokio::spawn(async move { serve.await });
        Ok(Self { address, stop: Some(stop), task })
    }

    /// The base URL of the protocol.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Stops it.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        self.task.abort();
        match (&mut self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the scripted server ended badly"),
            Err(error) => tracing::debug!(%error, "the scripted server was stopped"),
        }
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn router() -> Router {
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(chat))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
}

async fn models() -> Json<Value> {
    Json(json!({
        "object": "list",
        "data": [{"id": MODEL_NAME, "object": "model", "owned_by": "foreman demo (no model)"}],
    }))
}

async fn chat(Json(request): Json<Value>) -> Response {
    let answer = script::answer(&request);
    let sent = request.get("messages").map_or(0, |messages| messages.to_string().len());
    let pieces = pieces(&answer, sent / BYTES_PER_TOKEN);
    let body = stream::unfold(pieces.into_iter(), |mut pieces| async move {
        let piece = pieces.next()?;
        tokio::time::sleep(PIECE_PAUSE).await;
        Some((Ok::<_, Infallible>(piece), pieces))
    });
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(body)).into_response()
}

/// The answer as a real server sends it: text and arguments in fragments, then usage, then the end.
fn pieces(answer: &Answer, prompt_tokens: usize) -> Vec<String> {
    let id = format!("call_{}", uuid::Uuid::new_v4().simple());
    let chunk = |delta: Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        event(&json!({"object": "chat.completion.chunk", "model": MODEL_NAME, "choices": [choice]}))
    };
    let mut pieces = vec![chunk(json!({"role": "assistant", "content": answer.text}), Value::Null)];
    let function = json!({"name": answer.tool, "arguments": ""});
    let call = json!({"index": 0, "id": id, "type": "function", "function": function});
    pieces.push(chunk(json!({"tool_calls": [call]}), Value::Null));
    let arguments = answer.arguments.to_string();
    let characters: Vec<char> = arguments.chars().collect();
    for fragment in characters.chunks(PIECE_CHARS) {
        let fragment: String = fragment.iter().collect();
        let call = json!({"index": 0, "function": {"arguments": fragment}});
        pieces.push(chunk(json!({"tool_calls": [call]}), Value::Null));
    }
    pieces.push(chunk(json!({}), json!("tool_calls")));
    let usage = json!({
        "prompt_tokens": prompt_tokens,
        "completion_tokens": (answer.text.len() + arguments.len()) / BYTES_PER_TOKEN,
    });
    pieces.push(event(&json!({"object": "chat.completion.chunk", "model": MODEL_NAME, "choices": [], "usage": usage})));
    pieces.push("data: [DONE]\n\n".to_owned());
    pieces
}

fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use foreman_runner::model_client::{
        BaseUrl, CallMode, ChatRequest, Message, ModelClient as _, OpenAiClient, OpenAiSettings,
    };
    use foreman_runner::tool::ToolSpec;
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn the_runners_own_client_understands_it() {
        foreman_probe::install_tls_provider();
        let server = ScriptedServer::start().await.expect("a port");
        let base_url = BaseUrl::parse(&server.base_url()).expect("a URL");
        let client = OpenAiClient::new(OpenAiSettings::new(base_url)).expect("a client");
        let tool = |name: &str| ToolSpec {
            name: name.into(),
            description: "x".into(),
            parameters: json!({"type": "object"}),
        };
        let request = ChatRequest {
            model: MODEL_NAME,
            messages: &[Message::User { content: "fix it".into() }],
            tools: &[tool("str_replace"), tool("read_file")],
            mode: CallMode::Native,
            temperature: None,
            output_tokens_max: 100,
            chat_template_kwargs: &serde_json::Map::new(),
        };
        let reply = client.complete(&request, &mut |_| {}, &CancellationToken::new()).await;
        let reply = reply.expect("an answer");
        let [call] = reply.tool_calls.as_slice() else { panic!("{reply:?}") };
        assert_eq!(call.name, "read_file");
        let arguments: Value = serde_json::from_str(&call.arguments).expect("JSON");
        assert_eq!(arguments, json!({"path": "greet.sh"}));
        assert!(reply.usage.prompt_tokens > 0 && !reply.usage.estimated, "{:?}", reply.usage);
        server.stop().await;
    }
}
