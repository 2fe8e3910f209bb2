//! The control loops on the in-memory store, end to end.

use std::time::Duration;

use foreman_core::control::{AgentEnd, Shutdown};
use foreman_core::model::agentic_task::WaitingReason;
use foreman_core::model::condition::is_true;
use foreman_core::model::fleet_node::{Accelerator, Capability};
use foreman_core::model::shared::{RequiredAccelerator, RequiredCapability};
use foreman_core::model::{
    AgenticTask, FleetNode, FleetNodeSpec, Key, NewObject, TaskPhase, Verdict, WallTime,
    WorkloadPhase, WorkloadSpec,
};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Expect, RunEnd, Stop, Store};
use foreman_core::testkit::fault::Operation;
use foreman_core::testkit::scripted::{ScriptedExecutor, on_target};

use tokio::sync::watch;

use crate::lab::{Lab, add_workload, freeform, in_time, pipeline, settle};

#[tokio::test]
async fn a_pipeline_runs_in_order_and_the_workload_completes() {
    let lab = Lab::new();
    let executor = ScriptedExecutor::on_target();
    let foreman = lab.foreman(&[("one", Capability::default(), &[])], &executor);
    lab.agent("coder", RequiredCapability::default()).await;
    add_workload(&lab, "w", pipeline()).await;
    let end = lab
        .run(&foreman, async {
            lab.until(|| async {
                lab.workload_now("w")
                    .await
                    .status
                    .phase
                    .is_some_and(|p| p.is(WorkloadPhase::Completed))
            })
            .await;
        })
        .await;
    assert_eq!(end, AgentEnd::Drained);
    assert_eq!(executor.ran(), ["w-code", "w-verify", "w-review"]);
    let workload = lab.workload_now("w").await;
    assert_eq!(workload.status.succeeded_tasks, Some(3));
    assert!(is_true(&workload.status.conditions, "Finished"));
    assert!(workload.status.steps.iter().all(|step| step.settled == Some(true)));
    let code = lab.task_now("w-code").await;
    assert!(code.status.verdict.is_some_and(|verdict| verdict.is(Verdict::Go)));
    assert_eq!(code.status.attempt, Some(1));
    assert_eq!(code.status.session, None);
    assert!(is_true(&code.status.conditions, "Finished"));
}

#[tokio::test]
async fn a_task_that_is_placed_at_once_costs_three_writes() {
    let lab = Lab::new();
    let executor = ScriptedExecutor::on_target();
    let foreman = lab.foreman(&[("one", Capability::default(), &[])], &executor);
    lab.run(&foreman, async {
        lab.until(|| async {
            let node = lab.stores.nodes.get(&Key::cluster("one")).await.expect("read");
            node.and_then(|node| node.status.phase)
                .is_some_and(|phase| phase.to_string() == "Ready")
        })
        .await;
        lab.task("t", freeform(None)).await;
        lab.until(|| async {
            lab.task_now("t").await.status.known_phase() == Some(TaskPhase::Succeeded)
        })
        .await;
        let phases: Vec<_> = lab
            .tasks
            .calls_of(Operation::Patch)
            .into_iter()
            .filter_map(|call| call.patch?["status"]["phase"].as_str().map(str::to_owned))
            .collect();
        assert_eq!(phases, ["Scheduled", "Running", "Succeeded"]);
        assert_eq!(lab.tasks.calls_of(Operation::Patch).len(), phases.len());
    })
    .await;
}

#[tokio::test]
async fn three_unlike_nodes_each_get_what_fits() {
    let lab = Lab::new();
    let executor = ScriptedExecutor::new(|run| {
        Box::pin(async move {
            let mut stop = run.stop.clone();
            let end = on_target(&run.job);
            // Holds its slot until the test lets go, so that placement alone decides.
            drop(stop.wait_for(|stop| *stop != Stop::Continue).await);
            end
        })
    });
    let cuda = Capability { accelerator: Some(Accelerator::Cuda.into()), ..Capability::default() };
    let metal =
        Capability { accelerator: Some(Accelerator::Metal.into()), ..Capability::default() };
    let big = Capability {
        total_ram_gb: Some(256),
        available_ram_gb: Some(200),
        ..Capability::default()
    };
    let nodes: [(&str, Capability, &[&str]); 3] =
        [("air", metal, &[]), ("studio", big, &[]), ("tower", cuda, &[])];
    let foreman = lab.foreman(&nodes, &executor);
    let on = |accelerator: RequiredAccelerator| RequiredCapability {
        accelerator: Some(accelerator.into()),
        ..RequiredCapability::default()
    };
    lab.agent("needs-cuda", on(RequiredAccelerator::Cuda)).await;
    lab.agent("needs-metal", on(RequiredAccelerator::Metal)).await;
    lab.agent("needs-ram", RequiredCapability { min_ram_gb: Some(100), ..Default::default() })
        .await;
    lab.agent("needs-vulkan", on(RequiredAccelerator::Vulkan)).await;
    for name in ["cuda", "metal", "ram", "vulkan"] {
        lab.task(name, freeform(Some(&format!("needs-{name}")))).await;
    }
    lab.run(&foreman, async {
        for (task, node) in [("cuda", "tower"), ("metal", "air"), ("ram", "studio")] {
            lab.until(|| async {
                lab.task_now(task).await.status.known_phase() == Some(TaskPhase::Running)
            })
            .await;
            assert_eq!(lab.task_now(task).await.status.assigned_node.as_deref(), Some(node));
        }
        lab.until(|| async {
            let waiting = lab.task_now("vulkan").await.status.waiting;
            waiting.and_then(|w| w.message).as_deref()
                == Some("0/3 nodes fit: 3 lack accelerator vulkan")
        })
        .await;
        lab.task("cuda-too", freeform(Some("needs-cuda"))).await;
        lab.until(|| async {
            let waiting = lab.task_now("cuda-too").await.status.waiting;
            waiting.and_then(|w| w.reason).is_some_and(|reason| reason.is(WaitingReason::NodesBusy))
        })
        .await;
        assert_eq!(
            lab.task_now("cuda-too").await.status.waiting.and_then(|w| w.message).as_deref(),
            Some("0/3 nodes fit: 2 lack accelerator cuda, 1 busy")
        );
    })
    .await;
}

#[tokio::test]
async fn an_object_with_nothing_to_say_about_keeps_its_revision() {
    let lab = Lab::new();
    assert_eq!(lab.reconciler().reconcile_once().await.expect("settled"), 0, "nothing there");
    lab.task("t", freeform(None)).await;
    assert_eq!(lab.reconciler().reconcile_once().await.expect("settled"), 1, "told why it waits");
    let before = lab.task_now("t").await;
    let waiting = before.status.waiting.clone().expect("waits");
    assert!(waiting.reason.is_some_and(|reason| reason.is(WaitingReason::NoNodes)));
    assert_eq!(lab.reconciler().reconcile_once().await.expect("settled"), 0);
    assert_eq!(lab.task_now("t").await.revision(), before.revision());
}

#[tokio::test]
async fn a_dependency_that_fails_or_never_comes_ends_in_a_stated_outcome() {
    let lab = Lab::new();
    let mut cyclic = freeform(None);
    cyclic.depends_on = vec!["b".into()];
    lab.task("a", cyclic.clone()).await;
    cyclic.depends_on = vec!["a".into()];
    lab.task("b", cyclic.clone()).await;
    cyclic.depends_on = vec!["nobody".into()];
    lab.task("c", cyclic).await;
    lab.reconciler().reconcile_once().await.expect("settled");
    for name in ["a", "b"] {
        let task = lab.task_now(name).await;
        assert_eq!(task.status.known_phase(), Some(TaskPhase::Failed), "{name}");
    }
    let waiting = lab.task_now("c").await.status.waiting.expect("waits");
    assert!(waiting.reason.is_some_and(|reason| reason.is(WaitingReason::DependencyMissing)));
    lab.clock.advance(Duration::from_hours(1));
    lab.reconciler().reconcile_once().await.expect("settled");
    let ended = lab.task_now("c").await;
    assert_eq!(ended.status.known_phase(), Some(TaskPhase::Failed));
    assert!(is_true(&ended.status.conditions, "Failed"));
}

#[tokio::test]
async fn an_agent_that_is_missing_is_waited_for_then_said() {
    let lab = Lab::new();
    lab.task("t", freeform(Some("ghost"))).await;
    lab.reconciler().reconcile_once().await.expect("settled");
    let waiting = lab.task_now("t").await.status.waiting.expect("waits");
    assert!(waiting.reason.is_some_and(|reason| reason.is(WaitingReason::AgentMissing)));
    lab.clock.advance(Duration::from_secs(5));
    lab.reconciler().reconcile_once().await.expect("settled");
    let task = lab.task_now("t").await;
    assert_eq!(task.status.failure_reason.expect("said").to_string(), "AgentNotFound");
}

#[tokio::test]
async fn cancel_reaches_a_waiting_and_a_running_task() {
    let lab = Lab::new();
    let executor = ScriptedExecutor::new(|run| {
        Box::pin(async move {
            let mut stop = run.stop.clone();
            let told = stop.wait_for(|stop| *stop != Stop::Continue).await.map(|stop| *stop);
            assert_eq!(told.ok(), Some(Stop::Cancel));
            let RunEnd::Finished(mut finish) = on_target(&run.job) else {
                return RunEnd::Lost;
            };
            finish.succeeded = false;
            finish.verdict = Verdict::Incomplete;
            finish.outcome.infrastructure = foreman_core::model::outcome::Infrastructure::Cancelled;
            RunEnd::Finished(finish)
        })
    });
    let foreman = lab.foreman(&[("one", Capability::default(), &[])], &executor);
    lab.task("running", freeform(None)).await;
    lab.run(&foreman, async {
        lab.until(|| async {
            lab.task_now("running").await.status.known_phase() == Some(TaskPhase::Running)
        })
        .await;
        lab.task("waiting", freeform(None)).await;
        for name in ["waiting", "running"] {
            let change = Change::of(Part::Spec).set("cancel", true);
            let key = Key::namespaced("default", name);
            lab.stores.tasks.patch(&key, change, Expect::Any).await.expect("patched");
            lab.until(|| async {
                is_true(&lab.task_now(name).await.status.conditions, "Cancelled")
            })
            .await;
        }
    })
    .await;
    assert_eq!(executor.ran(), ["running"]);
}

#[tokio::test]
async fn a_workload_without_a_plan_says_so_once() {
    let lab = Lab::new();
    add_workload(&lab, "w", WorkloadSpec { intent: "x".into(), ..WorkloadSpec::default() }).await;
    assert_eq!(lab.reconciler().reconcile_once().await.expect("settled"), 1);
    assert_eq!(lab.reconciler().reconcile_once().await.expect("settled"), 0);
    let workload = lab.workload_now("w").await;
    assert!(workload.status.phase.is_some_and(|phase| phase.is(WorkloadPhase::Failed)));
    assert!(is_true(&workload.status.conditions, "Finished"));
}

#[tokio::test]
async fn a_name_that_is_taken_is_answered_with_a_hashed_one() {
    let lab = Lab::new();
    lab.task("w-code", freeform(None)).await;
    add_workload(&lab, "w", pipeline()).await;
    lab.reconciler().reconcile_once().await.expect("settled");
    let workload = lab.workload_now("w").await;
    let name = workload.status.steps[0].task.clone().expect("named");
    assert!(name.starts_with("w-code-"), "{name}");
    let child = lab.task_now(&name).await;
    assert_eq!(child.meta.owner_references[0].uid, workload.meta.uid);
    let verify = lab.task_now("w-verify").await;
    assert_eq!(verify.spec.depends_on, [name]);
}

#[tokio::test]
async fn a_lost_child_is_made_again_until_it_is_settled() {
    let lab = Lab::new();
    add_workload(&lab, "w", pipeline()).await;
    lab.reconciler().reconcile_once().await.expect("settled");
    let child = lab.task_now("w-verify").await;
    Store::<AgenticTask>::delete(&*lab.store, &child.key(), child.uid(), Expect::Any)
        .await
        .expect("deleted");
    lab.reconciler().reconcile_once().await.expect("settled");
    assert_ne!(lab.task_now("w-verify").await.uid(), child.uid());
}

#[tokio::test]
async fn a_drain_hands_the_run_over_and_a_second_life_goes_on() {
    let lab = Lab::new();
    let executor = ScriptedExecutor::new(|run| {
        Box::pin(async move {
            if run.job.fence.attempt > 1 {
                return on_target(&run.job);
            }
            let mut stop = run.stop.clone();
            drop(stop.wait_for(|stop| matches!(stop, Stop::Drain { .. })).await);
            RunEnd::Released {
                checkpoint: None,
                usage: foreman_core::model::agentic_task::Usage::default(),
                why: foreman_core::ports::executor::ReleaseWhy::Drained,
            }
        })
    });
    let node: [(&str, Capability, &[&str]); 1] = [("one", Capability::default(), &[])];
    let foreman = lab.foreman(&node, &executor);
    lab.task("t", freeform(None)).await;
    let end = lab
        .run(&foreman, async {
            lab.until(|| async {
                lab.task_now("t").await.status.known_phase() == Some(TaskPhase::Running)
            })
            .await;
        })
        .await;
    assert_eq!(end, AgentEnd::Drained);
    let handed_over = lab.task_now("t").await;
    assert_eq!(handed_over.status.known_phase(), Some(TaskPhase::Pending));
    assert_eq!(handed_over.status.attempt, Some(1));
    assert_eq!(handed_over.status.assigned_node, None);
    let node = lab.stores.nodes.get(&Key::cluster("one")).await.expect("read").expect("there");
    assert_eq!(node.status.phase.expect("said").to_string(), "Draining");

    lab.shutdown.send_replace(Shutdown::No);
    let foreman = lab.foreman(&[("one", Capability::default(), &[])], &executor);
    lab.run(&foreman, async {
        lab.until(|| async {
            lab.task_now("t").await.status.known_phase() == Some(TaskPhase::Succeeded)
        })
        .await;
    })
    .await;
    assert_eq!(lab.task_now("t").await.status.attempt, Some(2));
}

#[tokio::test]
async fn two_control_loops_that_see_a_fleet_unlike_do_not_write_against_each_other() {
    let lab = Lab::new();
    let mut node = NewObject::<FleetNode>::new(Key::cluster("n"), FleetNodeSpec::default());
    node.spec.node_name = "n".into();
    Store::create(&*lab.store, node).await.expect("created");
    let beat = |seconds| {
        Change::<FleetNode>::of(Part::Status)
            .set("phase", "Ready")
            .set("session", "s")
            .set("lastHeartbeatTime", WallTime::from_unix_seconds(seconds))
    };
    lab.patch_node("n", beat(1)).await;
    lab.task("busy", freeform(None)).await;
    lab.set_status("busy", |status| {
        status.phase = Some(TaskPhase::Running.into());
        status.assigned_node = Some("n".into());
    })
    .await;
    let (stop, stopped) = watch::channel(false);
    let (early, late) = (lab.reconciler(), lab.reconciler());
    let story = async {
        lab.task("t", freeform(None)).await;
        let told = || async { lab.task_now("t").await.status.waiting.is_some() };
        lab.until(told).await;
        // For the early one the node has moved; for the late one it shows one old value.
        lab.patch_node("n", beat(2)).await;
        settle().await;
    };
    let late = async {
        story.await;
        let run = late.run(stopped.clone());
        let watching = async {
            settle().await;
            let before = lab.store.revision();
            for _ in 0..20 {
                settle().await;
            }
            assert!(lab.store.revision() - before <= 2, "{} writes", lab.store.revision() - before);
            stop.send_replace(true);
        };
        tokio::join!(run, watching);
    };
    in_time(async { tokio::join!(early.run(stopped.clone()), late) }).await;
}
