//! Ends that nobody wishes for: no gate, a terminal that closes, a reader that leaves, a directory
//! that is removed, two in one place.

use nix::sys::signal::Signal;
use serde_json::json;

use super::model::Model;
use super::support::{Lab, path, within};

#[tokio::test]
async fn a_repository_without_a_gate_is_said_at_submission_and_the_end_is_not_verified() {
    let lab = Lab::new();
    let repo = lab.repository_of(&[("greet.sh", "greet() {\n    echo \"Hello, $1!\"\n}\n")]);
    let model = Model::start(None).await;
    let run = ["run", "--repo", path(&repo), "--model-url", model.url(), "greet the world"];
    let ended = lab.run(&run).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let told = format!(
        "notice: no gate found in {}: the work will not be verified; name one with --gate\n",
        path(&repo)
    );
    assert_eq!(ended.stderr.matches(&told).count(), 1, "{ended:?}");
    let (before, _) = ended.stderr.split_once(&told).expect("told");
    assert!(!before.contains(" placed on "), "told before anything runs: {ended:?}");
    assert!(ended.stdout.contains("GO not verified (no gate passed)"), "{ended:?}");
    assert!(!ended.stdout.contains("GO verified"), "{ended:?}");
    let workload = lab.get("workloads").await.remove(0);
    let conditions = workload["status"]["conditions"].as_array().expect("a list").clone();
    let unverified = conditions.iter().find(|one| one["type"] == "Unverified").expect("there");
    assert_eq!(unverified["status"], "True", "{unverified}");
    let described = lab.run(&["describe", "workload/@latest"]).await;
    assert!(described.stdout.contains("not verified"), "{described:?}");

    let gated = [&run[..5], &["--gate", "grep -q world greet.sh", "greet the world"]].concat();
    let ended = lab.run(&gated).await;
    assert!(!ended.stderr.contains("no gate found"), "{ended:?}");
    assert!(ended.stdout.contains("GO verified"), "{ended:?}");
}

/// Whether this process, and so what it starts, was told to ignore SIGHUP.
fn hang_ups_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

#[tokio::test]
async fn a_terminal_that_closes_keeps_the_work() {
    let lab = Lab::new();
    let repo = lab.repository();
    let model = Model::start(Some(2)).await;
    let run = ["run", "--repo", path(&repo), "--model-url", model.url(), "greet the world"];
    let running = lab.start(&run);
    model.reached(2).await;
    running.signal(Signal::SIGHUP);
    if hang_ups_are_ignored() {
        // Under `nohup` it is to go on, so it is asked in another way.
        running.signal(Signal::SIGTERM);
    }
    let ended = running.ended().await;
    assert_eq!(ended.code, Some(143), "{ended:?}");
    assert!(ended.stdout.contains("the work is kept"), "{ended:?}");
    assert!(ended.stdout.contains("next: foreman run --continue "), "{ended:?}");
}

#[tokio::test]
async fn a_reader_of_the_stream_that_leaves_is_told_on_stderr_how_to_go_on() {
    let lab = Lab::new();
    let repo = lab.repository();
    let model = Model::start(Some(2)).await;
    let mut run = vec!["run", "--repo", path(&repo), "--model-url", model.url(), "-o", "jsonl"];
    run.push("greet the world");
    let mut running = lab.start(&run);
    let line = running.read_a_line_and_leave().await;
    assert!(line.contains("run.started"), "{line}");
    let ended = running.ended().await;
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(ended.stderr.contains("the work is kept"), "{ended:?}");
    assert!(ended.stderr.contains("next: foreman run --continue greet-the-world-"), "{ended:?}");
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
}

#[tokio::test]
async fn a_data_directory_that_is_removed_ends_the_work_in_it() {
    let lab = Lab::new();
    let model = Model::start(None).await;
    let running = lab.start(&["up", "--model-url", model.url()]);
    lab.until("nodes", |node| node["status"]["phase"] == json!("Ready")).await;
    std::fs::remove_dir_all(lab.path("data")).expect("removed");
    let ended = running.ended().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let error = format!("error: the data directory {} was removed", path(&lab.path("data")));
    assert!(ended.stderr.contains(&error), "{ended:?}");
}

#[tokio::test]
async fn two_demonstrations_in_one_folder_do_not_mix() {
    let lab = Lab::new();
    let dir = lab.path("demo");
    let demo = ["demo", "--dir", path(&dir)];
    let (first, second) = (lab.start(&demo), lab.start(&demo));
    let pids = [first.pid(), second.pid()];
    let both = within(async { tokio::join!(first.ended(), second.ended()) }).await;
    let (done, refused) = if both.0.code == Some(0) { both } else { (both.1, both.0) };
    assert_eq!((done.code, refused.code), (Some(0), Some(1)), "{done:?} {refused:?}");
    let holder = pids.map(|pid| format!("error: pid {pid} (foreman demo) works in this folder\n"));
    let anonymous = "error: another process works in this folder\n";
    let said = |text: &str| refused.stderr.contains(text);
    assert!(said(&holder[0]) || said(&holder[1]) || said(anonymous), "{refused:?}");
}
