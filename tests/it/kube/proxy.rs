//! A proxy in front of the API server that does to a request what a plan says.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{self, HeaderMap, StatusCode};
use axum::response::Response;
use futures::{StreamExt, stream};
use http_body_util::BodyExt;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The largest request that is passed on.
const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is passed on, and so is the answer.
    None,
    /// It is passed on after a while.
    Late(Duration),
    /// It is answered by this code and goes no further.
    Refuse(u16),
    /// It goes no further, and the answer breaks off.
    Cut,
    /// It is passed on, and the answer is this code.
    FailAfter(u16),
    /// It is passed on, and the answer breaks off.
    LoseAnswer,
    /// It is passed on, and the answer breaks off after so many bytes.
    CutAfter(usize),
    /// It is passed on, and the answer goes on with the line of a revision that is too old.
    Expire,
}

/// Decides by method and address.
type Plan = Box<dyn FnMut(&str, &str) -> Fault + Send>;

struct Inner {
    client: Client,
    plan: Mutex<Plan>,
    running: watch::Sender<bool>,
}

/// A running proxy, until dropped.
pub(crate) struct Proxy {
    inner: Arc<Inner>,
    port: u16,
    server: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(client: Client) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (running, _) = watch::channel(true);
        let plan: Plan = Box::new(|_, _| Fault::None);
        let inner = Arc::new(Inner { client, plan: Mutex::new(plan), running });
        let router = Router::new().fallback(pass).with_state(inner.clone());
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("serves");
        });
        Self { inner, port, server }
    }

    /// How a client reaches the server by way of this.
    pub(crate) fn config(&self) -> Config {
        Config::new(format!("http://127.0.0.1:{}", self.port).parse().expect("an address"))
    }

    /// From now on this decides.
    pub(crate) fn plan(&self, plan: impl FnMut(&str, &str) -> Fault + Send + 'static) {
        *self.inner.plan.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(plan);
    }

    /// The next `times` requests of which `which` is true, by method and address, meet this fault;
    /// others, and those afterwards, none.
    pub(crate) fn next(
        &self,
        mut times: u32,
        fault: Fault,
        which: impl Fn(&str, &str) -> bool + Send + 'static,
    ) {
        self.plan(move |method, address| {
            if times == 0 || !which(method, address) {
                return Fault::None;
            }
            times -= 1;
            fault
        });
    }

    /// Nothing goes through, in either direction, until it is told to go on.
    pub(crate) fn stop_the_world(&self, stop: bool) {
        self.inner.running.send_replace(!stop);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn runs(inner: &Inner) {
    let mut running = inner.running.subscribe();
    // The sender lives as long as `inner`.
    running.wait_for(|running| *running).await.expect("the proxy is there");
}

async fn pass(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    runs(&inner).await;
    let address = request.uri().to_string();
    let method = request.method().to_string();
    let fault = {
        let mut plan = inner.plan.lock().unwrap_or_else(PoisonError::into_inner);
        plan(&method, &address)
    };
    match fault {
        Fault::Refuse(code) => return refusal(code),
        Fault::Cut => return broken(Vec::new()),
        Fault::Late(time) => tokio::time::sleep(time).await,
        Fault::None
        | Fault::FailAfter(_)
        | Fault::LoseAnswer
        | Fault::CutAfter(_)
        | Fault::Expire => {}
    }
    let answer = forward(&inner, request).await;
    match fault {
        Fault::FailAfter(code) => {
            drain(answer).await;
            refusal(code)
        }
        Fault::LoseAnswer => {
            drain(answer).await;
            broken(Vec::new())
        }
        Fault::CutAfter(bytes) => cut(answer, bytes),
        Fault::Expire => expired(),
        Fault::None | Fault::Late(_) | Fault::Refuse(_) | Fault::Cut => answer,
    }
}

/// The server's answer; what goes on stops and goes on with the world.
async fn forward(inner: &Arc<Inner>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, REQUEST_BYTES_MAX).await.expect("a whole request");
    let mut onward = http::Request::builder().method(parts.method).uri(parts.uri);
    for name in ["accept", "content-type"] {
        if let Some(value) = parts.headers.get(name) {
            onward = onward.header(name, value);
        }
    }
    let onward = onward.body(kube::client::Body::from(bytes.to_vec())).expect("a request");
    let answer = inner.client.send(onward).await.expect("the server answers");
    let (mut parts, body) = answer.into_parts();
    // The length and the framing are the proxy's own.
    let kept = ["content-type", "retry-after"];
    let headers: HeaderMap = kept
        .iter()
        .filter_map(|name| {
            let value = parts.headers.get(*name)?.clone();
            Some((http::HeaderName::from_static(name), value))
        })
        .collect();
    parts.headers = headers;
    let inner = inner.clone();
    let pieces = body.into_data_stream().then(move |piece| {
        let inner = inner.clone();
        async move {
            runs(&inner).await;
            piece.map_err(|error| error.to_string())
        }
    });
    Response::from_parts(parts, Body::from_stream(pieces))
}

async fn drain(answer: Response) {
    answer.into_body().collect().await.expect("a whole answer");
}

fn refusal(code: u16) -> Response {
    let status: Value = json!({"kind": "Status", "status": "Failure", "code": code,
        "reason": if code == 409 { "Conflict" } else { "" }, "message": "the proxy says so"});
    let mut answer = Response::builder().status(StatusCode::from_u16(code).expect("a code"));
    if code == 429 {
        answer = answer.header("retry-after", "1");
    }
    answer.body(Body::from(status.to_string())).expect("an answer")
}

/// An answer that breaks off after these pieces.
fn broken(pieces: Vec<Bytes>) -> Response {
    let pieces = pieces.into_iter().map(Ok).chain([Err("the proxy cuts it")]);
    Response::new(Body::from_stream(stream::iter(pieces)))
}

/// The answer up to that byte, then a cut.
fn cut(answer: Response, bytes: usize) -> Response {
    let (parts, body) = answer.into_parts();
    let pieces = body.into_data_stream().scan(Some(bytes), |left, piece| {
        let told = match (*left, piece) {
            (None, _) => None,
            (Some(most), Ok(piece)) if piece.len() < most => {
                *left = Some(most - piece.len());
                Some(vec![Ok(piece)])
            }
            (Some(most), Ok(piece)) => {
                *left = None;
                Some(vec![Ok(piece.slice(..most)), Err("the proxy cuts it".to_owned())])
            }
            (Some(_), Err(error)) => Some(vec![Err(error.to_string())]),
        };
        std::future::ready(told)
    });
    Response::from_parts(parts, Body::from_stream(pieces.flat_map(stream::iter)))
}

/// A watch that says at once that its revision is too old.
fn expired() -> Response {
    let line = json!({"type": "ERROR", "object": {"kind": "Status", "code": 410,
        "reason": "Expired", "message": "too old resource version"}});
    Response::new(Body::from(format!("{line}\n")))
}
