//! Replaces known secret values in any text before it is written, logged or sent.
//!
//! It knows values, not patterns: what it was not told it cannot hide. It works on whole texts; a
//! value split over two fragments of a stream is found only in the assembled text.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::limits::SECRET_BYTES_MIN;

/// What a URL escapes: all but the characters that RFC 3986 leaves alone everywhere.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What stands where a secret stood.
pub const REDACTED: &str = "[redacted]";

/// Knows the secret values of a run. Cheap to clone values into, never printed.
#[derive(Clone, Default)]
pub struct Redactor {
    needles: Vec<SecretString>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").field("secrets", &self.needles.len()).finish()
    }
}

impl Redactor {
    /// A redactor of these values. Values below [`SECRET_BYTES_MIN`] bytes are left out: they would
    /// hit innocent text. Each value is also known in its percent-encoded form, and a value of several
    /// lines (a key file) by each of its long lines.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a SecretString>) -> Self {
        let mut plain: Vec<String> = Vec::new();
        for secret in secrets {
            let value = secret.expose_secret().trim();
            plain.push(value.to_owned());
            plain.push(percent_encoded(value));
            plain.extend(
                value.lines().map(str::trim).filter(|line| line.len() >= 16).map(str::to_owned),
            );
        }
        plain.retain(|value| value.len() >= SECRET_BYTES_MIN);
        // Longest first, so that a secret that contains another one disappears whole.
        plain.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        plain.dedup();
        Self { needles: plain.into_iter().map(SecretString::from).collect() }
    }

    /// This redactor, which also knows one more value.
    #[must_use]
    pub fn and(&self, secret: &SecretString) -> Self {
        Self::new(self.needles.iter().chain(std::iter::once(secret)))
    }

    /// `text` without the known values.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut out = Cow::Borrowed(text);
        for needle in &self.needles {
            if out.contains(needle.expose_secret()) {
                out = Cow::Owned(out.replace(needle.expose_secret(), REDACTED));
            }
        }
        out
    }

    /// `text` without the known values, as an owned string.
    pub fn string(&self, text: String) -> String {
        match self.text(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(clean) => clean,
        }
    }

    /// Cleans every string of a JSON value, keys included. Says whether there was anything to clean.
    pub fn value(&self, value: &mut Value) -> bool {
        if self.needles.is_empty() {
            return false;
        }
        match value {
            Value::String(text) => match self.text(text) {
                Cow::Borrowed(_) => false,
                Cow::Owned(clean) => {
                    *text = clean;
                    true
                }
            },
            Value::Array(items) => items.iter_mut().fold(false, |any, item| self.value(item) | any),
            Value::Object(map) => {
                let mut any = false;
                for (key, mut item) in std::mem::take(map) {
                    any |= self.value(&mut item);
                    let clean = self.text(&key).into_owned();
                    any |= clean != key;
                    map.insert(clean, item);
                }
                any
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }
}

fn percent_encoded(value: &str) -> String {
    utf8_percent_encode(value, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(values: &[&str]) -> Redactor {
        let secrets: Vec<SecretString> =
            values.iter().map(|v| SecretString::from((*v).to_owned())).collect();
        Redactor::new(&secrets)
    }

    #[test]
    fn values_vanish_in_every_form() {
        let r = redactor(&["ghp_abc/def+1", "ghp_abc/def+1-longer", "abc"]);
        assert_eq!(r.text("a ghp_abc/def+1-longer b ghp_abc/def+1"), "a [redacted] b [redacted]");
        assert_eq!(r.text("https://x:ghp_abc%2Fdef%2B1@host/"), "https://x:[redacted]@host/");
        assert_eq!(
            r.text("abc stays, it is too short to be a secret"),
            "abc stays, it is too short to be a secret"
        );
    }

    #[test]
    fn json_is_cleaned_in_depth_and_debug_is_silent() {
        let r = redactor(&["s3cret-value\nsecond line of the key file"]);
        let mut value = serde_json::json!({"a": ["second line of the key file"], "second line of the key file": 1});
        r.value(&mut value);
        assert_eq!(value, serde_json::json!({"a": ["[redacted]"], "[redacted]": 1}));
        assert_eq!(format!("{r:?}"), "Redactor { secrets: 3 }");
    }
}
