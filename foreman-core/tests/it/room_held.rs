//! What a placed task holds on its node, whatever becomes of its Agent.

use foreman_core::model::shared::RequiredCapability;
use foreman_core::model::{Agent, Key, TaskPhase};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Clock, Expect, Store};
use serde_json::json;

use crate::lab::{Lab, freeform, settle};
use crate::liveness::{add_node, beside};

fn needs(ram: i32) -> RequiredCapability {
    RequiredCapability { min_ram_gb: Some(ram), ..RequiredCapability::default() }
}

async fn edit(lab: &Lab, agent: &str, ram: Option<i32>) {
    let (key, agents): (_, &dyn Store<Agent>) = (Key::namespaced("default", agent), &*lab.store);
    let uid = agents.get(&key).await.expect("read").expect("there").meta.uid;
    match ram {
        Some(ram) => {
            let change = Change::of(Part::Spec).set("requiredCapability", needs(ram));
            agents.patch(&key, change, Expect::Any).await.expect("patched");
        }
        None => agents.delete(&key, &uid, Expect::Any).await.expect("deleted"),
    }
}

#[tokio::test]
async fn memory_stays_reserved_as_it_was_placed_although_the_agent_is_edited_or_deleted() {
    for edited in [Some(8), None, Some(60)] {
        let lab = Lab::new();
        for agent in ["first", "second"] {
            lab.agent(agent, needs(40)).await;
        }
        add_node(&lab, "n").await;
        lab.patch_node("n", Change::of(Part::Spec).set("slots", 4)).await;
        let beat = Change::of(Part::Status)
            .set("phase", "Ready")
            .set("session", "s")
            .set("lastHeartbeatTime", lab.clock.wall())
            .set("capacity", json!({"slots": 4, "ramGB": 90}))
            .set("capability", json!({"totalRAMGB": 90, "availableRAMGB": 90}));
        lab.patch_node("n", beat).await;
        beside(lab.reconciler(), async {
            lab.task("a", freeform(Some("first"))).await;
            settle().await;
            assert_eq!(lab.phase("a").await, Some(TaskPhase::Scheduled));
            edit(&lab, "first", edited).await;
            settle().await;
            lab.task("b", freeform(Some("second"))).await;
            lab.task("c", freeform(Some("second"))).await;
            settle().await;
            let phases = [lab.phase("b").await, lab.phase("c").await];
            // 50 GB are left beside what was placed; an Agent that wants more takes that, too.
            let b = if edited == Some(60) { TaskPhase::Pending } else { TaskPhase::Scheduled };
            assert_eq!(phases, [Some(b), Some(TaskPhase::Pending)], "{edited:?}");
            lab.set_status("a", |status| {
                status.phase = Some(TaskPhase::Succeeded.into());
                status.verdict = Some(foreman_core::model::Verdict::Go.into());
            })
            .await;
            settle().await;
            let phases = [lab.phase("b").await, lab.phase("c").await];
            assert_eq!(phases, [Some(TaskPhase::Scheduled); 2], "{edited:?}: it left the node");
        })
        .await;
    }
}
