//! Any course of lost claims, clean ends and lost control loops: each loss is one strike, no more than
//! the limit, and the pauses between the tries are kept.

use std::time::Duration;

use foreman_core::model::agentic_task::{AttemptEnd, RetrySpec};
use foreman_core::model::wellknown::ANNOTATION_CLAIM_EXPIRIES;
use foreman_core::model::{Object, TaskPhase};
use foreman_core::ports::Clock;
use foreman_core::testkit::fault::Fault;
use proptest::prelude::*;

use crate::claims::{beat_with, claim};
use crate::lab::{Lab, freeform, settle};
use crate::liveness::{add_node, beat_of, beside, pass};

/// What becomes of a placement or of the claim that follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happens {
    /// The node falls silent.
    NodeDies,
    /// The same after five turns more than any claim before.
    NodeDiesAfterTurns,
    /// The node is started anew and does not take the run over.
    NextLife,
    /// The node is alive and does not run it.
    Missing,
    /// The agent gives it back, and why.
    GivenBack(AttemptEnd),
    /// The node does not claim it.
    Unclaimed,
}

/// One thing that happens, and whether the control loop cannot finish the take-back and another one
/// comes to lead.
type Event = (Happens, bool);

fn something() -> impl Strategy<Value = Event> {
    let given_back = [
        AttemptEnd::Drained,
        AttemptEnd::HandedBack,
        AttemptEnd::Infrastructure,
        AttemptEnd::Suspended,
    ];
    let happens = prop_oneof![
        2 => Just(Happens::NodeDies),
        1 => Just(Happens::NodeDiesAfterTurns),
        1 => Just(Happens::NextLife),
        1 => Just(Happens::Missing),
        3 => prop::sample::select(given_back.to_vec()).prop_map(Happens::GivenBack),
        1 => Just(Happens::Unclaimed),
    ];
    (happens, any::<bool>())
}

/// What the strikes must be, by the words of the protocol.
struct Model {
    strikes: i64,
    limit: i64,
    backoff: i64,
}

impl Model {
    fn note(&mut self, happens: Happens) {
        match happens {
            Happens::NodeDiesAfterTurns => self.strikes = 1,
            Happens::NodeDies
            | Happens::NextLife
            | Happens::Missing
            | Happens::GivenBack(AttemptEnd::HandedBack | AttemptEnd::Infrastructure) => {
                self.strikes += 1;
            }
            Happens::GivenBack(_) | Happens::Unclaimed => {}
        }
    }

    fn pause(&self) -> i64 {
        let doublings = u32::try_from(self.strikes - 2).ok();
        doublings.map_or(0, |n| (self.backoff << n).min(600))
    }
}

/// The node whose agent the test plays, and the task `t`.
struct Stage {
    lab: Lab,
    session: u32,
    turn: i64,
}

impl Stage {
    fn session(&self) -> String {
        format!("s{}", self.session)
    }

    async fn beat(&self) {
        beat_of(&self.lab, "n", &self.session(), "Ready").await;
    }

    async fn phase(&self) -> Option<TaskPhase> {
        self.lab.phase("t").await
    }

    async fn strikes(&self) -> i64 {
        let task = self.lab.task_now("t").await;
        let text = task.meta.annotations.get(ANNOTATION_CLAIM_EXPIRIES);
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Lets the node beat until the task is placed there or has ended; says whether it is placed.
    async fn until_placed(&self) -> Result<bool, TestCaseError> {
        for second in 0..1200 {
            if second % 10 == 0 {
                self.beat().await;
                settle().await;
            }
            match self.phase().await {
                Some(TaskPhase::Scheduled) => return Ok(true),
                Some(TaskPhase::Failed) => return Ok(false),
                _ => pass(&self.lab, 1).await,
            }
        }
        let waiting = self.lab.task_now("t").await.status.waiting;
        Err(TestCaseError::fail(format!("it is never placed: {waiting:?}")))
    }

    /// Lets time pass, with heartbeats or in silence, until nobody holds the task.
    async fn until_taken_back(&self, beats: bool) -> Result<(), TestCaseError> {
        for second in 1..400 {
            if beats && second % 30 == 0 {
                beat_with(&self.lab, "n", &self.session(), &[]).await;
            }
            pass(&self.lab, 1).await;
            let held = [Some(TaskPhase::Running), Some(TaskPhase::Scheduled)];
            if !held.contains(&self.phase().await) {
                return Ok(());
            }
        }
        Err(TestCaseError::fail("it is never taken back"))
    }

    async fn give_back(&self, ended: AttemptEnd) {
        let now = self.lab.clock.wall();
        let back = |status: &mut foreman_core::model::agentic_task::AgenticTaskStatus| {
            status.phase = Some(TaskPhase::Pending.into());
            status.assigned_node = None;
            status.session = None;
            status.claimed_at = None;
            status.started_at = None;
            if let Some(last) = status.attempts.last_mut() {
                last.ended_at = Some(now);
                last.ended = Some(ended.into());
            }
        };
        self.lab.set_status("t", back).await;
        settle().await;
    }

    /// Plays what happens to the placement, up to where the control loop is done with it. Where the first
    /// one cannot take it back, it has counted and is gone, and the next one does.
    async fn play(&mut self, (happens, crash): Event) -> Result<(), TestCaseError> {
        if happens != Happens::Unclaimed {
            claim(&self.lab, "t", "n", Some(&self.session())).await;
            settle().await;
        }
        if happens == Happens::NodeDiesAfterTurns {
            self.turn += 5;
            let task: Object<_> = self.lab.task_now("t").await;
            beat_with(&self.lab, "n", &self.session(), &[(&task, self.turn)]).await;
            settle().await;
        }
        if happens == Happens::NextLife {
            self.session += 1;
            self.beat().await;
        }
        let beats = matches!(happens, Happens::NextLife | Happens::Missing | Happens::Unclaimed);
        if let Happens::GivenBack(ended) = happens {
            self.give_back(ended).await;
            return Ok(());
        }
        if !crash {
            return self.until_taken_back(beats).await;
        }
        self.lab.tasks.on_patch(|_, change| {
            let phase = &change.to_merge_patch(None)["status"]["phase"];
            (phase == "Pending" || phase == "Failed").then(Fault::unavailable)
        });
        for second in 1..=150 {
            if beats && second % 30 == 0 {
                beat_with(&self.lab, "n", &self.session(), &[]).await;
            }
            pass(&self.lab, 1).await;
        }
        Ok(())
    }
}

async fn each_counts_once(
    course: Vec<Event>,
    limit: i32,
    backoff: i64,
) -> Result<(), TestCaseError> {
    let mut stage = Stage { lab: Lab::new(), session: 0, turn: 0 };
    let mut model = Model { strikes: 0, limit: limit.into(), backoff };
    add_node(&stage.lab, "n").await;
    let mut spec = freeform(None);
    spec.retry = Some(RetrySpec { max_attempts: Some(limit), backoff_seconds: Some(backoff) });
    stage.lab.task("t", spec).await;
    for (step, event) in course.into_iter().enumerate() {
        let leader = stage.lab.reconciler();
        let mut first = Ok(true);
        beside(leader, async {
            first = stage.until_placed().await;
            if let Ok(true) = first
                && let Err(failed) = kept_the_pause(&stage, &model).await
            {
                first = Err(failed);
            }
            if let Ok(true) = first
                && let Err(failed) = stage.play(event).await
            {
                first = Err(failed);
            }
        })
        .await;
        prop_assert!(first?, "step {}: it ended before its limit", step);
        // The next leader finds what the last one left.
        stage.lab.tasks.mend();
        let mut second = Ok(());
        let beats = !matches!(event.0, Happens::NodeDies | Happens::NodeDiesAfterTurns);
        beside(stage.lab.reconciler(), async {
            second = stage.until_taken_back(beats).await;
            settle().await;
        })
        .await;
        second?;
        model.note(event.0);
        let strikes = stage.strikes().await;
        prop_assert_eq!(strikes, model.strikes, "step {}: {:?}", step, event);
        prop_assert!(strikes <= model.limit, "more than the limit");
        let ended = stage.phase().await == Some(TaskPhase::Failed);
        prop_assert_eq!(ended, strikes == model.limit, "step {}: {} strikes", step, strikes);
        if ended {
            return Ok(());
        }
    }
    Ok(())
}

/// A task that is placed now had its pause.
async fn kept_the_pause(stage: &Stage, model: &Model) -> Result<(), TestCaseError> {
    let attempts = stage.lab.task_now("t").await.status.attempts;
    let Some(last) = attempts.iter().filter_map(|attempt| attempt.ended_at).max() else {
        return Ok(());
    };
    let waited = stage.lab.clock.wall().since(last);
    let pause = Duration::from_secs(u64::try_from(model.pause()).unwrap_or(0));
    prop_assert!(waited >= pause, "placed after {waited:?}, the pause is {pause:?}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn each_lost_claim_is_one_strike_and_no_more_than_the_limit_and_pauses_are_kept(
        course in prop::collection::vec(something(), 1..7), limit in 1_i32..5, backoff in 0_i64..50,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|error| TestCaseError::fail(error.to_string()))?;
        runtime.block_on(each_counts_once(course, limit, backoff))?;
    }
}
