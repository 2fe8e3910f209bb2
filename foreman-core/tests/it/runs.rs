//! Runs on a node: limits, suspension, deletion, panics, slots, drain.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use foreman_core::control::{AgentEnd, Shutdown};
use foreman_core::model::agentic_task::{AttemptEnd, AttemptRecord, Usage, WaitingReason};
use foreman_core::model::fleet_node::Disk;
use foreman_core::model::outcome::Infrastructure;
use foreman_core::model::{Capability, TaskPhase, Verdict};
use foreman_core::ports::executor::ReleaseWhy;
use foreman_core::ports::{Clock, RunEnd, Stop};
use foreman_core::testkit::fault::{Call, Operation};
use foreman_core::testkit::scripted::{ScriptedExecutor, ScriptedRun, on_target};
use tokio::sync::watch;

use crate::lab::{Lab, away, freeform, identity, in_time, settle};

/// Waits until the run is told to stop, and says what it was told.
pub(crate) async fn told(run: &ScriptedRun) -> Stop {
    let mut stop = run.stop.clone();
    let told = stop.wait_for(|stop| *stop != Stop::Continue).await;
    told.map_or(Stop::Lost, |stop| *stop)
}

/// What runs were told, in order.
pub(crate) type Stops = Arc<std::sync::Mutex<Vec<Stop>>>;

/// An executor whose runs wait until they are told to stop, note it, and end as `end` says.
pub(crate) fn noting(
    end: impl Fn(&ScriptedRun, Stop) -> RunEnd + Send + Sync + Copy + 'static,
) -> (Arc<ScriptedExecutor>, Stops) {
    let stops = Stops::default();
    let seen = stops.clone();
    let executor = ScriptedExecutor::new(move |run| {
        let seen = seen.clone();
        Box::pin(async move {
            let stop = told(&run).await;
            seen.lock().expect("no panic").push(stop);
            end(&run, stop)
        })
    });
    (executor, stops)
}

/// How an honest executor ends when it is told to.
pub(crate) fn obeys(run: &ScriptedRun, told: Stop) -> RunEnd {
    let release = |why| RunEnd::Released { checkpoint: None, usage: Usage::default(), why };
    let failed = |infrastructure| {
        let RunEnd::Finished(mut finish) = on_target(&run.job) else { return RunEnd::Lost };
        finish.succeeded = false;
        finish.verdict = Verdict::Incomplete;
        finish.outcome.infrastructure = infrastructure;
        RunEnd::Finished(finish)
    };
    match told {
        Stop::Continue => on_target(&run.job),
        Stop::Suspend => release(ReleaseWhy::Suspended),
        Stop::Drain { .. } => release(ReleaseWhy::Drained),
        Stop::Cancel => failed(Infrastructure::Cancelled),
        Stop::TimedOut => failed(Infrastructure::TimedOut),
        Stop::Lost => RunEnd::Lost,
    }
}

pub(crate) fn until_told() -> Arc<ScriptedExecutor> {
    ScriptedExecutor::new(|run| {
        Box::pin(async move {
            let stop = told(&run).await;
            obeys(&run, stop)
        })
    })
}

fn task_patches(lab: &Lab, name: &str) -> Vec<Call> {
    let calls = lab.tasks.calls_of(Operation::Patch).into_iter();
    calls.filter(|call| call.name == name).collect()
}

#[tokio::test]
async fn a_run_that_panics_is_tried_again_then_ends_as_infrastructure_and_the_others_go_on() {
    let lab = Lab::new();
    let executor = ScriptedExecutor::new(|run| {
        assert_ne!(run.job.task.meta.name, "eager", "scripted panic");
        Box::pin(async move {
            assert_ne!(run.job.task.meta.name, "bad", "scripted panic");
            let stop = told(&run).await;
            obeys(&run, stop)
        })
    });
    let foreman = lab.one_node(3, &executor);
    for name in ["bad", "eager", "good"] {
        lab.task(name, freeform(None)).await;
    }
    lab.run(&foreman, async {
        for name in ["bad", "eager"] {
            lab.advance_until(Duration::from_secs(5), || async {
                lab.phase(name).await == Some(TaskPhase::Failed)
            })
            .await;
            let status = lab.task_now(name).await.status;
            assert_eq!(
                status.failure_reason.map(|r| r.to_string()).as_deref(),
                Some("InfrastructureError")
            );
            let outcome = status.outcome.expect("said");
            assert!(outcome.infrastructure.is_some_and(|i| i.is(Infrastructure::Error)));
            assert_eq!(status.attempts.len(), 3, "{name}");
        }
        lab.until_phase("good", TaskPhase::Running).await;
    })
    .await;
    assert_eq!(lab.phase("good").await, Some(TaskPhase::Pending), "handed over at the end");
}

#[tokio::test]
async fn the_time_limit_counts_all_attempts_and_no_progress_report_restarts_it() {
    let lab = Lab::new();
    let executor = ScriptedExecutor::new(|run| {
        Box::pin(async move {
            let mut stop = run.stop.clone();
            for turn in 0_i64.. {
                if *stop.borrow_and_update() != Stop::Continue {
                    break;
                }
                run.progress.send_modify(|progress| progress.turn = turn);
                tokio::task::yield_now().await;
            }
            let stop = *stop.borrow();
            obeys(&run, stop)
        })
    });
    let foreman = lab.one_node(1, &executor);
    let mut spec = freeform(None);
    spec.timeout_seconds = Some(60);
    lab.task("t", spec).await;
    lab.run(&foreman, async {
        lab.until_phase("t", TaskPhase::Running).await;
        lab.clock.advance(Duration::from_secs(50));
        settle().await;
        lab.set_spec("t", "suspend", true).await;
        lab.until_phase("t", TaskPhase::Pending).await;
        // What it waits does not count.
        lab.clock.advance(Duration::from_secs(20));
        lab.set_spec("t", "suspend", false).await;
        lab.until_phase("t", TaskPhase::Running).await;
        lab.clock.advance(Duration::from_secs(8));
        settle().await;
        assert_eq!(lab.phase("t").await, Some(TaskPhase::Running), "58 s in all");
        lab.clock.advance(Duration::from_secs(3));
        lab.until_phase("t", TaskPhase::Failed).await;
    })
    .await;
    let attempts: Vec<_> = lab.task_now("t").await.status.attempts;
    let ended: Vec<_> =
        attempts.iter().filter_map(|one| one.ended.clone()).map(|e| e.to_string()).collect();
    assert_eq!(ended, ["Suspended", "TimedOut"]);
}

#[tokio::test]
async fn a_claim_after_a_holder_whose_clock_was_ahead_begins_by_our_clock_and_is_told_apart() {
    let lab = Lab::new();
    let executor = ScriptedExecutor::new(|run| {
        Box::pin(async move {
            let mut stop = run.stop.clone();
            drop(stop.wait_for(|stop| *stop != Stop::Continue).await);
            let stop = *stop.borrow();
            obeys(&run, stop)
        })
    });
    let foreman = lab.one_node(1, &executor);
    lab.task("t", freeform(None)).await;
    let ahead = lab.clock.wall().plus(Duration::from_mins(10));
    lab.set_status("t", |status| {
        status.phase = Some(TaskPhase::Pending.into());
        status.attempt = Some(1);
        status.attempts = vec![AttemptRecord {
            attempt: Some(1),
            node: Some("two".into()),
            started_at: Some(ahead),
            ended_at: Some(ahead),
            ended: Some(AttemptEnd::Drained.into()),
            ..AttemptRecord::default()
        }];
    })
    .await;
    lab.run(&foreman, async {
        let mut before = ahead;
        for _ in 0..2 {
            lab.until_phase("t", TaskPhase::Running).await;
            let status = lab.task_now("t").await.status;
            assert_eq!(status.started_at, Some(lab.clock.wall()), "time limits count from now");
            let claimed_at = status.claimed_at.expect("claimed");
            assert!(claimed_at > before, "{claimed_at} after {before}");
            before = claimed_at;
            lab.set_spec("t", "suspend", true).await;
            lab.until_phase("t", TaskPhase::Pending).await;
            lab.set_spec("t", "suspend", false).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_suspended_task_waits_for_that_reason_and_resumes() {
    let lab = Lab::new();
    let executor = until_told();
    let foreman = lab.one_node(1, &executor);
    lab.task("t", freeform(None)).await;
    lab.run(&foreman, async {
        lab.until_phase("t", TaskPhase::Running).await;
        lab.set_spec("t", "suspend", true).await;
        lab.until_phase("t", TaskPhase::Pending).await;
        settle().await;
        let status = lab.task_now("t").await.status;
        let waiting = status.waiting.expect("says why");
        assert!(waiting.reason.is_some_and(|reason| reason.is(WaitingReason::Suspended)));
        assert_eq!((status.assigned_node, status.session, status.claimed_at), (None, None, None));
        lab.set_spec("t", "suspend", false).await;
        lab.until_phase("t", TaskPhase::Running).await;
    })
    .await;
    assert_eq!(executor.ran(), ["t", "t"]);
}

#[tokio::test]
async fn a_deleted_task_stops_its_run_and_nothing_is_written_afterwards() {
    let lab = Lab::new();
    // It ends as if it had not understood: still nothing may be written.
    let (executor, stops) = noting(|run, _| on_target(&run.job));
    let foreman = lab.one_node(1, &executor);
    lab.task("t", freeform(None)).await;
    lab.run(&foreman, async {
        lab.until_phase("t", TaskPhase::Running).await;
        lab.tasks.forget_calls();
        lab.delete_task("t").await;
        lab.until(|| async { !stops.lock().expect("no panic").is_empty() }).await;
        lab.task("t", freeform(None)).await;
        lab.until_phase("t", TaskPhase::Running).await;
        let verdicts = task_patches(&lab, "t");
        let verdicts = verdicts.iter().filter(|call| {
            call.patch.as_ref().is_some_and(|patch| patch["status"].get("verdict").is_some())
        });
        assert_eq!(verdicts.count(), 0, "the task of the same name is another one");
    })
    .await;
    assert_eq!(stops.lock().expect("no panic").first(), Some(&Stop::Lost));
}

#[tokio::test]
async fn slots_are_never_exceeded() {
    let lab = Lab::new();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (now.clone(), most.clone());
    let executor = ScriptedExecutor::new(move |run| {
        let (now, most) = counts.clone();
        Box::pin(async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            settle().await;
            now.fetch_sub(1, Ordering::SeqCst);
            on_target(&run.job)
        })
    });
    let foreman = lab.one_node(2, &executor);
    let names = ["a", "b", "c", "d", "e"];
    // Somebody placed them all here: the agent is the last judge of its capacity.
    for name in names {
        lab.task(name, freeform(None)).await;
        lab.set_status(name, |status| {
            status.phase = Some(TaskPhase::Scheduled.into());
            status.assigned_node = Some("one".into());
        })
        .await;
    }
    lab.run(&foreman, async {
        lab.advance_until(Duration::from_secs(5), || async {
            let mut done = 0;
            for name in names {
                done += usize::from(lab.phase(name).await == Some(TaskPhase::Succeeded));
            }
            done == names.len()
        })
        .await;
    })
    .await;
    assert_eq!(most.load(Ordering::SeqCst), 2);
    let mut ran = executor.ran();
    ran.sort();
    assert_eq!(ran, names, "each once");
}

#[tokio::test]
async fn a_node_that_refused_a_task_is_not_asked_again_for_a_minute() {
    let lab = Lab::new();
    let full = Capability {
        disk: Some(Disk { free_gb: Some(1), ..Disk::default() }),
        ..Capability::default()
    };
    let foreman = lab.fleet([(identity("one"), full)], &ScriptedExecutor::on_target());
    lab.task("t", freeform(None)).await;
    let placements = || {
        let calls = task_patches(&lab, "t").into_iter();
        calls
            .filter(|call| call.error.is_none())
            .filter(|call| {
                call.patch.as_ref().is_some_and(|patch| patch["status"]["phase"] == "Scheduled")
            })
            .count()
    };
    lab.run(&foreman, async {
        lab.until(|| async {
            placements() == 1 && lab.phase("t").await == Some(TaskPhase::Pending)
        })
        .await;
        for _ in 0..11 {
            settle().await;
            lab.clock.advance(Duration::from_secs(5));
        }
        settle().await;
        assert_eq!(placements(), 1, "after 55 s");
        let waiting = lab.task_now("t").await.status.waiting.and_then(|waiting| waiting.message);
        assert_eq!(waiting.as_deref(), Some("0/1 nodes fit: 1 refused it just now"));
        lab.clock.advance(Duration::from_secs(6));
        lab.until(|| async { placements() == 2 }).await;
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_run_that_takes_its_time_does_not_hold_the_node_up() {
    let lab = Lab::new();
    let (open, gate) = watch::channel(false);
    let executor = ScriptedExecutor::new(move |run| {
        let mut gate = gate.clone();
        Box::pin(async move {
            let stop = told(&run).await;
            drop(gate.wait_for(|open| *open).await);
            obeys(&run, stop)
        })
    });
    let foreman = lab.one_node(1, &executor);
    lab.task("t", freeform(None)).await;
    let story = async {
        lab.until_phase("t", TaskPhase::Running).await;
        lab.set_spec("t", "cancel", true).await;
        settle().await;
        lab.shutdown.send_replace(Shutdown::Drain);
        settle().await;
        assert_eq!(lab.phase("t").await, Some(TaskPhase::Running));
        open.send_replace(true);
    };
    let run = foreman.run(lab.shutdown.subscribe());
    let (end, ()) = in_time(async { tokio::join!(run, story) }).await;
    assert_eq!(end.expect("started"), AgentEnd::Drained);
    assert_eq!(lab.phase("t").await, Some(TaskPhase::Failed));
}

#[tokio::test]
async fn dropping_the_sender_drains() {
    let lab = Lab::new();
    let foreman = lab.one_node(1, &until_told());
    lab.task("t", freeform(None)).await;
    let (shutdown, told) = watch::channel(Shutdown::No);
    let story = async {
        lab.until_phase("t", TaskPhase::Running).await;
        drop(shutdown);
    };
    let (end, ()) = in_time(async { tokio::join!(foreman.run(told), story) }).await;
    assert_eq!(end.expect("started"), AgentEnd::Drained);
    assert_eq!(lab.phase("t").await, Some(TaskPhase::Pending));
}

#[tokio::test]
async fn a_drain_gives_back_what_was_placed_and_not_claimed() {
    let lab = Lab::new();
    let foreman = lab.one_node(1, &until_told());
    lab.task("t", freeform(None)).await;
    lab.run(&foreman, async {
        lab.until_phase("t", TaskPhase::Running).await;
        // Claims cannot be written now, so that the next placement stays unclaimed.
        lab.tasks.break_down([Operation::Patch], &away());
        lab.task("late", freeform(None)).await;
        lab.set_status("late", |status| {
            status.phase = Some(TaskPhase::Scheduled.into());
            status.assigned_node = Some("one".into());
        })
        .await;
        settle().await;
        lab.tasks.mend();
        lab.shutdown.send_replace(Shutdown::Drain);
        lab.advance_until(Duration::from_millis(100), || async {
            lab.phase("late").await == Some(TaskPhase::Pending)
        })
        .await;
    })
    .await;
    let late = lab.task_now("late").await.status;
    assert_eq!((late.known_phase(), late.assigned_node), (Some(TaskPhase::Pending), None));
}

#[tokio::test]
async fn a_drain_that_cannot_hand_over_leaves_in_time_and_claims_stay() {
    let lab = Lab::new();
    let foreman = lab.one_node(1, &until_told());
    lab.task("t", freeform(None)).await;
    let story = async {
        lab.until_phase("t", TaskPhase::Running).await;
        lab.tasks.break_down([Operation::Patch, Operation::Get], &away());
        lab.shutdown.send_replace(Shutdown::Drain);
        for _ in 0..300 {
            settle().await;
            lab.clock.advance(Duration::from_millis(100));
        }
    };
    let run = foreman.run(lab.shutdown.subscribe());
    let (end, ()) = in_time(async { tokio::join!(run, story) }).await;
    assert_eq!(end.expect("started"), AgentEnd::Left);
    let task = lab.task_now("t").await.status;
    assert_eq!((task.known_phase(), task.session.is_some()), (Some(TaskPhase::Running), true));
}

#[tokio::test]
async fn told_to_leave_now_it_leaves_at_once_and_claims_stay() {
    let lab = Lab::new();
    let foreman = lab.one_node(1, &until_told());
    lab.task("t", freeform(None)).await;
    let story = async {
        lab.until_phase("t", TaskPhase::Running).await;
        lab.shutdown.send_replace(Shutdown::Now);
    };
    let run = foreman.run(lab.shutdown.subscribe());
    let (end, ()) = in_time(async { tokio::join!(run, story) }).await;
    assert_eq!(end.expect("started"), AgentEnd::Left);
    assert_eq!(lab.phase("t").await, Some(TaskPhase::Running));
    assert_eq!(lab.clock.awake().since_origin(), Duration::ZERO);
}
