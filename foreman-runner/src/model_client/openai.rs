//! The adapter for servers of the OpenAI dialect: llama.cpp, vLLM, Ollama, LM Studio, proxies.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::assemble::Assembly;
use super::error::ModelError;
use super::exchange::{Exchange, Fault, UnknownField};
use super::pace::Backoff;
use super::render::{self, Without};
use super::reply::reply_of;
use super::{BaseUrl, ChatReply, ChatRequest, Delta, ModelClient, estimate};
use crate::limits::{
    CONNECT_SECONDS_MAX, HEADER_WAIT_SECONDS_DEFAULT, IDLE_SECONDS_DEFAULT, MODEL_LIST_BYTES_MAX,
    MODEL_LIST_SECONDS_MAX, RETRIES_DEFAULT, TURN_SECONDS_DEFAULT,
};
use crate::redact::Redactor;

/// Time limits of a model call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// The whole call with all its repetitions (`requestTimeoutSeconds`).
    pub turn: Duration,
    /// Until the answer begins (`requestTurnTimeoutSeconds`).
    pub header: Duration,
    /// Silence within an answer.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            turn: Duration::from_secs(TURN_SECONDS_DEFAULT),
            header: Duration::from_secs(HEADER_WAIT_SECONDS_DEFAULT),
            idle: Duration::from_secs(IDLE_SECONDS_DEFAULT),
        }
    }
}

/// How to reach a server and how patient to be.
#[derive(Debug, Clone)]
pub struct OpenAiSettings {
    /// Where it is.
    pub base_url: BaseUrl,
    /// Its key, if it wants one. Sent as a bearer token, shown nowhere.
    pub api_key: Option<SecretString>,
    /// Time limits.
    pub timeouts: Timeouts,
    /// How often a call is sent again.
    pub retries_max: u32,
    /// Cleans the server's words before they are repeated.
    pub redactor: Redactor,
    /// Seed of the jitter between repetitions.
    pub jitter_seed: u64,
}

impl OpenAiSettings {
    /// The defaults for a server.
    pub fn new(base_url: BaseUrl) -> Self {
        use std::hash::{BuildHasher as _, RandomState};
        Self {
            base_url,
            api_key: None,
            timeouts: Timeouts::default(),
            retries_max: RETRIES_DEFAULT,
            redactor: Redactor::default(),
            jitter_seed: RandomState::new().hash_one(0_u8),
        }
    }
}

/// A model that a server says it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// Its name.
    pub id: String,
    /// Its context in tokens, where the server says so.
    pub context_tokens: Option<u64>,
}

/// The client of one server.
#[derive(Debug)]
pub struct OpenAiClient {
    http: reqwest::Client,
    settings: OpenAiSettings,
    authorization: Option<HeaderValue>,
    without: Mutex<Without>,
}

impl OpenAiClient {
    /// A client. The process must have installed a TLS provider before (the binaries install ring).
    ///
    /// # Errors
    /// [`ModelError::NotChat`] when the HTTP client cannot be made or the key has characters that no
    /// header can carry.
    pub fn new(mut settings: OpenAiSettings) -> Result<Self, ModelError> {
        let server = settings.base_url.to_string();
        let fault =
            |what: &str| ModelError::NotChat { server: server.clone(), what: what.to_owned() };
        let mut builder = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(CONNECT_SECONDS_MAX))
            // A redirect would carry the conversation to a place that nobody named.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("foreman/", env!("CARGO_PKG_VERSION")));
        if settings.base_url.is_loopback() {
            builder = builder.no_proxy();
        }
        let http = builder
            .build()
            .map_err(|error| fault(&format!("the HTTP client cannot be made: {error}")))?;
        let authorization = match &settings.api_key {
            None => None,
            Some(key) => {
                let mut value =
                    HeaderValue::from_str(&format!("Bearer {}", key.expose_secret().trim()))
                        .map_err(|_| {
                            fault("the API key has characters that no HTTP header can carry")
                        })?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        if let Some(key) = &settings.api_key {
            settings.redactor = settings.redactor.and(key);
        }
        Ok(Self { http, settings, authorization, without: Mutex::new(Without::default()) })
    }

    /// The models of the server.
    ///
    /// # Errors
    /// As for a call, without repetitions.
    pub async fn list_models(&self) -> Result<Vec<ModelInfo>, ModelError> {
        let server = self.settings.base_url.to_string();
        let deadline = Instant::now() + Duration::from_secs(MODEL_LIST_SECONDS_MAX);
        let unavailable =
            |last: String| ModelError::Unavailable { server: server.clone(), attempts: 1, last };
        let request = self.authorized(self.http.get(self.settings.base_url.endpoint("/models")));
        let work = async {
            let mut response =
                request.send().await.map_err(|e| unavailable(e.without_url().to_string()))?;
            let status = response.status().as_u16();
            if matches!(status, 401 | 403) {
                let message = "listing the models".to_owned();
                return Err(ModelError::Unauthorized { server: server.clone(), status, message });
            }
            if !response.status().is_success() {
                let message = "listing the models".to_owned();
                return Err(ModelError::Rejected { server: server.clone(), status, message });
            }
            let mut body = Vec::new();
            while let Some(piece) =
                response.chunk().await.map_err(|e| unavailable(e.without_url().to_string()))?
            {
                body.extend_from_slice(&piece);
                if body.len() > MODEL_LIST_BYTES_MAX {
                    let what =
                        format!("its list of models is longer than {MODEL_LIST_BYTES_MAX} bytes");
                    return Err(ModelError::NotChat { server: server.clone(), what });
                }
            }
            models_in(&body).ok_or_else(|| ModelError::NotChat {
                server: server.clone(),
                what: "its list of models has no \"data\"".to_owned(),
            })
        };
        match timeout_at(deadline, work).await {
            Ok(result) => result,
            Err(_) => {
                Err(unavailable(format!("no list of models within {MODEL_LIST_SECONDS_MAX} s")))
            }
        }
    }

    fn authorized(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.authorization {
            None => request,
            Some(value) => request.header(AUTHORIZATION, value.clone()),
        }
    }

    fn without(&self) -> Without {
        *self.without.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Remembers that the server refuses a field. `false` if we knew: then it is the server's last word.
    fn learn(&self, field: UnknownField) -> bool {
        let mut without = self.without.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = match field {
            UnknownField::Temperature => &mut without.temperature,
            UnknownField::StreamOptions => &mut without.stream_options,
            UnknownField::MaxTokens => &mut without.max_tokens,
        };
        !std::mem::replace(known, true)
    }

    async fn with_retries(
        &self,
        request: &ChatRequest<'_>,
        on_delta: &mut (dyn FnMut(Delta) + Send),
        last: &mut String,
    ) -> Result<Assembly, ModelError> {
        let Timeouts { header, idle, turn: _ } = self.settings.timeouts;
        let exchange = Exchange {
            server: &self.settings.base_url,
            redactor: &self.settings.redactor,
            header,
            idle,
        };
        let mut backoff = Backoff::new(self.settings.jitter_seed);
        let mut retry = 0;
        loop {
            let body = render::body(request, self.without());
            let sent = self
                .authorized(self.http.post(self.settings.base_url.endpoint("/chat/completions")))
                .header(ACCEPT, "text/event-stream")
                .json(&body);
            let (why, after) = match exchange.run(sent, on_delta).await {
                Ok(assembly) => return Ok(assembly),
                Err(Fault::Final(error)) => return Err(error),
                Err(Fault::Unknown { field, .. }) if self.learn(field) => continue,
                Err(Fault::Unknown { status, message, .. }) => {
                    let server = self.settings.base_url.to_string();
                    return Err(ModelError::Rejected { server, status, message });
                }
                Err(Fault::Passing { why, after }) => (why, after),
            };
            last.clone_from(&why);
            if retry >= self.settings.retries_max {
                let server = self.settings.base_url.to_string();
                return Err(ModelError::Unavailable { server, attempts: retry + 1, last: why });
            }
            retry += 1;
            let pause = after.unwrap_or_else(|| backoff.next());
            tracing::warn!(server = %self.settings.base_url, retry, pause_ms = pause.as_millis(), why, "model call failed, sending it again");
            on_delta(Delta::Again {
                retry,
                pause_ms: u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                why,
            });
            tokio::time::sleep(pause).await;
        }
    }
}

#[async_trait]
impl ModelClient for OpenAiClient {
    async fn complete(
        &self,
        request: &ChatRequest<'_>,
        on_delta: &mut (dyn FnMut(Delta) + Send),
        cancel: &CancellationToken,
    ) -> Result<ChatReply, ModelError> {
        let deadline = Instant::now() + self.settings.timeouts.turn;
        let mut last = String::from("nothing arrived");
        let assembly = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(ModelError::Cancelled),
            result = timeout_at(deadline, Box::pin(self.with_retries(request, on_delta, &mut last))) => result,
        };
        let Ok(assembly) = assembly else {
            let server = self.settings.base_url.to_string();
            let seconds = self.settings.timeouts.turn.as_secs();
            return Err(ModelError::TimedOut { server, seconds, last });
        };
        let assembly = assembly?;
        let reply = reply_of(assembly, request);
        if !reply.usage.estimated
            && let Some(expected_tokens) =
                estimate::truncated(request.messages, reply.usage.prompt_tokens)
        {
            let server = self.settings.base_url.to_string();
            return Err(ModelError::ContextTruncated {
                server,
                prompt_tokens: reply.usage.prompt_tokens,
                expected_tokens,
            });
        }
        Ok(reply)
    }
}

fn models_in(body: &[u8]) -> Option<Vec<ModelInfo>> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let models = value.get("data")?.as_array()?;
    let context = |model: &Value| {
        [
            "/context_length",
            "/max_model_len",
            "/max_context_length",
            "/meta/n_ctx",
            "/meta/n_ctx_train",
        ]
        .into_iter()
        .find_map(|path| model.pointer(path)?.as_u64())
    };
    Some(
        models
            .iter()
            .filter_map(|model| {
                Some(ModelInfo {
                    id: model.get("id")?.as_str()?.to_owned(),
                    context_tokens: context(model),
                })
            })
            .collect(),
    )
}
