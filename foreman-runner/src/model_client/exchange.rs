//! One exchange with a server: send, read, judge. No repetitions here.

use std::time::Duration;

use futures::StreamExt as _;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::assemble::{Assembly, ChunkFault};
use super::error::ModelError;
use super::faults::{ServerFault, server_fault};
use super::sse::SseSplitter;
use super::{BaseUrl, Delta};
use crate::limits::{
    ERROR_BODY_BYTES_MAX, ERROR_TEXT_BYTES_MAX, FINISH_GRACE_MS, RESPONSE_BYTES_MAX,
};
use crate::redact::Redactor;
use crate::text::chain;

/// Why an exchange gave no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// It may go better next time.
    Passing { why: String, after: Option<Duration> },
    /// The server does not know a field of the request.
    Unknown { field: UnknownField, status: u16, message: String },
    /// It will not.
    Final(ModelError),
}

/// A request field that servers are known to refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnknownField {
    Temperature,
    StreamOptions,
    /// `max_tokens`; it wants `max_completion_tokens`.
    MaxTokens,
}

impl Fault {
    fn passing(why: impl Into<String>) -> Self {
        Self::Passing { why: why.into(), after: None }
    }
}

pub(super) struct Exchange<'a> {
    pub(super) server: &'a BaseUrl,
    pub(super) redactor: &'a Redactor,
    pub(super) header: Duration,
    pub(super) idle: Duration,
}

impl Exchange<'_> {
    /// Sends the request and reads the whole answer.
    pub(super) async fn run(
        &self,
        request: reqwest::RequestBuilder,
        on_delta: &mut (dyn FnMut(Delta) + Send),
    ) -> Result<Assembly, Fault> {
        let deadline = Instant::now() + self.header;
        let response = match timeout_at(deadline, request.send()).await {
            Err(_) => {
                return Err(Fault::passing(format!(
                    "no answer within {} s",
                    self.header.as_secs()
                )));
            }
            Ok(Err(error)) => return Err(Fault::passing(self.words(&chain(&error.without_url())))),
            Ok(Ok(response)) => response,
        };
        let status = response.status().as_u16();
        if !response.status().is_success() {
            let headers = response.headers().clone();
            let body = self.error_body(response).await;
            return Err(self.refused(status, &headers, &body));
        }
        let kind = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("")
            .to_ascii_lowercase();
        if kind.starts_with("application/json") {
            return self.whole(response, on_delta).await;
        }
        if kind.starts_with("text/html") {
            let body = self.error_body(response).await;
            return Err(Fault::Final(
                self.not_chat(format!("an HTML page: {}", self.words(&body))),
            ));
        }
        self.stream(response, on_delta).await
    }

    async fn stream(
        &self,
        response: reqwest::Response,
        on_delta: &mut (dyn FnMut(Delta) + Send),
    ) -> Result<Assembly, Fault> {
        let mut assembly = Assembly::default();
        let mut splitter = SseSplitter::default();
        let mut events = Vec::new();
        let mut bytes = response.bytes_stream();
        let mut total = 0_usize;
        let mut first = String::new();
        let mut grace_end = None;
        let mut idle_end = Instant::now() + self.header.max(self.idle);
        loop {
            let next = match timeout_at(
                grace_end.map_or(idle_end, |end: Instant| end.min(idle_end)),
                bytes.next(),
            )
            .await
            {
                // The answer is whole; the server just does not close the stream.
                Err(_) if assembly.finish.is_some() => return Ok(assembly),
                Err(_) => {
                    return Err(Fault::passing(format!(
                        "the stream was silent for {} s",
                        self.idle.as_secs()
                    )));
                }
                Ok(next) => next,
            };
            let ended = next.is_none();
            match next {
                Some(Ok(piece)) => {
                    total += piece.len();
                    if total > RESPONSE_BYTES_MAX {
                        return Err(Fault::passing(format!(
                            "the answer is longer than {RESPONSE_BYTES_MAX} bytes"
                        )));
                    }
                    if first.len() < ERROR_TEXT_BYTES_MAX {
                        first.push_str(&String::from_utf8_lossy(&piece));
                    }
                    idle_end = Instant::now() + self.idle;
                    splitter
                        .push(&piece, &mut events)
                        .map_err(|_| Fault::passing("a line of the stream is too long"))?;
                }
                Some(Err(_)) if assembly.finish.is_some() => return Ok(assembly),
                Some(Err(error)) => {
                    return Err(Fault::passing(self.words(&format!(
                        "the stream broke off: {}",
                        chain(&error.without_url())
                    ))));
                }
                None => {
                    std::mem::take(&mut splitter)
                        .finish(&mut events)
                        .map_err(|_| Fault::passing("a line of the stream is too long"))?;
                }
            }
            if self.take(&mut events, &mut assembly, on_delta)? {
                return Ok(assembly);
            }
            if assembly.finish.is_some() && grace_end.is_none() {
                grace_end = Some(Instant::now() + Duration::from_millis(FINISH_GRACE_MS));
            }
            if ended {
                return self.at_end(assembly, &first);
            }
        }
    }

    /// Takes complete events. `true` when nothing more is to be expected.
    fn take(
        &self,
        events: &mut Vec<String>,
        assembly: &mut Assembly,
        on_delta: &mut (dyn FnMut(Delta) + Send),
    ) -> Result<bool, Fault> {
        for event in events.drain(..) {
            let event = event.trim();
            if event.is_empty() {
                continue;
            }
            if event == "[DONE]" {
                if assembly.finish.is_none() && assembly.is_empty() {
                    return Err(Fault::passing("the stream ended without an answer"));
                }
                return Ok(true);
            }
            let chunk: Value = serde_json::from_str(event).map_err(|error| {
                Fault::passing(
                    self.words(&format!("an event of the stream is no JSON ({error}): {event}")),
                )
            })?;
            self.chunk(&chunk, assembly, on_delta)?;
        }
        Ok(assembly.finish.is_some() && assembly.saw_usage)
    }

    fn chunk(
        &self,
        chunk: &Value,
        assembly: &mut Assembly,
        on_delta: &mut (dyn FnMut(Delta) + Send),
    ) -> Result<(), Fault> {
        assembly.chunk(chunk, on_delta).map_err(|fault| match fault {
            ChunkFault::Server(fault) => {
                self.judge(fault.status.unwrap_or(500), &fault.message, None)
            }
            ChunkFault::TooManyCalls => {
                Fault::passing("the answer has more tool calls than any model means")
            }
        })
    }

    /// The server closed the stream.
    fn at_end(&self, assembly: Assembly, first: &str) -> Result<Assembly, Fault> {
        if assembly.finish.is_some() {
            return Ok(assembly);
        }
        if assembly.saw_choice {
            return Err(Fault::passing("the stream ended in the middle of an answer"));
        }
        let start = first.trim_start();
        if start.starts_with('{') {
            // JSON without its content type.
            return match serde_json::from_str::<Value>(start)
                .ok()
                .and_then(|value| server_fault(&value))
            {
                Some(ServerFault { status, message }) => {
                    Err(self.judge(status.unwrap_or(500), &message, None))
                }
                None => Err(Fault::Final(self.not_chat(self.words(start)))),
            };
        }
        if start.is_empty() {
            return Err(Fault::passing("the answer is empty"));
        }
        Err(Fault::Final(self.not_chat(self.words(start))))
    }

    /// An answer that was not streamed although we asked for it.
    async fn whole(
        &self,
        response: reqwest::Response,
        on_delta: &mut (dyn FnMut(Delta) + Send),
    ) -> Result<Assembly, Fault> {
        let body = self.read(response, RESPONSE_BYTES_MAX).await?;
        let text = String::from_utf8_lossy(&body);
        let value: Value = serde_json::from_str(&text).map_err(|error| {
            Fault::passing(self.words(&format!("the answer is no JSON ({error}): {text}")))
        })?;
        let mut assembly = Assembly::default();
        self.chunk(&value, &mut assembly, on_delta)?;
        if !assembly.saw_choice {
            return Err(Fault::Final(self.not_chat(self.words(&text))));
        }
        assembly.finish.get_or_insert(super::FinishReason::Stop);
        Ok(assembly)
    }

    async fn read(&self, response: reqwest::Response, bytes_max: usize) -> Result<Vec<u8>, Fault> {
        let mut stream = response.bytes_stream();
        let mut body = Vec::new();
        loop {
            // A server that does not stream computes first: the header limit holds for each piece.
            match timeout_at(Instant::now() + self.header.max(self.idle), stream.next()).await {
                Err(_) => {
                    return Err(Fault::passing(format!(
                        "the answer stood still for {} s",
                        self.idle.as_secs()
                    )));
                }
                Ok(None) => return Ok(body),
                Ok(Some(Err(error))) => {
                    return Err(Fault::passing(self.words(&format!(
                        "the answer broke off: {}",
                        chain(&error.without_url())
                    ))));
                }
                Ok(Some(Ok(piece))) if body.len() + piece.len() > bytes_max => {
                    return Err(Fault::passing(format!(
                        "the answer is longer than {bytes_max} bytes"
                    )));
                }
                Ok(Some(Ok(piece))) => body.extend_from_slice(&piece),
            }
        }
    }

    /// As much of an error's body as is worth reading.
    async fn error_body(&self, response: reqwest::Response) -> String {
        let mut stream = response.bytes_stream();
        let mut body = Vec::new();
        let deadline = Instant::now() + self.idle.min(Duration::from_secs(5));
        while body.len() < ERROR_BODY_BYTES_MAX {
            match timeout_at(deadline, stream.next()).await {
                Ok(Some(Ok(piece))) => body.extend_from_slice(&piece),
                Ok(Some(Err(_)) | None) | Err(_) => break,
            }
        }
        body.truncate(ERROR_BODY_BYTES_MAX);
        String::from_utf8_lossy(&body).into_owned()
    }
}
