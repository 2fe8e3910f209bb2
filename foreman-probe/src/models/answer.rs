//! What each server answered, as data: the lines under "no model server found" and of `doctor`.

use std::fmt;
use std::time::Duration;

use super::ServerKind;
use super::discover::Source;
use super::http::Fetched;
use super::url::ModelUrl;

/// What one address answered. `Display` gives the few words of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TriedAnswer {
    /// A model server.
    Models {
        /// Its kind.
        kind: ServerKind,
        /// How many models it lists.
        count: usize,
        /// Whether it refused details without a key, so that chats will be refused too.
        needs_key: bool,
    },
    /// It is still loading its model.
    Loading,
    /// Nobody listens there.
    Refused,
    /// Nothing within the limit.
    TimedOut {
        /// The limit.
        limit: Duration,
    },
    /// It wants a key, or refuses the one shown.
    KeyRefused {
        /// 401 or 403.
        status: u16,
    },
    /// It points elsewhere; nobody was asked there.
    Redirected {
        /// The status.
        status: u16,
    },
    /// An error of the server.
    ServerError {
        /// The status.
        status: u16,
        /// What it said, made fit to show.
        message: String,
    },
    /// A web server that is no model server.
    NotCompatible {
        /// The status.
        status: u16,
    },
    /// A web page.
    WebPage {
        /// The status.
        status: u16,
    },
    /// JSON or text that is no list of models.
    Unreadable,
    /// More than is read.
    TooLarge,
    /// The name does not resolve, TLS fails, the connection breaks.
    Unreachable {
        /// What happened.
        reason: String,
    },
    /// The address itself is wrong; nobody was asked.
    InvalidUrl {
        /// What is wrong with it.
        reason: String,
    },
}

impl TriedAnswer {
    /// Whether a server may well be there and only did not get round to answering.
    pub(crate) fn is_uncertain(&self) -> bool {
        match self {
            Self::Loading
            | Self::TimedOut { .. }
            | Self::ServerError { .. }
            | Self::Unreachable { .. } => true,
            Self::Models { .. }
            | Self::Refused
            | Self::KeyRefused { .. }
            | Self::Redirected { .. }
            | Self::NotCompatible { .. }
            | Self::WebPage { .. }
            | Self::Unreadable
            | Self::TooLarge
            | Self::InvalidUrl { .. } => false,
        }
    }
}

impl fmt::Display for TriedAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Models { kind, count: 0, .. } => {
                write!(f, "{} without any model", kind.as_str())
            }
            Self::Models { kind, count, needs_key } => {
                let models = if *count == 1 { "model" } else { "models" };
                let key = if *needs_key { ", needs a key" } else { "" };
                write!(f, "{} with {count} {models}{key}", kind.as_str())
            }
            Self::Loading => f.write_str("still loading its model"),
            Self::Refused => f.write_str("refused"),
            Self::TimedOut { limit } => write!(f, "no answer within {} ms", limit.as_millis()),
            Self::KeyRefused { status } => write!(f, "{status} (needs a valid key)"),
            Self::Redirected { status } => write!(f, "{status} (redirect, not followed)"),
            Self::ServerError { status, message } if message.is_empty() => {
                write!(f, "{status} (server error)")
            }
            Self::ServerError { status, message } => write!(f, "{status} ({message})"),
            Self::NotCompatible { status } => write!(f, "{status} (not OpenAI-compatible)"),
            Self::WebPage { status } => write!(f, "{status} (a web page, not OpenAI-compatible)"),
            Self::Unreadable => f.write_str("no list of models (not OpenAI-compatible)"),
            Self::TooLarge => f.write_str("an answer larger than 1 MiB (not read)"),
            Self::Unreachable { reason } => write!(f, "unreachable ({reason})"),
            Self::InvalidUrl { reason } => write!(f, "not asked: {reason}"),
        }
    }
}

/// One address that was tried, or that could not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Who named it.
    pub source: Source,
    /// The address without credentials; empty when it could not be parsed.
    pub url: String,
    /// `host` and port, for a short list.
    pub host_and_port: Option<(String, u16)>,
    /// What came back.
    pub answer: TriedAnswer,
    /// How many of the discovery's models are from here.
    pub models: usize,
}

impl Tried {
    pub(crate) fn new(
        source: Source,
        url: Option<&ModelUrl>,
        answer: TriedAnswer,
        models: usize,
    ) -> Self {
        let host_and_port = url.map(ModelUrl::host_and_port);
        let url = url.map(ToString::to_string).unwrap_or_default();
        Self { source, url, host_and_port, answer, models }
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host_and_port {
            Some((host, port)) => write!(f, "{host}:{port} {}", self.answer),
            None => write!(f, "{} {}", self.source, self.answer),
        }
    }
}

/// The list on one line; a host is written only when it differs from the one before:
/// `127.0.0.1:11434 refused, :1234 refused, :8000 404 (not OpenAI-compatible)`.
pub(crate) fn line(tried: &[Tried]) -> String {
    let mut words = Vec::new();
    let mut last_host = None;
    for one in tried {
        let host = one.host_and_port.as_ref().map(|(host, _)| host.as_str());
        match &one.host_and_port {
            Some((host, port)) if last_host == Some(host.as_str()) => {
                words.push(format!(":{port} {}", one.answer));
            }
            _ => words.push(one.to_string()),
        }
        last_host = host;
    }
    words.join(", ")
}

/// What the answers at several paths mean together, when none of them is a list of models.
pub(crate) fn of_failures(list: &Fetched, others: &[&Fetched]) -> TriedAnswer {
    if list.is_loading() {
        return TriedAnswer::Loading;
    }
    match list {
        Fetched::Status { code: status @ (401 | 403), .. } => {
            TriedAnswer::KeyRefused { status: *status }
        }
        Fetched::Status { code: status @ 300..=399, .. }
        | Fetched::Html { code: status @ 300..=399 } => TriedAnswer::Redirected { status: *status },
        Fetched::Status { code: status @ 500.., message } => {
            TriedAnswer::ServerError { status: *status, message: message.clone() }
        }
        Fetched::Status { code, .. } => TriedAnswer::NotCompatible { status: *code },
        Fetched::Html { code } => TriedAnswer::WebPage { status: *code },
        Fetched::Json(_) | Fetched::NotJson => TriedAnswer::Unreadable,
        Fetched::TooLarge => TriedAnswer::TooLarge,
        Fetched::Refused => TriedAnswer::Refused,
        Fetched::TimedOut(limit) => TriedAnswer::TimedOut { limit: *limit },
        // One broken connection beside a clear answer: the clear one is worth more.
        Fetched::Failed(reason) => {
            let clear = others.iter().find(|other| !matches!(other, Fetched::Failed(_)));
            clear.map_or_else(
                || TriedAnswer::Unreachable { reason: reason.clone() },
                |clear| of_failures(clear, &[]),
            )
        }
    }
}
