use foreman_core::model::agentic_task::Usage;
use foreman_core::model::outcome::{Decision, Infrastructure, Outcome, Verification};

use super::*;

const SIZE: Size = Size { width: 100, height: 24 };

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn task(name: &str, what: What) -> Fact {
    Fact {
        workload: Some("fix-7f3a".into()),
        task: Some(format!("fix-7f3a-{name}")),
        attempt: Some(1),
        node: Some("studio".into()),
        what,
    }
}

fn planned(names: &[&str]) -> View {
    let mut view = View::new(Some(2_000_000), "ctrl-c stop, work is kept");
    let begun = Begun {
        repo: Some("/src/shop".into()),
        model: Some("qwen @ ollama".into()),
        ..Begun::default()
    };
    let left = view.apply(&Fact::of_workload(Some("fix-7f3a"), What::Begun(begun)), at(0));
    assert_eq!(texts(&left), ["fix-7f3a   repo /src/shop   model qwen @ ollama"]);
    let steps = names
        .iter()
        .map(|name| PlannedStep { name: (*name).into(), task: format!("fix-7f3a-{name}") })
        .collect();
    view.apply(&Fact::of_workload(Some("fix-7f3a"), What::Planned { steps }), at(0));
    view
}

fn texts(lines: &[Painted]) -> Vec<&str> {
    lines.iter().map(|line| line.text.as_str()).collect()
}

fn turn(turn: i64, sent: i64) -> What {
    What::Run(RunEvent::TurnCompleted {
        turn,
        prompt_tokens: sent,
        cached_tokens: sent / 2,
        completion_tokens: 0,
        took: at(1),
    })
}

#[test]
fn it_says_who_where_what_now_and_at_what_cost() {
    let mut view = planned(&["code", "verify", "review"]);
    let waits = What::Waiting { reason: "Dependency".into(), message: "waits for verify".into() };
    view.apply(&task("review", waits), at(0));
    view.apply(&task("code", What::Started), at(1));
    view.apply(&task("code", turn(13, 184_000)), at(60));
    let tool = |done: bool| {
        let (turn, tool, summary) = (14, "bash".to_owned(), "cargo \u{1b}[2Jtest".to_owned());
        What::Run(if done {
            RunEvent::ToolCompleted { turn, tool, ok: true, summary: "exit 0".into(), took: at(1) }
        } else {
            RunEvent::ToolStarted { turn, tool, summary }
        })
    };
    view.apply(&task("code", tool(true)), at(61));
    view.apply(&task("code", tool(false)), at(62));
    let block = view.block(SIZE, at(85));
    assert_eq!(
        texts(&block),
        [
            " >>  code    studio  turn 14  184k tok  1m24s  bash cargo test  23s",
            " ..  verify  -       to come",
            " ..  review  -       waits: Dependency (verify)",
            "last: studio  turn 14  bash -> exit 0",
            "0/3 done   1m25s   tokens 184k of 2.0M      ctrl-c stop, work is kept",
        ]
    );
}

#[test]
fn a_task_that_ended_leaves_the_block_for_good() {
    let mut view = planned(&["code", "verify"]);
    view.apply(&task("code", What::Started), at(1));
    view.apply(&task("code", turn(14, 182_000)), at(60));
    let ended = What::Ended(Ended {
        on_target: true,
        verdict: "GO".into(),
        outcome: Outcome {
            decision: Decision::Go,
            verification: Verification::NotVerified,
            infrastructure: Infrastructure::Ok,
            reason: None,
        },
        message: "fixed".into(),
        branch: None,
        commit: None,
        usage: Usage { turns: Some(14), prompt_tokens: Some(182_000), ..Usage::default() },
    });
    let left = view.apply(&task("code", ended), at(363));
    assert_eq!(
        texts(&left),
        [" ok  code    studio  attempt 1  6m02s  50% cached  GO, 14 turns, 182k tokens, fixed"]
    );
    assert_eq!(left[0].tone, Tone::Good);
    let block = view.block(SIZE, at(363));
    assert_eq!(texts(&block)[0], " ..  verify  -  to come");
    assert!(texts(&block)[1].starts_with("1/2 done   6m03s   tokens 182k of 2.0M"));
}

#[test]
fn it_never_grows_beyond_the_terminal() {
    let names: Vec<String> = (0..40).map(|n| format!("a-rather-long-step-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut view = planned(&names);
    let wide = What::Waiting { reason: "NodesBusy".into(), message: "日本語".repeat(50) };
    view.apply(&task("a-rather-long-step-1", wide), at(1));
    view.apply(&task("a-rather-long-step-30", What::Started), at(1));
    view.apply(&task("a-rather-long-step-30", turn(1, 10)), at(2));
    for width in 1..60 {
        for height in 1..30 {
            let size = Size { width, height };
            let block = view.block(size, at(3));
            assert!(block.len() <= height.saturating_sub(1).max(1), "{size:?}: {}", block.len());
            for line in &block {
                assert!(line.text.width() < width.max(1), "{size:?}: {:?}", line.text);
                assert!(!line.text.contains('\n'));
            }
        }
    }
    let block = view.block(Size { width: 60, height: 10 }, at(3));
    assert!(texts(&block)[0].starts_with(" >>  a-rather-lo…"), "{block:?}");
    assert!(
        texts(&block).iter().any(|line| line.starts_with(" ..  and 34 more tasks")),
        "{block:?}"
    );
}

#[test]
fn text_is_cut_by_cells_not_by_bytes() {
    assert_eq!(fit("abcdef", 6), "abcdef");
    assert_eq!(fit("abcdefg", 6), "abcde…");
    assert_eq!(fit("日本語", 5), "日本…");
    assert_eq!(fit("日本語", 4), "日…");
    assert_eq!(fit("abc", 0), "");
    assert_eq!(pad("ab", 4), "ab  ");
}

#[test]
fn what_a_later_try_takes_the_place_of_is_marked_once() {
    let step = |name: &str| PlannedStep { name: name.to_owned(), task: format!("fix-7f3a-{name}") };
    let plan = |names: &[&str]| {
        let steps = names.iter().map(|name| step(name)).collect();
        Fact::of_workload(Some("fix-7f3a"), What::Planned { steps })
    };
    let mut view = planned(&["code", "review"]);
    view.apply(&task("code", What::Started), at(1));
    let all = ["code", "review", "code-r1", "review-r1"];
    let left = view.apply(&plan(&all), at(2));
    let marks =
        [" ->  code       superseded by code-r1", " ->  review     superseded by review-r1"];
    assert_eq!(texts(&left), marks);
    assert_eq!(view.apply(&plan(&all), at(3)), [], "said once");
    let block = view.block(SIZE, at(4));
    assert!(texts(&block)[0].contains("code       studio  superseded by code-r1"), "{block:?}");
    assert!(!texts(&block)[2].contains("superseded"), "{block:?}");
}
