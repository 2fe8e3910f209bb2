//! The control loops on the in-memory store, end to end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use foreman_core::control::{AgentEnd, Foreman, Reconciler, Shutdown};
use foreman_core::fleet::Identity;
use foreman_core::memory::MemoryStore;
use foreman_core::model::agent::AgentRole;
use foreman_core::model::agentic_task::WaitingReason;
use foreman_core::model::condition::is_true;
use foreman_core::model::fleet_node::{Accelerator, Capability};
use foreman_core::model::shared::{LocalObjectReference, RequiredAccelerator, RequiredCapability};
use foreman_core::model::workload::PipelineStep;
use foreman_core::model::{
    Agent, AgentSpec, AgenticTask, AgenticTaskPayload, AgenticTaskSpec, Key, NewObject, NodeName,
    Object, TaskKind, TaskPhase, Verdict, Workload, WorkloadPhase, WorkloadSpec,
};
use foreman_core::ports::recorder::LogRecorder;
use foreman_core::ports::store::Part;
use foreman_core::ports::{
    CapabilityProbe, Change, Expect, ProbeError, RunEnd, Stop, Store, Stores,
};
use foreman_core::testkit::scripted::{ScriptedExecutor, on_target};
use foreman_core::testkit::sim::{SimClock, SimEntropy};
use tokio::sync::watch;

struct Fixed(Capability);

#[async_trait]
impl CapabilityProbe for Fixed {
    async fn probe(&self) -> Result<Capability, ProbeError> {
        Ok(self.0.clone())
    }
}

struct Lab {
    store: Arc<MemoryStore>,
    stores: Stores,
    clock: Arc<SimClock>,
    shutdown: watch::Sender<Shutdown>,
}

impl Lab {
    fn new() -> Self {
        let clock = SimClock::new();
        let store = MemoryStore::new(clock.clone());
        let stores = Stores::of(&store);
        Self { store, stores, clock, shutdown: watch::channel(Shutdown::No).0 }
    }

    fn reconciler(&self) -> Reconciler {
        Reconciler::new(self.stores.clone(), self.clock.clone(), Arc::new(LogRecorder))
    }

    fn foreman(
        &self,
        nodes: &[(&str, Capability, &[&str])],
        executor: &Arc<ScriptedExecutor>,
    ) -> Foreman {
        let mut builder =
            Foreman::builder(self.stores.clone(), self.clock.clone(), SimEntropy::new(7));
        for (name, capability, roles) in nodes {
            let identity = Identity {
                name: NodeName::parse(name).expect("valid"),
                address: None,
                roles: roles.iter().map(|role| (*role).to_owned()).collect(),
                slots: None,
                version: "0".into(),
                os: "linux".into(),
                arch: "amd64".into(),
            };
            builder = builder.node(identity, Arc::new(Fixed(capability.clone())), executor.clone());
        }
        builder.build().expect("complete")
    }

    async fn agent(&self, name: &str, required: RequiredCapability) {
        let mut spec = AgentSpec::new(AgentRole::Coder, vec!["bash".into()]);
        spec.required_capability = Some(required);
        let new = NewObject::<Agent>::new(Key::namespaced("default", name), spec);
        self.stores.agents.create(new).await.expect("created");
    }

    async fn task(&self, name: &str, spec: AgenticTaskSpec) -> Object<AgenticTask> {
        let new = NewObject::new(Key::namespaced("default", name), spec);
        self.stores.tasks.create(new).await.expect("created")
    }

    async fn task_now(&self, name: &str) -> Object<AgenticTask> {
        let key = Key::namespaced("default", name);
        self.stores.tasks.get(&key).await.expect("read").expect("present")
    }

    async fn workload_now(&self, name: &str) -> Object<Workload> {
        let key = Key::namespaced("default", name);
        self.stores.workloads.get(&key).await.expect("read").expect("present")
    }

    /// Runs `foreman` beside `story`; the story's end drains it.
    async fn run(&self, foreman: &Foreman, story: impl Future<Output = ()>) -> AgentEnd {
        let story = async {
            story.await;
            self.shutdown.send_replace(Shutdown::Drain);
        };
        let all = async { tokio::join!(foreman.run(self.shutdown.subscribe()), story).0 };
        let end = tokio::time::timeout(Duration::from_secs(20), all).await;
        end.expect("ended in time").expect("started")
    }

    /// Waits until `done` holds, woken by every change of the store.
    async fn until<F: Future<Output = bool>>(&self, done: impl Fn() -> F) {
        let waiting = async {
            while !done().await {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("came about in time");
    }
}

fn step(name: &str, kind: TaskKind, after: &[&str]) -> PipelineStep {
    PipelineStep {
        name: name.into(),
        kind: kind.into(),
        agent_ref: LocalObjectReference::to("coder"),
        payload: AgenticTaskPayload { repo: Some("/r".into()), ..AgenticTaskPayload::default() },
        depends_on: after.iter().map(|name| (*name).to_owned()).collect(),
        timeout_seconds: None,
        priority: None,
        gate_profile: None,
    }
}

fn pipeline() -> WorkloadSpec {
    WorkloadSpec {
        intent: "make it so".into(),
        pipeline: vec![
            step("code", TaskKind::IssueFix, &[]),
            step("verify", TaskKind::Verify, &["code"]),
            step("review", TaskKind::Review, &["verify"]),
        ],
        ..WorkloadSpec::default()
    }
}

fn freeform(agent: Option<&str>) -> AgenticTaskSpec {
    let mut spec = AgenticTaskSpec::new(TaskKind::Freeform, AgenticTaskPayload::default());
    spec.agent_ref = agent.map(LocalObjectReference::to);
    spec
}

async fn add_workload(lab: &Lab, name: &str, spec: WorkloadSpec) {
    let new = NewObject::<Workload>::new(Key::namespaced("default", name), spec);
    lab.stores.workloads.create(new).await.expect("created");
}

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
        let before = lab.store.revision();
        lab.task("t", freeform(None)).await;
        lab.until(|| async {
            lab.task_now("t").await.status.known_phase() == Some(TaskPhase::Succeeded)
        })
        .await;
        assert_eq!(lab.store.revision() - before, 1 + 3, "create, Scheduled, Running, terminal");
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
            let _ = stop.wait_for(|stop| *stop != Stop::Continue).await;
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
                == Some("0/3 nodes fit: 3 lack the accelerator")
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
            Some("0/3 nodes fit: 2 lack the accelerator, 1 busy")
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
    lab.clock.advance(Duration::from_secs(3600));
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
            let _ = stop.wait_for(|stop| matches!(stop, Stop::Drain { .. })).await;
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
