//! The commands that are printed as the next ones work when they are pasted.

use nix::sys::signal::Signal;
use tokio::process::Command;

use super::model::Model;
use super::support::{Lab, path, within};

/// Commands after `next:`, one a line, joined by ` | `, or on the lines below.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(first) =
            line.trim_start().strip_prefix("next: ").or_else(|| line.strip_prefix("Next: "))
        else {
            continue;
        };
        found.extend(first.split(" | ").map(|one| one.trim().to_owned()));
        while let Some(more) = lines.next_if(|line| line.starts_with("      ")) {
            found.push(more.trim().to_owned());
        }
    }
    found
}

async fn paste(lab: &Lab, command: &str) {
    let bin = Lab::foreman_dir();
    let place = std::env::var("PATH").expect("a PATH");
    let output = Command::new("sh")
        .args(["-c", command])
        .env("PATH", format!("{}:{place}", bin.display()))
        .env("HOME", lab.path("home"))
        .env("GIT_PAGER", "cat")
        .current_dir(lab.path("home"))
        .output();
    let output = within(output).await.expect("ran");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{command}: {err}");
    assert!(!output.stdout.is_empty(), "{command} shows nothing: {err}");
}

#[tokio::test]
async fn what_a_demo_and_the_reading_verbs_print_next_works_when_pasted() {
    let lab = Lab::new();
    // A name that needs quotes.
    let dir = lab.path("my demo");
    let demo = lab.run(&["demo", "--dir", path(&dir)]).await;
    assert_eq!(demo.code, Some(0), "{demo:?}");
    let mut printed = commands(&demo.stdout);
    assert_eq!(printed.len(), 2, "{demo:?}");
    let data = dir.join("data");
    let data = path(&data);
    let tasks = lab.run(&["get", "tasks", "-o", "name", "--data-dir", data]).await;
    let mut objects: Vec<&str> = tasks.stdout.lines().collect();
    assert_eq!(objects.len(), 3, "{tasks:?}");
    objects.extend(["workload/@latest", "node/@latest", "agent/foreman-coder"]);
    for object in objects {
        for verb in ["describe", "explain"] {
            if object.starts_with("agent/") && verb == "explain" {
                continue;
            }
            let shown = lab.run(&[verb, object, "--data-dir", data]).await;
            assert_eq!(shown.code, Some(0), "{shown:?}");
            printed.extend(commands(&shown.stdout));
        }
    }
    printed.sort();
    printed.dedup();
    assert!(printed.len() >= 6, "{printed:?}");
    for command in printed {
        paste(&lab, &command).await;
    }
}

#[tokio::test]
async fn what_a_run_prints_next_works_when_pasted() {
    let lab = Lab::with_default_directories();
    let repo = lab.repository();
    let model = Model::start(None).await;
    let run = ["run", "--repo", path(&repo), "--model-url", model.url(), "--no-review", "greet"];
    let ended = lab.run(&run).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let printed = commands(&ended.stdout);
    assert_eq!(printed.len(), 2, "{ended:?}");
    for command in printed {
        paste(&lab, &command).await;
    }
    let detached = ["run", "--repo", path(&repo), "--detach", "greet again"];
    let ended = lab.run(&detached).await;
    assert_eq!(ended.code, Some(6), "{ended:?}");
    let printed = commands(&ended.stdout);
    let describe = printed.iter().find(|one| one.starts_with("foreman describe"));
    paste(&lab, describe.expect("a way to look at it")).await;
    // The other one goes on with the work.
    let go_on = printed.iter().find(|one| one.starts_with("foreman run --continue"));
    let words: Vec<&str> = go_on.expect("a way to go on").split_whitespace().skip(1).collect();
    let ended = lab.run(&[&words[..], &["--model-url", model.url()]].concat()).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[tokio::test]
async fn what_an_interrupted_run_or_demo_prints_next_goes_on_with_it() {
    let lab = Lab::with_default_directories();
    let repo = lab.repository();
    let model = Model::start(Some(2)).await;
    let run = ["run", "--repo", path(&repo), "--model-url", model.url(), "--no-review", "greet"];
    let running = lab.start(&run);
    model.reached(2).await;
    running.signal(Signal::SIGINT);
    let ended = running.ended().await;
    assert_eq!(ended.code, Some(130), "{ended:?}");
    model.let_go();
    let printed = commands(&ended.stdout);
    paste(&lab, printed.first().expect("a way to go on")).await;
    let workload = lab.get("workloads").await.remove(0);
    assert_eq!(workload["status"]["phase"], "Completed", "{workload}");

    let dir = lab.path("demo");
    let mut running = lab.start(&["demo", "--dir", path(&dir), "--progress", "plain"]);
    running.says("started on ").await;
    running.signal(Signal::SIGINT);
    let ended = running.ended().await;
    assert_eq!(ended.code, Some(130), "{ended:?}");
    let printed = commands(&ended.stdout);
    assert_eq!(printed, [format!("foreman demo --dir {}", path(&dir))]);
    let data = dir.join("data");
    let get = ["get", "workloads", "-o", "json", "--data-dir", path(&data)];
    // A demo ends with its own work: on a busy machine it may be done before the interrupted one is.
    for demos in 2..=4 {
        paste(&lab, &printed[0]).await;
        let all = lab.run(&get).await;
        let completed = all.stdout.matches("\"phase\": \"Completed\"").count();
        assert!(completed >= demos - 1, "{all:?}");
        if completed == demos {
            return;
        }
    }
    panic!("the interrupted demo was not gone on with by three others");
}
