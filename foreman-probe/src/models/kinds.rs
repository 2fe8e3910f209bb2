//! Telling the servers apart, and reading what each says about its models.
//!
//! Every function here is pure: JSON in, models out. Servers imitate each other, so an answer is
//! believed by its content, not by its path alone.

use serde_json::Value;

use super::{FoundModel, ModelEvidence, ModelUrl, ServerKind, Source};
use crate::limits::{MODEL_NAME_CHARS_MAX, MODELS_PER_SERVER_MAX};
use crate::text::is_invisible;

/// The JSON that a server gave at the paths that tell it apart; absent = no JSON there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pages {
    /// `/v1/models`, or `/models` below another base.
    pub(crate) v1_models: Option<Value>,
    /// `/api/tags`: Ollama.
    pub(crate) tags: Option<Value>,
    /// `/props`: llama.cpp.
    pub(crate) props: Option<Value>,
    /// `/api/v0/models`: LM Studio.
    pub(crate) v0_models: Option<Value>,
}

/// The kind of server; absent when nothing looks like a model server.
///
/// llama.cpp first, because newer ones also imitate Ollama's `/api/tags`; LM Studio before Ollama
/// for the same reason.
pub(crate) fn identify(pages: &Pages) -> Option<ServerKind> {
    let list = |page: &Option<Value>, key: &str| {
        page.as_ref().and_then(|page| page.get(key)).is_some_and(Value::is_array)
    };
    let props = pages.props.as_ref();
    let has_props = props.is_some_and(|props| props.get("default_generation_settings").is_some());
    let owners = owners(pages.v1_models.as_ref());
    let owned_by = |name: &str| owners.contains(&name);
    if has_props || owned_by("llamacpp") {
        return Some(ServerKind::LlamaCpp);
    }
    if list(&pages.v0_models, "data") {
        return Some(ServerKind::LmStudio);
    }
    if list(&pages.tags, "models") {
        return Some(ServerKind::Ollama);
    }
    if !list(&pages.v1_models, "data") {
        return None;
    }
    let entries = entries(pages.v1_models.as_ref(), "data");
    let has_length = entries.iter().any(|entry| entry.get("max_model_len").is_some());
    Some(if has_length || owned_by("vllm") { ServerKind::Vllm } else { ServerKind::OpenAi })
}

fn owners(page: Option<&Value>) -> Vec<&str> {
    entries(page, "data").iter().filter_map(|entry| entry.get("owned_by")?.as_str()).collect()
}

fn entries<'a>(page: Option<&'a Value>, key: &str) -> &'a [Value] {
    let list = page.and_then(|page| page.get(key)).and_then(Value::as_array);
    list.map_or(&[], |list| list.get(..MODELS_PER_SERVER_MAX).unwrap_or(list))
}

/// The server whose pages are read.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) kind: ServerKind,
    pub(crate) url: ModelUrl,
    pub(crate) source: Source,
    pub(crate) key_refused: bool,
}

/// A model of which only the name is known. Absent for a name that nobody could type or show.
pub(crate) fn model(name: Option<&str>, server: &Server) -> Option<FoundModel> {
    let name = name?;
    let chars = name.chars().count();
    let shown = |c: char| !c.is_control() && !is_invisible(c);
    if name.trim().is_empty() || chars > MODEL_NAME_CHARS_MAX || !name.chars().all(shown) {
        return None;
    }
    Some(FoundModel {
        name: name.to_owned(),
        server: server.kind,
        remote: server.url.leaves_the_house(),
        key_refused: server.key_refused,
        url: server.url.clone(),
        source: server.source,
        context_tokens: None,
        trained_context_tokens: None,
        tokens_per_second: None,
        loaded: None,
        chat: !looks_like_embedding(name),
        evidence: ModelEvidence::Probed,
    })
}

/// Servers that do not say what a model is for still name it.
fn looks_like_embedding(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["embed", "rerank", "bge-", "minilm"].iter().any(|word| name.contains(word))
}

fn count(value: Option<&Value>) -> Option<u64> {
    value?.as_u64().filter(|count| *count > 0)
}

fn text<'a>(entry: &'a Value, key: &str) -> Option<&'a str> {
    entry.get(key)?.as_str()
}

/// The models of a server that lists them at `/v1/models`: llama.cpp, vLLM and the others.
pub(crate) fn listed(pages: &Pages, server: &Server) -> Vec<FoundModel> {
    let props = pages.props.as_ref();
    let entries = entries(pages.v1_models.as_ref(), "data");
    let one = |entry: &Value| {
        let mut found = model(text(entry, "id"), server)?;
        let meta = entry.get("meta");
        let of_meta = |key: &str| count(meta.and_then(|meta| meta.get(key)));
        match server.kind {
            ServerKind::LlamaCpp => {
                // A router says what is loaded; a plain server has its one model in memory.
                let status = entry.get("status").and_then(|status| text(status, "value"));
                found.loaded = Some(status.is_none_or(|status| status == "loaded"));
                found.trained_context_tokens = of_meta("n_ctx_train");
                // Both are the context of one slot, which is what one request can have.
                let of_props = if status.is_none() { served_by_props(props) } else { None };
                found.context_tokens = of_props.or_else(|| of_meta("n_ctx"));
            }
            ServerKind::Vllm => {
                found.loaded = Some(true);
                found.context_tokens = count(entry.get("max_model_len"));
            }
            ServerKind::Ollama | ServerKind::LmStudio | ServerKind::OpenAi => {}
        }
        Some(found)
    };
    entries.iter().filter_map(one).collect()
}

fn served_by_props(props: Option<&Value>) -> Option<u64> {
    count(props?.get("default_generation_settings")?.get("n_ctx"))
}

/// The models of an LM Studio server, from `/api/v0/models`.
pub(crate) fn lm_studio(pages: &Pages, server: &Server) -> Vec<FoundModel> {
    let one = |entry: &Value| {
        let mut found = model(text(entry, "id"), server)?;
        found.loaded = text(entry, "state").map(|state| state == "loaded");
        found.context_tokens = count(entry.get("loaded_context_length"));
        found.trained_context_tokens = count(entry.get("max_context_length"));
        if let Some(kind) = text(entry, "type") {
            found.chat = !kind.starts_with("embedding");
        }
        Some(found)
    };
    entries(pages.v0_models.as_ref(), "data").iter().filter_map(one).collect()
}

/// A model that Ollama has on its disk, and the digest that says when it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OllamaModel {
    pub(crate) found: FoundModel,
    pub(crate) digest: String,
}

/// The models of an Ollama server, from `/api/tags` and `/api/ps` (what is in memory now).
///
/// Without `/api/ps` it is unknown what is loaded, which is not the same as nothing.
pub(crate) fn ollama(pages: &Pages, ps: Option<&Value>, server: &Server) -> Vec<OllamaModel> {
    let running = entries(ps, "models");
    let one = |entry: &Value| {
        let name = text(entry, "model").or_else(|| text(entry, "name"));
        let mut found = model(name, server)?;
        let same = |loaded: &&Value| text(loaded, "model").or_else(|| text(loaded, "name")) == name;
        let loaded = running.iter().find(same);
        found.loaded = ps.map(|_| loaded.is_some());
        found.context_tokens = loaded.and_then(|loaded| count(loaded.get("context_length")));
        found.remote |= text(entry, "remote_host").is_some_and(|host| !host.is_empty());
        let family = entry.get("details").and_then(|details| text(details, "family"));
        found.chat &= !family.is_some_and(|family| family.contains("bert"));
        let digest = text(entry, "digest").unwrap_or_default().to_owned();
        Some(OllamaModel { found, digest })
    };
    entries(pages.tags.as_ref(), "models").iter().filter_map(one).collect()
}

/// What `/api/show` adds about a model: it does not change while its digest is the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OllamaDetails {
    /// The context that its Modelfile asks for (`num_ctx`).
    pub(crate) asked_context_tokens: Option<u64>,
    /// The context it was trained for.
    pub(crate) trained_context_tokens: Option<u64>,
    /// Whether it answers chats; absent when the server is too old to say.
    pub(crate) chat: Option<bool>,
}

/// Reads the answer of `/api/show`.
pub(crate) fn ollama_details(show: &Value) -> OllamaDetails {
    let parameters = text(show, "parameters").unwrap_or_default();
    let asked = parameters.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("num_ctx")).then(|| words.next()?.parse().ok()).flatten()
    });
    let info = show.get("model_info").and_then(Value::as_object);
    let trained = info.and_then(|info| {
        // The key starts with the architecture: `llama.context_length`.
        info.iter().find(|(key, _)| key.ends_with(".context_length")).map(|(_, value)| value)
    });
    let capabilities = show.get("capabilities").and_then(Value::as_array);
    OllamaDetails {
        asked_context_tokens: asked.filter(|tokens| *tokens > 0),
        trained_context_tokens: count(trained),
        chat: capabilities.map(|list| list.iter().any(|word| word.as_str() == Some("completion"))),
    }
}

/// Adds the details. A model that is not loaded will be served with the context its Modelfile asks
/// for; when it asks for none, the server decides at loading, and nobody knows before.
pub(crate) fn with_details(mut found: FoundModel, details: &OllamaDetails) -> FoundModel {
    found.trained_context_tokens = details.trained_context_tokens;
    if found.context_tokens.is_none() && found.loaded != Some(true) {
        let trained = details.trained_context_tokens.unwrap_or(u64::MAX);
        found.context_tokens = details.asked_context_tokens.map(|asked| asked.min(trained));
    }
    found.chat = details.chat.unwrap_or(found.chat);
    found
}
