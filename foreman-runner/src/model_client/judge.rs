//! What a refusal of a server means: wait, leave something out, or give up.

use std::time::{Duration, SystemTime};

use reqwest::header::HeaderMap;
use serde_json::Value;

use super::error::ModelError;
use super::exchange::{Exchange, Fault, UnknownField};
use super::faults::server_fault;
use super::pace;
use crate::limits::ERROR_TEXT_BYTES_MAX;
use crate::text::clip;

impl Exchange<'_> {
    pub(super) fn refused(&self, status: u16, headers: &HeaderMap, body: &str) -> Fault {
        if (300..400).contains(&status) {
            let target =
                headers.get("location").and_then(|v| v.to_str().ok()).unwrap_or("elsewhere");
            let message =
                self.words(&format!("it redirects to {target}; name that address as the base URL"));
            return Fault::Final(ModelError::Rejected {
                server: self.server.to_string(),
                status,
                message,
            });
        }
        let message = serde_json::from_str::<Value>(body)
            .ok()
            .and_then(|value| {
                server_fault(&value)
                    .map(|f| f.message)
                    .or_else(|| Some(value.get("detail")?.to_string()))
            })
            .unwrap_or_else(|| body.to_owned());
        self.judge(status, &message, pace::retry_after(headers, SystemTime::now()))
    }

    /// What a status and the server's words mean for us.
    pub(super) fn judge(&self, status: u16, message: &str, after: Option<Duration>) -> Fault {
        let server = self.server.to_string();
        let lower = message.to_ascii_lowercase();
        if says_context_too_long(&lower) {
            let context_tokens = context_in(&lower);
            return Fault::Final(ModelError::ContextTooLong {
                server,
                message: self.words(message),
                context_tokens,
            });
        }
        let message = self.words(message);
        if let Some(field) = unknown_field(&lower).filter(|_| matches!(status, 400 | 422)) {
            return Fault::Unknown { field, status, message };
        }
        match status {
            401 | 403 => Fault::Final(ModelError::Unauthorized { server, status, message }),
            _ if pace::status_may_pass(status) => {
                Fault::Passing { why: format!("HTTP {status}: {message}"), after }
            }
            _ => Fault::Final(ModelError::Rejected { server, status, message }),
        }
    }

    pub(super) fn not_chat(&self, what: String) -> ModelError {
        ModelError::NotChat { server: self.server.to_string(), what }
    }

    /// A server's words as we repeat them: one line, cut, without secrets.
    pub(super) fn words(&self, text: &str) -> String {
        let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let clean: String = line.chars().filter(|c| !c.is_control()).collect();
        clip(&self.redactor.text(&clean), ERROR_TEXT_BYTES_MAX)
    }
}

/// Which field of ours a refusal is about.
fn unknown_field(lower: &str) -> Option<UnknownField> {
    if lower.contains("max_tokens")
        && lower.contains("max_completion_tokens")
        && lower.contains("instead")
    {
        Some(UnknownField::MaxTokens)
    } else if lower.contains("stream_options") {
        Some(UnknownField::StreamOptions)
    } else if lower.contains("temperature") {
        Some(UnknownField::Temperature)
    } else {
        None
    }
}

fn says_context_too_long(lower: &str) -> bool {
    [
        "context_length_exceeded",
        "exceed_context_size",
        "maximum context length",
        "context length exceeded",
        "exceeds the available context size",
        "context window",
        "prompt is too long",
        "input is too long",
        "too many tokens",
        "requested tokens",
    ]
    .iter()
    .any(|phrase| lower.contains(phrase))
}

/// The size of the context in the usual sentences ("maximum context length is 8192 tokens", "context
/// size (4096 tokens)").
fn context_in(lower: &str) -> Option<u64> {
    // Not the names of errors ("exceed_context_size_error: 400").
    let after = lower.split("context").skip(1).filter(|part| !part.starts_with('_'));
    after
        .filter_map(|part| {
            let digits: String = part
                .chars()
                .take(60)
                .skip_while(|c| !c.is_ascii_digit())
                .take_while(char::is_ascii_digit)
                .collect();
            digits.parse().ok()
        })
        .find(|tokens| *tokens >= 256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_is_read_from_a_refusal() {
        for (words, tokens) in [
            (
                "this model's maximum context length is 8192 tokens. however, you requested 9000 tokens",
                Some(8192),
            ),
            (
                "the request exceeds the available context size (4096 tokens), try increasing it",
                Some(4096),
            ),
            (
                "exceed_context_size_error: 400: request (64471 tokens) exceeds the available context size (4096 tokens)",
                Some(4096),
            ),
            ("context length exceeded", None),
        ] {
            assert!(says_context_too_long(words));
            assert_eq!(context_in(words), tokens, "{words}");
        }
        assert!(!says_context_too_long("invalid value for temperature"));
    }
}
