//! What holds of the scheduler for all fleets and needs.

use foreman_core::model::{Key, NodePhase, Uid};
use foreman_core::schedule::{Need, NodeRow, Placement, Scheduler, Snapshot, explain, fit};
use proptest::prelude::*;

use crate::scheduling::{need, row};

prop_compose! {
    fn some_node()(
        id in 0_u8..12, slots in 0_usize..4, capacity in 8_i32..65, used in 0_i32..20,
        flags in 0_u8..64, speed in 0_i32..3, cuda: bool,
    ) -> NodeRow {
        let flag = |bit: u8| flags & (1 << bit) != 0;
        let mut node = row(&format!("n{id}"));
        node.slots = slots;
        node.capacity_ram_gb = Some(capacity);
        node.available_ram_gb = Some((capacity - used).max(0));
        node.cordoned = flag(0) && flag(1);
        node.fresh = !(flag(2) && flag(3));
        node.tokens_per_second = speed;
        node.accelerator = cuda.then(|| "cuda".to_owned());
        if flag(4) { node.loaded.insert("m".into()); node.models.insert("m".into()); }
        if flag(5) && flag(0) { node.phase = Some(NodePhase::Unknown); }
        node
    }
}

prop_compose! {
    fn some_need()(ram in 0_i32..40, cuda in 0_u8..4, model: bool, context in 0_i32..2) -> Need {
        Need {
            ram_gb: ram,
            accelerator: (cuda == 0).then(|| "cuda".to_owned()),
            model: model.then(|| "m".to_owned()),
            context_tokens: context * 30_000,
            ..need("")
        }
    }
}

fn place_all(nodes: &[NodeRow], needs: &[Need]) -> (Vec<Placement>, Snapshot) {
    let mut scheduler = Scheduler::new(Snapshot::new(nodes.iter().cloned()));
    let placements = needs
        .iter()
        .enumerate()
        .map(|(index, need)| {
            let need = Need { uid: Uid::new(format!("t{index}")), ..need.clone() };
            scheduler.place(Key::namespaced("default", format!("t{index}")), &need)
        })
        .collect();
    (placements, scheduler.snapshot().clone())
}

fn nodes() -> impl Strategy<Value = Vec<NodeRow>> {
    prop::collection::vec(some_node(), 0..8).prop_map(|mut nodes| {
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        nodes.dedup_by(|a, b| a.name == b.name);
        nodes
    })
}

proptest! {
    #[test]
    fn the_order_of_nodes_does_not_matter_and_equal_inputs_decide_equally(
        nodes in nodes(), needs in prop::collection::vec(some_need(), 0..12),
    ) {
        let (there, _) = place_all(&nodes, &needs);
        let reversed: Vec<_> = nodes.iter().rev().cloned().collect();
        let (back, _) = place_all(&reversed, &needs);
        prop_assert!(format!("{there:?}") == format!("{back:?}"), "byte for byte");
        let words = |nodes: &[NodeRow], need: &Need| {
            format!("{:?}", explain(&Snapshot::new(nodes.iter().cloned()), need))
        };
        for need in &needs {
            prop_assert_eq!(words(&nodes, need), words(&reversed, need));
        }
    }

    #[test]
    fn a_placed_task_never_exceeds_slots_or_memory(
        nodes in nodes(), needs in prop::collection::vec(some_need(), 0..20),
    ) {
        let (_, snapshot) = place_all(&nodes, &needs);
        for node in &nodes {
            let held: Vec<_> = snapshot.reservations(&node.name).collect();
            prop_assert!(held.len() <= node.slots, "{} of {} slots", held.len(), node.slots);
            let ram: i32 = held.iter().map(|(_, reservation)| reservation.ram_gb).sum();
            prop_assert!(ram == 0 || Some(ram) <= node.capacity_ram_gb);
            prop_assert!(ram == 0 || Some(ram) <= node.available_ram_gb, "nothing runs there yet");
        }
    }

    #[test]
    fn a_node_is_chosen_only_if_it_fits_and_one_is_chosen_if_any_fits(
        nodes in nodes(), need in some_need(),
    ) {
        let snapshot = Snapshot::new(nodes.iter().cloned());
        let fitting: Vec<_> =
            snapshot.nodes().filter(|node| fit(&snapshot, node, &need).is_empty()).collect();
        match Scheduler::new(snapshot.clone()).place(Key::cluster("t"), &need) {
            Placement::On { node, .. } => {
                prop_assert!(fitting.iter().any(|row| row.name == node), "{node}");
            }
            Placement::Nowhere(refused) => {
                prop_assert_eq!(fitting.len(), 0);
                prop_assert_eq!(refused.len(), nodes.len(), "every refusal is told");
                prop_assert!(refused.iter().all(|(_, refusals)| !refusals.is_empty()));
            }
        }
    }
}
