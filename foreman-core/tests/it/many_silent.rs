//! Many nodes fall silent at once: their claims are taken back one node after the other.

use std::collections::BTreeMap;

use foreman_core::model::TaskPhase;
use proptest::prelude::*;

use crate::claims::claim;
use crate::lab::{Lab, freeform, settle};
use crate::liveness::{add_node, beat_of, beside, pass};

/// So many silent nodes are many.
const MANY: usize = 4;
/// Then there are so many seconds between the claims of two nodes.
const PAUSE_SECONDS: u64 = 10;

/// A fleet in which so many nodes hold that many claims each, and others hold none. All fall silent at
/// once, but for the first `alive`.
#[derive(Debug, Clone)]
struct Fleet {
    holding: usize,
    claims: usize,
    idle: usize,
    alive: usize,
}

/// When each node's claims were taken back: the second of the first and of the last, after the silence
/// began.
async fn taken_back(fleet: &Fleet) -> BTreeMap<String, (u64, u64)> {
    let lab = Lab::new();
    let nodes = (0..fleet.holding).map(|n| format!("held{n}"));
    let nodes: Vec<_> = nodes.chain((0..fleet.idle).map(|n| format!("idle{n}"))).collect();
    let alive = nodes.get(..fleet.alive.min(nodes.len())).unwrap_or_default();
    let mut taken: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut homes = BTreeMap::new();
    beside(lab.reconciler(), async {
        for node in &nodes {
            add_node(&lab, node).await;
            let slots = i32::try_from(fleet.claims).expect("few");
            let spec = foreman_core::ports::store::Part::Spec;
            lab.patch_node(node, foreman_core::ports::Change::of(spec).set("slots", slots)).await;
            if !node.starts_with("held") {
                continue;
            }
            beat_of(&lab, node, "s", "Ready").await;
            settle().await;
            for n in 0..fleet.claims {
                let name = format!("{node}-{n}");
                lab.task(&name, freeform(None)).await;
                settle().await;
                claim(&lab, &name, node, Some("s")).await;
                homes.insert(name, node.clone());
            }
        }
        for node in &nodes {
            beat_of(&lab, node, "s", "Ready").await;
        }
        settle().await;
        let silence_ends = 92 + PAUSE_SECONDS * u64::try_from(fleet.holding + 1).expect("few");
        for second in 1..=silence_ends {
            for node in alive.iter().filter(|_| second % 30 == 0) {
                let runs: Vec<_> = homes.iter().filter(|(_, home)| *home == node).collect();
                let mut tasks = Vec::new();
                for (name, _) in runs {
                    tasks.push(lab.task_now(name).await);
                }
                let shown: Vec<_> = tasks.iter().map(|task| (task, 1)).collect();
                crate::claims::beat_with(&lab, node, "s", &shown).await;
            }
            pass(&lab, 1).await;
            for (name, home) in &homes {
                let task = lab.task_now(name).await;
                let held = task.status.known_phase() == Some(TaskPhase::Running)
                    && task.status.assigned_node.as_ref() == Some(home);
                let known = taken.get(home).copied();
                if !held && !task.meta.annotations.contains_key("test/taken") {
                    taken.insert(home.clone(), (known.map_or(second, |(first, _)| first), second));
                    let mark = foreman_core::ports::Change::<foreman_core::model::AgenticTask>::of(
                        foreman_core::ports::store::Part::Meta,
                    )
                    .annotations([("test/taken", Some("yes".to_owned()))]);
                    let any = foreman_core::ports::Expect::Any;
                    foreman_core::ports::Store::patch(&*lab.store, &task.key(), mark, any)
                        .await
                        .expect("patched");
                }
            }
        }
    })
    .await;
    taken
}

fn check(fleet: &Fleet) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(|error| TestCaseError::fail(error.to_string()))?;
    let taken = runtime.block_on(taken_back(fleet));
    let alive = fleet.alive.min(fleet.holding);
    prop_assert_eq!(taken.len(), fleet.holding - alive, "each silent node, no other: {:?}", taken);
    let mut times: Vec<_> = taken.values().copied().collect();
    times.sort_unstable();
    prop_assert!(times.iter().all(|(first, _)| *first > 90), "{:?}", taken);
    let silent = (fleet.holding + fleet.idle).saturating_sub(fleet.alive);
    for pair in times.windows(2) {
        let [(_, last), (first, _)] = pair else { continue };
        if silent >= MANY {
            prop_assert!(first + 1 >= last + PAUSE_SECONDS, "too soon: {:?}", taken);
        } else {
            prop_assert!(*first <= 94, "few are not slowed: {:?}", taken);
        }
    }
    Ok(())
}

#[test]
fn a_silent_node_counts_among_the_many_whether_it_holds_claims_or_not() {
    for (idle, alive) in [(1, 0), (2, 0), (4, 0), (4, 2)] {
        check(&Fleet { holding: 2, claims: 1, idle, alive }).expect("as the protocol says");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Promise 9.
    #[test]
    fn many_nodes_that_fall_silent_together_lose_their_claims_one_after_the_other(
        holding in 1_usize..6, claims in 1_usize..3, idle in 0_usize..4, alive in 0_usize..3,
    ) {
        check(&Fleet { holding, claims, idle, alive })?;
    }
}
