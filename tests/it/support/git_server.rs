//! Git over smart HTTP: `git http-backend` as a CGI program behind a small server with Basic auth.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::process::Command;

/// A request of git, in bytes.
const REQUEST_BYTES_MAX: usize = 64 << 20;

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rights {
    ReadWrite,
    ReadOnly,
}

struct Served {
    root: PathBuf,
    /// The header that is let in.
    authorization: String,
    rights: Rights,
    /// What was asked: method, path, and whether the credential was right.
    asked: Mutex<Vec<(String, bool)>>,
}

/// The server, until dropped.
pub(crate) struct GitServer {
    pub(crate) url: String,
    served: Arc<Served>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl GitServer {
    /// Serves the bare repositories beneath `root` to whoever has this user name and token.
    pub(crate) async fn new(root: PathBuf, username: &str, token: &str, rights: Rights) -> Self {
        let authorization = format!("Basic {}", base64(format!("{username}:{token}").as_bytes()));
        let served = Arc::new(Served { root, authorization, rights, asked: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let router = Router::new().fallback(serve).with_state(Arc::clone(&served));
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("served");
        });
        Self { url, served, task }
    }

    /// Whether a request was let in that begins like this, e.g. `POST /remote.git/git-receive-pack`.
    pub(crate) fn let_in(&self, beginning: &str) -> bool {
        let asked = self.served.asked.lock().expect("unpoisoned");
        asked.iter().any(|(request, right)| *right && request.starts_with(beginning))
    }
}

async fn serve(State(served): State<Arc<Served>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let given = parts.headers.get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
    let right = given == Some(served.authorization.as_str());
    let line = format!("{} {path}?{query}", parts.method);
    served.asked.lock().expect("unpoisoned").push((line, right));
    if !right {
        let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"git\"")];
        return (StatusCode::UNAUTHORIZED, challenge, "who are you?").into_response();
    }
    let pushes = path.ends_with("/git-receive-pack") || query.contains("git-receive-pack");
    if pushes && served.rights == Rights::ReadOnly {
        return (StatusCode::FORBIDDEN, "this token may not push").into_response();
    }
    let body = to_bytes(body, REQUEST_BYTES_MAX).await.expect("a body");
    backend(&served.root, parts.method.as_str(), &path, &query, &parts.headers, body).await
}

async fn backend(
    root: &std::path::Path,
    method: &str,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    body: Bytes,
) -> Response {
    let text = |name: &str| headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let mut child = Command::new("git")
        .args(["-c", "http.receivepack=true", "http-backend"])
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("REQUEST_METHOD", method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", text("content-type"))
        .env("HTTP_CONTENT_ENCODING", text("content-encoding"))
        .env("GIT_PROTOCOL", text("git-protocol"))
        .env("REMOTE_USER", "x")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("git is installed");
    let mut stdin = child.stdin.take().expect("piped");
    let write = async move {
        // It may answer before it has read everything.
        drop(stdin.write_all(&body).await);
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), write);
    let output = output.expect("ran").stdout;
    let end = output.windows(4).position(|it| it == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(output.get(..end).expect("in range")).into_owned();
    let mut response = Response::new(Body::from(output.get(end + 4..).expect("in range").to_vec()));
    for line in head.lines() {
        let Some((name, value)) = line.split_once(": ") else { continue };
        if name == "Status" {
            let code = value.split(' ').next().and_then(|code| code.parse().ok());
            *response.status_mut() = code.expect("a status");
        } else {
            let name: header::HeaderName = name.parse().expect("a name");
            response.headers_mut().insert(name, value.parse().expect("a value"));
        }
    }
    response
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number = group.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
        let number = number << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = usize::try_from(number >> (18 - 6 * place) & 63).expect("small");
            let digit = char::from(*DIGITS.get(digit).expect("in range"));
            text.push(if place > group.len() { '=' } else { digit });
        }
    }
    text
}
