//! Which model an Agent talks to on this machine.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use foreman_core::model::agent::{AgentSpec, Provider};
use foreman_core::model::shared::LocalObjectReference;
use foreman_core::model::wellknown::AUTO_MODEL;
use foreman_probe::models::KeySource;
use foreman_probe::models::choose;
use foreman_probe::{
    Choice, Discoverer, Discovery, DiscoveryConfig, FoundModel, NotChosen, Tried, TriedAnswer,
};
use foreman_runner::attempt::{EndpointError, Endpoints, ModelTarget};
use foreman_runner::model_client::BaseUrl;
use secrecy::SecretString;

use crate::exit::{Exit, Failure};

/// The models that runs on this node may use.
pub struct Models {
    config: DiscoveryConfig,
    discoverer: Discoverer,
    /// Set when there is nothing to choose: a demonstration's script.
    label: Option<String>,
    last: Mutex<Option<Arc<Discovery>>>,
}

impl std::fmt::Debug for Models {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Models").field("label", &self.label).finish_non_exhaustive()
    }
}

impl Models {
    /// Models as `config` finds them, looked for anew whenever a run begins. `label`, if there is
    /// one, stands for the model's name wherever a person reads it.
    ///
    /// # Errors
    /// No HTTP client can be made.
    pub fn new(config: DiscoveryConfig, label: Option<String>) -> Result<Self, Failure> {
        let discoverer = discoverer(&config)?;
        Ok(Self { config, discoverer, label, last: Mutex::new(None) })
    }

    /// What is there now.
    pub async fn look(&self) -> Arc<Discovery> {
        let discovery = Arc::new(self.discoverer.discover().await);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(discovery.clone());
        discovery
    }

    /// The configuration, for the node's own probe.
    pub fn config(&self) -> &DiscoveryConfig {
        &self.config
    }

    /// The model that a person is told of.
    pub fn describe(&self, choice: &Choice) -> String {
        match &self.label {
            Some(label) => format!("{}: {label}", choice.model.name),
            None => describe_model(choice),
        }
    }

    fn key(&self, model: &FoundModel) -> Option<SecretString> {
        match model.source.key() {
            KeySource::None => None,
            KeySource::Given => self.config.key.clone(),
            KeySource::OpenAiApiKey => {
                let key = self.config.environment.get("OPENAI_API_KEY")?;
                (!key.is_empty()).then(|| SecretString::from(key.clone()))
            }
        }
    }

    /// The keys that may be sent, so that they can be kept out of every output.
    pub fn secrets(&self) -> Vec<SecretString> {
        let variable = self.config.environment.get("OPENAI_API_KEY");
        let variable = variable.filter(|key| !key.is_empty()).cloned().map(SecretString::from);
        self.config.key.iter().cloned().chain(variable).collect()
    }

    fn target(&self, choice: &Choice) -> Result<ModelTarget, EndpointError> {
        let model = &choice.model;
        let base_url = BaseUrl::parse(model.url.expose())
            .map_err(|error| EndpointError { reason: error.to_string() })?;
        Ok(ModelTarget {
            base_url,
            model: model.name.clone(),
            context_tokens: model.context_tokens,
            api_key: self.key(model),
            label: self.describe(choice),
        })
    }
}

#[async_trait]
impl Endpoints for Models {
    async fn resolve(&self, agent: &AgentSpec) -> Result<ModelTarget, EndpointError> {
        if agent.provider.as_ref().is_some_and(|provider| !provider.is(Provider::Local)) {
            let reason = "the Agent wants a model outside the house, which this store cannot give: \
                          set provider to local, or name the server with --model-url";
            return Err(EndpointError { reason: reason.to_owned() });
        }
        let named = agent.inference_service_ref.as_ref().and_then(LocalObjectReference::named);
        if let Some(name) = named.filter(|name| *name != AUTO_MODEL) {
            let reason = format!(
                "the Agent names the inference service {name:?}, and nothing here knows it: use {AUTO_MODEL:?}"
            );
            return Err(EndpointError { reason });
        }
        let discovery = self.look().await;
        let wanted = agent.model.as_deref().filter(|model| !model.is_empty());
        let choice = match wanted {
            Some(wanted) => choose(&discovery.found, Some(wanted)),
            None => discovery.chosen.clone(),
        };
        let choice = choice.map_err(|error| EndpointError {
            reason: format!("{error} (tried: {})", discovery.tried_line()),
        })?;
        self.target(&choice)
    }
}

/// A discoverer for the node's probe.
///
/// # Errors
/// No HTTP client can be made.
pub(super) fn discoverer(config: &DiscoveryConfig) -> Result<Discoverer, Failure> {
    foreman_probe::install_tls_provider();
    Discoverer::new(config.clone())
        .map_err(|error| Failure::new(Exit::Error, "no HTTP client can be made").because(error))
}

/// `qwen3-coder-30b @ ollama 127.0.0.1:11434 (ctx 65536, already loaded, …)`.
pub fn describe_model(choice: &Choice) -> String {
    let model = &choice.model;
    let (host, port) = model.url.host_and_port();
    let mut facts = Vec::new();
    if let Some(context) = model.context_tokens {
        facts.push(format!("ctx {context}"));
    }
    if let Some(speed) = model.tokens_per_second {
        facts.push(format!("measured {speed} tok/s"));
    }
    facts.push(choice.why.to_string());
    format!("{} @ {} {host}:{port} ({})", model.name, model.server.as_str(), facts.join(", "))
}

/// The model to take, or the error that says what was tried and how to get one.
///
/// # Errors
/// No model can be taken.
pub fn found(discovery: &Discovery) -> Result<&Choice, Failure> {
    discovery.chosen.as_ref().map_err(|error| match discovery.tried.as_slice() {
        // The one address that somebody named is none.
        [Tried { source, answer: TriedAnswer::InvalidUrl { reason }, .. }] => {
            Failure::new(Exit::Usage, format!("{source} names no model server: {reason}"))
        }
        _ => no_model(error, &discovery.tried_line()),
    })
}

/// What to say and to do when there is no model.
pub fn no_model(error: &NotChosen, tried: &str) -> Failure {
    let failure = Failure::new(Exit::Infrastructure, error.to_string())
        .because(anyhow::anyhow!("tried: {tried}"));
    if !matches!(error, NotChosen::NoServer | NotChosen::NoModel) {
        return failure.next("foreman models");
    }
    failure
        .next(
            "start one: OLLAMA_CONTEXT_LENGTH=65536 ollama serve | llama-server -m model.gguf \
             --jinja -c 65536 | lms server start",
        )
        .next("or name one: foreman run --model-url http://host:port/v1 ...")
        .next("see it work without one: foreman demo")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_server_three_ways_to_get_one_are_shown() {
        let failure = no_model(&NotChosen::NoServer, "127.0.0.1:11434 refused, :1234 refused");
        assert_eq!(failure.exit(), Exit::Infrastructure);
        let text = crate::telemetry::describe(&anyhow::Error::new(failure));
        assert_eq!(
            text,
            "error: no model server found\n  because: tried: 127.0.0.1:11434 refused, :1234 refused\n\
             next: start one: OLLAMA_CONTEXT_LENGTH=65536 ollama serve | llama-server -m model.gguf \
             --jinja -c 65536 | lms server start\nnext: or name one: foreman run --model-url \
             http://host:port/v1 ...\nnext: see it work without one: foreman demo\n"
        );
    }
}
