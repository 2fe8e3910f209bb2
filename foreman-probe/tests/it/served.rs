//! The models that a node's status lists.

use foreman_core::model::fleet_node::{Capability, Evidence, ServedModel};
use foreman_core::ports::CapabilityProbe;
use foreman_probe::limits::LAST_GOOD_KEPT_MAX;
use foreman_probe::{Discoverer, Keeping, ModelServersPart, PartState, Reported};

use crate::support::{GENEROUS, Page, Server, llamacpp, local, ollama, recorded};

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
    let names = ["qwen3-coder:30b", "llama3.2:latest", "nomic-embed-text:latest"];
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
    let keeping = Keeping::new(ModelServersPart::new(Discoverer::new(config).expect("a client")));
    let count = async || keeping.probe().await.map(|found| found.models.len());
    assert_eq!(count().await, Ok(4));
    for path in ["/api/tags", "/v1/models", "/api/ps"] {
        busy.set(path, Page::Status(500, "{}".to_owned()));
    }
    assert_eq!(count().await, Ok(4), "an error of the server says nothing about its models");
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

#[tokio::test]
async fn models_of_a_server_that_never_answered_are_unknown() {
    let server = Server::start(&[("/v1/models", Page::Status(500, "{}".to_owned()))]).await;
    let discoverer = Discoverer::new(server.local()).expect("a client");
    let keeping = Keeping::new(ModelServersPart::new(discoverer));
    let error = keeping.probe().await.expect_err("nobody knows");
    let port = server.at.port();
    let expected = format!("no model server answered: 127.0.0.1:{port} 500 (server error)");
    assert_eq!((error.part.as_str(), error.reason), ("model-servers", expected));
}

#[tokio::test]
async fn models_of_a_silent_server_are_void_after_a_while() {
    let server = llamacpp().await;
    let discoverer = Discoverer::new(server.local()).expect("a client");
    let keeping = Keeping::new(ModelServersPart::new(discoverer));
    assert_eq!(keeping.probe().await.map(|found| found.models.len()), Ok(1));
    for path in ["/v1/models", "/props"] {
        server.set(path, Page::Status(500, "{}".to_owned()));
    }
    assert_eq!(keeping.probe().await.map(|found| found.models.len()), Ok(1));
    tokio::time::pause();
    tokio::time::advance(LAST_GOOD_KEPT_MAX + std::time::Duration::from_secs(1)).await;
    tokio::time::resume();
    assert_eq!(keeping.probe().await.map(|found| found.models.len()), Ok(0));
    let state = keeping.report().state;
    assert!(matches!(state, PartState::Absent { .. }), "{state:?}");
}

#[tokio::test]
async fn servers_behind_one_port_are_kept_apart() {
    let pages = recorded("", "vllm_v1_models.json").1;
    let server = Server::start(&[("/a/v1/models", pages.clone()), ("/b/v1/models", pages)]).await;
    let mut config = local(&[]);
    config.config_urls = vec![format!("{}/a", server.url()), format!("{}/b", server.url())];
    let discoverer = Discoverer::new(config).expect("a client");
    let keeping = Keeping::new(ModelServersPart::new(discoverer));
    let found = keeping.probe().await.expect("two servers");
    let endpoints: Vec<_> = found.models.iter().filter_map(|m| m.endpoint.clone()).collect();
    assert_eq!(endpoints, ["a", "b"].map(|path| format!("{}/{path}/v1", server.url())));
    assert_eq!(found.installed_models.len(), 1, "one name");
}
