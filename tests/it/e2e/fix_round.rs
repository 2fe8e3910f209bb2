//! The loop closes: what a reviewer rejects goes back to the coder, with the findings and in the same
//! conversation.

use serde_json::{Value, json};

use super::model::Model;
use super::support::{Lab, path};

/// The turn at which the coder's first run submits.
const SUBMITS_AT: usize = 5;

fn named<'a>(tasks: &'a [Value], suffix: &str) -> &'a Value {
    let ends = |task: &&Value| {
        task["metadata"]["name"].as_str().is_some_and(|name| name.ends_with(suffix))
    };
    tasks.iter().find(ends).unwrap_or_else(|| panic!("no {suffix} in {tasks:?}"))
}

/// Runs with a reviewer that rejects once, and looks at what became of it.
async fn mended(lab: &Lab, arguments: &[&str], remote: &std::path::Path) {
    let model = Model::rejecting(None, 1).await;
    let fixed = ["run", "--model-url", model.url(), "-o", "jsonl"];
    let ended = lab.run(&[&fixed[..], arguments, &["greet the world"]].concat()).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let result = ended.result();
    assert_eq!((&result["finished"], &result["verified"]), (&json!("Succeeded"), &json!(true)));
    assert_eq!(result["unfinished"], json!([]), "{result}");

    let tasks = lab.get("tasks").await;
    assert_eq!(tasks.len(), 6, "{tasks:?}");
    let verdict = |suffix: &str| named(&tasks, suffix)["status"]["verdict"].clone();
    assert_eq!(verdict("-review"), "NO-GO");
    for (step, wanted) in [("-code-r1", "GO"), ("-verify-r1", "GATE-PASS"), ("-review-r1", "GO")] {
        assert_eq!(verdict(step), wanted, "{step}");
    }
    // The same conversation, with what was found as its next message.
    let before = named(&tasks, "-code");
    assert_eq!(named(&tasks, "-code-r1")["spec"]["continues"]["uid"], before["metadata"]["uid"]);
    let told = model.shown(SUBMITS_AT + 1);
    assert!(told.contains("say who is greeted") && told.contains("not yet"), "{told}");
    assert_eq!(model.asked().into_values().max(), Some(1), "no turn was asked for twice");

    let branch = result["branch"].as_str().expect("a branch");
    let pushed = Lab::git(remote, &["show", &format!("{branch}:greet.sh")]);
    assert!(pushed.contains("${1:-world}") && pushed.contains("# Greets"), "{pushed}");
    let commits = Lab::git(remote, &["rev-list", "--count", &format!("main..{branch}")]);
    assert_eq!(commits, "2", "one of each round");
    let workload = lab.get("workloads").await.remove(0);
    assert_eq!(workload["status"]["reviewIterations"], 1);
    let described = lab.run(&["describe", "workload/@latest"]).await;
    assert!(described.stdout.contains("superseded by code-r1"), "{described:?}");
    assert!(described.stdout.contains("1 of 1"), "{described:?}");
}

#[tokio::test]
async fn what_a_reviewer_rejects_is_fixed_in_the_same_conversation_and_lands() {
    let lab = Lab::new();
    let repo = lab.repository();
    mended(&lab, &["--repo", path(&repo)], &repo).await;
}

#[tokio::test]
async fn a_fix_round_goes_on_with_the_branch_where_it_was_pushed_to() {
    let lab = Lab::new();
    let (repo, fork) = (lab.repository(), lab.path("fork.git"));
    Lab::git(&lab.path(""), &["clone", "-q", "--bare", path(&repo), path(&fork)]);
    mended(&lab, &["--repo", path(&repo), "--push-to", path(&fork)], &fork).await;
}

#[tokio::test]
async fn without_fix_rounds_a_rejection_is_the_end() {
    let lab = Lab::new();
    let repo = lab.repository();
    let model = Model::rejecting(None, 1).await;
    let run = ["run", "--repo", path(&repo), "--model-url", model.url(), "--fix-rounds", "0"];
    let ended = lab.run(&[&run[..], &["greet the world"]].concat()).await;
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stdout.contains("NO-GO"), "{ended:?}");
    assert_eq!(lab.get("tasks").await.len(), 3);
}
