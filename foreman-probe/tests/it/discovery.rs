//! Where servers are looked for, what is none, and who is shown which key.

use std::time::{Duration, Instant};

use foreman_probe::limits::{LOCAL_PORTS, LOCAL_SERVER_LIMIT};
use foreman_probe::models::{KeySource, ModelEvidence, Source};
use foreman_probe::{Discoverer, Discovery, DiscoveryConfig, NotChosen};

use crate::support::{Page, Server, closed_port, llamacpp, local, look, ollama, recorded};

#[tokio::test]
async fn what_is_no_model_server_is_told_apart() {
    let elsewhere = llamacpp().await;
    let to = format!("{}/v1/models", elsewhere.url());
    let status = |code, text: &str| Page::Status(code, text.to_owned());
    let cases = [
        (Page::Html(200), "200 (a web page, not OpenAI-compatible)"),
        (status(404, "{}"), "404 (not OpenAI-compatible)"),
        (status(401, "{}"), "401 (needs a valid key)"),
        (status(500, r#"{"error":"out of\u001b[2J memory"}"#), "500 (out of [2J memory)"),
        (status(500, "{}"), "500 (server error)"),
        (Page::Json("{}".to_owned()), "no list of models (not OpenAI-compatible)"),
        (Page::Json("hello".to_owned()), "no list of models (not OpenAI-compatible)"),
        (Page::Json(r#"{"data":[]}"#.to_owned()), "openai without any model"),
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
        assert_eq!(discovery.tried_line(), format!("127.0.0.1:{port} {expected}"));
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
    let (_held, closed) = closed_port();
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
    assert_eq!((defaults.local_limit, LOCAL_SERVER_LIMIT.as_millis()), (LOCAL_SERVER_LIMIT, 300));
}

#[tokio::test]
async fn one_silent_page_does_not_cost_the_server() {
    let server =
        Server::start(&[recorded("/v1/models", "vllm_v1_models.json"), ("/props", Page::Hang)])
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
        discovery.tried.iter().map(|tried| (tried.source, tried.url.clone())).collect()
    };
    assert_eq!(sources(&look(&config).await), [(Source::Flag, flag.url())]);
    config.model_url = None;
    assert_eq!(sources(&look(&config).await), [(Source::FlagEnvironment, variable.url())]);
    config.environment.insert("FOREMAN_MODEL_URL".to_owned(), String::new());
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
    assert!(line.contains("the config file not asked: its scheme is \"ftp\""), "{line}");
    assert!(!format!("{discovery:?}").contains("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
    let chosen = discovery.chosen.expect("one");
    assert_eq!(chosen.model.source, Source::Config, "named for Foreman comes first");
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
    assert!(!text.contains("hunter2") && !text.contains("sk-open"), "{text}");
    let first = &discovery.found[0];
    assert_eq!(first.endpoint(), format!("{}/v1", named.url()));
    assert_eq!(first.url.expose(), format!("http://anna:hunter2@{}/v1", named.at));
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
    let error = look(&config).await.chosen.expect_err("it lists another one");
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
