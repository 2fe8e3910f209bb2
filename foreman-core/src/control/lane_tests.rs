use proptest::prelude::*;

use super::*;
use crate::control::write::Rank;
use crate::model::agentic_task::AgenticTask;
use crate::model::ids::{Key, Revision};
use crate::ports::store::{Change, Part};

const RATES: Rates = Rates { quiet: 50, busy: 10 };

fn at(millis: u64) -> AwakeTime {
    AwakeTime::new(Duration::from_millis(millis))
}

/// A write of task `name` that says `revision`.
fn write(name: usize, rank: Rank, revision: u64) -> Write {
    Write::Task {
        key: Key::namespaced("d", format!("t{name}")),
        revision: Revision::new(revision.to_string()),
        change: Change::<AgenticTask>::of(Part::Status).set("observedGeneration", revision),
        event: None,
        urgency: Urgency::Lane(rank),
    }
}

fn said(write: &Write) -> (String, u64) {
    let Write::Task { key, revision, .. } = write else { panic!("a task: {write:?}") };
    (key.name.clone(), revision.as_str().parse().expect("a number"))
}

fn due(lane: &mut Lane, now: AwakeTime, busy: bool) -> Vec<Write> {
    lane.due(now, busy, usize::MAX, |_| true).0
}

#[test]
fn ranks_go_in_their_order_and_the_newest_state_of_an_object_wins() {
    let mut lane = Lane::new(RATES);
    lane.offer(write(1, Rank::Counts, 1));
    lane.offer(write(2, Rank::Steps, 1));
    lane.offer(write(3, Rank::FirstWait, 1));
    lane.offer(write(1, Rank::Reason, 2));
    lane.offer(write(4, Rank::FirstWait, 1));
    let order: Vec<_> = due(&mut lane, at(0), false).iter().map(said).collect();
    let named = |name: &str, revision| (name.to_owned(), revision);
    assert_eq!(order, [named("t2", 1), named("t3", 1), named("t4", 1), named("t1", 2)]);
    assert_eq!(lane.next_due(at(0), false), None);
}

#[test]
fn an_urgent_write_of_the_same_object_leaves_nothing_behind() {
    let mut lane = Lane::new(RATES);
    lane.offer(write(1, Rank::Reason, 1));
    lane.offer(write(2, Rank::Reason, 1));
    lane.drop_of(&write(1, Rank::Reason, 9).target());
    assert_eq!(
        due(&mut lane, at(0), false).iter().map(said).collect::<Vec<_>>(),
        [("t2".to_owned(), 1)]
    );
}

#[test]
fn what_is_no_longer_true_costs_nothing_of_the_rate() {
    let mut lane = Lane::new(Rates { quiet: 2, busy: 1 });
    for n in 0..5 {
        lane.offer(write(n, Rank::Reason, u64::from(n > 2)));
    }
    let (due, stale) = lane.due(at(0), false, usize::MAX, |write| said(write).1 == 1);
    assert_eq!((due.len(), stale.len(), lane.len()), (2, 3, 0));
}

#[test]
fn the_rate_is_smaller_beside_urgent_writes_and_halves_when_the_store_asks() {
    let mut lane = Lane::new(RATES);
    for n in 0..500 {
        lane.offer(write(n, Rank::Reason, 1));
    }
    assert_eq!(due(&mut lane, at(0), true).len(), 10);
    assert_eq!(lane.next_due(at(1), true), Some(at(1000)));
    assert_eq!(lane.next_due(at(1), false), Some(at(1)));
    assert_eq!(due(&mut lane, at(10), false).len(), 40);
    assert_eq!(due(&mut lane, at(999), false).len(), 0);
    assert_eq!(due(&mut lane, at(2000), false).len(), 50);
    lane.slow_down(at(2000));
    assert_eq!(due(&mut lane, at(3000), false).len(), 25);
    lane.slow_down(at(3000));
    assert_eq!(due(&mut lane, at(4000), false).len(), 12);
    for _ in 0..12 {
        lane.slow_down(at(4000));
    }
    assert_eq!(due(&mut lane, at(5000), false).len(), 1);
    let later = at(5000) + LANE_RECOVERS;
    assert_eq!(due(&mut lane, later, false).len(), 50);
}

#[test]
fn no_rank_starves() {
    let mut lane = Lane::new(RATES);
    lane.offer(write(0, Rank::Audit, 1));
    let mut sent = 0;
    for round in 1_u64.. {
        // More of the first rank than the lane can take, for ever.
        for n in 0..60 {
            lane.offer(write(1 + n, Rank::Steps, round));
        }
        let due = due(&mut lane, at(round * 1000), false);
        sent += due.len();
        if due.iter().any(|write| said(write).0 == "t0") {
            break;
        }
    }
    assert!(sent <= 50, "the oldest one waited for {sent}");
}

#[derive(Debug, Clone)]
enum Step {
    Offer(usize, Rank),
    Urgent(usize),
    Due { busy: bool, room: usize },
    Overload,
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rank = prop::sample::select(Rank::ALL.to_vec());
    let step = prop_oneof![
        6 => (0_usize..40, rank).prop_map(|(name, rank)| Step::Offer(name, rank)),
        1 => (0_usize..40).prop_map(Step::Urgent),
        4 => (any::<bool>(), 0_usize..30).prop_map(|(busy, room)| Step::Due { busy, room }),
        1 => Just(Step::Overload),
        4 => (1_u64..400).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    #[test]
    fn the_rate_holds_in_every_window_and_only_the_newest_state_goes_out(steps in steps()) {
        let rates = Rates { quiet: 7, busy: 3 };
        let mut lane = Lane::new(rates);
        let (mut now, mut round) = (at(0), 0_u64);
        let mut wanted: BTreeMap<String, u64> = BTreeMap::new();
        let mut sent: Vec<AwakeTime> = Vec::new();
        for step in steps {
            round += 1;
            match step {
                Step::Offer(name, rank) => {
                    lane.offer(write(name, rank, round));
                    wanted.insert(format!("t{name}"), round);
                }
                Step::Urgent(name) => {
                    lane.drop_of(&write(name, Rank::Steps, 0).target());
                    wanted.remove(&format!("t{name}"));
                }
                Step::Due { busy, room } => {
                    let promised = lane.next_due(now, busy);
                    let (due, _) = lane.due(now, busy, room, |_| true);
                    prop_assert!(due.len() <= room);
                    prop_assert!(due.is_empty() || promised == Some(now));
                    prop_assert!(!due.is_empty() || room == 0 || promised != Some(now));
                    for write in &due {
                        let (name, revision) = said(write);
                        prop_assert_eq!(wanted.remove(&name), Some(revision));
                        sent.push(now);
                    }
                    let window = sent.iter().filter(|at| now.since(**at) < LANE_WINDOW).count();
                    prop_assert!(window <= rates.quiet);
                    prop_assert!(!busy || due.is_empty() || window <= rates.busy);
                }
                Step::Overload => lane.slow_down(now),
                Step::Pass(millis) => now = now + Duration::from_millis(millis),
            }
            prop_assert_eq!(lane.len(), wanted.len());
        }
        // All of it goes out in the end, as fast as is allowed.
        while let Some(next) = lane.next_due(now, false) {
            now = next;
            let due = due(&mut lane, now, false);
            prop_assert!(!due.is_empty());
            for write in &due {
                let (name, revision) = said(write);
                prop_assert_eq!(wanted.remove(&name), Some(revision));
            }
        }
        prop_assert!(wanted.is_empty());
    }
}
