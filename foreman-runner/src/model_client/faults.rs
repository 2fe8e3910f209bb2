//! The errors that servers put into their answers.

use serde_json::Value;

/// An error that a server sent as an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ServerFault {
    pub(super) status: Option<u16>,
    pub(super) message: String,
}

/// The `error` of an answer or event, in any of the usual forms.
pub(super) fn server_fault(value: &Value) -> Option<ServerFault> {
    let error = match value.get("error") {
        Some(error) if !error.is_null() => error,
        // vLLM: {"object":"error","message":…,"code":400}
        _ if value.get("object").and_then(Value::as_str) == Some("error") => value,
        _ => return None,
    };
    let words: Vec<String> = match error.as_str() {
        Some(text) => vec![text.to_owned()],
        None => ["type", "code", "message"]
            .into_iter()
            .filter_map(|key| error.get(key).map(plain))
            .filter(|word| !word.is_empty())
            .collect(),
    };
    let message = if words.is_empty() { error.to_string() } else { words.join(": ") };
    let status = [error.get("code"), error.get("status"), value.get("code")]
        .into_iter()
        .flatten()
        .find_map(|code| code.as_u64().or_else(|| code.as_str()?.parse().ok()))
        .and_then(|code| u16::try_from(code).ok())
        .filter(|code| (400..600).contains(code));
    Some(ServerFault { status, message })
}

/// A word or number as text; nothing for all else.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn errors_in_their_usual_forms() {
        let fault = |value: Value| server_fault(&value).map(|f| (f.status, f.message));
        assert_eq!(fault(json!({"error": "boom"})), Some((None, "boom".into())));
        assert_eq!(
            fault(json!({"error": {"code": 500, "message": "broke", "type": "server_error"}})),
            Some((Some(500), "server_error: 500: broke".into()))
        );
        assert_eq!(
            fault(json!({"object": "error", "message": "bad", "code": 400})),
            Some((Some(400), "400: bad".into()))
        );
        assert_eq!(fault(json!({"error": null, "choices": []})), None);
    }
}
