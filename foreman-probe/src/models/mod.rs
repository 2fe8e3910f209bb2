//! The model servers of this machine: where they are, what they serve, and which to take.
//!
//! [`Discoverer::discover`] asks the servers that somebody named, and the well-known ports of
//! 127.0.0.1. What each one answered is kept as data, because "no model server found" must say
//! what was tried. Nothing here reads the process' environment, follows a redirect, or shows the
//! credentials of a URL.

mod answer;
mod ask;
mod choose;
mod discover;
mod http;
mod kinds;
#[cfg(test)]
mod kinds_tests;
mod part;
mod url;

pub use answer::{Tried, TriedAnswer};
pub use choose::{Choice, NotChosen, Why, choose};
pub use discover::{Discoverer, Discovery, DiscoveryConfig, KeySource, Source, discover};
pub use http::{HttpClientError, install_tls_provider};
pub use part::ModelServersPart;
pub use url::{InvalidModelUrl, ModelUrl};

/// The program behind an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerKind {
    /// Ollama.
    Ollama,
    /// llama.cpp's `llama-server`, also as a router of several models.
    LlamaCpp,
    /// LM Studio.
    LmStudio,
    /// vLLM.
    Vllm,
    /// Any other server that speaks the OpenAI protocol.
    OpenAi,
}

impl ServerKind {
    /// The value of `models[].server`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ollama => "ollama",
            Self::LlamaCpp => "llama.cpp",
            Self::LmStudio => "lm-studio",
            Self::Vllm => "vllm",
            Self::OpenAi => "openai",
        }
    }
}

/// How a fact about a model is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelEvidence {
    /// A person said so.
    Declared,
    /// The server said so.
    Probed,
    /// A run showed it.
    Measured,
}

/// A model that a server serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundModel {
    /// Its name on the wire: printable, at most
    /// [`MODEL_NAME_CHARS_MAX`](crate::limits::MODEL_NAME_CHARS_MAX) characters.
    pub name: String,
    /// The kind of server.
    pub server: ServerKind,
    /// The base URL for the OpenAI protocol (most often ending in `/v1`).
    pub url: ModelUrl,
    /// Who named the server.
    pub source: Source,
    /// The context that is really served, in tokens; absent when the server does not say.
    pub context_tokens: Option<u64>,
    /// The context the model was trained for; what is served is often less.
    pub trained_context_tokens: Option<u64>,
    /// Speed in tokens a second; only a measurement sets it.
    pub tokens_per_second: Option<i32>,
    /// Whether it is in memory now; absent when the server does not say.
    pub loaded: Option<bool>,
    /// Whether it answers chats (an embedding model does not).
    pub chat: bool,
    /// Whether its requests leave the house: the server is on the public internet, or passes them
    /// on to another company's machines.
    pub remote: bool,
    /// Whether the server refused the key it was shown, or wants one: chats will be refused too.
    pub key_refused: bool,
    /// How we know.
    pub evidence: ModelEvidence,
}

impl FoundModel {
    /// The base URL as it may be shown: without user, password and query.
    pub fn endpoint(&self) -> String {
        self.url.to_string()
    }
}
