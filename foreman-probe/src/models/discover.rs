//! Where model servers are looked for, in which order, and what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use futures::future::join_all;
use reqwest::Client;
use secrecy::SecretString;

use super::answer::{Tried, TriedAnswer, line};
use super::ask::{Asked, Remembered, ask};
use super::choose::{Choice, NotChosen, choose};
use super::http::{HttpClientError, ProxySettings, Target, client};
use super::kinds::{Server, model};
use super::url::{InvalidModelUrl, ModelUrl};
use super::{FoundModel, ModelEvidence, ServerKind};
use crate::limits::{LOCAL_PORTS, LOCAL_SERVER_LIMIT, NAMED_SERVER_LIMIT, SERVERS_MAX};

/// Who named an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The flag `--model-url`.
    Flag,
    /// The environment variable `FOREMAN_MODEL_URL`.
    FlagEnvironment,
    /// The configuration file.
    Config,
    /// The environment variable `OLLAMA_HOST`.
    OllamaHost,
    /// The environment variable `OPENAI_BASE_URL`.
    OpenAiBaseUrl,
    /// A well-known port of this machine.
    LocalPort,
}

/// Which key a server is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySource {
    /// None.
    None,
    /// The one given in [`DiscoveryConfig`].
    Given,
    /// The environment variable `OPENAI_API_KEY`.
    OpenAiApiKey,
}

impl Source {
    /// Whether somebody named the address for Foreman, and not for other programs or not at all.
    pub fn is_explicit(self) -> bool {
        matches!(self, Self::Flag | Self::FlagEnvironment | Self::Config)
    }

    /// The key that a server of this source is shown, also by whoever sends it work.
    pub fn key(self) -> KeySource {
        match self {
            Self::Flag | Self::FlagEnvironment | Self::Config => KeySource::Given,
            Self::OpenAiBaseUrl => KeySource::OpenAiApiKey,
            Self::OllamaHost | Self::LocalPort => KeySource::None,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "--model-url",
            Self::FlagEnvironment => "FOREMAN_MODEL_URL",
            Self::Config => "the config file",
            Self::OllamaHost => "OLLAMA_HOST",
            Self::OpenAiBaseUrl => "OPENAI_BASE_URL",
            Self::LocalPort => "a well-known port",
        })
    }
}

/// Where to look. The defaults are those of the product.
#[derive(Clone)]
pub struct DiscoveryConfig {
    /// The flag `--model-url`. With it, nothing else is asked.
    pub model_url: Option<String>,
    /// The model asked for by name.
    pub model: Option<String>,
    /// Addresses of the configuration file, in its order.
    pub config_urls: Vec<String>,
    /// The key for servers of the three sources above.
    pub key: Option<SecretString>,
    /// The environment: `FOREMAN_MODEL_URL`, `OLLAMA_HOST`, `OPENAI_BASE_URL`, `OPENAI_API_KEY`,
    /// `HTTPS_PROXY`, `NO_PROXY`; an empty value counts as absent. The process' own is not read.
    pub environment: BTreeMap<String, String>,
    /// Ports of 127.0.0.1 to ask.
    pub local_ports: Vec<u16>,
    /// How long one answer of such a port may take.
    pub local_limit: Duration,
    /// How long one answer of a named server may take.
    pub named_limit: Duration,
}

impl Default for DiscoveryConfig {
    fn default() -> Self {
        Self {
            model_url: None,
            model: None,
            config_urls: Vec::new(),
            key: None,
            environment: BTreeMap::new(),
            local_ports: LOCAL_PORTS.to_vec(),
            local_limit: LOCAL_SERVER_LIMIT,
            named_limit: NAMED_SERVER_LIMIT,
        }
    }
}

/// Addresses and the environment may hold passwords, so they are not shown.
impl fmt::Debug for DiscoveryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiscoveryConfig")
            .field("model", &self.model)
            .field("local_ports", &self.local_ports)
            .finish_non_exhaustive()
    }
}

impl DiscoveryConfig {
    fn variable(&self, name: &str) -> Option<&str> {
        let value = self.environment.get(name).map(|value| value.trim());
        value.filter(|value| !value.is_empty())
    }

    fn proxy(&self) -> ProxySettings {
        let either = |upper: &str, lower: &str| {
            self.variable(lower).or_else(|| self.variable(upper)).map(str::to_owned)
        };
        ProxySettings {
            https: either("HTTPS_PROXY", "https_proxy"),
            except: either("NO_PROXY", "no_proxy"),
        }
    }

    /// The addresses to ask, in order, each server once.
    fn places(&self) -> Vec<Place> {
        let only = |source, text: &str| vec![Place { source, url: ModelUrl::parse(text) }];
        if let Some(text) = &self.model_url {
            return only(Source::Flag, text);
        }
        if let Some(text) = self.variable("FOREMAN_MODEL_URL") {
            return only(Source::FlagEnvironment, text);
        }
        let mut places = Vec::new();
        for text in &self.config_urls {
            places.push(Place { source: Source::Config, url: ModelUrl::parse(text) });
        }
        if let Some(text) = self.variable("OLLAMA_HOST") {
            let url = ModelUrl::parse_ollama_host(text);
            places.push(Place { source: Source::OllamaHost, url });
        }
        if let Some(text) = self.variable("OPENAI_BASE_URL") {
            places.push(Place { source: Source::OpenAiBaseUrl, url: ModelUrl::parse(text) });
        }
        for url in self.local_ports.iter().filter_map(|port| ModelUrl::local(*port)) {
            places.push(Place { source: Source::LocalPort, url: Ok(url) });
        }
        let mut seen = BTreeSet::new();
        places.retain(|place| place.url.as_ref().map_or(true, |url| seen.insert(url.identity())));
        places.truncate(SERVERS_MAX);
        places
    }

    fn key(&self, source: Source) -> Option<SecretString> {
        match source.key() {
            KeySource::None => None,
            KeySource::Given => self.key.clone(),
            KeySource::OpenAiApiKey => self.variable("OPENAI_API_KEY").map(SecretString::from),
        }
    }

    fn limit(&self, source: Source) -> Duration {
        match source {
            Source::LocalPort => self.local_limit,
            Source::Flag
            | Source::FlagEnvironment
            | Source::Config
            | Source::OllamaHost
            | Source::OpenAiBaseUrl => self.named_limit,
        }
    }
}

struct Place {
    source: Source,
    url: Result<ModelUrl, InvalidModelUrl>,
}

/// What a look came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// All models, in the order of places.
    pub found: Vec<FoundModel>,
    /// What each address answered, in the order of places.
    pub tried: Vec<Tried>,
    /// The model to take, or why there is none.
    pub chosen: Result<Choice, NotChosen>,
}

impl Discovery {
    /// What was tried, on one line:
    /// `127.0.0.1:11434 refused, :1234 refused, :8000 404 (not OpenAI-compatible)`.
    pub fn tried_line(&self) -> String {
        line(&self.tried)
    }
}

/// Looks for model servers, as often as it is asked to. It remembers the details of models that
/// cannot have changed, so keep one for a process.
pub struct Discoverer {
    config: DiscoveryConfig,
    client: Client,
    remembered: Remembered,
}

impl Discoverer {
    /// Fails only when no HTTP client can be made.
    pub fn new(config: DiscoveryConfig) -> Result<Self, HttpClientError> {
        let client = client(&config.proxy())?;
        Ok(Self { config, client, remembered: Remembered::default() })
    }

    /// The longest that a look takes: two answers of the slowest kind of server.
    pub fn limit(&self) -> Duration {
        2 * self.config.local_limit.max(self.config.named_limit)
    }

    /// Asks all servers at once.
    pub async fn discover(&self) -> Discovery {
        let places = self.config.places();
        let answers = join_all(places.into_iter().map(|place| self.ask_one(place))).await;
        let mut found = Vec::new();
        let mut tried = Vec::new();
        for (one, models) in answers {
            tried.push(one);
            found.extend(models);
        }
        let server_there = |one: &Tried| matches!(one.answer, TriedAnswer::Models { .. });
        let chosen = if found.is_empty() && !tried.iter().any(server_there) {
            Err(NotChosen::NoServer)
        } else {
            choose(&found, self.config.model.as_deref())
        };
        Discovery { found, tried, chosen }
    }

    async fn ask_one(&self, place: Place) -> (Tried, Vec<FoundModel>) {
        let source = place.source;
        let url = match place.url {
            Ok(url) => url,
            Err(error) => {
                let answer = TriedAnswer::InvalidUrl { reason: error.to_string() };
                return (Tried::new(source, None, answer, 0), Vec::new());
            }
        };
        let (key, limit) = (self.config.key(source), self.config.limit(source));
        let target = Target { url: url.clone(), key, limit };
        let asked = ask(&self.client, &target, source, &self.remembered).await;
        let models = self.with_declared(&url, source, &asked).unwrap_or(asked.models);
        (Tried::new(source, Some(&url), asked.answer, models.len()), models)
    }

    /// Some gateways list no models. When a person named both the server and the model for
    /// Foreman, that is believed.
    fn with_declared(
        &self,
        url: &ModelUrl,
        source: Source,
        asked: &Asked,
    ) -> Option<Vec<FoundModel>> {
        let lists_none = matches!(
            asked.answer,
            TriedAnswer::NotCompatible { status: 404 | 405 } | TriedAnswer::Models { count: 0, .. }
        );
        let only = matches!(source, Source::Flag | Source::FlagEnvironment);
        if !lists_none || !only {
            return None;
        }
        let url = if url.has_own_path() { url.clone() } else { url.v1() };
        let server = Server { kind: ServerKind::OpenAi, url, source, key_refused: false };
        let mut declared = model(self.config.model.as_deref(), &server)?;
        declared.evidence = ModelEvidence::Declared;
        Some(vec![declared])
    }
}

/// One look with a client of its own.
pub async fn discover(config: &DiscoveryConfig) -> Result<Discovery, HttpClientError> {
    Ok(Discoverer::new(config.clone())?.discover().await)
}
