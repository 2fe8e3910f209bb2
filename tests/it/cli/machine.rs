//! probe, models, doctor.

use std::path::Path;
use std::process::Command;

use axum::{Json, Router, routing::get};
use serde_json::{Value, json};

use super::lab::{Ended, Lab};

/// A model server in the manner of llama.cpp, on a port of its own.
struct Server {
    _runtime: tokio::runtime::Runtime,
    url: String,
}

fn server(context: u64) -> Server {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let url = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let models = json!({"object": "list", "data": [{"id": "little-coder", "object": "model",
            "owned_by": "llamacpp", "meta": {"n_ctx_train": 131_072}}]});
        let props = json!({"default_generation_settings": {"n_ctx": context}, "total_slots": 1,
            "model_path": "/m/little-coder.gguf", "chat_template": "x"});
        let router = Router::new()
            .route("/v1/models", get(move || async move { Json(models) }))
            .route("/props", get(move || async move { Json(props) }));
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    });
    Server { _runtime: runtime, url }
}

fn check<'r>(report: &'r Value, name: &str) -> &'r Value {
    let checks = report["checks"].as_array().expect("checks");
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name}: {report}"))
}

fn git(dir: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .current_dir(dir)
        .args(["-c", "user.name=t", "-c", "user.email=t@t"])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .expect("git runs");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn models_are_listed_with_what_is_really_served() {
    let lab = Lab::new();
    let server = server(32_768);
    let ended = lab.run(&["models", "--model-url", &server.url]).exits(0);
    let ended = ended.says("little-coder").says("32768").says("--model-url");
    ended.complains("a run takes").complains("little-coder");
    let report = lab.run(&["models", "--model-url", &server.url, "-o", "json"]).exits(0).json();
    assert_eq!(report["models"][0]["contextTokens"], 32_768);
    assert_eq!(report["chosen"]["name"], "little-coder");
}

#[test]
fn without_a_server_it_says_what_was_tried_and_three_ways_out() {
    let lab = Lab::new();
    // A port of which nobody listens: bound, and given back.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/v1", free.local_addr().expect("an address"));
    drop(free);
    let secret = url.replace("http://", "http://me:s3cret-word@");
    let ended: Ended = lab.run(&["models", "--model-url", &secret]).exits(4);
    assert!(!ended.err.contains("s3cret-word") && !ended.out.contains("s3cret-word"), "{ended:?}");
    let ended = ended.complains("error: no model server found").complains("tried: ");
    let ended = ended.complains("ollama serve").complains("llama-server").complains("lms server");
    ended.complains("--model-url").complains("foreman demo");
    let report = lab.run(&["models", "--model-url", &url, "-o", "json"]).exits(4).json();
    assert_eq!(report["chosen"], Value::Null);
    assert!(report["tried"][0]["answer"].as_str().is_some_and(|text| text.contains("refused")));
}

#[test]
fn the_probe_says_how_it_knows() {
    let lab = Lab::new();
    let server = server(65_536);
    let flags =
        ["probe", "--model-url", &server.url, "--total-ram-gb", "7", "--accelerator", "vulkan"];
    let ended = lab.run(&flags).exits(0);
    let ended = ended.says("processors").says("sandbox").says("measured (self-test)");
    let ended = ended.says("declared (flag)").says("vulkan").says("little-coder");
    ended.says("Missing").says("nvidia: ");
    let mut json_flags = flags.to_vec();
    json_flags.extend(["-o", "json"]);
    let report = lab.run(&json_flags).exits(0).json();
    assert_eq!(report["capability"]["totalRAMGB"], 7);
    assert_eq!(report["declared"], json!(["accelerator", "total-ram-gb"]));
    assert!(report["sandbox"]["tier"].is_string(), "{report}");
    assert!(!lab.data_dir().exists(), "nothing is written");
}

#[test]
fn the_doctor_finds_what_is_wrong_and_says_what_to_do() {
    let lab = Lab::new();
    let server = server(4_096);
    let repo = lab.path("repo");
    std::fs::create_dir(&repo).expect("made");
    git(&repo, &["init", "-q", "-b", "main"]);
    std::fs::write(repo.join("notes.txt"), "x").expect("written");
    git(&repo, &["add", "."]);
    git(&repo, &["commit", "-q", "-m", "first"]);
    let repo_text = repo.to_str().expect("text").to_owned();
    let doctor = |more: &[&str]| {
        let mut all = vec!["doctor", "--sandbox", "none", "-o", "json"];
        all.extend(more);
        lab.run(&all)
    };
    let report = doctor(&["--model-url", &server.url, "--repo", &repo_text]).exits(0).json();
    for name in ["git", "model", "sandbox", "data dir", "store", "clock", "push"] {
        assert_eq!(check(&report, name)["state"], "ok", "{report}");
    }
    assert_eq!(check(&report, "context")["state"], "warn", "{report}");
    assert!(check(&report, "context")["fix"].as_str().is_some_and(|fix| fix.contains("65536")));
    assert_eq!(check(&report, "gate")["state"], "warn", "{report}");
    assert!(!lab.data_dir().exists(), "nothing is left behind");
    std::fs::write(repo.join(".foreman.toml"), "[gate]\ntest = \"\"\n").expect("written");
    git(&repo, &["add", "."]);
    git(&repo, &["commit", "-q", "-m", "second"]);
    let report = doctor(&["--model-url", &server.url, "--repo", &repo_text]).exits(1).json();
    assert_eq!(check(&report, "gate")["state"], "fail", "{report}");
    let gone = lab.path("gone.git");
    let url = format!("file://{}", gone.display());
    let report = doctor(&["--model-url", &server.url, "--repo", &url]).exits(1).json();
    assert_eq!(check(&report, "push")["state"], "fail", "{report}");
}

#[test]
fn the_doctor_sees_a_broken_store_and_another_foreman() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = Lab::new();
    let server = server(65_536);
    lab.write(
        "home/.local/share/foreman/foreman.db",
        "this is no database, and long enough to be read as one",
    );
    let other = lab.path("bin/foreman");
    lab.write("bin/foreman", "#!/bin/sh\n");
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o755)).expect("set");
    let path = format!("{}:{}", lab.path("bin").display(), std::env::var("PATH").expect("a PATH"));
    let output = lab
        .command(&["doctor", "--sandbox", "none", "--model-url", &server.url])
        .env("PATH", path)
        .output()
        .expect("started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let line =
        |name: &str| text.lines().find(|line| line.contains(name)).unwrap_or_default().to_owned();
    assert!(line("  store  ").starts_with("fail"), "{text}");
    assert!(line("  path  ").starts_with("warn"), "{text}");
    assert!(text.contains("fix: "), "{text}");
    lab.run(&["get", "tasks"])
        .exits(1)
        .complains("the store cannot be opened")
        .complains("next: foreman doctor");
}
