//! An embedder's unit test with mocked ports: no store, no machine, no time.

#![expect(clippy::expect_used, reason = "a test says what is wrong by panicking")]

use std::sync::Arc;

use foreman_core::fleet::{Identity, Registrar};
use foreman_core::model::fleet_node::{Accelerator, Capability};
use foreman_core::model::{FleetNode, FleetNodeSpec, NodeName, Object, WallTime};
use foreman_core::ports::StoreError;
use foreman_core::testkit::mock::{MockCapabilityProbe, MockClock, MockNodeStore};
use foreman_core::testkit::sim::SimEntropy;
use serde_json::json;

fn node(nodes: &str) -> Object<FleetNode> {
    let spec = FleetNodeSpec { node_name: nodes.to_owned(), ..FleetNodeSpec::default() };
    let meta = json!({"name": nodes, "uid": "u", "resourceVersion": "1"});
    Object::from_json(&json!({"metadata": meta, "spec": spec})).expect("a FleetNode")
}

fn clock() -> MockClock {
    let mut clock = MockClock::new();
    clock.expect_wall().return_const(WallTime::from_unix_seconds(1_800_000_000));
    clock.expect_awake().returning(Default::default);
    clock.expect_boot().returning(Default::default);
    clock
}

fn registrar(nodes: MockNodeStore, probe: MockCapabilityProbe) -> Registrar {
    let me = Identity::named(NodeName::parse("laptop").expect("valid"));
    Registrar::new(Arc::new(nodes), Arc::new(probe), Arc::new(clock()), SimEntropy::new(1), me)
}

#[tokio::test]
async fn a_node_that_is_as_it_should_be_is_not_written() {
    let mut nodes = MockNodeStore::new();
    nodes.expect_get().times(1).returning(|_| Ok(Some(node("laptop"))));
    nodes.expect_patch().never();
    nodes.expect_create().never();
    let kept = registrar(nodes, MockCapabilityProbe::new()).upsert().await.expect("nothing to do");
    assert_eq!(kept.revision().as_str(), "1");
}

#[tokio::test]
async fn a_beat_says_what_was_probed_when_it_was_probed() {
    let mut probe = MockCapabilityProbe::new();
    probe.expect_probe().times(1).returning(|| {
        Ok(Capability { accelerator: Some(Accelerator::Cuda.into()), ..Capability::default() })
    });
    let mut nodes = MockNodeStore::new();
    nodes.expect_patch().times(1).returning(|_, change, _| {
        let patch = change.to_merge_patch(None);
        assert_eq!(patch["status"]["capability"]["accelerator"], "cuda");
        assert_eq!(patch["status"]["lastHeartbeatTime"], "2027-01-15T08:00:00Z");
        Ok(node("laptop"))
    });
    let registrar = registrar(nodes, probe);
    registrar.heartbeat().await.expect("written");
    assert!(registrar.last_beat().borrow().is_some());
}

#[tokio::test]
async fn a_beat_that_the_store_refuses_gives_no_leave() {
    let mut probe = MockCapabilityProbe::new();
    probe.expect_probe().returning(|| Ok(Capability::default()));
    let mut nodes = MockNodeStore::new();
    nodes.expect_patch().returning(|_, _, _| Err(StoreError::Denied { reason: "no".to_owned() }));
    let registrar = registrar(nodes, probe);
    registrar.heartbeat().await.expect_err("refused");
    assert!(registrar.last_beat().borrow().is_none());
}
