//! Behaviours 55 and 57 with the real agent: claims that race, and a task that kills its agent.

use std::sync::Arc;
use std::time::Duration;

use foreman_core::testkit::fault::Operation;
use foreman_core::testkit::scripted::ScriptedExecutor;

use super::Stage;
use super::on_memory;
use super::played::freeform;
use super::real::Setup;

fn hangs() -> Arc<ScriptedExecutor> {
    ScriptedExecutor::new(|_| Box::pin(std::future::pending()))
}

/// An agent whose claim is held up until the task has gone to another node: the claim is refused,
/// the run never begins there, and the other node's result stands.
pub(crate) async fn b055_a_claim_that_is_held_up_loses_the_race(stage: &Stage) {
    let slow = hangs();
    let life = stage.starts(Setup::of("a", 1), slow.clone()).await;
    stage.node_is("a", "Ready", 5).await;
    life.tasks.hold(Operation::Patch);
    stage.task("t", freeform()).await;
    stage.task_is("t", "Scheduled", 5).await;
    // The machine is cut off: its beats do not come through either.
    life.nodes.hold(Operation::Patch);
    let back = async || stage.see_task("t").await.node() != "a";
    stage.eventually(Duration::from_secs(130), "the placement is taken back", back).await;
    let other = ScriptedExecutor::on_target();
    let _other = stage.starts(Setup::of("b", 1), other.clone()).await;
    stage.task_is("t", "Succeeded", 30).await;
    life.tasks.let_go(Operation::Patch);
    life.nodes.let_go(Operation::Patch);
    stage.advance(Duration::from_mins(1)).await;
    let task = stage.see_task("t").await;
    assert_eq!((task.end(), task.node()), ("Succeeded/GO".into(), "b".into()));
    assert_eq!(task.text("/status/attempt"), "1");
    assert_eq!((slow.ran().len(), other.ran().len()), (0, 1));
}

/// The same for a run that was under way on the node that was cut off: one owner, one result.
pub(crate) async fn b055_a_node_that_was_cut_off_writes_nothing(stage: &Stage) {
    let life = stage.starts(Setup::of("a", 1), hangs()).await;
    stage.node_is("a", "Ready", 5).await;
    stage.task("t", freeform()).await;
    stage.task_is("t", "Running", 5).await;
    life.nodes.hold(Operation::Patch);
    life.tasks.hold(Operation::Patch);
    let back = async || stage.see_task("t").await.node() != "a";
    stage.eventually(Duration::from_secs(130), "the claim is taken back", back).await;
    let other = ScriptedExecutor::on_target();
    let _other = stage.starts(Setup::of("b", 1), other).await;
    stage.task_is("t", "Succeeded", 700).await;
    life.nodes.let_go(Operation::Patch);
    life.tasks.let_go(Operation::Patch);
    let before = stage.see_task("t").await;
    stage.advance(Duration::from_mins(1)).await;
    let after = stage.see_task("t").await;
    assert_eq!(after.end(), "Succeeded/GO");
    assert_eq!(after.at("/status/attempt"), before.at("/status/attempt"));
}

/// A task that takes the agent's process down each time is failed after three claims.
pub(crate) async fn b057_a_task_that_kills_the_real_agent_ends(stage: &Stage) {
    stage.task("t", freeform()).await;
    let mut known_session = None;
    let mut claims = 0;
    loop {
        let setup = Setup { known_session: known_session.take(), ..Setup::of("a", 1) };
        let life = stage.starts(setup, hangs()).await;
        let on =
            async || ["Running", "Failed"].contains(&stage.see_task("t").await.phase().as_str());
        stage.eventually(Duration::from_mins(15), "it runs or has ended", on).await;
        if stage.see_task("t").await.phase() == "Failed" {
            break;
        }
        claims += 1;
        assert!(claims <= 3, "a claim too many");
        known_session = Some(life.session.clone());
        drop(life);
        stage.advance(Duration::from_secs(5)).await;
    }
    let task = stage.see_task("t").await;
    assert_eq!(task.end(), "Failed/INCOMPLETE/InfrastructureError");
    assert_eq!(claims, 3);
}

on_memory!(
    b055_a_claim_that_is_held_up_loses_the_race,
    b055_a_node_that_was_cut_off_writes_nothing,
    b057_a_task_that_kills_the_real_agent_ends,
);
