//! Which model is taken, and why.

use foreman_probe::models::{ModelEvidence, ModelUrl, Source, choose};
use foreman_probe::{FoundModel, NotChosen, ServerKind, Why};
use proptest::prelude::*;

fn model(name: &str, port: u16, source: Source, loaded: Option<bool>) -> FoundModel {
    FoundModel {
        name: name.to_owned(),
        server: ServerKind::OpenAi,
        url: ModelUrl::parse(&format!("http://127.0.0.1:{port}/v1")).expect("a URL"),
        source,
        context_tokens: None,
        trained_context_tokens: None,
        tokens_per_second: None,
        loaded,
        chat: true,
        remote: false,
        key_refused: false,
        evidence: ModelEvidence::Probed,
    }
}

/// The name that is taken, and why.
fn taken<'a>(found: &'a [FoundModel], wanted: Option<&str>) -> Result<(&'a str, Why), NotChosen> {
    let choice = choose(found, wanted)?;
    let same = found.iter().find(|model| **model == choice.model).expect("one of those given");
    Ok((same.name.as_str(), choice.why))
}

#[test]
fn order_of_what_counts() {
    use Source::{Config, LocalPort, OllamaHost};
    let idle = model("idle", 1, OllamaHost, Some(false));
    let silent = model("silent", 2, LocalPort, None);
    let loaded = model("loaded", 3, LocalPort, Some(true));
    let named = model("named", 4, Config, Some(false));
    let list = |models: &[&FoundModel]| models.iter().copied().cloned().collect::<Vec<_>>();
    assert_eq!(taken(&list(&[&idle]), None), Ok(("idle", Why::OnlyOne)));
    assert_eq!(taken(&list(&[&idle, &loaded]), None), Ok(("loaded", Why::Loaded { of: 2 })));
    assert_eq!(taken(&list(&[&idle, &silent]), None), Ok(("silent", Why::FirstFound { of: 2 })));
    let all = list(&[&named, &idle, &silent, &loaded]);
    assert_eq!(taken(&all, None), Ok(("named", Why::FirstFound { of: 4 })), "configured first");
    let mut second = loaded.clone();
    second.name = "roomier".to_owned();
    second.context_tokens = Some(65536);
    let all = list(&[&loaded, &second]);
    assert_eq!(taken(&all, None), Ok(("roomier", Why::Loaded { of: 2 })), "same server: more room");
    second.url = ModelUrl::parse("http://127.0.0.1:9").expect("a URL");
    let all = list(&[&loaded, &second]);
    assert_eq!(taken(&all, None), Ok(("loaded", Why::Loaded { of: 2 })), "else the earlier place");
}

#[test]
fn embedding_and_remote_models_are_not_taken_by_themselves() {
    let mut embedding = model("embed", 1, Source::LocalPort, Some(true));
    embedding.chat = false;
    let mut cloud = model("cloud", 2, Source::OpenAiBaseUrl, None);
    cloud.remote = true;
    let mut locked = model("locked", 3, Source::LocalPort, Some(true));
    locked.key_refused = true;
    let found = [embedding, cloud.clone(), locked];
    let error = taken(&found, None).expect_err("none of them");
    let expected = NotChosen::NoneUsable { found: 3, remote: 1, locked: 1 };
    assert_eq!(error, expected);
    assert!(error.to_string().contains("name a model with --model"), "{error}");
    assert_eq!(taken(&found, Some("cloud")), Ok(("cloud", Why::Named)), "a person may");
    cloud.source = Source::Flag;
    assert_eq!(taken(&[cloud], None), Ok(("cloud", Why::OnlyOne)), "a server named for Foreman");
    assert_eq!(taken(&[], None), Err(NotChosen::NoModel));
}

#[test]
fn by_name() {
    let tagged = model("llama3.2:latest", 1, Source::LocalPort, Some(false));
    let mut loaded = tagged.clone();
    (loaded.url, loaded.loaded) = (ModelUrl::parse("http://h:2").expect("a URL"), Some(true));
    let found = [tagged, loaded.clone()];
    let choice = choose(&found, Some("llama3.2")).expect("there is one");
    assert_eq!((choice.model, choice.why), (loaded, Why::Named));
    let error = taken(&found, Some("llama3")).expect_err("no such model");
    let expected = "no server has the model \"llama3\"; there is: llama3.2:latest, llama3.2:latest";
    assert_eq!(error.to_string(), expected);
}

prop_compose! {
    fn some_model()(
        name in "[ab]", port in 1..4u16, source in 0..3usize, loaded in any::<Option<bool>>(),
        chat in any::<bool>(), remote in any::<bool>(), context in any::<Option<u16>>(),
    ) -> FoundModel {
        let sources = [Source::Config, Source::OpenAiBaseUrl, Source::LocalPort];
        let context_tokens = context.map(u64::from);
        FoundModel {
            chat, remote, context_tokens, ..model(&name, port, sources[source], loaded)
        }
    }
}

proptest! {
    #[test]
    fn a_loaded_model_is_never_passed_over(found in proptest::collection::vec(some_model(), 0..8)) {
        let usable = |model: &&FoundModel| {
            model.chat && (!model.remote || model.source.is_explicit())
        };
        match choose(&found, None) {
            Ok(choice) => {
                prop_assert!(usable(&&choice.model));
                let better = |model: &&FoundModel| {
                    model.source.is_explicit() >= choice.model.source.is_explicit()
                        && model.loaded == Some(true)
                };
                let passed_over = found.iter().filter(usable).any(|model| better(&model));
                prop_assert!(!passed_over || choice.model.loaded == Some(true));
            }
            Err(_) => prop_assert!(!found.iter().any(|model| usable(&model))),
        }
    }
}
