//! Recorded texts, machines made of them, and model servers made of JSON.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode, header};
use foreman_core::model::fleet_node::Capability;
use foreman_core::ports::CapabilityProbe;
use foreman_probe::fake::{FakeCommands, FakeHardware, machine};
use foreman_probe::{
    Discovery, DiscoveryConfig, Keeping, Os, Part, PartState, Reported, Sys, discover,
};
use tempfile::TempDir;

/// Far more than any answer in these tests takes: only a test that hangs reaches it.
pub(crate) const GENEROUS: Duration = Duration::from_secs(30);

pub(crate) fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A machine made of files and recorded commands.
pub(crate) struct Machine {
    root: TempDir,
    pub(crate) commands: Arc<FakeCommands>,
    pub(crate) hardware: FakeHardware,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let commands = Arc::new(FakeCommands::new());
        Self { root, commands, hardware: FakeHardware::default() }
    }

    pub(crate) fn file(&self, path: &str, text: &str) -> &Self {
        let path: PathBuf = self.root.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::fs::write(path, text).expect("written");
        self
    }

    pub(crate) fn sys(&self, os: Os) -> Sys {
        machine(os, self.root.path(), Arc::clone(&self.commands), self.hardware)
    }
}

/// Probes a part once: its capability (absent fields when it failed) and how it went.
pub(crate) async fn once(part: impl Part) -> (Capability, PartState) {
    let keeping = Keeping::new(part);
    let capability = keeping.probe().await.unwrap_or_default();
    (capability, keeping.report().state)
}

/// What a fake model server says at a path.
#[derive(Clone)]
pub(crate) enum Page {
    Json(String),
    Status(u16, String),
    Html(u16),
    Redirect(String),
    Hang,
}

type Pages = Arc<Mutex<BTreeMap<String, Page>>>;

/// A model server on a free port: recorded pages, everything else 404.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) at: SocketAddr,
    pages: Pages,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// A request that a server got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: String,
}

impl Server {
    pub(crate) async fn start(pages: &[(&str, Page)]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let pages = pages.iter().map(|(path, page)| ((*path).to_owned(), page.clone())).collect();
        let server = Self { at, pages: Arc::new(Mutex::new(pages)), seen: Arc::default() };
        let router = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        server
    }

    pub(crate) fn set(&self, path: &str, page: Page) {
        self.pages.lock().expect("pages").insert(path.to_owned(), page);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("seen").clone()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    /// A configuration that asks this port and no other place.
    pub(crate) fn local(&self) -> DiscoveryConfig {
        local(&[self.at.port()])
    }
}

pub(crate) fn local(ports: &[u16]) -> DiscoveryConfig {
    DiscoveryConfig {
        local_ports: ports.to_vec(),
        local_limit: GENEROUS,
        named_limit: GENEROUS,
        ..DiscoveryConfig::default()
    }
}

async fn answer(State(server): State<Server>, request: Request) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let authorization = request.headers().get(header::AUTHORIZATION);
    let authorization = authorization.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body: Bytes = axum::body::to_bytes(request.into_body(), 1 << 20).await.expect("a body");
    let body = String::from_utf8_lossy(&body).into_owned();
    // A recorded page may depend on the body: "/api/show qwen" is found by what is asked for.
    let page = {
        let pages = server.pages.lock().expect("pages");
        let by_body = pages.iter().find(|(key, _)| {
            key.split_once(' ').is_some_and(|(at, word)| at == path && body.contains(word))
        });
        by_body.map(|(_, page)| page).or_else(|| pages.get(&path)).cloned()
    };
    server.seen.lock().expect("seen").push(Seen { path, authorization, body });
    let reply = |code: u16, kind: &str, text: String| {
        let builder = Response::builder().status(code).header(header::CONTENT_TYPE, kind);
        builder.body(Body::from(text)).expect("a response")
    };
    match page {
        Some(Page::Json(text)) => reply(200, "application/json", text),
        Some(Page::Status(code, text)) => reply(code, "application/json", text),
        Some(Page::Html(code)) => reply(code, "text/html", "<!doctype html><p>hi".to_owned()),
        Some(Page::Redirect(to)) => {
            let builder = Response::builder().status(StatusCode::FOUND);
            builder.header(header::LOCATION, to).body(Body::empty()).expect("a response")
        }
        Some(Page::Hang) => std::future::pending().await,
        None => reply(404, "application/json", r#"{"error":{"message":"File Not Found"}}"#.into()),
    }
}

pub(crate) fn recorded(path: &'static str, name: &str) -> (&'static str, Page) {
    (path, Page::Json(fixture(name)))
}

/// One look with this configuration.
pub(crate) async fn look(config: &DiscoveryConfig) -> Discovery {
    discover(config).await.expect("a client")
}

pub(crate) async fn ollama() -> Server {
    Server::start(&[
        recorded("/api/tags", "ollama_tags.json"),
        recorded("/api/ps", "ollama_ps.json"),
        recorded("/v1/models", "openai_v1_models.json"),
        recorded("/api/show qwen3-coder", "ollama_show_qwen.json"),
        recorded("/api/show nomic", "ollama_show_embed.json"),
    ])
    .await
}

pub(crate) async fn llamacpp() -> Server {
    Server::start(&[
        recorded("/props", "llamacpp_props.json"),
        recorded("/v1/models", "llamacpp_v1_models.json"),
    ])
    .await
}

/// A port where nobody listens, and where nobody else can begin to while the socket lives.
pub(crate) fn closed_port() -> (tokio::net::TcpSocket, u16) {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let port = socket.local_addr().expect("an address").port();
    (socket, port)
}
