//! A scripted server on a real socket, and how to ask it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::*;

/// A piece of an answer.
#[derive(Clone)]
pub(super) enum Part {
    Bytes(Vec<u8>),
    /// Nothing for so many milliseconds.
    Pause(u64),
    /// Written again and again until the client goes away.
    Endless(Vec<u8>),
    /// Nothing more, and the connection stays open until the client goes away.
    Silence,
}

pub(super) fn bytes(text: impl AsRef<[u8]>) -> Part {
    Part::Bytes(text.as_ref().to_vec())
}

pub(super) const STREAM: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

pub(super) fn stream(events: &str) -> Vec<Part> {
    vec![bytes(STREAM), bytes(events)]
}

pub(super) fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

pub(super) fn said(text: &str) -> String {
    event(&json!({"choices": [{"index": 0, "delta": {"content": text}}]}))
}

pub(super) fn finished() -> String {
    event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
        + &event(&json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}))
        + "data: [DONE]\n\n"
}

pub(super) fn good() -> Vec<Part> {
    stream(&(said("hel") + &said("lo") + &finished()))
}

pub(super) fn answer(status: u16, headers: &str, body: &str) -> Vec<Part> {
    let length = body.len();
    vec![bytes(format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    ))]
}

pub(super) fn refusal(status: u16, message: &str) -> Vec<Part> {
    answer(
        status,
        "content-type: application/json\r\nretry-after: 0\r\n",
        &json!({"error": {"message": message}}).to_string(),
    )
}

/// A server that gives its answers in order and notes the requests.
pub(super) struct Server {
    pub(super) url: String,
    pub(super) requests: Arc<Mutex<Vec<(Instant, String, Value)>>>,
    /// Connections that the client closed on us.
    pub(super) left: Arc<tokio::sync::Notify>,
    pub(super) task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(super) async fn new(script: Vec<Vec<Part>>) -> Self {
        // A second installation is refused, which is just as well.
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let left = Arc::new(tokio::sync::Notify::new());
        let (seen, gone) = (Arc::clone(&requests), Arc::clone(&left));
        let task = tokio::spawn(async move {
            let mut script: VecDeque<Vec<Part>> = script.into();
            loop {
                let (mut socket, _) = listener.accept().await.expect("accepted");
                let Some((head, body)) = Box::pin(read_request(&mut socket)).await else {
                    continue;
                };
                seen.lock().expect("unpoisoned").push((Instant::now(), head, body));
                let parts =
                    script.pop_front().unwrap_or_else(|| refusal(418, "the script is over"));
                if play(&mut socket, parts).await.is_err() {
                    gone.notify_one();
                }
            }
        });
        Self { url, requests, left, task }
    }

    pub(super) fn count(&self) -> usize {
        self.requests.lock().expect("unpoisoned").len()
    }

    pub(super) fn bodies(&self) -> Vec<Value> {
        self.requests.lock().expect("unpoisoned").iter().map(|(_, _, body)| body.clone()).collect()
    }

    pub(super) fn settings(&self) -> OpenAiSettings {
        let mut settings = OpenAiSettings::new(BaseUrl::parse(&self.url).expect("a URL"));
        settings.retries_max = 2;
        settings.jitter_seed = 1;
        settings
    }

    pub(super) fn client(&self) -> OpenAiClient {
        OpenAiClient::new(self.settings()).expect("made")
    }

    pub(super) fn client_with(&self, change: impl FnOnce(&mut OpenAiSettings)) -> OpenAiClient {
        let mut settings = self.settings();
        change(&mut settings);
        OpenAiClient::new(settings).expect("made")
    }
}

pub(super) async fn read_request(socket: &mut TcpStream) -> Option<(String, Value)> {
    let mut data = Vec::new();
    loop {
        let mut buffer = vec![0; 16 * 1024];
        let n = socket.read(&mut buffer).await.ok().filter(|n| *n > 0)?;
        data.extend(buffer.iter().take(n));
        let text = String::from_utf8_lossy(&data).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
            })
            .unwrap_or(0);
        if body.len() >= length {
            return Some((head.to_owned(), serde_json::from_str(body).unwrap_or(Value::Null)));
        }
    }
}

pub(super) async fn play(socket: &mut TcpStream, parts: Vec<Part>) -> std::io::Result<()> {
    for part in parts {
        match part {
            Part::Bytes(data) => {
                socket.write_all(&data).await?;
                socket.flush().await?;
            }
            Part::Pause(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Part::Endless(data) => loop {
                socket.write_all(&data).await?;
            },
            Part::Silence => {
                let mut buffer = [0; 64];
                while socket.read(&mut buffer).await? > 0 {}
                return Err(std::io::ErrorKind::ConnectionReset.into());
            }
        }
    }
    socket.shutdown().await
}

pub(super) fn tools() -> Vec<ToolSpec> {
    let parameters =
        json!({"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]});
    vec![ToolSpec { name: "read_file".into(), description: "Reads.".into(), parameters }]
}

pub(super) struct Asked {
    pub(super) result: Result<ChatReply, ModelError>,
    pub(super) deltas: Vec<Delta>,
}

pub(super) async fn ask_with(
    client: &OpenAiClient,
    mode: CallMode,
    messages: &[Message],
    cancel: &CancellationToken,
) -> Asked {
    let (tools, kwargs) = (tools(), Map::new());
    let request = ChatRequest {
        model: "m",
        messages,
        tools: &tools,
        mode,
        temperature: Some(0.2),
        output_tokens_max: 64,
        chat_template_kwargs: &kwargs,
    };
    let mut deltas = Vec::new();
    let result = client.complete(&request, &mut |delta| deltas.push(delta), cancel).await;
    Asked { result, deltas }
}

pub(super) async fn ask(client: &OpenAiClient) -> Asked {
    let messages = [Message::system("orders"), Message::user("task")];
    ask_with(client, CallMode::Native, &messages, &CancellationToken::new()).await
}

pub(super) fn content(asked: Asked) -> String {
    asked.result.expect("an answer").content
}
