//! Claims that the agent knows nothing of: its own that were done after it gave them up, and those of
//! the session that replaced it.

use std::sync::Arc;
use std::time::Duration;

use foreman_core::control::{AgentEnd, AgentSettings, NodeAgent, Shutdown};
use foreman_core::fleet::{Identity, Registrar, RegistrarEnd};
use foreman_core::model::agentic_task::{AttemptEnd, AttemptRecord};
use foreman_core::model::wellknown::ANNOTATION_CLAIM_EXPIRIES;
use foreman_core::model::{AgenticTask, Capability, FleetNode, Object, TaskPhase};
use foreman_core::ports::recorder::LogRecorder;
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Clock, Executor};
use foreman_core::testkit::fault::{Fault, Operation};
use foreman_core::testkit::scripted::ScriptedExecutor;
use tokio::sync::watch;

use crate::agent_start::WithJournals;
use crate::lab::{Fixed, Lab, freeform, identity, in_time, settle};
use crate::node_orders::placed;
use crate::runs::until_told;

/// The agent of node `one` with so many slots, without control loops.
async fn agent(lab: &Lab, slots: i32, executor: Arc<dyn Executor>) -> (Arc<Registrar>, NodeAgent) {
    let me = Identity { slots: Some(slots), ..identity("one") };
    let registrar = Arc::new(lab.registrar(me, Fixed::new(Capability::default())));
    let agent = NodeAgent::new(
        lab.stores.clone(),
        registrar.clone(),
        executor,
        lab.clock.clone(),
        Arc::new(LogRecorder),
        AgentSettings::default(),
    );
    in_time(agent.start()).await.expect("started");
    (registrar, agent)
}

/// An agent with one slot and a task that is placed there, whose first claim gets no answer; with the
/// agent's session.
async fn with_an_unanswered_claim(executor: Arc<dyn Executor>) -> (Lab, NodeAgent, String) {
    let lab = Lab::new();
    let (registrar, agent) = agent(&lab, 1, executor).await;
    lab.tasks.script(Operation::Patch, [Fault::uncertain()]);
    placed(&lab, "t").await;
    (lab, agent, registrar.session().to_string())
}

/// The claim of a session is done now.
async fn claim_of(lab: &Lab, name: &str, session: &str) -> Object<AgenticTask> {
    let now = lab.clock.wall();
    lab.set_status(name, |status| {
        status.phase = Some(TaskPhase::Running.into());
        status.assigned_node = Some("one".into());
        status.session = Some(session.to_owned());
        status.attempt = Some(1);
        status.claimed_at = Some(now);
        status.started_at = Some(now);
        status.attempts = vec![AttemptRecord {
            attempt: Some(1),
            node: Some("one".into()),
            session: Some(session.to_owned()),
            started_at: Some(now),
            ..AttemptRecord::default()
        }];
    })
    .await
}

fn claims(lab: &Lab) -> usize {
    let calls = lab.tasks.calls_of(Operation::Patch).into_iter();
    calls
        .filter(|call| call.patch.as_ref().is_some_and(|it| !it["status"]["session"].is_null()))
        .count()
}

/// Waits until the agent has read the task once more after its claim had no answer: it has given that
/// claim up, and pauses.
async fn gave_up(lab: &Lab) {
    lab.until(|| async { !lab.tasks.calls_of(Operation::Get).is_empty() }).await;
    settle().await;
}

#[tokio::test]
async fn a_claim_that_is_done_after_it_was_given_up_is_run_without_another_claim() {
    let executor = until_told();
    let (lab, agent, session) = with_an_unanswered_claim(executor.clone()).await;
    let story = async {
        gave_up(&lab).await;
        claim_of(&lab, "t", &session).await;
        // The pause after the claim without an answer, and no more: the operator has struck nothing.
        lab.advance_until(Duration::from_millis(100), || async { !executor.ran().is_empty() })
            .await;
        settle().await;
        let task = lab.task_now("t").await;
        assert_eq!(
            (task.status.known_phase(), task.status.attempt),
            (Some(TaskPhase::Running), Some(1))
        );
        assert_eq!(claims(&lab), 1, "the one that had no answer");
        lab.shutdown.send_replace(Shutdown::Drain);
    };
    let (end, ()) =
        in_time(async { tokio::join!(agent.serve(lab.shutdown.subscribe()), story) }).await;
    assert_eq!((end, executor.ran()), (AgentEnd::Drained, vec!["t".to_owned()]));
    handed_over(&lab, AttemptEnd::Drained).await;
}

/// The task waits without a holder and without a strike, and its only attempt ended so.
async fn handed_over(lab: &Lab, ended: AttemptEnd) {
    let task = lab.task_now("t").await;
    let status = &task.status;
    assert_eq!(status.known_phase(), Some(TaskPhase::Pending));
    assert_eq!((&status.session, &status.assigned_node, status.claimed_at), (&None, &None, None));
    assert_eq!(status.attempts.len(), 1);
    assert!(
        status.attempts[0].ended.as_ref().is_some_and(|it| it.is(ended)),
        "{:?}",
        status.attempts
    );
    assert_eq!(task.meta.annotations.get(ANNOTATION_CLAIM_EXPIRIES), None);
}

#[tokio::test]
async fn an_agent_that_leaves_gives_back_its_claim_that_was_done_late() {
    // It hears of the claim before it gives the placement back, or its refusal comes too late.
    for hears in [true, false] {
        let executor = until_told();
        let (lab, agent, session) = with_an_unanswered_claim(executor.clone()).await;
        let story = async {
            gave_up(&lab).await;
            lab.shutdown.send_replace(Shutdown::Drain);
            settle().await;
            if hears {
                claim_of(&lab, "t", &session).await;
                settle().await;
            } else {
                lab.tasks.hold(Operation::Patch);
            }
            lab.clock.advance(Duration::from_secs(1));
            settle().await;
            if !hears {
                // The refusal is on its way.
                claim_of(&lab, "t", &session).await;
                lab.tasks.let_go(Operation::Patch);
            }
        };
        let (end, ()) =
            in_time(async { tokio::join!(agent.serve(lab.shutdown.subscribe()), story) }).await;
        assert_eq!((end, executor.ran()), (AgentEnd::Drained, Vec::new()), "{hears}");
        handed_over(&lab, AttemptEnd::Refused).await;
    }
}

#[tokio::test]
async fn an_agent_that_was_replaced_leaves_its_successors_claims_alone() {
    // With a journal it would adopt, without one it would hand back.
    for highest in [1, 0] {
        let lab = Lab::new();
        let inner = ScriptedExecutor::on_target();
        let executor = Arc::new(WithJournals { highest, inner: inner.clone() });
        let (registrar, agent) = agent(&lab, 2, executor).await;
        let (_stop, stopped) = watch::channel(false);
        let story = async {
            settle().await;
            // Nothing has told the first one yet: its next beat is due in half a minute.
            let twin = Change::<FleetNode>::of(Part::Status).set("session", "twin");
            lab.patch_node("one", twin).await;
            lab.task("t", freeform(None)).await;
            let claimed = claim_of(&lab, "t", "twin").await;
            settle().await;
            assert_eq!(lab.task_now("t").await, claimed, "journal of attempt {highest}");
        };
        let all = async {
            tokio::select! {
                end = agent.serve(lab.shutdown.subscribe()) => panic!("it left: {end:?}"),
                both = async { tokio::join!(registrar.run(stopped), story) } => both.0,
            }
        };
        assert_eq!(in_time(all).await, RegistrarEnd::Superseded, "it heard at once");
        assert_eq!(inner.ran(), Vec::<String>::new());
    }
}
