//! Who is alive, through the control loop: nodes that fall silent, come back, leave for good.

use std::time::Duration;

use foreman_core::control::Reconciler;
use foreman_core::model::condition::{find_condition, is_true};
use foreman_core::model::wellknown::LABEL_IN_CLUSTER;
use foreman_core::model::{FleetNode, FleetNodeSpec, Key, NewObject, Object, TaskPhase};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Clock, Store};
use foreman_core::testkit::fault::{Fault, Operation};
use tokio::sync::watch;

use crate::lab::{Lab, freeform, in_time, settle};

const SECOND: Duration = Duration::from_secs(1);

/// A node whose agent the test plays.
pub(crate) async fn add_node(lab: &Lab, name: &str) {
    add_node_with(lab, name, |new| new).await;
}

pub(crate) async fn add_node_with(
    lab: &Lab,
    name: &str,
    edit: impl FnOnce(NewObject<FleetNode>) -> NewObject<FleetNode>,
) {
    let spec = FleetNodeSpec { node_name: name.into(), ..FleetNodeSpec::default() };
    let new = edit(NewObject::<FleetNode>::new(Key::cluster(name), spec));
    Store::create(&*lab.store, new).await.expect("created");
}

/// A heartbeat of somebody else's agent, which says nothing but that it is there.
pub(crate) async fn beat(lab: &Lab, name: &str) {
    let beat = Change::of(Part::Status).set("lastHeartbeatTime", lab.clock.wall());
    lab.patch_node(name, beat).await;
}

/// A heartbeat of an agent of ours.
pub(crate) async fn beat_of(lab: &Lab, name: &str, session: &str, phase: &str) {
    let beat = Change::of(Part::Status)
        .set("session", session)
        .set("phase", phase)
        .set("lastHeartbeatTime", lab.clock.wall());
    lab.patch_node(name, beat).await;
}

pub(crate) fn phase_of(node: &Object<FleetNode>) -> String {
    node.status.phase.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// Lets time pass in steps of a second, with everything that can happen in each.
pub(crate) async fn pass(lab: &Lab, seconds: u64) {
    for _ in 0..seconds {
        lab.clock.advance(SECOND);
        settle().await;
    }
}

/// Runs the control loop beside a story.
pub(crate) async fn beside(reconciler: Reconciler, story: impl Future<Output = ()>) {
    let (stop, stopped) = watch::channel(false);
    let story = async {
        settle().await;
        story.await;
        stop.send_replace(true);
    };
    in_time(async { tokio::join!(reconciler.run(stopped), story) }).await;
}

async fn shown(lab: &Lab, name: &str) -> (String, Option<String>) {
    let node = lab.node_now(name).await.expect("there");
    let ready = find_condition(&node.status.conditions, "Ready");
    (phase_of(&node), ready.map(|ready| format!("{}/{}", ready.status, ready.reason)))
}

#[tokio::test]
async fn a_foreign_node_turns_ready_not_ready_and_ready_again_without_a_word_of_others() {
    let lab = Lab::new();
    add_node(&lab, "n").await;
    let state = |phase: &str, ready: &str| (phase.to_owned(), Some(ready.to_owned()));
    beside(lab.reconciler(), async {
        settle().await;
        assert_eq!(shown(&lab, "n").await, state("NotReady", "False/HeartbeatStale"), "never beat");
        beat(&lab, "n").await;
        settle().await;
        assert_eq!(shown(&lab, "n").await, state("Ready", "True/HeartbeatFresh"));
        pass(&lab, 90).await;
        assert_eq!(shown(&lab, "n").await, state("Ready", "True/HeartbeatFresh"));
        pass(&lab, 2).await;
        assert_eq!(shown(&lab, "n").await, state("NotReady", "False/HeartbeatStale"));
        let before = lab.store.revision();
        pass(&lab, 300).await;
        assert_eq!(lab.store.revision(), before, "said once");
        beat(&lab, "n").await;
        settle().await;
        assert_eq!(shown(&lab, "n").await, state("Ready", "True/HeartbeatFresh"));
    })
    .await;
}

#[tokio::test]
async fn a_node_of_ours_is_never_called_ready_by_anybody_else() {
    let lab = Lab::new();
    add_node(&lab, "n").await;
    beat_of(&lab, "n", "s", "Ready").await;
    beside(lab.reconciler(), async {
        settle().await;
        assert!(is_true(&lab.node_now("n").await.expect("there").status.conditions, "Ready"));
        pass(&lab, 92).await;
        assert_eq!(shown(&lab, "n").await.0, "NotReady");
        beat(&lab, "n").await;
        settle().await;
        assert_eq!(shown(&lab, "n").await.0, "NotReady", "its next beat says so itself");
        beat_of(&lab, "n", "s", "Ready").await;
        settle().await;
        assert_eq!(shown(&lab, "n").await.1.as_deref(), Some("True/HeartbeatFresh"));
    })
    .await;
}

#[tokio::test]
async fn what_a_late_watch_did_not_show_is_seen_by_the_read_before_the_word() {
    let lab = Lab::new();
    add_node(&lab, "n").await;
    beat_of(&lab, "n", "s", "Ready").await;
    beside(lab.reconciler(), async {
        pass(&lab, 85).await;
        // The node beats, but the loop's watch breaks and stays broken.
        lab.nodes.script(Operation::Watch, vec![Fault::unavailable(); 3]);
        beat_of(&lab, "n", "s", "Ready").await;
        pass(&lab, 89).await;
        assert_eq!(shown(&lab, "n").await.0, "Ready");
        pass(&lab, 3).await;
        assert_eq!(shown(&lab, "n").await.0, "NotReady", "silent for 90 s now");
    })
    .await;
}

#[tokio::test]
async fn a_store_that_was_away_lets_every_silence_begin_anew() {
    let lab = Lab::new();
    add_node(&lab, "n").await;
    beat_of(&lab, "n", "s", "Ready").await;
    beside(lab.reconciler(), async {
        pass(&lab, 60).await;
        lab.nodes.break_down([Operation::Get], &crate::lab::away());
        pass(&lab, 40).await;
        assert_eq!(shown(&lab, "n").await.0, "Ready", "nothing is written unseen");
        lab.nodes.mend();
        // At 91 s the read failed; at 182 s it does not, and the silence begins.
        pass(&lab, 172).await;
        assert_eq!(shown(&lab, "n").await.0, "Ready", "nobody knew whether it was silent before");
        pass(&lab, 5).await;
        assert_eq!(shown(&lab, "n").await.0, "NotReady");
    })
    .await;
}

#[tokio::test]
async fn our_own_sleep_is_nobodys_silence() {
    let lab = Lab::new();
    add_node(&lab, "n").await;
    beat_of(&lab, "n", "s", "Ready").await;
    beside(lab.reconciler(), async {
        pass(&lab, 60).await;
        lab.clock.asleep(Duration::from_hours(8));
        pass(&lab, 90).await;
        assert_eq!(shown(&lab, "n").await.0, "Ready");
        // The loop looked within 10 s whether it slept, and heard a full silence since.
        pass(&lab, 12).await;
        assert_eq!(shown(&lab, "n").await.0, "NotReady");
    })
    .await;
}

#[tokio::test]
async fn a_clock_that_is_off_is_said_and_taken_back() {
    let lab = Lab::new();
    add_node(&lab, "n").await;
    let says = |seconds: u64| {
        Change::of(Part::Status)
            .set("session", "s")
            .set("phase", "Ready")
            .set("lastHeartbeatTime", lab.clock.wall().plus(Duration::from_secs(seconds)))
    };
    lab.patch_node("n", says(0)).await;
    let skewed = || async {
        let node = lab.node_now("n").await.expect("there");
        find_condition(&node.status.conditions, "ClockSkew").map(|skew| skew.status.to_string())
    };
    beside(lab.reconciler(), async {
        pass(&lab, 30).await;
        lab.patch_node("n", says(30)).await;
        settle().await;
        assert_eq!(skewed().await, None);
        lab.task("t", freeform(None)).await;
        lab.patch_node("n", says(31)).await;
        settle().await;
        assert_eq!(skewed().await.as_deref(), Some("True"));
        assert_eq!(
            lab.phase("t").await,
            Some(TaskPhase::Scheduled),
            "it is placeable all the same"
        );
        lab.patch_node("n", says(3)).await;
        settle().await;
        assert_eq!(skewed().await.as_deref(), Some("False"));
    })
    .await;
}

#[tokio::test]
async fn a_drained_node_is_deleted_after_ten_minutes_unless_it_comes_back() {
    let lab = Lab::new();
    for name in ["left", "back"] {
        add_node(&lab, name).await;
        beat_of(&lab, name, "s", "Draining").await;
        lab.patch_node(name, Change::of(Part::Status).clear("session")).await;
    }
    add_node(&lab, "person").await;
    beat_of(&lab, "person", "s", "Draining").await;
    add_node_with(&lab, "pod", |new| new.label(LABEL_IN_CLUSTER, "true")).await;
    beat_of(&lab, "pod", "s", "Draining").await;
    beside(lab.reconciler(), async {
        pass(&lab, 599).await;
        for name in ["left", "back", "person", "pod"] {
            let node = lab.node_now(name).await.expect(name);
            assert_eq!(phase_of(&node), "Draining");
            assert!(is_true(&node.status.conditions, "Drained"), "{name}: nothing runs there");
        }
        // Between the decision and the deletion it beats.
        lab.nodes.hold(Operation::Delete);
        pass(&lab, 3).await;
        beat(&lab, "back").await;
        lab.nodes.let_go(Operation::Delete);
        settle().await;
        assert!(lab.node_now("left").await.is_none());
        assert!(lab.node_now("pod").await.is_none());
        assert!(lab.node_now("back").await.is_some());
        assert!(lab.node_now("person").await.is_some(), "its labels and slots are a person's");
    })
    .await;
}

#[tokio::test]
async fn a_foreign_node_shows_its_task_and_forgets_it_when_it_ends() {
    let lab = Lab::new();
    add_node(&lab, "n").await;
    beat(&lab, "n").await;
    let current = || async { lab.node_now("n").await.expect("there").status.current_task };
    beside(lab.reconciler(), async {
        lab.patch_node("n", Change::of(Part::Status).set("currentTask", "default/nobody")).await;
        settle().await;
        assert_eq!(current().await, None, "it names no task that is here");
        lab.task("t", freeform(None)).await;
        settle().await;
        assert_eq!(lab.phase("t").await, Some(TaskPhase::Scheduled));
        assert_eq!(current().await.as_deref(), Some("default/t"));
        lab.set_status("t", |status| status.phase = Some(TaskPhase::Succeeded.into())).await;
        settle().await;
        assert_eq!(current().await, None);
    })
    .await;
}
