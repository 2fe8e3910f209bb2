//! How an agent starts: whose node it is, and what became of its tasks meanwhile.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use foreman_core::control::{AgentEnd, AgentError, AgentSettings, NodeAgent, Shutdown};
use foreman_core::model::{
    Capability, FleetNode, FleetNodeSpec, Key, NewObject, NodePhase, TaskPhase, Uid,
};
use foreman_core::ports::recorder::LogRecorder;
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Clock, Executor, Job, Progress, RunEnd, Stop, Store};
use foreman_core::testkit::fault::Operation;
use foreman_core::testkit::scripted::{ScriptedExecutor, on_target};
use foreman_core::{Authority, LastBeat};
use tokio::sync::watch;

use crate::lab::{Fixed, Lab, away, freeform, identity, in_time, settle};

fn agent(lab: &Lab, settings: AgentSettings, executor: Arc<dyn Executor>) -> NodeAgent {
    let registrar = Arc::new(lab.registrar(identity("one"), Fixed::new(Capability::default())));
    NodeAgent::new(
        lab.stores.clone(),
        registrar,
        executor,
        lab.clock.clone(),
        Arc::new(LogRecorder),
        settings,
    )
}

/// The node as an earlier session left it.
async fn left_by(lab: &Lab, session: Option<&str>, phase: NodePhase) {
    let spec = FleetNodeSpec { node_name: "one".into(), ..FleetNodeSpec::default() };
    let new = NewObject::<FleetNode>::new(Key::cluster("one"), spec);
    Store::create(&*lab.store, new).await.expect("created");
    let mut change =
        Change::of(Part::Status).set("phase", phase).set("lastHeartbeatTime", lab.clock.wall());
    if let Some(session) = session {
        change = change.set("session", session);
    }
    lab.patch_node("one", change).await;
}

async fn session_now(lab: &Lab) -> Option<String> {
    lab.node_now("one").await.expect("there").status.session
}

#[tokio::test]
async fn a_node_that_is_mine_or_nobodys_or_leaving_is_taken_at_once() {
    let known = AgentSettings { known_session: Some("old".into()), ..AgentSettings::default() };
    let takeover = AgentSettings { takeover: true, ..AgentSettings::default() };
    let cases = [
        (Some("old"), NodePhase::Ready, known),
        (None, NodePhase::Ready, AgentSettings::default()),
        (Some("other"), NodePhase::Draining, AgentSettings::default()),
        (Some("other"), NodePhase::Ready, takeover),
    ];
    for (session, phase, settings) in cases {
        let lab = Lab::new();
        left_by(&lab, session, phase).await;
        let agent = agent(&lab, settings, ScriptedExecutor::on_target());
        in_time(agent.start()).await.expect("started");
        let node = lab.node_now("one").await.expect("there");
        assert!(node.status.session.is_some() && node.status.session.as_deref() != session);
        assert!(
            node.status.phase.is_some_and(|phase| phase.is(NodePhase::Unknown)),
            "not yet placeable"
        );
        assert_eq!(lab.clock.awake().since_origin(), Duration::ZERO, "nothing was waited for");
    }
}

#[tokio::test]
async fn another_session_that_stays_silent_for_35_seconds_is_replaced() {
    let lab = Lab::new();
    left_by(&lab, Some("other"), NodePhase::Ready).await;
    let agent = agent(&lab, AgentSettings::default(), ScriptedExecutor::on_target());
    let story = async {
        for _ in 0..34 {
            lab.clock.advance(Duration::from_secs(1));
            settle().await;
        }
        assert_eq!(session_now(&lab).await.as_deref(), Some("other"), "after 34 s");
        lab.clock.advance(Duration::from_secs(1));
    };
    let (started, ()) = in_time(async { tokio::join!(agent.start(), story) }).await;
    started.expect("started");
    assert_ne!(session_now(&lab).await.as_deref(), Some("other"));
}

#[tokio::test]
async fn another_session_that_beats_keeps_the_node() {
    let lab = Lab::new();
    left_by(&lab, Some("other"), NodePhase::Ready).await;
    let agent = agent(&lab, AgentSettings::default(), ScriptedExecutor::on_target());
    let story = async {
        for _ in 0..30 {
            lab.clock.advance(Duration::from_secs(1));
            settle().await;
        }
        let beat = Change::of(Part::Status).set("lastHeartbeatTime", lab.clock.wall());
        lab.patch_node("one", beat).await;
        lab.clock.advance(Duration::from_secs(1));
    };
    let (started, ()) = in_time(async { tokio::join!(agent.start(), story) }).await;
    let error = started.expect_err("it lives elsewhere");
    assert!(matches!(&error, AgentError::LiveElsewhere { name } if name == "one"), "{error}");
    assert_eq!(session_now(&lab).await.as_deref(), Some("other"));
}

#[tokio::test]
async fn silence_that_nobody_could_hear_is_none() {
    let lab = Lab::new();
    left_by(&lab, Some("other"), NodePhase::Ready).await;
    let agent = agent(&lab, AgentSettings::default(), ScriptedExecutor::on_target());
    let story = async {
        settle().await;
        lab.nodes.break_down([Operation::Get], &away());
        for _ in 0..60 {
            lab.clock.advance(Duration::from_secs(1));
            settle().await;
        }
        assert_eq!(session_now(&lab).await.as_deref(), Some("other"), "while the store is away");
        let beat = Change::of(Part::Status).set("lastHeartbeatTime", lab.clock.wall());
        lab.patch_node("one", beat).await;
        lab.nodes.mend();
        lab.clock.advance(Duration::from_secs(1));
    };
    let (started, ()) = in_time(async { tokio::join!(agent.start(), story) }).await;
    assert!(matches!(started, Err(AgentError::LiveElsewhere { .. })), "{started:?}");
}

#[tokio::test]
async fn a_start_whose_answer_was_lost_does_not_wait_for_itself() {
    let lab = Lab::new();
    // The first beat is done and its answer is lost: the node then shows my own session.
    lab.nodes.script(
        Operation::Patch,
        [None, Some(foreman_core::testkit::fault::Fault::uncertain_but_done())],
    );
    let agent = agent(&lab, AgentSettings::default(), ScriptedExecutor::on_target());
    let story = async {
        settle().await;
        lab.clock.advance(Duration::from_secs(1));
    };
    let (started, ()) = in_time(async { tokio::join!(agent.start(), story) }).await;
    started.expect("started within the second");
}

#[tokio::test]
async fn a_start_that_waits_for_the_store_can_be_called_off() {
    let lab = Lab::new();
    lab.nodes.break_down([Operation::Get, Operation::Create], &away());
    let foreman = lab.one_node(1, &ScriptedExecutor::on_target());
    assert_eq!(lab.run(&foreman, settle()).await, AgentEnd::Drained);
}

/// Holds journals of the attempts up to `highest`.
pub(crate) struct WithJournals {
    pub(crate) highest: i64,
    pub(crate) inner: Arc<ScriptedExecutor>,
}

#[async_trait]
impl Executor for WithJournals {
    async fn run(
        &self,
        job: Job,
        authority: Arc<Authority>,
        progress: watch::Sender<Progress>,
        stop: watch::Receiver<Stop>,
    ) -> RunEnd {
        self.inner.run(job, authority, progress, stop).await
    }

    async fn highest_attempt(&self, _: &Uid) -> i64 {
        self.highest
    }
}

/// A task that ran here under session `old`, after a start of an agent that holds such journals.
async fn after_restart(highest: i64) -> (Lab, Arc<ScriptedExecutor>) {
    after_a_life_that_ended(highest, NodePhase::Ready).await
}

/// The same after an hour in which the machine was off; the node was left in that phase, a minute after
/// the claim and with the run at its seventh turn.
async fn after_a_life_that_ended(highest: i64, phase: NodePhase) -> (Lab, Arc<ScriptedExecutor>) {
    let lab = Lab::new();
    let task = lab.task("t", freeform(None)).await;
    let now = lab.clock.wall();
    lab.clock.advance(Duration::from_mins(1));
    left_by(&lab, Some("old"), phase).await;
    let run = foreman_core::model::fleet_node::RunSummary {
        uid: Some(task.uid().to_string()),
        turn: Some(7),
        ..foreman_core::model::fleet_node::RunSummary::default()
    };
    lab.patch_node("one", Change::of(Part::Status).set("runs", vec![run])).await;
    lab.clock.advance(Duration::from_hours(1));
    lab.set_status("t", |status| {
        status.phase = Some(TaskPhase::Running.into());
        status.assigned_node = Some("one".into());
        status.attempt = Some(2);
        status.session = Some("old".into());
        status.claimed_at = Some(now);
        status.started_at = Some(now);
        status.allowance = Some(60);
        status.attempts = vec![foreman_core::model::agentic_task::AttemptRecord {
            attempt: Some(2),
            started_at: Some(now),
            ..Default::default()
        }];
    })
    .await;
    let inner = ScriptedExecutor::new(|run| Box::pin(async move { on_target(&run.job) }));
    let executor = Arc::new(WithJournals { highest, inner: inner.clone() });
    let settings = AgentSettings { known_session: Some("old".into()), ..AgentSettings::default() };
    let agent = agent(&lab, settings, executor);
    in_time(agent.start()).await.expect("started");
    let story = async {
        lab.until(|| async { lab.phase("t").await != Some(TaskPhase::Running) }).await;
        settle().await;
        lab.shutdown.send_replace(Shutdown::Drain);
    };
    let serve = agent.serve(lab.shutdown.subscribe());
    let (end, ()) = in_time(async { tokio::join!(serve, story) }).await;
    assert_eq!(end, AgentEnd::Drained);
    (lab, inner)
}

fn attempts(task: &foreman_core::model::Object<foreman_core::model::AgenticTask>) -> Vec<String> {
    let attempts = task.status.attempts.iter();
    attempts
        .map(|one| {
            let ended = one.ended.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("{} {ended}", one.attempt.unwrap_or(0))
        })
        .collect()
}

#[tokio::test]
async fn a_run_whose_journal_is_here_is_adopted() {
    // A journal of attempt 4 tells of claims that the object never showed.
    for (highest, attempt) in [(1, 3), (2, 3), (4, 5)] {
        let (lab, executor) = after_restart(highest).await;
        let task = lab.task_now("t").await;
        assert_eq!(task.status.known_phase(), Some(TaskPhase::Succeeded));
        assert_eq!(executor.ran(), ["t"]);
        assert_eq!(attempts(&task), ["2 Adopted".to_owned(), format!("{attempt} Finished")]);
        let started: Vec<_> =
            task.status.attempts.iter().filter_map(|one| one.started_at).collect();
        assert!(started[1].since(started[0]) >= Duration::from_secs(1), "{started:?}");
    }
}

#[tokio::test]
async fn a_run_that_left_no_journal_is_handed_back() {
    let (lab, executor) = after_restart(0).await;
    let task = lab.task_now("t").await;
    assert_eq!(task.status.known_phase(), Some(TaskPhase::Pending));
    assert_eq!(executor.ran(), Vec::<String>::new());
    assert_eq!(attempts(&task), ["2 HandedBack"]);
    let running =
        foreman_core::model::condition::find_condition(&task.status.conditions, "Running");
    assert_eq!(running.map(|condition| condition.reason.as_str()), Some("AgentRestartRecovery"));
    assert_eq!((task.status.assigned_node, task.status.attempt), (None, Some(2)));
    // What the life before spent went with its journal: all that it might have spent counts.
    let usage = task.status.usage.expect("charged");
    assert_eq!((usage.prompt_tokens, usage.estimated), (Some(60), Some(true)));
}

#[tokio::test]
async fn a_claim_of_an_earlier_life_ended_when_it_was_heard_last_and_a_goodbye_is_no_crash() {
    for (phase, journals, ended) in [
        (NodePhase::Ready, 2, "Adopted"),
        (NodePhase::Draining, 2, "Drained"),
        (NodePhase::Ready, 0, "HandedBack"),
        (NodePhase::Draining, 0, "Drained"),
    ] {
        let (lab, _) = after_a_life_that_ended(journals, phase).await;
        let record = lab.task_now("t").await.status.attempts.into_iter().next().expect("kept");
        assert_eq!(record.ended.map(|it| it.to_string()).as_deref(), Some(ended), "{phase}");
        let ran = record.ended_at.expect("closed").since(record.started_at.expect("begun"));
        assert_eq!(ran, Duration::from_mins(1), "the hour that the machine was off does not count");
        assert_eq!(record.turn, Some(7));
    }
}

#[test]
fn the_last_beat_is_public_for_embedders() {
    fn takes(_: Option<LastBeat>) {}
    takes(None);
}
