//! Permits: who may do an outside effect now.

use std::sync::Arc;
use std::time::Duration;

use foreman_core::model::agentic_task::AgenticTaskStatus;
use foreman_core::model::{Fence, Key, NodeName, Session, TaskPhase};
use foreman_core::ports::Clock;
use foreman_core::testkit::fault::{Fault, Operation};
use foreman_core::testkit::mock::MockTaskStore;
use foreman_core::{Authority, BeatBegan, Refused};
use tokio::sync::watch;

use crate::lab::{Lab, freeform};

struct Claimed {
    lab: Lab,
    beats: watch::Sender<Option<BeatBegan>>,
    authority: Authority,
}

impl Claimed {
    async fn new() -> Self {
        let lab = Lab::new();
        let task = lab.task("t", freeform(None)).await;
        let now = lab.clock.wall();
        lab.set_status("t", |status| {
            status.phase = Some(TaskPhase::Running.into());
            status.assigned_node = Some("n".into());
            status.attempt = Some(1);
            status.session = Some("s".into());
            status.claimed_at = Some(now);
        })
        .await;
        let fence = Fence {
            uid: task.uid().clone(),
            attempt: 1,
            session: Session::new("s"),
            node: NodeName::parse("n").expect("valid"),
            claimed_at: now,
        };
        let (beats, seen) = watch::channel(None);
        let key = Key::namespaced("default", "t");
        let authority =
            Authority::new(lab.stores.tasks.clone(), lab.clock.clone(), seen, key, fence);
        Self { lab, beats, authority }
    }

    fn beat(&self) {
        self.beats.send_replace(Some(BeatBegan::now(&*self.lab.clock)));
    }

    async fn refusal(&self) -> String {
        let refused = self.authority.permit("push").await.expect_err("refused");
        let source = std::error::Error::source(&refused).map(|cause| format!(": {cause}"));
        format!(
            "{refused}{}{}",
            source.unwrap_or_default(),
            if refused.may_pass() { " (may pass)" } else { "" }
        )
    }
}

#[tokio::test]
async fn a_permit_needs_a_beat_that_began_within_60_seconds_and_ends_with_it() {
    let claimed = Claimed::new().await;
    let none = "no heartbeat succeeded within the last 60 s, so push must wait (may pass)";
    assert_eq!(claimed.refusal().await, none);
    claimed.beat();
    let permit = claimed.authority.permit("push").await.expect("permitted");
    assert_eq!((permit.effect(), permit.fence()), ("push", claimed.authority.fence()));
    claimed.lab.clock.advance(Duration::from_mins(1));
    assert!(permit.still_holds());
    claimed.lab.clock.advance(Duration::from_millis(1));
    assert!(!permit.still_holds());
    assert_eq!(claimed.refusal().await, none);
    claimed.beat();
    assert!(permit.still_holds(), "a further beat moves the deadline");
    claimed.lab.clock.asleep(Duration::from_secs(61));
    assert!(!permit.still_holds(), "rights age while the machine sleeps");
    assert_eq!(claimed.refusal().await, none);
}

#[tokio::test]
async fn after_a_sleep_a_permit_needs_a_new_beat_however_short_it_was() {
    let claimed = Claimed::new().await;
    claimed.beat();
    let permit = claimed.authority.permit("push").await.expect("permitted");
    claimed.lab.clock.asleep(Duration::from_secs(5));
    assert!(permit.still_holds(), "clocks are not that exact");
    claimed.lab.clock.asleep(Duration::from_millis(1));
    assert!(!permit.still_holds());
    assert!(claimed.refusal().await.ends_with("(may pass)"));
    claimed.beat();
    assert!(permit.still_holds());
    claimed.authority.permit("push").await.expect("permitted after the beat");
}

type Edit = fn(&mut AgenticTaskStatus);

#[tokio::test]
async fn a_lost_fence_gives_none_and_says_what_differs() {
    let cases: [(Edit, &str); 5] = [
        (|s| s.phase = Some(TaskPhase::Pending.into()), "phase is Pending now, it was Running"),
        (|s| s.assigned_node = Some("m".into()), "assignedNode is m now, it was n"),
        (|s| s.attempt = Some(2), "attempt is 2 now, it was 1"),
        (|s| s.session = Some("z".into()), "session is z now, it was s"),
        (|s| s.claimed_at = None, "claimedAt is absent now, it was 2026-01-01T00:00:00Z"),
    ];
    for (edit, what) in cases {
        let claimed = Claimed::new().await;
        claimed.beat();
        claimed.lab.set_status("t", edit).await;
        assert_eq!(
            claimed.refusal().await,
            format!("push must not be done: the claim is lost: {what}")
        );
    }
}

#[tokio::test]
async fn a_task_that_was_made_again_or_is_gone_or_cancelled_gives_none() {
    let claimed = Claimed::new().await;
    claimed.beat();
    claimed.lab.set_spec("t", "cancel", true).await;
    assert_eq!(claimed.refusal().await, "the task is cancelled, so push must not be done");
    claimed.lab.delete_task("t").await;
    assert_eq!(claimed.refusal().await, "the task is gone, so push must not be done");
    claimed.lab.task("t", freeform(None)).await;
    assert!(claimed.refusal().await.contains("the claim is lost: uid is"));
}

#[tokio::test]
async fn without_the_store_the_effect_waits() {
    let claimed = Claimed::new().await;
    claimed.beat();
    claimed.lab.tasks.script(Operation::Get, [Fault::unavailable()]);
    let refused = claimed.authority.permit("push").await.expect_err("away");
    assert!(matches!(refused, Refused::Store { .. }) && refused.may_pass(), "{refused}");
    claimed.authority.permit("push").await.expect("permitted once it is back");
}

#[tokio::test]
async fn a_read_that_took_too_long_is_no_leave() {
    let claimed = Claimed::new().await;
    claimed.beat();
    // The machine sleeps between the check of the window and the answer of the store.
    let clock = claimed.lab.clock.clone();
    let shown = claimed.lab.task_now("t").await;
    let mut slow = MockTaskStore::new();
    let asleep = clock.clone();
    slow.expect_get().times(1).returning(move |_| {
        asleep.asleep(Duration::from_secs(61));
        Ok(Some(shown.clone()))
    });
    let authority = Authority::new(
        Arc::new(slow),
        clock,
        claimed.beats.subscribe(),
        Key::namespaced("default", "t"),
        claimed.authority.fence().clone(),
    );
    let refused = authority.permit("push").await.expect_err("too late");
    assert!(matches!(refused, Refused::NoRecentBeat { .. }), "{refused}");
}
