//! What cannot work ends at once, with its exit code and a way out, and nothing is written.

use super::model::Model;
use super::support::{Lab, path};

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:1/v1";

#[tokio::test]
async fn without_a_model_server_nothing_is_begun() {
    let lab = Lab::new();
    let repo = lab.repository();
    let run = ["run", "--repo", path(&repo), "--model-url", NOBODY, "greet the world"];
    let ended = lab.run(&run).await;
    assert_eq!(ended.code, Some(4), "{ended:?}");
    for part in [
        "error: no model server found",
        "127.0.0.1:1 refused",
        "ollama serve",
        "--model-url",
        "foreman demo",
    ] {
        assert!(ended.stderr.contains(part), "{part} of {}", ended.stderr);
    }
    let stream = lab.run(&[&run[..], &["-o", "jsonl"]].concat()).await;
    let result = stream.result();
    assert_eq!(
        (result["exitCode"].as_i64(), &result["finished"]),
        (Some(4), &serde_json::Value::Null)
    );
    assert_eq!(lab.get("workloads").await, Vec::<serde_json::Value>::new());
    assert_eq!(Lab::git(&repo, &["branch", "--format=%(refname:short)"]), "main");
}

#[tokio::test]
async fn a_repository_that_is_none_is_wrong_usage_and_makes_no_store() {
    let lab = Lab::new();
    let empty = lab.path("home");
    let model = Model::start(None).await;
    for repo in [path(&empty), "/no/such/folder", "ext::sh -c id", "not a repo"] {
        let ended = lab.run(&["run", "--repo", repo, "--model-url", model.url(), "fix it"]).await;
        assert_eq!(ended.code, Some(2), "{repo}: {ended:?}");
        assert!(ended.stderr.starts_with("error: "), "{ended:?}");
        assert!(ended.stderr.contains("next: "), "{ended:?}");
    }
    assert!(!lab.path("data").exists());
}

#[tokio::test]
async fn flags_that_cannot_be_meant_are_wrong_usage() {
    let lab = Lab::new();
    for flags in [
        &["run"][..],
        &["run", "--budget", "money=3", "x"],
        &["run", "--timeout", "soon", "x"],
        &["run", "--progress", "loud", "x"],
        &["run", "--file", "w.yaml", "x"],
        &["run", "--continue", "a", "--file", "b"],
        &["up", "--heartbeat-interval", "often"],
        &["demo", "-o", "yaml"],
    ] {
        let ended = lab.run(flags).await;
        assert_eq!(ended.code, Some(2), "{flags:?}: {ended:?}");
    }
    let ended = lab.run(&["run", "--repo", ".", " "]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
}
