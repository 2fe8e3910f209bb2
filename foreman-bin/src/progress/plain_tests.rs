use foreman_core::model::agentic_task::Usage;
use foreman_core::model::outcome::{Decision, Infrastructure, Outcome, Verification};

use super::*;
use crate::follow::{Begun, PlannedStep};

fn task(what: What) -> Fact {
    Fact {
        workload: Some("fix-7f3a".into()),
        task: Some("fix-7f3a-code".into()),
        attempt: Some(1),
        node: Some("studio".into()),
        what,
    }
}

fn ended(verdict: &str, verification: Verification) -> What {
    What::Ended(Ended {
        on_target: true,
        verdict: verdict.into(),
        outcome: Outcome {
            decision: Decision::Go,
            verification,
            infrastructure: Infrastructure::Ok,
            reason: None,
        },
        message: "fixed \u{1b}[31mit".into(),
        branch: Some("foreman/fix-7f3a".into()),
        commit: None,
        usage: Usage {
            turns: Some(14),
            prompt_tokens: Some(180_000),
            completion_tokens: Some(2_000),
            ..Usage::default()
        },
    })
}

fn of_workload(what: What) -> Fact {
    Fact::of_workload(Some("fix-7f3a"), what)
}

#[test]
fn a_run_reads_as_one_fact_a_line() {
    let mut plain = Plain::new();
    let steps = ["code", "verify"]
        .map(|name| PlannedStep { name: name.into(), task: format!("fix-7f3a-{name}") })
        .to_vec();
    let gate = RunEvent::GateCompleted {
        command: "cargo test".into(),
        exit: Some(0),
        tree: "9b".into(),
        output: "fine".into(),
        took: Duration::from_secs(38),
    };
    let finished = What::Finished { reason: "Succeeded".into(), message: "2 succeeded".into() };
    let mut verify = task(ended("GATE-PASS", Verification::Passed));
    verify.task = Some("fix-7f3a-verify".into());
    let story = [
        (0, of_workload(What::Begun(Begun { intent: "fix\nit".into(), ..Begun::default() }))),
        (0, of_workload(What::Planned { steps })),
        (1, task(What::Placed { why: vec!["model loaded".into(), "0/1 busy".into()] })),
        (1, task(What::Started)),
        (2, task(What::Run(RunEvent::TurnStarted { turn: 1 }))),
        (300, task(What::Run(gate))),
        (362, task(ended("GO", Verification::NotVerified))),
        (400, verify),
        (435, of_workload(finished)),
    ];
    let mut lines = Vec::new();
    for (at, fact) in story {
        lines.extend(plain.lines(&fact, Duration::from_secs(at)));
    }
    assert_eq!(
        lines,
        [
            "00:00 workload/fix-7f3a began: fix it",
            "00:00 workload/fix-7f3a planned: 2 tasks (code verify)",
            "00:01 task/fix-7f3a-code placed on studio: model loaded, 0/1 busy",
            "00:01 task/fix-7f3a-code started on studio, attempt 1",
            "05:00 task/fix-7f3a-code gate: cargo test, exit 0, 38s",
            "06:02 task/fix-7f3a-code ended GO: 14 turns, 182k tokens, branch foreman/fix-7f3a, fixed it",
            "06:40 task/fix-7f3a-verify ended GATE-PASS: 14 turns, 182k tokens, branch foreman/fix-7f3a, fixed it",
            "07:15 workload/fix-7f3a finished Succeeded, verified, exit 0: 2 succeeded",
        ]
    );
}

#[test]
fn a_running_task_is_mentioned_once_a_minute_and_not_after_its_end() {
    let mut plain = Plain::new();
    let at = Duration::from_secs;
    plain.lines(&task(What::Started), at(1));
    let tool = RunEvent::ToolStarted { turn: 2, tool: "bash".into(), summary: "ls".into() };
    plain.lines(&task(What::Run(tool)), at(5));
    let spent = RunEvent::TurnCompleted {
        turn: 2,
        prompt_tokens: 1200,
        cached_tokens: 0,
        completion_tokens: 34,
        took: at(1),
    };
    plain.lines(&task(What::Run(spent)), at(6));
    assert_eq!(plain.tick(at(60)), Vec::<String>::new());
    let line = "01:01 task/fix-7f3a-code running: turn 2, 1k tokens, bash ls";
    assert_eq!(plain.tick(at(61)), [line]);
    assert_eq!(plain.tick(at(62)), Vec::<String>::new());
    plain.lines(&task(ended("GO", Verification::NotVerified)), at(63));
    assert_eq!(plain.tick(at(500)), Vec::<String>::new());
}

#[test]
fn on_github_a_gate_is_folded_and_its_output_gives_no_commands() {
    let mut plain = Plain::for_github("secret-mark".into());
    let gate = RunEvent::GateCompleted {
        command: "make test".into(),
        exit: Some(2),
        tree: "9b".into(),
        output: "one\n::add-mask::x\u{1b}[2J\n".into(),
        took: Duration::from_secs(1),
    };
    let lines = plain.lines(&task(What::Run(gate)), Duration::ZERO);
    assert_eq!(
        lines,
        [
            "00:00 task/fix-7f3a-code gate: make test, exit 2, 1.0s",
            "::group::gate make test",
            "::stop-commands::secret-mark",
            "one",
            "::add-mask::x",
            "::secret-mark::",
            "::endgroup::",
            "::error::gate failed: make test (exit 2)",
        ]
    );
}
