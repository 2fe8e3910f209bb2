use foreman_core::model::agentic_task::Usage;
use foreman_core::model::outcome::{Decision, Infrastructure, Outcome, Verification};
use foreman_runner::observe::RunEvent;

use super::*;
use crate::follow::{Ended, Fact, FollowError, What};

fn about() -> About<'static> {
    About {
        workload: "fix-7f3a",
        folder: Some(Path::new("/src/my shop")),
        url: None,
        base: Some("main"),
        flags: " --data-dir /d",
        go_on: &[],
    }
}

fn tally(verdict: &str, verification: Verification, on_target: bool, finished: &str) -> Tally {
    let mut tally = Tally::default();
    let mut tell = |task: &str, what: What| {
        let mut fact = Fact::of_workload(Some("fix-7f3a"), what);
        fact.task = Some(task.to_owned());
        tally.apply(&fact);
    };
    tell(
        "fix-7f3a-verify",
        What::Run(RunEvent::GateCompleted {
            command: "make test".into(),
            exit: Some(0),
            tree: "9b1c2e4455".into(),
            output: String::new(),
            took: std::time::Duration::ZERO,
        }),
    );
    tell(
        "fix-7f3a-code",
        What::Ended(Ended {
            on_target,
            verdict: verdict.into(),
            outcome: Outcome {
                decision: Decision::Go,
                verification,
                infrastructure: Infrastructure::Ok,
                reason: None,
            },
            message: "what it \u{1b}[2Jsays".into(),
            branch: on_target.then(|| "foreman/fix-7f3a".into()),
            commit: None,
            usage: Usage::default(),
        }),
    );
    tell("", What::Finished { reason: finished.into(), message: String::new() });
    tally
}

fn plain(lines: &[String]) -> Vec<String> {
    lines.iter().map(|line| untrusted::line(line, 1000)).collect()
}

#[test]
fn a_good_end_names_verdict_tree_branch_and_the_diff() {
    let words = last_words(
        &about(),
        &Followed::Settled,
        &tally("GO", Verification::Passed, true, "Succeeded"),
    );
    assert_eq!(
        plain(&words.lines),
        ["GO verified (gate passed on tree 9b1c2e4)  branch foreman/fix-7f3a"]
    );
    assert_eq!(
        words.next,
        [
            "git -C '/src/my shop' diff main...foreman/fix-7f3a",
            "foreman describe workload/fix-7f3a --data-dir /d",
        ]
    );
    assert_eq!((words.exit, words.error), (Exit::OnTarget, None));
}

#[test]
fn an_unverified_end_says_so() {
    let tally = tally("GO", Verification::NotVerified, true, "Succeeded");
    let words = last_words(&about(), &Followed::Settled, &tally);
    assert_eq!(plain(&words.lines), ["GO not verified (no gate passed)  branch foreman/fix-7f3a"]);
}

#[test]
fn a_miss_says_which_task_and_why() {
    let tally = tally("NO-GO", Verification::NotApplicable, false, "NotOnTarget");
    let words = last_words(&about(), &Followed::Settled, &tally);
    assert_eq!(plain(&words.lines), ["NO-GO", "  task/fix-7f3a-code: NO-GO: what it says"]);
    assert_eq!(words.exit, Exit::NotOnTarget);
}

#[test]
fn a_remote_branch_is_fetched_by_the_next_command() {
    let about = About { folder: None, url: Some("https://host/a/b"), ..about() };
    assert_eq!(
        diff_command(&about, "foreman/x"),
        Some("git fetch https://host/a/b foreman/x && git diff HEAD...FETCH_HEAD".to_owned())
    );
}

#[test]
fn a_stop_says_what_is_kept_and_how_to_go_on() {
    let mut tally = Tally::default();
    let released =
        What::Released { ended: "Drained".into(), message: String::new(), turn: Some(4) };
    let mut fact = Fact::of_workload(Some("fix-7f3a"), released);
    fact.task = Some("fix-7f3a-code".into());
    tally.apply(&fact);
    let stopped = Followed::Stopped { exit: Exit::Interrupted, kept: Kept::HandedOver };
    let go_on = [
        "foreman run --continue fix-7f3a --data-dir /d".to_owned(),
        "foreman up --data-dir /d".to_owned(),
    ];
    let about = About { go_on: &go_on, ..about() };
    let words = last_words(&about, &stopped, &tally);
    assert_eq!(
        words.lines,
        ["interrupted; the work is kept", "  task/fix-7f3a-code goes on after turn 4"]
    );
    assert_eq!(
        words.next,
        ["foreman run --continue fix-7f3a --data-dir /d", "foreman up --data-dir /d"]
    );
    assert_eq!(words.exit, Exit::Interrupted);
    let elsewhere = Kept::Elsewhere("pid 7 (foreman up)".into());
    let stopped = Followed::Stopped { exit: Exit::Interrupted, kept: elsewhere };
    let words = last_words(&about, &stopped, &tally);
    assert_eq!(words.lines, ["interrupted; pid 7 (foreman up) goes on with the work"]);
    assert_eq!(words.next, ["foreman run --continue fix-7f3a --data-dir /d"]);
}

#[test]
fn who_detaches_is_told_the_name_and_how_to_follow_again() {
    let go_on = ["foreman run --continue fix-7f3a".to_owned(), "foreman up".to_owned()];
    let about = About { go_on: &go_on, ..about() };
    let detached = Followed::Detached("pid 7 (foreman up)".into());
    let words = last_words(&about, &detached, &Tally::default());
    let lines = ["workload/fix-7f3a", "detached; pid 7 (foreman up) goes on with the work"];
    assert_eq!(words.lines, lines);
    let describe = "foreman describe workload/fix-7f3a --data-dir /d";
    assert_eq!(words.next, ["foreman run --continue fix-7f3a", describe]);
    assert_eq!((words.exit, words.error), (Exit::StillGoing, None));
}

#[test]
fn a_deleted_workload_is_said() {
    let gone = Followed::Deleted(FollowError::Deleted { name: "fix-7f3a".into() });
    let words = last_words(&about(), &gone, &Tally::default());
    assert_eq!(words.exit, Exit::NotOnTarget);
    assert!(words.lines[0].contains("was deleted"), "{:?}", words.lines);
}
