//! Model servers that imitate the real ones.

use foreman_probe::models::ModelEvidence;
use foreman_probe::{Discoverer, FoundModel, NotChosen, ServerKind, TriedAnswer};

use crate::support::{Page, Server, llamacpp, local, look, ollama, recorded};

/// Name, served context, trained context, loaded, chats, remote.
type Row<'a> = (&'a str, Option<u64>, Option<u64>, Option<bool>, bool, bool);

fn rows(found: &[FoundModel]) -> Vec<Row<'_>> {
    fn row(model: &FoundModel) -> Row<'_> {
        let trained = model.trained_context_tokens;
        (&model.name, model.context_tokens, trained, model.loaded, model.chat, model.remote)
    }
    found.iter().map(row).collect()
}

#[tokio::test]
async fn ollama_tells_what_is_loaded_and_the_context_really_served() {
    let server = ollama().await;
    let discovery = look(&server.local()).await;
    let expected = [
        ("qwen3-coder:30b", Some(65536), Some(262_144), Some(false), true, false),
        ("llama3.2:latest", Some(4096), None, Some(true), true, false),
        ("nomic-embed-text:latest", Some(2048), Some(2048), Some(false), false, false),
        ("gpt-oss:120b-cloud", None, None, Some(false), true, true),
    ];
    assert_eq!(rows(&discovery.found), expected);
    let first = &discovery.found[0];
    assert_eq!(first.server, ServerKind::Ollama);
    assert_eq!(first.endpoint(), format!("{}/v1", server.url()));
    assert_eq!(first.evidence, ModelEvidence::Probed);
    let chosen = discovery.chosen.expect("a loaded one");
    assert_eq!(chosen.model.name, "llama3.2:latest", "loaded is preferred");
    assert_eq!(chosen.why.to_string(), "already loaded, first of 2 models found");
}

#[tokio::test]
async fn details_of_unchanged_models_are_asked_for_once() {
    let server = ollama().await;
    let discoverer = Discoverer::new(server.local()).expect("a client");
    let first = discoverer.discover().await;
    let shows = || server.seen().iter().filter(|seen| seen.path == "/api/show").count();
    let asked = shows();
    assert_eq!(asked, 4, "one a digest");
    let second = discoverer.discover().await;
    assert_eq!(first, second);
    // The two without a recorded answer are asked for again.
    assert_eq!(shows(), asked + 2);
}

#[tokio::test]
async fn ollama_without_ps_does_not_claim_that_nothing_is_loaded() {
    let server = ollama().await;
    server.set("/api/ps", Page::Status(500, "{}".to_owned()));
    let discovery = look(&server.local()).await;
    assert!(discovery.found.iter().all(|model| model.loaded.is_none()));
    assert_eq!(discovery.found.len(), 4);
}

#[tokio::test]
async fn llamacpp_serves_the_context_of_one_slot() {
    let server = llamacpp().await;
    let discovery = look(&server.local()).await;
    let expected = [("test.gguf", Some(2048), Some(131_072), Some(true), true, false)];
    assert_eq!(rows(&discovery.found), expected);
    let kind = ServerKind::LlamaCpp;
    let answer = TriedAnswer::Models { kind, count: 1, needs_key: false };
    assert_eq!(discovery.tried[0].answer, answer);
    let chosen = discovery.chosen.expect("the only one").to_string();
    let at = server.at;
    assert_eq!(chosen, format!("test.gguf @ llama.cpp {at} (the only one found)"));
}

#[tokio::test]
async fn a_llamacpp_that_imitates_ollama_is_still_llamacpp() {
    let server = llamacpp().await;
    server.set("/api/tags", recorded("", "ollama_tags.json").1);
    let discovery = look(&server.local()).await;
    assert_eq!(discovery.found[0].server, ServerKind::LlamaCpp);
    assert_eq!(discovery.found.len(), 1);
}

#[tokio::test]
async fn a_llamacpp_router_says_itself_what_is_loaded_and_may_want_a_key() {
    let server = Server::start(&[
        recorded("/props", "llamacpp_router_props.json"),
        recorded("/v1/models", "llamacpp_router_v1_models.json"),
    ])
    .await;
    let discovery = look(&server.local()).await;
    assert_eq!(rows(&discovery.found), [("test", None, None, Some(false), true, false)]);
    let refusal = r#"{"error":{"message":"Invalid API Key","code":401}}"#;
    server.set("/props", Page::Status(401, refusal.to_owned()));
    let discovery = look(&server.local()).await;
    assert_eq!(discovery.tried[0].answer.to_string(), "llama.cpp with 1 model, needs a key");
    let expected = NotChosen::NoneUsable { found: 1, remote: 0, locked: 1 };
    assert_eq!(discovery.chosen, Err(expected));
}

#[tokio::test]
async fn a_llamacpp_that_loads_is_not_taken_for_one_that_serves() {
    let loading = r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#;
    let loading = || Page::Status(503, loading.to_owned());
    let old = Server::start(&[("/props", loading()), ("/v1/models", loading())]).await;
    let new =
        Server::start(&[("/props", loading()), recorded("/v1/models", "llamacpp_v1_models.json")])
            .await;
    for server in [old, new] {
        let discovery = look(&server.local()).await;
        assert_eq!(discovery.tried[0].answer, TriedAnswer::Loading);
        assert_eq!(discovery.chosen, Err(NotChosen::NoServer));
    }
}

#[tokio::test]
async fn lm_studio_tells_loaded_context_and_type() {
    let server = Server::start(&[
        recorded("/api/v0/models", "lm_studio_v0_models.json"),
        recorded("/v1/models", "openai_v1_models.json"),
    ])
    .await;
    let discovery = look(&server.local()).await;
    let expected = [
        ("qwen2-vl-7b-instruct", None, Some(32768), Some(false), true, false),
        ("qwen3-coder-30b", Some(32768), Some(262_144), Some(true), true, false),
        ("text-embedding-nomic-embed-text-v1.5", Some(2048), Some(2048), Some(true), false, false),
    ];
    assert_eq!(rows(&discovery.found), expected);
    assert_eq!(discovery.found[0].server, ServerKind::LmStudio);
    assert_eq!(discovery.chosen.expect("one").model.name, "qwen3-coder-30b");
}

#[tokio::test]
async fn vllm_tells_its_length_and_is_always_loaded() {
    let server = Server::start(&[recorded("/v1/models", "vllm_v1_models.json")]).await;
    let discovery = look(&server.local()).await;
    let name = "Qwen/Qwen3-Coder-30B-A3B-Instruct";
    assert_eq!(rows(&discovery.found), [(name, Some(131_072), None, Some(true), true, false)]);
    assert_eq!(discovery.found[0].server, ServerKind::Vllm);
}

#[tokio::test]
async fn another_server_lists_names_and_broken_ones_are_left_out() {
    let server = Server::start(&[recorded("/v1/models", "openai_v1_models.json")]).await;
    let discovery = look(&server.local()).await;
    assert_eq!(rows(&discovery.found), [("local-model", None, None, None, true, false)]);
    assert_eq!(discovery.found[0].server, ServerKind::OpenAi);
}

#[tokio::test]
async fn a_base_with_a_path_of_its_own() {
    let list = || recorded("", "openai_v1_models.json").1;
    let server = Server::start(&[("/v1beta/openai/models", list())]).await;
    let mut config = local(&[]);
    config.model_url = Some(format!("{}/v1beta/openai/", server.url()));
    let discovery = look(&config).await;
    assert_eq!(discovery.found[0].endpoint(), format!("{}/v1beta/openai", server.url()));
    let server = Server::start(&[("/proxy/v1/models", list())]).await;
    config.model_url = Some(format!("{}/proxy/v1", server.url()));
    let discovery = look(&config).await;
    assert_eq!(discovery.found[0].endpoint(), format!("{}/proxy/v1", server.url()));
}
