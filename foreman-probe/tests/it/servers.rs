//! Model servers that imitate the real ones, and things that are none.

use std::time::{Duration, Instant};

use foreman_core::model::fleet_node::{Capability, Evidence, ServedModel};
use foreman_core::ports::CapabilityProbe;
use foreman_probe::limits::{LOCAL_PORTS, LOCAL_SERVER_LIMIT};
use foreman_probe::models::{KeySource, ModelEvidence, Source};
use foreman_probe::{
    Discoverer, Discovery, DiscoveryConfig, FoundModel, Keeping, ModelServersPart, NotChosen,
    PartState, Reported, ServerKind, TriedAnswer, discover,
};

use crate::support::{GENEROUS, Page, Server, closed_port, local, recorded};

async fn look(config: &DiscoveryConfig) -> Discovery {
    discover(config).await.expect("a client")
}

/// Name, served context, trained context, loaded, chats, remote.
type Row<'a> = (&'a str, Option<u64>, Option<u64>, Option<bool>, bool, bool);

fn rows(found: &[FoundModel]) -> Vec<Row<'_>> {
    fn row(model: &FoundModel) -> Row<'_> {
        let trained = model.trained_context_tokens;
        (
            &model.name,
            model.context_tokens,
            trained,
            model.loaded,
            model.chat,
            model.remote,
        )
    }
    found.iter().map(row).collect()
}

async fn ollama() -> Server {
    Server::start(&[
        recorded("/api/tags", "ollama_tags.json"),
        recorded("/api/ps", "ollama_ps.json"),
        recorded("/v1/models", "openai_v1_models.json"),
        recorded("/api/show qwen3-coder", "ollama_show_qwen.json"),
        recorded("/api/show nomic", "ollama_show_embed.json"),
    ])
    .await
}

async fn llamacpp() -> Server {
    Server::start(&[
        recorded("/props", "llamacpp_props.json"),
        recorded("/v1/models", "llamacpp_v1_models.json"),
    ])
    .await
}

#[tokio::test]
async fn ollama_tells_what_is_loaded_and_the_context_really_served() {
    let server = ollama().await;
    let discovery = look(&server.local()).await;
    let expected = [
        (
            "qwen3-coder:30b",
            Some(65536),
            Some(262_144),
            Some(false),
            true,
            false,
        ),
        ("llama3.2:latest", Some(4096), None, Some(true), true, false),
        (
            "nomic-embed-text:latest",
            Some(2048),
            Some(2048),
            Some(false),
            false,
            false,
        ),
        ("gpt-oss:120b-cloud", None, None, Some(false), true, true),
    ];
    assert_eq!(rows(&discovery.found), expected);
    let first = &discovery.found[0];
    assert_eq!(first.server, ServerKind::Ollama);
    assert_eq!(first.endpoint(), format!("{}/v1", server.url()));
    assert_eq!(first.evidence, ModelEvidence::Probed);
    let chosen = discovery.chosen.expect("a loaded one");
    assert_eq!(chosen.model.name, "llama3.2:latest", "loaded is preferred");
    assert_eq!(
        chosen.why.to_string(),
        "already loaded, first of 2 models found"
    );
}

#[tokio::test]
async fn details_of_unchanged_models_are_asked_for_once() {
    let server = ollama().await;
    let discoverer = Discoverer::new(server.local()).expect("a client");
    let first = discoverer.discover().await;
    let shows = || {
        server
            .seen()
            .iter()
            .filter(|seen| seen.path == "/api/show")
            .count()
    };
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
    let expected = [(
        "test.gguf",
        Some(2048),
        Some(131_072),
        Some(true),
        true,
        false,
    )];
    assert_eq!(rows(&discovery.found), expected);
    let kind = ServerKind::LlamaCpp;
    let answer = TriedAnswer::Models {
        kind,
        count: 1,
        needs_key: false,
    };
    assert_eq!(discovery.tried[0].answer, answer);
    let chosen = discovery.chosen.expect("the only one").to_string();
    let at = server.at;
    assert_eq!(
        chosen,
        format!("test.gguf @ llama.cpp {at} (the only one found)")
    );
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
    assert_eq!(
        rows(&discovery.found),
        [("test", None, None, Some(false), true, false)]
    );
    let refusal = r#"{"error":{"message":"Invalid API Key","code":401}}"#;
    server.set("/props", Page::Status(401, refusal.to_owned()));
    let discovery = look(&server.local()).await;
    assert_eq!(
        discovery.tried[0].answer.to_string(),
        "llama.cpp with 1 model, needs a key"
    );
}

#[tokio::test]
async fn a_llamacpp_that_loads_is_not_taken_for_one_that_serves() {
    let loading = r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#;
    let loading = || Page::Status(503, loading.to_owned());
    let old = Server::start(&[("/props", loading()), ("/v1/models", loading())]).await;
    let new = Server::start(&[
        ("/props", loading()),
        recorded("/v1/models", "llamacpp_v1_models.json"),
    ])
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
        (
            "qwen2-vl-7b-instruct",
            None,
            Some(32768),
            Some(false),
            true,
            false,
        ),
        (
            "qwen3-coder-30b",
            Some(32768),
            Some(262_144),
            Some(true),
            true,
            false,
        ),
        (
            "text-embedding-nomic-embed-text-v1.5",
            Some(2048),
            Some(2048),
            Some(true),
            false,
            false,
        ),
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
    assert_eq!(
        rows(&discovery.found),
        [(name, Some(131_072), None, Some(true), true, false)]
    );
    assert_eq!(discovery.found[0].server, ServerKind::Vllm);
}

#[tokio::test]
async fn another_server_lists_names_and_broken_ones_are_left_out() {
    let server = Server::start(&[recorded("/v1/models", "openai_v1_models.json")]).await;
    let discovery = look(&server.local()).await;
    assert_eq!(
        rows(&discovery.found),
        [("local-model", None, None, None, true, false)]
    );
    assert_eq!(discovery.found[0].server, ServerKind::OpenAi);
}

#[tokio::test]
async fn a_base_with_a_path_of_its_own() {
    let list = || recorded("", "openai_v1_models.json").1;
    let server = Server::start(&[("/v1beta/openai/models", list())]).await;
    let mut config = local(&[]);
    config.model_url = Some(format!("{}/v1beta/openai/", server.url()));
    let discovery = look(&config).await;
    assert_eq!(
        discovery.found[0].endpoint(),
        format!("{}/v1beta/openai", server.url())
    );
    let server = Server::start(&[("/proxy/v1/models", list())]).await;
    config.model_url = Some(format!("{}/proxy/v1", server.url()));
    let discovery = look(&config).await;
    assert_eq!(
        discovery.found[0].endpoint(),
        format!("{}/proxy/v1", server.url())
    );
}

#[tokio::test]
async fn what_is_no_model_server_is_told_apart() {
    let elsewhere = llamacpp().await;
    let to = format!("{}/v1/models", elsewhere.url());
    let status = |code, text: &str| Page::Status(code, text.to_owned());
    let cases = [
        (Page::Html(200), "200 (a web page, not OpenAI-compatible)"),
        (status(404, "{}"), "404 (not OpenAI-compatible)"),
        (status(401, "{}"), "401 (needs a valid key)"),
        (
            status(500, r#"{"error":"out of\u001b[2J memory"}"#),
            "500 (out of [2J memory)",
        ),
        (status(500, "{}"), "500 (server error)"),
        (
            Page::Json("{}".to_owned()),
            "no list of models (not OpenAI-compatible)",
        ),
        (
            Page::Json("hello".to_owned()),
            "no list of models (not OpenAI-compatible)",
        ),
        (
            Page::Json(r#"{"data":[]}"#.to_owned()),
            "openai without any model",
        ),
        (Page::Redirect(to), "302 (redirect, not followed)"),
        (
            Page::Json(format!(r#"{{"data":[],"x":"{}"}}"#, "y".repeat(1 << 20))),
            "an answer larger than 1 MiB (not read)",
        ),
    ];
    for (page, expected) in cases {
        let server = Server::start(&[("/v1/models", page)]).await;
        let discovery = look(&server.local()).await;
        let port = server.at.port();
        assert_eq!(
            discovery.tried_line(),
            format!("127.0.0.1:{port} {expected}")
        );
        assert_eq!(discovery.found, []);
    }
    assert_eq!(elsewhere.seen(), [], "the redirect was not followed");
}

#[tokio::test]
async fn refused_and_silent_ports_are_asked_at_once_and_listed_in_order() {
    let silent = Server::start(&[
        ("/v1/models", Page::Hang),
        ("/props", Page::Hang),
        ("/api/tags", Page::Hang),
        ("/api/ps", Page::Hang),
        ("/api/v0/models", Page::Hang),
    ])
    .await;
    let other = Server::start(&[]).await;
    let closed = closed_port().await;
    let mut config = local(&[silent.at.port(), closed, other.at.port()]);
    let limit = Duration::from_millis(400);
    config.local_limit = limit;
    let before = Instant::now();
    let discovery = look(&config).await;
    assert!(before.elapsed() >= limit, "the silent one had its time");
    let (silent, other) = (silent.at.port(), other.at.port());
    let expected = format!(
        "127.0.0.1:{silent} no answer within 400 ms, :{closed} refused, :{other} 404 (not \
         OpenAI-compatible)"
    );
    assert_eq!(discovery.tried_line(), expected);
    assert_eq!(discovery.chosen, Err(NotChosen::NoServer));
    let defaults = DiscoveryConfig::default();
    assert_eq!(defaults.local_ports, LOCAL_PORTS);
    assert_eq!(
        (defaults.local_limit, LOCAL_SERVER_LIMIT.as_millis()),
        (LOCAL_SERVER_LIMIT, 300)
    );
}

#[tokio::test]
async fn one_silent_page_does_not_cost_the_server() {
    let server = Server::start(&[
        recorded("/v1/models", "vllm_v1_models.json"),
        ("/props", Page::Hang),
    ])
    .await;
    let mut config = server.local();
    config.local_limit = Duration::from_millis(700);
    assert_eq!(look(&config).await.found.len(), 1);
}

#[tokio::test]
async fn a_flag_is_asked_alone_then_its_variable_then_the_other_places_in_order() {
    let (flag, variable) = (llamacpp().await, llamacpp().await);
    let (config_url, ollama_host) = (llamacpp().await, ollama().await);
    let (openai, port) = (llamacpp().await, llamacpp().await);
    let mut config = port.local();
    config.model_url = Some(flag.url());
    config.config_urls = vec![config_url.url(), "ftp://anna:hunter2@x".to_owned()];
    config.environment = [
        ("FOREMAN_MODEL_URL", variable.url()),
        ("OLLAMA_HOST", ollama_host.at.to_string()),
        ("OPENAI_BASE_URL", format!("{}/v1", openai.url())),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let sources = |discovery: &Discovery| -> Vec<(Source, String)> {
        discovery
            .tried
            .iter()
            .map(|tried| (tried.source, tried.url.clone()))
            .collect()
    };
    assert_eq!(sources(&look(&config).await), [(Source::Flag, flag.url())]);
    config.model_url = None;
    assert_eq!(
        sources(&look(&config).await),
        [(Source::FlagEnvironment, variable.url())]
    );
    config
        .environment
        .insert("FOREMAN_MODEL_URL".to_owned(), String::new());
    // The port of OPENAI_BASE_URL is listed once although it is also a well-known one.
    config.local_ports.push(openai.at.port());
    let discovery = look(&config).await;
    let expected = [
        (Source::Config, config_url.url()),
        (Source::Config, String::new()),
        (Source::OllamaHost, ollama_host.url()),
        (Source::OpenAiBaseUrl, format!("{}/v1", openai.url())),
        (Source::LocalPort, port.url()),
    ];
    assert_eq!(sources(&discovery), expected);
    let line = discovery.tried_line();
    assert!(
        line.contains("the config file not asked: its scheme is \"ftp\""),
        "{line}"
    );
    assert!(!format!("{discovery:?}").contains("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
    let chosen = discovery.chosen.expect("one");
    assert_eq!(
        chosen.model.source,
        Source::Config,
        "named for Foreman comes first"
    );
}

#[tokio::test]
async fn keys_go_only_where_they_belong_and_credentials_are_not_shown() {
    let (named, openai, port) = (llamacpp().await, llamacpp().await, llamacpp().await);
    let mut config = port.local();
    config.config_urls = vec![format!("http://anna:hunter2@{}", named.at)];
    config.environment = [
        ("OPENAI_BASE_URL".to_owned(), openai.url()),
        ("OPENAI_API_KEY".to_owned(), "sk-open".to_owned()),
    ]
    .into();
    let discovery = look(&config).await;
    let shown = |server: &Server| server.seen()[0].authorization.clone();
    assert_eq!(shown(&named).as_deref(), Some("Basic YW5uYTpodW50ZXIy"));
    assert_eq!(shown(&openai).as_deref(), Some("Bearer sk-open"));
    assert_eq!(shown(&port), None);
    let text = format!("{discovery:?} {}", discovery.tried_line());
    assert!(
        !text.contains("hunter2") && !text.contains("sk-open"),
        "{text}"
    );
    let first = &discovery.found[0];
    assert_eq!(first.endpoint(), format!("{}/v1", named.url()));
    assert_eq!(
        first.url.expose(),
        format!("http://anna:hunter2@{}/v1", named.at)
    );
    assert_eq!(first.source.key(), KeySource::Given);
    config.config_urls = vec![named.url()];
    config.key = Some("given".into());
    look(&config).await;
    let last = named.seen().pop().and_then(|seen| seen.authorization);
    assert_eq!(last.as_deref(), Some("Bearer given"));
}

#[tokio::test]
async fn a_gateway_without_a_list_is_believed_when_a_person_names_both() {
    let server = Server::start(&[]).await;
    let mut config = local(&[]);
    config.model_url = Some(server.url());
    config.model = Some("big".to_owned());
    let chosen = look(&config).await.chosen.expect("declared");
    assert_eq!(chosen.model.evidence, ModelEvidence::Declared);
    assert_eq!(chosen.model.endpoint(), format!("{}/v1", server.url()));
    server.set("/v1/models", recorded("", "vllm_v1_models.json").1);
    let error = look(&config)
        .await
        .chosen
        .expect_err("it lists another one");
    let expected = "no server has the model \"big\"; there is: Qwen/Qwen3-Coder-30B-A3B-Instruct";
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn an_unusable_proxy_is_an_error_that_names_the_variable() {
    let mut config = local(&[]);
    config.environment = [("HTTPS_PROXY".to_owned(), "http://[anna:hunter2".to_owned())].into();
    let error = Discoverer::new(config).err().expect("refused");
    assert!(error.to_string().contains("HTTPS_PROXY"), "{error}");
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
}

fn served(name: &str, server: &Server, context: i32, loaded: bool) -> ServedModel {
    ServedModel {
        name: Some(name.to_owned()),
        server: Some("ollama".to_owned()),
        endpoint: Some(format!("{}/v1", server.url())),
        context_tokens: Some(context),
        loaded: Some(loaded),
        evidence: Some(Evidence::Probed.into()),
        ..ServedModel::default()
    }
}

#[tokio::test]
async fn the_part_lists_what_stays_in_the_house() {
    let server = ollama().await;
    let part = ModelServersPart::new(Discoverer::new(server.local()).expect("a client"));
    let keeping = Keeping::new(part);
    let names = [
        "qwen3-coder:30b",
        "llama3.2:latest",
        "nomic-embed-text:latest",
    ];
    let expected = Capability {
        installed_models: names.map(str::to_owned).to_vec(),
        models: vec![
            served(names[0], &server, 65536, false),
            served(names[1], &server, 4096, true),
            served(names[2], &server, 2048, false),
        ],
        max_context_tokens: Some(4096),
        ..Capability::default()
    };
    assert_eq!(keeping.probe().await, Ok(expected));
    let chosen = keeping.part().last().map(|last| last.chosen.clone());
    assert!(matches!(chosen, Some(Ok(choice)) if choice.model.name == names[1]));
}

#[tokio::test]
async fn a_busy_server_keeps_its_models_and_a_stopped_one_does_not() {
    let (steady, busy) = (llamacpp().await, ollama().await);
    let mut config = local(&[steady.at.port(), busy.at.port()]);
    config.local_limit = GENEROUS;
    let keeping = Keeping::new(ModelServersPart::new(
        Discoverer::new(config).expect("a client"),
    ));
    let count = async || keeping.probe().await.map(|found| found.models.len());
    assert_eq!(count().await, Ok(4));
    for path in ["/api/tags", "/v1/models", "/api/ps"] {
        busy.set(path, Page::Status(500, "{}".to_owned()));
    }
    assert_eq!(
        count().await,
        Ok(4),
        "an error of the server says nothing about its models"
    );
    let PartState::Fresh { note: Some(note) } = keeping.report().state else {
        panic!("{:?}", keeping.report());
    };
    let port = busy.at.port();
    let expected =
        format!("127.0.0.1:{port} 500 (server error), so its models are those from before");
    assert_eq!(note, expected);
    for path in ["/api/tags", "/v1/models", "/api/ps"] {
        busy.set(path, Page::Status(404, "{}".to_owned()));
    }
    assert_eq!(count().await, Ok(1), "it is no model server any more");
    steady.set("/v1/models", Page::Html(200));
    steady.set("/props", Page::Html(200));
    assert_eq!(count().await, Ok(0));
    assert!(matches!(keeping.report().state, PartState::Absent { .. }));
}
