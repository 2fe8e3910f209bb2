//! Asking one server: all telling pages at once, then the details that Ollama keeps apart.

use std::collections::BTreeMap;
use std::sync::Mutex;

use futures::future::join_all;
use reqwest::Client;
use serde_json::{Value, json};

use super::answer::{TriedAnswer, of_failures};
use super::discover::Source;
use super::http::{Fetched, Target, get, post};
use super::kinds::{
    self, OllamaDetails, OllamaModel, Pages, Server, identify, ollama_details, with_details,
};
use super::url::ModelUrl;
use super::{FoundModel, ServerKind};
use crate::limits::{MODEL_DETAILS_MAX, MODEL_DETAILS_REMEMBERED_MAX};
use crate::text::lock;

/// What one server answered.
pub(crate) struct Asked {
    pub(crate) answer: TriedAnswer,
    pub(crate) models: Vec<FoundModel>,
}

/// Details of models by server and digest. They do not change while the digest is the same, so a
/// heartbeat does not ask for them again and again.
#[derive(Debug, Default)]
pub(crate) struct Remembered(Mutex<BTreeMap<(String, String), OllamaDetails>>);

impl Remembered {
    fn get(&self, server: &str, digest: &str) -> Option<OllamaDetails> {
        lock(&self.0).get(&(server.to_owned(), digest.to_owned())).cloned()
    }

    fn put(&self, server: &str, digest: &str, details: OllamaDetails) {
        let mut all = lock(&self.0);
        if all.len() >= MODEL_DETAILS_REMEMBERED_MAX {
            all.clear();
        }
        all.insert((server.to_owned(), digest.to_owned()), details);
    }
}

/// The pages that tell servers apart, as they came.
struct Answers {
    list: Fetched,
    /// The list directly below a base with a path of its own, such as `/v1beta/openai`.
    own_list: Option<Fetched>,
    tags: Fetched,
    running: Fetched,
    props: Fetched,
    v0: Fetched,
}

impl Answers {
    fn all(&self) -> Vec<&Fetched> {
        let mut all = vec![&self.list, &self.tags, &self.running, &self.props, &self.v0];
        all.extend(&self.own_list);
        all
    }
}

/// Asks a server what it is and what it serves, in at most twice the target's limit.
pub(crate) async fn ask(
    client: &Client,
    target: &Target,
    source: Source,
    remembered: &Remembered,
) -> Asked {
    let answers = pages(client, target).await;
    let is_list = |page: &&Value| page.get("data").is_some_and(Value::is_array);
    let below_v1 = answers.list.json().filter(is_list);
    let below_base = answers.own_list.as_ref().and_then(Fetched::json).filter(is_list);
    let base_is_own = below_v1.is_none() && below_base.is_some();
    let pages = Pages {
        v1_models: below_v1.or(below_base).cloned(),
        tags: answers.tags.json().cloned(),
        props: answers.props.json().cloned(),
        v0_models: answers.v0.json().cloned(),
    };
    let Some(kind) = identify(&pages) else {
        return Asked { answer: of_failures(&answers.list, &answers.all()), models: Vec::new() };
    };
    // While it loads, llama.cpp lists its model already and answers nothing else.
    if kind == ServerKind::LlamaCpp && answers.props.is_loading() {
        return Asked { answer: TriedAnswer::Loading, models: Vec::new() };
    }
    let url = if base_is_own { target.url.clone() } else { target.url.v1() };
    // llama.cpp lists its models to everybody, and guards this page with the key that chats need.
    // Of other servers such a page says nothing: a gateway may forbid whatever it does not know.
    let key_refused = kind == ServerKind::LlamaCpp && answers.props.refuses_key();
    let server = Server { kind, url, source, key_refused };
    let models = match kind {
        ServerKind::Ollama => {
            let listed = kinds::ollama(&pages, answers.running.json(), &server);
            with_ollama_details(client, target, listed, remembered).await
        }
        ServerKind::LmStudio => kinds::lm_studio(&pages, &server),
        ServerKind::LlamaCpp | ServerKind::Vllm | ServerKind::OpenAi => {
            kinds::listed(&pages, &server)
        }
    };
    Asked {
        answer: TriedAnswer::Models { kind, count: models.len(), needs_key: key_refused },
        models,
    }
}

async fn pages(client: &Client, target: &Target) -> Answers {
    let (root, v1) = (target.url.root(), target.url.v1());
    let own = target.url.has_own_path() && target.url.root() == target.url;
    let own_list =
        async { if own { Some(get(client, target, &target.url, "/models").await) } else { None } };
    let (list, own_list, tags, running, props, v0) = futures::join!(
        get(client, target, &v1, "/models"),
        own_list,
        get(client, target, &root, "/api/tags"),
        get(client, target, &root, "/api/ps"),
        get(client, target, &root, "/props"),
        get(client, target, &root, "/api/v0/models"),
    );
    Answers { list, own_list, tags, running, props, v0 }
}

/// Asks for what `/api/tags` does not say, of the first models that are not known yet. A server
/// that does not answer in time costs the details only.
async fn with_ollama_details(
    client: &Client,
    target: &Target,
    listed: Vec<OllamaModel>,
    remembered: &Remembered,
) -> Vec<FoundModel> {
    let identity = target.url.identity();
    let root = target.url.root();
    let unknown = listed.iter().filter(|model| {
        !model.digest.is_empty() && remembered.get(&identity, &model.digest).is_none()
    });
    let questions = unknown.take(MODEL_DETAILS_MAX).map(|model| {
        let (identity, root) = (&identity, &root);
        async move {
            if let Some(details) = show(client, target, root, &model.found.name).await {
                remembered.put(identity, &model.digest, details);
            }
        }
    });
    join_all(questions).await;
    let known = |model: OllamaModel| match remembered.get(&identity, &model.digest) {
        Some(details) => with_details(model.found, &details),
        None => model.found,
    };
    listed.into_iter().map(known).collect()
}

async fn show(
    client: &Client,
    target: &Target,
    root: &ModelUrl,
    name: &str,
) -> Option<OllamaDetails> {
    // Older servers read `name`, newer ones `model`.
    let question = json!({ "model": name, "name": name });
    let answer = post(client, target, root, "/api/show", &question).await;
    answer.json().map(ollama_details)
}
