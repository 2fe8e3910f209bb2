//! What may become of a call, and what that means to the caller of the port.

use std::time::Duration;

use foreman_core::model::apiserver::OBJECT_BYTES_MAX;
use foreman_core::ports::StoreError;
use http::StatusCode;
use serde_json::Value;

use crate::limits::SHOWN_CHARS_MAX;

/// Words of etcd and of its client for an object that is too large; the API server passes them on
/// as an internal error.
const TOO_LARGE: [&str; 2] = ["request is too large", "trying to send message larger than max"];

/// What the server writes where there is no field.
const NO_FIELD: &str = "<nil>";
/// How a refusal begins that names its field at its end only, after ` in `.
const OF_A_FORMAT: &str = "Checked value must be of type";

/// A call that came to nothing, or of which that is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It certainly never left us.
    NotSent(String),
    /// It was sent, and no whole answer came.
    NoAnswer(String),
    /// The server answered that it did not do it, or that it does not know.
    Refused(Box<Refusal>),
}

/// A server's no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    /// One word of the API, e.g. `AlreadyExists`; empty when the answer is no `Status`.
    pub(crate) reason: String,
    message: String,
    /// Field and rule of each fault that it names.
    faults: Vec<(String, String)>,
    /// Whether it speaks of an object of a resource, not of an address that it does not know.
    of_object: bool,
    retry_after: Option<Duration>,
}

impl Failure {
    /// A refusal by its code and body, which is a `Status` or, from whoever stands before the
    /// server, anything.
    pub(crate) fn refused(code: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> Self {
        let status: Value = serde_json::from_slice(body).unwrap_or_default();
        let mut refusal = Refusal::of(code.as_u16(), &status);
        if refusal.message.is_empty() {
            let text = String::from_utf8_lossy(body);
            let text: String = text.trim().chars().take(SHOWN_CHARS_MAX).collect();
            refusal.message = format!("{code}: {text}");
        }
        refusal.retry_after = retry_after.or(refusal.retry_after);
        Self::Refused(Box::new(refusal))
    }

    /// Whether another try is safe, and may do.
    pub(crate) fn may_be_tried_again(&self, only_reads: bool) -> bool {
        match self {
            Self::NotSent(_) => true,
            Self::NoAnswer(_) => only_reads,
            Self::Refused(refusal) => refusal.code == 429 || (only_reads && refusal.code >= 500),
        }
    }

    /// How long the server asked to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            Self::NotSent(_) | Self::NoAnswer(_) => None,
        }
    }

    /// Whether the server no longer knows the revision or the page that it was asked about.
    pub(crate) fn is_expired(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code == 410)
    }

    /// Whether there is no such object.
    pub(crate) fn is_absence(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code == 404 && refusal.of_object)
    }

    /// What a read tells its caller.
    pub(crate) fn of_read(self) -> StoreError {
        match self {
            Self::NotSent(reason) | Self::NoAnswer(reason) => {
                StoreError::Unavailable { reason, retry_after: None }
            }
            Self::Refused(refusal) if refusal.code >= 500 => refusal.unavailable(),
            Self::Refused(refusal) => refusal.into_error(),
        }
    }

    /// What a write of so many bytes tells its caller. An answer that the server failed does not
    /// say that nothing was written.
    pub(crate) fn of_write(self, bytes: usize) -> StoreError {
        match self {
            Self::NotSent(reason) => StoreError::Unavailable { reason, retry_after: None },
            Self::NoAnswer(reason) => StoreError::Uncertain { reason },
            Self::Refused(refusal) => {
                let too_large = TOO_LARGE.iter().any(|words| refusal.message.contains(words));
                if refusal.code == 413 || too_large {
                    return StoreError::TooLarge { bytes, max: OBJECT_BYTES_MAX };
                }
                if refusal.code >= 500 {
                    return StoreError::Uncertain { reason: refusal.message };
                }
                refusal.into_error()
            }
        }
    }
}

impl Refusal {
    /// A refusal by its `Status`.
    pub(crate) fn of(code: u16, status: &Value) -> Self {
        let text = |pointer: &str| {
            status.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let causes = status.pointer("/details/causes").and_then(Value::as_array);
        let seconds = status.pointer("/details/retryAfterSeconds").and_then(Value::as_u64);
        Self {
            code,
            reason: text("/reason"),
            message: text("/message"),
            faults: causes.into_iter().flatten().filter_map(fault_of).collect(),
            of_object: !text("/details/name").is_empty(),
            retry_after: seconds.map(Duration::from_secs),
        }
    }

    pub(crate) fn unavailable(self) -> StoreError {
        StoreError::Unavailable { reason: self.message, retry_after: self.retry_after }
    }

    fn into_error(self) -> StoreError {
        match self.code {
            404 if self.of_object => StoreError::NotFound,
            404 => StoreError::Unavailable {
                reason: format!(
                    "the API server does not serve Foreman's kinds; install their definitions ({})",
                    self.message
                ),
                retry_after: None,
            },
            409 if self.reason == "AlreadyExists" => StoreError::AlreadyExists { uid: None },
            409 => StoreError::Conflict,
            400 | 422 => self.invalid(),
            401 | 403 | 405 => StoreError::Denied { reason: self.message },
            _ => self.unavailable(),
        }
    }

    /// The first fault, and how many there are beside it.
    fn invalid(self) -> StoreError {
        let more = match self.faults.len().saturating_sub(1) {
            0 => String::new(),
            others => format!(" (and {others} more)"),
        };
        match self.faults.into_iter().next() {
            Some((field, rule)) => StoreError::Invalid { field, rule: format!("{rule}{more}") },
            None => StoreError::Invalid { field: String::new(), rule: self.message },
        }
    }
}

/// Field and rule of one cause of a refusal.
fn fault_of(cause: &Value) -> Option<(String, String)> {
    let part = |name: &str| cause.get(name).and_then(Value::as_str).unwrap_or_default();
    let (field, rule) = (part("field"), part("message"));
    let field = if field == NO_FIELD { "" } else { field };
    // The format of a number is checked by another library, which says the place in its words only.
    if let Some((_, place)) =
        rule.split_once(OF_A_FORMAT).and_then(|(_, rest)| rest.split_once(" in "))
    {
        let dot = if field.is_empty() { "" } else { "." };
        return Some((format!("{field}{dot}{place}"), rule.to_owned()));
    }
    // A cause without a field speaks of rules that were not looked at because of the others.
    (!field.is_empty()).then(|| (field.to_owned(), rule.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(code: u16, status: &Value) -> Failure {
        let code = StatusCode::from_u16(code).expect("a code");
        Failure::refused(code, None, status.to_string().as_bytes())
    }

    #[test]
    fn an_absent_object_is_told_from_an_absent_kind() {
        let details = json!({"name": "a", "group": "foreman.llmkube.dev", "kind": "agentictasks"});
        let status = json!({"reason": "NotFound", "message": "no a", "details": details});
        assert!(refused(404, &status).is_absence());
        assert_eq!(refused(404, &status).of_write(1), StoreError::NotFound);
        let unknown = Failure::refused(StatusCode::NOT_FOUND, None, b"404 page not found\n");
        assert!(!unknown.is_absence());
        let told = unknown.of_read().to_string();
        assert!(told.contains("unavailable") && told.contains("install"), "{told}");
    }

    #[test]
    fn a_failed_server_leaves_a_write_uncertain_and_a_read_unavailable() {
        for code in [500, 502, 503, 504] {
            let failure = refused(code, &json!({"message": "x"}));
            assert!(matches!(failure.clone().of_write(1), StoreError::Uncertain { .. }), "{code}");
            assert!(matches!(failure.of_read(), StoreError::Unavailable { .. }), "{code}");
        }
        let unsent = Failure::NotSent("x".to_owned());
        assert!(matches!(unsent.of_write(1), StoreError::Unavailable { .. }));
        let silent = Failure::NoAnswer("x".to_owned());
        assert!(matches!(silent.of_write(1), StoreError::Uncertain { .. }));
    }

    #[test]
    fn only_what_was_certainly_not_done_is_written_again() {
        assert!(Failure::NotSent(String::new()).may_be_tried_again(false));
        assert!(refused(429, &json!({})).may_be_tried_again(false));
        for code in [409, 422, 500, 503, 504] {
            assert!(!refused(code, &json!({})).may_be_tried_again(false), "{code}");
        }
        assert!(!Failure::NoAnswer(String::new()).may_be_tried_again(false));
        assert!(Failure::NoAnswer(String::new()).may_be_tried_again(true));
        assert!(refused(503, &json!({})).may_be_tried_again(true));
        assert!(!refused(403, &json!({})).may_be_tried_again(true));
    }

    #[test]
    fn the_first_fault_is_named_and_the_others_counted() {
        let causes = json!([
            {"reason": "X", "message": "some rules were not checked", "field": "<nil>"},
            {"reason": "FieldValueInvalid", "message": "Invalid value: -1", "field": "spec.a"},
            {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.b"},
        ]);
        let status = json!({"reason": "Invalid", "message": "all", "details": {"causes": causes}});
        let wanted = StoreError::Invalid {
            field: "spec.a".to_owned(),
            rule: "Invalid value: -1 (and 1 more)".to_owned(),
        };
        assert_eq!(refused(422, &status).of_write(1), wanted);
    }

    #[test]
    fn the_field_of_a_format_is_in_the_words() {
        let rule =
            "Invalid value: \"\": Checked value must be of type integer with format int32 in ";
        for (field, place, wanted) in
            [("<nil>", "spec.a", "spec.a"), ("status", "a.b", "status.a.b"), ("", "a", "a")]
        {
            let cause = json!({"field": field, "message": format!("{rule}{place}")});
            assert_eq!(fault_of(&cause).expect("a fault").0, wanted);
        }
        assert_eq!(fault_of(&json!({"field": "<nil>", "message": "x in y"})), None);
    }

    #[test]
    fn the_words_of_the_api_are_told_apart() {
        let exists = refused(409, &json!({"reason": "AlreadyExists"})).of_write(1);
        assert_eq!(exists, StoreError::AlreadyExists { uid: None });
        assert_eq!(refused(409, &json!({"reason": "Conflict"})).of_write(1), StoreError::Conflict);
        let denied = refused(403, &json!({"message": "no"})).of_read();
        assert_eq!(denied, StoreError::Denied { reason: "no".to_owned() });
        let large = refused(500, &json!({"message": "etcdserver: request is too large"}));
        assert_eq!(large.of_write(7), StoreError::TooLarge { bytes: 7, max: OBJECT_BYTES_MAX });
        assert!(refused(410, &json!({"reason": "Expired"})).is_expired());
        let busy = Failure::refused(
            StatusCode::TOO_MANY_REQUESTS,
            Some(Duration::from_secs(7)),
            b"Too many requests, please try again later.",
        );
        let wanted = StoreError::Unavailable {
            reason: "429 Too Many Requests: Too many requests, please try again later.".to_owned(),
            retry_after: Some(Duration::from_secs(7)),
        };
        assert_eq!(busy.of_write(1), wanted);
    }
}
