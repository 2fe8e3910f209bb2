//! The protocol against a real llama-server. Its model is a table of ours that says nothing of sense,
//! but always closes what a grammar makes it open.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use foreman_runner::model_client::{
    BaseUrl, CallMode, CallSource, ChatReply, ChatRequest, Delta, FinishReason, Message,
    ModelClient as _, ModelError, OpenAiClient, OpenAiSettings,
};
use foreman_runner::tool::ToolSpec;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::llama::Llama;

/// Context of the server, in tokens.
const CONTEXT_TOKENS: u32 = 4096;

fn client(url: &str) -> OpenAiClient {
    let mut settings = OpenAiSettings::new(BaseUrl::parse(url).expect("a URL"));
    settings.retries_max = 0;
    OpenAiClient::new(settings).expect("a client")
}

fn read_file() -> ToolSpec {
    ToolSpec {
        name: "read_file".into(),
        description: "Reads a file.".into(),
        parameters: json!({
            "type": "object",
            "properties": {"path": {"type": "string", "minLength": 1}},
            "required": ["path"],
            "additionalProperties": false,
        }),
    }
}

/// A request with these messages, and how many tokens may be answered.
struct Ask<'a> {
    messages: &'a [Message],
    tools: &'a [ToolSpec],
    mode: CallMode,
    output_tokens_max: u32,
}

impl Ask<'_> {
    async fn of(
        &self,
        client: &OpenAiClient,
        on_delta: &mut (dyn FnMut(Delta) + Send),
        cancel: &CancellationToken,
    ) -> Result<ChatReply, ModelError> {
        let none = Map::new();
        let request = ChatRequest {
            model: "test",
            messages: self.messages,
            tools: self.tools,
            mode: self.mode,
            temperature: Some(0.0),
            output_tokens_max: self.output_tokens_max,
            chat_template_kwargs: &none,
        };
        client.complete(&request, on_delta, cancel).await
    }
}

/// Passes a request on with `tool_choice: required`, which our client never asks for, and the answer
/// back as it comes.
async fn required(State(to): State<Arc<str>>, body: Bytes) -> Response {
    let mut body: Value = serde_json::from_slice(&body).expect("JSON");
    body.as_object_mut().expect("an object").insert("tool_choice".into(), json!("required"));
    let request = reqwest::Client::new().post(format!("{to}/chat/completions")).json(&body);
    let answer = request.send().await.expect("an answer");
    let (status, kind) = (answer.status(), answer.headers().get("content-type").cloned());
    let mut response = Response::new(Body::from_stream(answer.bytes_stream()));
    *response.status_mut() = status;
    if let Some(kind) = kind {
        response.headers_mut().insert("content-type", kind);
    }
    response
}

async fn requiring(url: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let here = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let router = Router::new()
        .route("/v1/chat/completions", post(required))
        .with_state(Arc::<str>::from(url));
    tokio::spawn(async move { axum::serve(listener, router).await });
    here
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_understands_a_real_server() {
    let Some(llama) = Llama::start("the model client", CONTEXT_TOKENS).await else { return };
    let plain = client(&llama.url);
    let never = CancellationToken::new();
    let mut ignore = |_: Delta| {};

    let models = plain.list_models().await.expect("models");
    let [model] = models.as_slice() else { panic!("{models:?}") };
    assert!(!model.id.is_empty(), "{model:?}");

    // Text, streamed, with what it cost; then again, out of the server's cache.
    let words = "word ".repeat(100);
    let messages = [Message::system("Be brief."), Message::user(words)];
    let ask =
        Ask { messages: &messages, tools: &[], mode: CallMode::Native, output_tokens_max: 50 };
    let mut deltas = Vec::new();
    let first = ask.of(&plain, &mut |delta| deltas.push(delta), &never).await.expect("an answer");
    assert_eq!(first.tool_calls, vec![]);
    assert!(!first.content.is_empty() && !deltas.is_empty(), "{first:?}");
    let text: String = deltas
        .iter()
        .filter_map(|delta| match delta {
            Delta::Content(text) => Some(text.as_str()),
            Delta::Reasoning(_) | Delta::Call { .. } | Delta::Again { .. } => None,
        })
        .collect();
    assert_eq!(text, first.content);
    assert!(first.usage.prompt_tokens > 100 && !first.usage.estimated, "{:?}", first.usage);
    let again = ask.of(&plain, &mut ignore, &never).await.expect("an answer");
    assert_eq!(again.content, first.content, "temperature 0");
    assert!(again.usage.cached_tokens > 100, "{:?}", again.usage);

    // A call that the server must make, out of fragments.
    let tools = [read_file()];
    let messages = [Message::user("Read a file.")];
    let ask =
        Ask { messages: &messages, tools: &tools, mode: CallMode::Native, output_tokens_max: 200 };
    let forced = client(&requiring(&llama.url).await);
    let called = ask.of(&forced, &mut ignore, &never).await.expect("an answer");
    let [call] = called.tool_calls.as_slice() else { panic!("{called:?}") };
    assert_eq!((call.name.as_str(), called.source), ("read_file", CallSource::Native));
    assert_eq!((called.finish.clone(), called.problem.clone()), (FinishReason::ToolCalls, None));
    let arguments = call.parse_arguments().expect("JSON");
    assert!(arguments.get("path").is_some_and(Value::is_string), "{arguments:?}");

    // The conversation with that call and its answer is taken by the server's own template.
    let messages = [
        Message::user("Read a file."),
        Message::Assistant {
            content: String::new(),
            reasoning: String::new(),
            tool_calls: called.tool_calls.clone(),
        },
        Message::Tool {
            tool_call_id: call.id.clone(),
            name: call.name.clone(),
            content: "it is empty".into(),
        },
    ];
    let ask =
        Ask { messages: &messages, tools: &tools, mode: CallMode::Native, output_tokens_max: 50 };
    ask.of(&plain, &mut ignore, &never).await.expect("an answer");

    // Schema mode: constrained by the server, exactly one call.
    let messages = [Message::user("Read a file.")];
    let ask =
        Ask { messages: &messages, tools: &tools, mode: CallMode::Schema, output_tokens_max: 400 };
    let called = ask.of(&plain, &mut ignore, &never).await.expect("an answer");
    let [call] = called.tool_calls.as_slice() else { panic!("{called:?}") };
    assert_eq!((call.name.as_str(), called.source), ("read_file", CallSource::Schema));
    assert!(call.parse_arguments().expect("JSON").contains_key("path"), "{call:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_server_is_left_in_the_middle_and_asked_for_too_much() {
    let Some(llama) = Llama::start("cancelling, and a prompt too long", 512).await else { return };
    let plain = client(&llama.url);
    let mut ignore = |_: Delta| {};

    // Cancelled at the first piece: at once, and the server's only slot is free again.
    let cancel = CancellationToken::new();
    let tools = [read_file()];
    let messages = [Message::user("Read a file.")];
    let ask =
        Ask { messages: &messages, tools: &tools, mode: CallMode::Schema, output_tokens_max: 400 };
    let at_once = cancel.clone();
    let began = Instant::now();
    let end = ask.of(&plain, &mut |_| at_once.cancel(), &cancel).await;
    assert!(matches!(end, Err(ModelError::Cancelled)), "{end:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let never = CancellationToken::new();
    ask.of(&plain, &mut ignore, &never).await.expect("the slot is free");

    let messages = [Message::user("word ".repeat(2_000))];
    let ask =
        Ask { messages: &messages, tools: &[], mode: CallMode::Native, output_tokens_max: 50 };
    let end = ask.of(&plain, &mut ignore, &never).await;
    match &end {
        Err(ModelError::ContextTooLong { context_tokens, .. }) => {
            assert_eq!(*context_tokens, Some(512), "{end:?}");
        }
        _ => panic!("{end:?}"),
    }
}
