//! Several processes on one data directory: one works, the others read, follow and take over.

use nix::sys::signal::Signal;
use serde_json::json;

use super::model::Model;
use super::support::{Lab, path};

#[tokio::test]
async fn others_read_beside_a_running_up_and_a_second_one_is_refused() {
    let lab = Lab::new();
    let model = Model::start(None).await;
    let up = ["up", "--model-url", model.url(), "--fleet-node-name", "studio", "--slots", "2"];
    let running = lab.start(&up);
    let node = lab.until("nodes", |node| node["status"]["phase"] == "Ready").await;
    assert_eq!(node["metadata"]["name"], json!("studio"));
    assert_eq!(node["status"]["capacity"]["slots"], json!(2));
    assert_eq!(node["status"]["capability"]["models"][0]["name"], json!("test-model"));
    let second = lab.run(&up).await;
    assert_eq!(second.code, Some(1), "{second:?}");
    let holder = format!("pid {} (foreman up)", running.pid());
    assert!(second.stderr.contains(&holder), "{second:?}");
    running.signal(Signal::SIGTERM);
    let ended = running.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for part in ["data     ", "node     studio", "model    test-model", "sandbox  "] {
        assert!(ended.stderr.contains(part), "{part} of {}", ended.stderr);
    }
    let node = lab.get("nodes").await.remove(0);
    assert_eq!(node["status"]["phase"], json!("Draining"), "it said goodbye");
    let up = ["up", "--model-url", model.url(), "--fleet-node-name", "studio", "--slots", "3"];
    let mut again = lab.start(&up);
    again.says("--slots 3 has no effect: node/studio is there already and its spec says 2").await;
    again.signal(Signal::SIGTERM);
    assert_eq!(again.ended().await.code, Some(0));
}

#[tokio::test]
async fn a_follower_takes_over_when_the_one_that_works_leaves() {
    let lab = Lab::new();
    let repo = lab.repository();
    let model = Model::start(Some(2)).await;
    let worker = lab.start(&["up", "--model-url", model.url()]);
    lab.until("nodes", |node| node["status"]["phase"] == "Ready").await;
    let run = [
        "run",
        "--repo",
        path(&repo),
        "--model-url",
        model.url(),
        "--no-review",
        "-o",
        "jsonl",
        "greet the world",
    ];
    let follower = lab.start(&run);
    model.reached(2).await;
    worker.signal(Signal::SIGTERM);
    let left = worker.ended().await;
    assert_eq!(left.code, Some(0), "{left:?}");
    model.let_go();
    let ended = follower.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let result = ended.result();
    assert_eq!(result["verified"], json!(true));
    let notices: Vec<_> = ended
        .events()
        .into_iter()
        .filter(|event| event["type"] == "notice")
        .map(|event| event["message"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert!(notices.iter().any(|notice| notice.contains("only follows it")), "{notices:?}");
    assert!(notices.iter().any(|notice| notice.contains("goes on with the work")), "{notices:?}");
}

#[tokio::test]
async fn a_branch_can_be_pushed_elsewhere_and_a_gate_be_given() {
    let lab = Lab::new();
    let repo = lab.repository();
    let other = lab.path("other.git");
    Lab::git(&lab.path(""), &["clone", "-q", "--bare", path(&repo), path(&other)]);
    let model = Model::start(None).await;
    let gate = ["--gate", "sh test.sh", "--gate", "grep -q world greet.sh"];
    let run = ["run", "--repo", path(&repo), "--push-to", path(&other), "--no-review"];
    let run = [&run[..], &gate, &["--model-url", model.url(), "-o", "json", "greet the world"]];
    let ended = lab.run(&run.concat()).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let result: serde_json::Value = serde_json::from_str(&ended.stdout).expect("one object");
    let branch = result["branch"].as_str().expect("a branch");
    assert_eq!(branch, format!("foreman/{}", result["workload"].as_str().expect("a name")));
    assert_eq!(Lab::git(&repo, &["branch", "--format=%(refname:short)"]), "main");
    assert_eq!(Lab::git(&other, &["rev-list", "--count", &format!("main..{branch}")]), "1");
    for command in ["gate: sh test.sh, exit 0", "gate: grep -q world greet.sh, exit 0"] {
        assert!(ended.stderr.contains(command), "{command} of {}", ended.stderr);
    }
}

#[tokio::test]
async fn a_run_works_in_the_directories_that_it_has_when_nobody_names_any() {
    let lab = Lab::with_default_directories();
    let repo = lab.repository();
    let model = Model::start(None).await;
    let run = ["run", "--repo", path(&repo), "--model-url", model.url(), "greet the world"];
    let ended = lab.run(&run).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(lab.path("home/.local/share/foreman/foreman.db").is_file());
}
