//! One call of the API server, with its time, its tries and its answer.

use std::sync::Arc;
use std::time::Duration;

use foreman_core::model::AwakeTime;
use foreman_core::ports::{Clock, Entropy};
use futures::future::{self, Either};
use futures::pin_mut;
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper_util::client::legacy;
use kube::client::Body;
use kube::{Client, Config};
use serde_json::Value;

use crate::failure::Failure;
use crate::limits::{CONNECT, Limits, RETRY_AFTER_WAITED, RETRY_MAX, RETRY_MIN, TRIES_MAX};

/// Why there is no client for a configuration.
#[derive(Debug, thiserror::Error)]
#[error("no client can be made for the API server {server}")]
pub struct ConnectError {
    /// Where it was said to be.
    pub server: String,
    /// What is wrong with the configuration.
    #[source]
    pub source: Box<kube::Error>,
}

/// The way to an API server.
pub(crate) struct Wire {
    client: Client,
    pub(crate) clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    pub(crate) limits: Limits,
}

/// What is asked of the server.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Path and parameters.
    pub(crate) address: String,
    /// Its media type, and the JSON.
    pub(crate) body: Option<(&'static str, Value)>,
    /// The largest answer, in bytes.
    pub(crate) answer_bytes_max: usize,
}

/// The tries of one call.
#[derive(Debug, Clone, Copy)]
struct Tries {
    only_reads: bool,
    /// When the last one ends.
    deadline: AwakeTime,
    made: u32,
}

impl Call {
    pub(crate) fn get(address: String, answer_bytes_max: usize) -> Self {
        Self { method: Method::GET, address, body: None, answer_bytes_max }
    }

    /// Whether it changes nothing, and so may be made again whatever became of it.
    fn only_reads(&self) -> bool {
        self.method == Method::GET
    }
}

impl Wire {
    /// A client of its own for a configuration: it makes its connections when they are needed, and
    /// none of its calls is tried again behind our back. Call it inside the runtime that shall do
    /// the work.
    pub(crate) fn new(
        mut config: Config,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        limits: Limits,
    ) -> Result<Arc<Self>, ConnectError> {
        config.connect_timeout = Some(CONNECT);
        config.default_retry = false;
        let server = config.cluster_url.to_string();
        let client = Client::try_from(config)
            .map_err(|source| ConnectError { server, source: Box::new(source) })?;
        Ok(Arc::new(Self { client, clock, entropy, limits }))
    }

    /// The answer's JSON. Tried again, after a pause, while there is time and the call was certainly
    /// not carried out, or only reads.
    pub(crate) async fn ask(&self, call: &Call) -> Result<Value, Failure> {
        let mut tries = self.tries(call);
        loop {
            match self.bounded(self.json(call), tries.deadline).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => tries = self.again(tries, failure).await?,
            }
        }
    }

    /// The body of an answer that goes on; what is bounded is the time until it begins.
    pub(crate) async fn open(&self, call: &Call) -> Result<Body, Failure> {
        let mut tries = self.tries(call);
        loop {
            match self.bounded(self.head(call), tries.deadline).await {
                Ok(body) => return Ok(body),
                Err(failure) => tries = self.again(tries, failure).await?,
            }
        }
    }

    fn tries(&self, call: &Call) -> Tries {
        let only_reads = call.only_reads();
        let limit = if only_reads { self.limits.read } else { self.limits.write };
        Tries { only_reads, deadline: self.clock.awake() + limit, made: 1 }
    }

    async fn bounded<T>(
        &self,
        answer: impl Future<Output = Result<T, Failure>>,
        deadline: AwakeTime,
    ) -> Result<T, Failure> {
        let limit = self.clock.sleep_until(deadline);
        pin_mut!(answer, limit);
        match future::select(answer, limit).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => Err(Failure::NoAnswer("there was no answer in time".to_owned())),
        }
    }

    /// Returns when it is time for another try, or the failure when there shall be none.
    async fn again(&self, tries: Tries, failure: Failure) -> Result<Tries, Failure> {
        let pause = match failure.retry_after() {
            Some(asked) if asked > RETRY_AFTER_WAITED => return Err(failure),
            Some(asked) => asked.max(self.pause(tries.made)),
            None => self.pause(tries.made),
        };
        let safe = failure.may_be_tried_again(tries.only_reads) && tries.made < TRIES_MAX;
        if !safe || self.clock.awake() + pause >= tries.deadline {
            return Err(failure);
        }
        self.clock.sleep(pause).await;
        Ok(Tries { made: tries.made + 1, ..tries })
    }

    /// The pause after so many tries, drawn so that many callers do not come back at once.
    pub(crate) fn pause(&self, tries: u32) -> Duration {
        let pause = RETRY_MIN * 2_u32.saturating_pow(tries.min(16).saturating_sub(1));
        let pause = pause.min(RETRY_MAX);
        pause / 2 + self.entropy.up_to(pause / 2)
    }

    /// The JSON of an answer that is no refusal.
    async fn json(&self, call: &Call) -> Result<Value, Failure> {
        let body = Limited::new(self.head(call).await?, call.answer_bytes_max).collect().await;
        let bytes = body.map_err(|error| Failure::NoAnswer(format!("it broke off: {error}")))?;
        serde_json::from_slice(&bytes.to_bytes())
            .map_err(|error| Failure::NoAnswer(format!("the answer is no JSON: {error}")))
    }

    /// The body of an answer that is no refusal, once its head is there.
    async fn head(&self, call: &Call) -> Result<Body, Failure> {
        let (parts, body) = self.send(call).await?.into_parts();
        if parts.status.is_success() {
            return Ok(body);
        }
        let bytes = Limited::new(body, call.answer_bytes_max).collect().await;
        let bytes = bytes.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Err(Failure::refused(parts.status, retry_after(&parts.headers), &bytes))
    }

    /// The answer's head; its body is still to come.
    async fn send(&self, call: &Call) -> Result<Response<Body>, Failure> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(&call.address)
            .header(ACCEPT, "application/json");
        let mut bytes = Vec::new();
        if let Some((media_type, json)) = &call.body {
            request = request.header(CONTENT_TYPE, *media_type);
            bytes = json.to_string().into_bytes();
        }
        let request = request
            .body(Body::from(bytes))
            .map_err(|error| Failure::NotSent(format!("there is no such address: {error}")))?;
        self.client.send(request).await.map_err(|error| not_answered(&error))
    }
}

/// How long the server asks to be left alone; the form with a date is not used by API servers.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// What it means that there is no answer: whether anything was sent at all.
fn not_answered(error: &kube::Error) -> Failure {
    let mut causes = Vec::new();
    let mut sent = !matches!(error, kube::Error::Auth(_));
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        causes.push(cause.to_string());
        if cause.downcast_ref::<legacy::Error>().is_some_and(legacy::Error::is_connect) {
            sent = false;
        }
        source = cause.source();
    }
    let reason = if causes.is_empty() { error.to_string() } else { causes.join(": ") };
    if sent { Failure::NoAnswer(reason) } else { Failure::NotSent(reason) }
}
