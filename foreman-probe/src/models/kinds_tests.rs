//! The readers of server answers, on answers that are damaged.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::kinds::{
    Pages, Server, identify, listed, lm_studio, model, ollama, ollama_details, with_details,
};
use super::{ModelUrl, ServerKind, Source};
use crate::limits::{MODEL_NAME_CHARS_MAX, MODELS_PER_SERVER_MAX};

fn server(kind: ServerKind) -> Server {
    let url = ModelUrl::parse("http://127.0.0.1:1/v1").expect("a URL");
    Server { kind, url, source: Source::LocalPort, key_refused: false }
}

/// JSON that uses the words that servers use, with any value behind them.
fn some_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "(loaded|llamacpp|vllm|num_ctx [0-9]{0,22}|\\PC{0,6}|\u{1b}x)".prop_map(Value::from),
    ];
    let word = "(data|models|id|name|model|owned_by|meta|n_ctx|status|value|state|parameters\
                |max_model_len|default_generation_settings|details|family|context_length|type\
                |loaded_context_length|model_info|x.context_length|capabilities|digest)";
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(word, inner, 0..6).prop_map(Value::from_iter),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_read_without_a_panic(
        v1 in some_json(), tags in some_json(), props in some_json(), ps in some_json(),
    ) {
        let pages = Pages {
            v1_models: Some(v1.clone()),
            tags: Some(tags),
            props: Some(props.clone()),
            v0_models: Some(v1),
        };
        let _kind = identify(&pages);
        let details = ollama_details(&props);
        let mut all = lm_studio(&pages, &server(ServerKind::LmStudio));
        for kind in [ServerKind::LlamaCpp, ServerKind::Vllm, ServerKind::OpenAi] {
            all.extend(listed(&pages, &server(kind)));
        }
        for found in ollama(&pages, Some(&ps), &server(ServerKind::Ollama)) {
            all.push(with_details(found.found, &details));
        }
        for found in all {
            prop_assert!(!found.name.is_empty() && !found.name.contains(char::is_control));
            prop_assert_ne!(found.context_tokens, Some(0));
        }
    }
}

#[test]
fn names_and_lists_have_limits() {
    let server = server(ServerKind::OpenAi);
    let longest = "x".repeat(MODEL_NAME_CHARS_MAX);
    assert!(model(Some(&longest), &server).is_some());
    assert!(model(Some(&format!("{longest}x")), &server).is_none());
    for bad in ["", " ", "a\nb", "a\u{202e}b"] {
        assert!(model(Some(bad), &server).is_none(), "{bad:?}");
    }
    let many: Vec<Value> =
        (0..=MODELS_PER_SERVER_MAX).map(|i| json!({ "id": i.to_string() })).collect();
    let pages = Pages { v1_models: Some(json!({ "data": many })), ..Pages::default() };
    assert_eq!(listed(&pages, &server).len(), MODELS_PER_SERVER_MAX);
}

#[test]
fn a_modelfile_cannot_ask_for_more_than_the_model_was_trained_for() {
    let show =
        json!({ "parameters": "num_ctx 999999", "model_info": { "q.context_length": 32768 } });
    let details = ollama_details(&show);
    let found = model(Some("m"), &server(ServerKind::Ollama)).expect("a model");
    assert_eq!(with_details(found.clone(), &details).context_tokens, Some(32768));
    // What is loaded has the context it was loaded with; a guess must not replace "unknown".
    let mut loaded = found;
    loaded.loaded = Some(true);
    assert_eq!(with_details(loaded, &details).context_tokens, None);
}
