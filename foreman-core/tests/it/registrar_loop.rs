//! The registrar's loop: when it beats.

use std::sync::Arc;
use std::time::Duration;

use foreman_core::fleet::{NodeState, Registrar, RegistrarEnd};
use foreman_core::model::{FleetNode, NodePhase};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Clock, Store};
use foreman_core::testkit::fault::Operation;
use serde_json::json;
use tokio::sync::watch;

use crate::lab::{Fixed, Lab, away, identity, in_time, settle};
use crate::registrar::{patches, ram};

/// Runs the registrar beside a story, and stops it at the end.
async fn beside(me: &Registrar, story: impl Future<Output = ()>) {
    let (stop, stopped) = watch::channel(false);
    let story = async {
        story.await;
        stop.send_replace(true);
    };
    let (end, ()) = in_time(async { tokio::join!(me.run(stopped), story) }).await;
    assert_eq!(end, RegistrarEnd::Stopped);
}

async fn ready(lab: &Lab) -> Registrar {
    let me = lab.registrar(identity("n"), Fixed::new(ram(5)));
    me.upsert().await.expect("registered");
    me.publish_session().await.expect("published");
    lab.nodes.forget_calls();
    me
}

#[tokio::test]
async fn beats_come_at_once_and_then_every_interval_within_a_tenth() {
    let lab = Lab::new();
    let me = ready(&lab).await;
    beside(&me, async {
        settle().await;
        assert_eq!(patches(&lab).len(), 1, "at once");
        let mut intervals = Vec::new();
        for beat in 2..20 {
            let before = lab.clock.awake();
            while patches(&lab).len() < beat {
                lab.clock.advance(Duration::from_millis(50));
                settle().await;
            }
            intervals.push(lab.clock.awake().since(before));
        }
        let (least, most) = (intervals.iter().min(), intervals.iter().max());
        assert!(least >= Some(&Duration::from_secs(27)), "{intervals:?}");
        assert!(most <= Some(&Duration::from_millis(33_050)), "{intervals:?}");
        assert!(most > least, "chance spreads the beats of a fleet");
    })
    .await;
}

#[tokio::test]
async fn a_failed_beat_is_tried_again_after_1_2_4_8_seconds_and_never_ends_the_loop() {
    let lab = Lab::new();
    let me = ready(&lab).await;
    lab.nodes.break_down([Operation::Patch], &away());
    beside(&me, async {
        settle().await;
        assert_eq!(patches(&lab).len(), 1);
        for (tries, pause) in [1, 2, 4, 8].into_iter().enumerate() {
            lab.clock.advance(Duration::from_millis(pause * 1000 - 1));
            settle().await;
            assert_eq!(patches(&lab).len(), tries + 1, "before {pause} s");
            lab.clock.advance(Duration::from_millis(1));
            settle().await;
            assert_eq!(patches(&lab).len(), tries + 2, "after {pause} s");
        }
        for _ in 0..20 {
            let tries = patches(&lab).len();
            for _ in 0..6 {
                lab.clock.advance(Duration::from_secs(5));
                settle().await;
            }
            assert!(patches(&lab).len() > tries, "within each further interval");
        }
        lab.nodes.mend();
        for _ in 0..6 {
            lab.clock.advance(Duration::from_secs(5));
            settle().await;
        }
        let node = lab.node_now("n").await.expect("there");
        assert!(node.status.last_heartbeat_time.is_some(), "it beats again");
    })
    .await;
}

#[tokio::test]
async fn a_phase_that_is_not_mine_is_answered_by_one_beat_at_once() {
    let lab = Lab::new();
    let me = ready(&lab).await;
    beside(&me, async {
        settle().await;
        lab.patch_node("n", Change::of(Part::Status).set("phase", NodePhase::NotReady)).await;
        lab.nodes.forget_calls();
        for _ in 0..7 {
            lab.clock.advance(Duration::from_millis(4_800));
            settle().await;
        }
        assert_eq!(patches(&lab).len(), 2, "the regular beat and one at once");
        let node = lab.node_now("n").await.expect("there");
        assert!(node.status.phase.is_some_and(|phase| phase.is(NodePhase::Ready)));
    })
    .await;
}

#[tokio::test]
async fn whoever_overwrites_the_phase_each_time_is_not_answered_for_ever() {
    let lab = Lab::new();
    let me = ready(&lab).await;
    let store = lab.store.clone();
    lab.nodes.on_patch(move |key, _| {
        let change = Change::<FleetNode>::of(Part::Status).set("phase", NodePhase::NotReady);
        let expect = foreman_core::ports::Expect::Any;
        let write = futures::FutureExt::now_or_never(Store::patch(&*store, key, change, expect));
        assert!(write.is_some_and(|answer| answer.is_ok()));
        None
    });
    beside(&me, async {
        settle().await;
        assert!(patches(&lab).len() <= 2, "{} beats in no time", patches(&lab).len());
    })
    .await;
}

#[tokio::test]
async fn after_sleep_it_beats_at_once_though_its_own_clock_stood_still() {
    let lab = Lab::new();
    let me = ready(&lab).await;
    beside(&me, async {
        settle().await;
        assert_eq!(patches(&lab).len(), 1);
        lab.clock.asleep(Duration::from_secs(4));
        lab.clock.advance(Duration::from_secs(5));
        settle().await;
        assert_eq!(patches(&lab).len(), 1, "four seconds are no sleep");
        lab.clock.asleep(Duration::from_hours(1));
        lab.clock.advance(Duration::from_secs(5));
        settle().await;
        assert_eq!(patches(&lab).len(), 2);
    })
    .await;
}

#[tokio::test]
async fn after_the_goodbye_no_beat_says_ready() {
    let lab = Lab::new();
    let me = ready(&lab).await;
    beside(&me, async {
        settle().await;
        me.set_state(|state: &mut NodeState| state.phase = NodePhase::Draining);
        lab.nodes.forget_calls();
        for _ in 0..40 {
            lab.clock.advance(Duration::from_secs(5));
            settle().await;
        }
        let phases: Vec<_> = patches(&lab)
            .iter()
            .filter_map(|patch| patch["status"].get("phase").cloned())
            .collect();
        assert_eq!(phases, [json!("Draining")]);
        assert!(patches(&lab).len() > 3, "it goes on beating");
    })
    .await;
}

#[tokio::test]
async fn beats_never_overlap_so_none_can_undo_a_later_one() {
    let lab = Lab::new();
    let me = Arc::new(ready(&lab).await);
    let (first, second) = tokio::join!(me.heartbeat(), me.heartbeat());
    first.expect("beat");
    second.expect("beat");
    let full = patches(&lab).iter().filter(|patch| patch["status"].get("os").is_some()).count();
    assert_eq!(full, 1, "the second knew the first's answer");
}

#[tokio::test]
async fn an_interval_beyond_the_protocol_is_clamped() {
    for (asked_ms, used) in [(10, 1), (300_000, 30)] {
        let lab = Lab::new();
        let me = ready(&lab).await.every(Duration::from_millis(asked_ms));
        beside(&me, async {
            settle().await;
            lab.nodes.forget_calls();
            let mut passed = Duration::ZERO;
            while patches(&lab).is_empty() {
                let step = Duration::from_millis(100);
                lab.clock.advance(step);
                passed += step;
                settle().await;
            }
            let used = Duration::from_secs(used);
            assert!(
                passed >= used * 9 / 10 && passed <= used * 11 / 10 + Duration::from_millis(100),
                "{passed:?}"
            );
        })
        .await;
    }
}
