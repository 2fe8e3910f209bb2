//! `foreman models`: what the servers that can be reached serve.

use foreman_probe::models::ModelEvidence;
use foreman_probe::{Discovery, FoundModel, discover};
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::output::{self, FormatArgs, Paint, Table, paint};
use crate::parts::no_model;
use crate::settings::{ModelFlags, Settings};

/// Flags of `foreman models`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "List the models of the servers that can be reached: --model-url, FOREMAN_MODEL_URL, the config file, \
OLLAMA_HOST, OPENAI_BASE_URL, then the well-known ports of 127.0.0.1 (Ollama 11434, LM Studio 1234, llama.cpp 8080, vLLM \
8000). Says which one a run would take, and why. Exit code 4 when there is none.",
    after_long_help = "Examples:\n  foreman models\n  foreman models --model-url http://studio:11434/v1 -o json"
)]
pub struct ModelsArgs {
    /// The form of the answer.
    #[command(flatten)]
    pub format: FormatArgs,
    /// The model server.
    #[command(flatten)]
    pub model: ModelFlags,
}

/// Lists models.
///
/// # Errors
/// No model can be taken; the error says what was tried.
pub async fn models(args: &ModelsArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let discovery = discover(&settings.discovery()?).await?;
    let taken = discovery.chosen.is_ok();
    if let Some(text) = args.format.machine(&report(&discovery))? {
        output::print(&text)?;
        return Ok(if taken { Exit::OnTarget } else { Exit::Infrastructure });
    }
    if !discovery.found.is_empty() {
        output::print(&table(&discovery.found))?;
    }
    match &discovery.chosen {
        Ok(choice) => {
            output::note(format!("{} {choice}", paint(Paint::Strong, "a run takes")));
            Ok(Exit::OnTarget)
        }
        Err(error) => Err(no_model(error, &discovery.tried_line()).into()),
    }
}

fn table(found: &[FoundModel]) -> String {
    let mut table =
        Table::new(["MODEL", "SERVER", "URL", "STATE", "CONTEXT", "TOK/S", "EVIDENCE", "FROM"]);
    for model in found {
        table.row([
            model.name.clone(),
            model.server.as_str().to_owned(),
            model.endpoint(),
            state(model),
            context(model),
            model.tokens_per_second.map_or_else(String::new, |speed| speed.to_string()),
            evidence(model).to_owned(),
            model.source.to_string(),
        ]);
    }
    table.render(true)
}

/// What is known of the model's state, in words.
fn state(model: &FoundModel) -> String {
    let mut words = vec![match model.loaded {
        Some(true) => "loaded",
        Some(false) => "not loaded",
        None => "unknown",
    }];
    if !model.chat {
        words.push("no chat");
    }
    if model.remote {
        words.push("remote");
    }
    if model.key_refused {
        words.push("needs a key");
    }
    words.join(", ")
}

fn context(model: &FoundModel) -> String {
    match (model.context_tokens, model.trained_context_tokens) {
        (Some(served), Some(trained)) if served < trained => format!("{served} of {trained}"),
        (Some(served), _) => served.to_string(),
        (None, Some(trained)) => format!("unknown (trained {trained})"),
        (None, None) => String::new(),
    }
}

const fn evidence(model: &FoundModel) -> &'static str {
    match model.evidence {
        ModelEvidence::Declared => "declared",
        ModelEvidence::Probed => "probed",
        ModelEvidence::Measured => "measured",
    }
}

/// The look as JSON.
pub(super) fn report(discovery: &Discovery) -> Value {
    let models: Vec<Value> = discovery
        .found
        .iter()
        .map(|model| {
            json!({
                "name": model.name,
                "server": model.server.as_str(),
                "url": model.endpoint(),
                "source": model.source.to_string(),
                "loaded": model.loaded,
                "contextTokens": model.context_tokens,
                "trainedContextTokens": model.trained_context_tokens,
                "tokensPerSecond": model.tokens_per_second,
                "chat": model.chat,
                "remote": model.remote,
                "keyRefused": model.key_refused,
                "evidence": evidence(model),
            })
        })
        .collect();
    let tried: Vec<Value> = discovery
        .tried
        .iter()
        .map(|tried| {
            json!({
                "url": tried.url,
                "source": tried.source.to_string(),
                "answer": tried.answer.to_string(),
                "models": tried.models,
            })
        })
        .collect();
    let chosen = match &discovery.chosen {
        Ok(choice) => json!({
            "name": choice.model.name,
            "url": choice.model.endpoint(),
            "why": choice.why.to_string(),
        }),
        Err(_) => Value::Null,
    };
    let problem = discovery.chosen.as_ref().err().map(ToString::to_string);
    json!({ "models": models, "tried": tried, "chosen": chosen, "problem": problem })
}
