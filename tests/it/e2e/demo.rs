//! `foreman demo`, the main job of the README.

use super::support::{Lab, path};

#[tokio::test]
async fn a_demo_ends_in_a_verified_branch_and_a_second_one_disturbs_nothing() {
    let lab = Lab::new();
    let dir = lab.path("demo");
    let demo = ["demo", "--dir", path(&dir), "-o", "jsonl", "--progress", "plain"];
    let first = lab.run(&demo).await;
    assert_eq!(first.code, Some(0), "{first:?}");
    let result = first.result();
    assert_eq!((&result["finished"], &result["verified"]), (&"Succeeded".into(), &true.into()));
    let remote = dir.join("remote.git");
    let branch = result["branch"].as_str().expect("a branch").to_owned();
    let range = format!("main...{branch}");
    let diff = Lab::git(&remote, &["diff", &range]);
    assert!(diff.contains("+    echo \"Hello, ${1:-world}!\""), "{diff}");
    assert_eq!(Lab::git(&remote, &["rev-list", "--count", &format!("main..{branch}")]), "1");
    let started = &first.events()[0];
    assert_eq!(started["type"], "run.started");
    assert_eq!(started["scripted"], true);
    for text in [started["model"].as_str().expect("a model"), first.stderr.as_str()] {
        assert!(text.contains("scripted"), "{text}");
    }

    let before = Lab::git(&remote, &["for-each-ref"]);
    let second = lab.run(&demo).await;
    assert_eq!(second.code, Some(0), "{second:?}");
    let other = second.result()["branch"].as_str().expect("a branch").to_owned();
    assert_ne!(other, branch);
    let after = Lab::git(&remote, &["for-each-ref"]);
    for line in before.lines() {
        assert!(after.contains(line), "{line} of {after}");
    }
    assert_eq!(after.lines().count(), before.lines().count() + 1);
    assert_eq!(Lab::git(&dir.join("repo"), &["status", "--porcelain"]), "");
}

#[tokio::test]
async fn a_demo_for_people_shows_the_change_the_gate_and_what_to_type_next() {
    let lab = Lab::new();
    let dir = lab.path("demo");
    let ended = lab.run(&["demo", "--dir", path(&dir)]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let shown = &ended.stdout;
    for part in [
        "+    echo \"Hello, ${1:-world}!\"",
        "the gate: sh test.sh (exit 0)",
        "ok    greets the world without a name",
        "the model was a script",
        "GO verified (gate passed on tree ",
        "next: git -C ",
    ] {
        assert!(shown.contains(part), "{part} of {shown}");
    }
    assert!(!shown.contains('\u{1b}'), "no colours in a pipe: {shown:?}");
    // The next command is one that works.
    let next = shown.lines().find_map(|line| line.strip_prefix("next: ")).expect("a next command");
    let next = std::process::Command::new("sh").args(["-c", next]).output().expect("ran");
    assert!(String::from_utf8_lossy(&next.stdout).contains("${1:-world}"), "{next:?}");
}
