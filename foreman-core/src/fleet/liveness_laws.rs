//! Whatever happens in whatever order: no node of ours is dead before a full silence that we heard.

use proptest::prelude::*;
use serde_json::json;

use super::*;

proptest! {
    #[test]
    fn a_node_of_ours_is_dead_only_after_a_full_silence_that_we_heard(
        steps in proptest::collection::vec((0_u8..6, 1_u64..60), 1..80),
    ) {
        let epoch = WallTime::from_unix_seconds(1_795_000_000);
        let json = json!({"metadata": {"name": "n", "uid": "u", "resourceVersion": "1"},
            "spec": {"nodeName": "n"}, "status": {"session": "s", "phase": "Ready"}});
        let mut node = Object::<FleetNode>::from_json(&json).expect("a node");
        node.status.last_heartbeat_time = Some(epoch);
        let mut seen = Seen::first(Some(epoch), AwakeTime::new(Duration::ZERO));
        let (mut now, mut slept, mut heard) = (0, 0, 0);
        for (step, seconds) in steps {
            let wall = |at: u64| epoch.plus(Duration::from_secs(at));
            match step {
                0 => {
                    node.status.last_heartbeat_time = Some(wall(now + slept));
                }
                // The same again, late.
                1 => {}
                // A sleep, a broken watch, another leader.
                2 => {
                    slept += seconds * 100;
                    seen.restart(AwakeTime::new(Duration::from_secs(now)));
                    heard = now;
                }
                _ => now += seconds,
            }
            let awake = AwakeTime::new(Duration::from_secs(now));
            let before = seen.value;
            seen.look(&node, wall(now + slept), awake);
            if seen.value != before {
                heard = now;
            }
            let says = assess(&node, &seen, wall(now + slept), awake);
            let full = now - heard > NODE_DEAD.as_secs();
            prop_assert_eq!(says.dead, full, "at {}, heard at {}", now, heard);
        }
    }
}
