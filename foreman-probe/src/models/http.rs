//! One small request at a time: no redirect, bounded body, and each way to fail told apart.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use futures::StreamExt;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Method, NoProxy, Proxy, RequestBuilder, Response, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::url::ModelUrl;
use crate::limits::RESPONSE_BYTES_MAX;
use crate::text::{chain, one_line};

/// Why no client for model servers could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpClientError {
    /// The proxy that the environment names cannot be used.
    #[error("the proxy in HTTPS_PROXY cannot be used; correct it or unset it")]
    Proxy {
        /// What is wrong. It does not show the address, which may hold a password.
        #[source]
        source: reqwest::Error,
    },
    /// TLS or the resolver cannot be set up.
    #[error("the HTTP client for model servers cannot be set up")]
    Build {
        /// What is wrong.
        #[source]
        source: reqwest::Error,
    },
}

/// Makes sure that this process has a TLS provider: *ring*, unless one is installed already.
///
/// reqwest without a provider panics when a client is built, even for plain http. A program should
/// call this (or install its own provider) first thing in `main`; [`Discoverer`](super::Discoverer)
/// calls it too, so that an embedder who does not know about it gets no panic.
pub fn install_tls_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error means that another thread was quicker: there is one now, which is the point.
        let _lost_race = rustls::crypto::ring::default_provider().install_default();
    }
}

/// A proxy for https, as the environment names it. Plain http is never proxied: it is this
/// machine, or one in the same house.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProxySettings {
    pub(crate) https: Option<String>,
    pub(crate) except: Option<String>,
}

/// A client that follows no redirect and reads nothing from the process' environment.
pub(crate) fn client(proxy: &ProxySettings) -> Result<Client, HttpClientError> {
    install_tls_provider();
    let mut builder = Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .referer(false)
        .user_agent(concat!("foreman/", env!("CARGO_PKG_VERSION")));
    if let Some(address) = &proxy.https {
        let proxied = Proxy::https(address.as_str())
            .map_err(|source| HttpClientError::Proxy { source: source.without_url() })?;
        let except = proxy.except.as_deref().and_then(NoProxy::from_string);
        builder = builder.proxy(proxied.no_proxy(except));
    }
    builder.build().map_err(|source| HttpClientError::Build { source: source.without_url() })
}

/// What came back for one request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fetched {
    /// Status 200–299 with JSON.
    Json(Value),
    /// Another status, and the message of its JSON body if there is one.
    Status { code: u16, message: String },
    /// A web page.
    Html { code: u16 },
    /// Neither JSON nor a web page.
    NotJson,
    /// More than [`RESPONSE_BYTES_MAX`].
    TooLarge,
    /// Nobody listens there.
    Refused,
    /// Not within the limit.
    TimedOut(Duration),
    /// Anything else that went wrong on the way.
    Failed(String),
}

impl Fetched {
    /// The JSON, if that is what came.
    pub(crate) fn json(&self) -> Option<&Value> {
        if let Self::Json(value) = self { Some(value) } else { None }
    }

    /// Whether llama.cpp says that it is not ready yet.
    pub(crate) fn is_loading(&self) -> bool {
        matches!(self, Self::Status { code: 503, message }
            if message.to_ascii_lowercase().contains("loading"))
    }

    /// Whether a key is missing or wrong.
    pub(crate) fn refuses_key(&self) -> bool {
        matches!(self, Self::Status { code: 401 | 403, .. })
    }
}

/// A server to ask: its address, the key to show, and how long one answer may take.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) url: ModelUrl,
    pub(crate) key: Option<SecretString>,
    pub(crate) limit: Duration,
}

/// `GET path` below `url`.
pub(crate) async fn get(client: &Client, target: &Target, url: &ModelUrl, path: &str) -> Fetched {
    limited(target, client.request(Method::GET, url.at(path))).await
}

/// `POST path` below `url` with a JSON body.
pub(crate) async fn post(
    client: &Client,
    target: &Target,
    url: &ModelUrl,
    path: &str,
    body: &Value,
) -> Fetched {
    limited(target, client.request(Method::POST, url.at(path)).json(body)).await
}

async fn limited(target: &Target, request: RequestBuilder) -> Fetched {
    let limit = target.limit;
    let answer = tokio::time::timeout(limit, send(target, request)).await;
    answer.unwrap_or(Fetched::TimedOut(limit))
}

async fn send(target: &Target, request: RequestBuilder) -> Fetched {
    let request = match &target.key {
        Some(key) => request.bearer_auth(key.expose_secret()),
        None => request,
    };
    match request.send().await {
        Ok(response) => read(response).await,
        Err(error) if refused(&error) => Fetched::Refused,
        Err(error) => Fetched::Failed(chain(&error.without_url())),
    }
}

fn refused(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused) {
            return true;
        }
        cause = error.source();
    }
    false
}

async fn read(response: Response) -> Fetched {
    let code = response.status().as_u16();
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let says_html = content_type.is_some_and(|text| text.contains("html"));
    let success = response.status().is_success();
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => return Fetched::Failed(chain(&error.without_url())),
        };
        if body.len() + chunk.len() > RESPONSE_BYTES_MAX {
            return Fetched::TooLarge;
        }
        body.extend_from_slice(&chunk);
    }
    let html = says_html || body.trim_ascii_start().first() == Some(&b'<');
    match serde_json::from_slice::<Value>(&body) {
        Ok(json) if success => Fetched::Json(json),
        Ok(json) => Fetched::Status { code, message: message(&json) },
        Err(_) if html => Fetched::Html { code },
        Err(_) if success => Fetched::NotJson,
        Err(_) => Fetched::Status { code, message: String::new() },
    }
}

/// The message of an error body, in the two forms that servers use.
fn message(body: &Value) -> String {
    let error = body.get("error");
    let text = error.and_then(|error| error.get("message").or(Some(error))?.as_str());
    one_line(text.unwrap_or_default(), 120)
}
