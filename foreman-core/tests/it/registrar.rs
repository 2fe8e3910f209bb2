//! The registrar: what it writes, and when.

use std::time::Duration;

use foreman_core::fleet::{BeatError, Identity, RegistrarEnd};
use foreman_core::model::fleet_node::{Accelerator, DrainSpec, RunStage, RunSummary};
use foreman_core::model::{Capability, FleetNode, FleetNodeSpec, Key, NewObject};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Clock, ProbeError, Store, StoreError};
use foreman_core::testkit::fault::{Fault, Operation};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::lab::{Fixed, Lab, identity, in_time};

/// The largest idle beat, and what one run may add, in bytes of JSON.
const IDLE_BEAT_BYTES_MAX: usize = 300;
const RUN_BYTES_MAX: usize = 250;

pub(crate) fn ram(available: i32) -> Capability {
    Capability {
        total_ram_gb: Some(128),
        available_ram_gb: Some(available),
        ..Capability::default()
    }
}

pub(crate) fn patches(lab: &Lab) -> Vec<Value> {
    lab.nodes.calls_of(Operation::Patch).into_iter().filter_map(|call| call.patch).collect()
}

fn summary(name: &str, turn: i64) -> RunSummary {
    RunSummary {
        task: format!("default/{name}"),
        uid: Some("00000000-0000-4000-8000-000000000001".into()),
        attempt: Some(12),
        stage: Some(RunStage::Publishing.into()),
        turn: Some(turn),
        tokens: Some(1_234_567),
        last_progress_time: Some(foreman_core::model::WallTime::from_unix_seconds(1_800_000_000)),
        ..RunSummary::default()
    }
}

async fn upserted(lab: &Lab, me: Identity) -> (FleetNodeSpec, Vec<Value>) {
    lab.nodes.forget_calls();
    let node = lab.registrar(me, Fixed::new(ram(1))).upsert().await.expect("registered");
    (node.spec, patches(lab))
}

#[tokio::test]
async fn a_missing_node_is_created_and_an_equal_one_is_not_written() {
    let lab = Lab::new();
    let me = Identity {
        roles: vec!["coder".into(), "reviewer".into()],
        address: Some("100.1.1.1".into()),
        slots: Some(3),
        ..identity("n")
    };
    let (spec, writes) = upserted(&lab, me.clone()).await;
    let wanted = FleetNodeSpec {
        node_name: "n".into(),
        roles: me.roles.clone(),
        tailscale_addr: me.address.clone(),
        slots: Some(3),
        ..FleetNodeSpec::default()
    };
    assert_eq!((&spec, writes.len()), (&wanted, 0));
    let before = lab.node_now("n").await.expect("there");
    let (_, writes) = upserted(&lab, me).await;
    assert_eq!(writes, Vec::<Value>::new());
    assert_eq!(lab.node_now("n").await.expect("there").revision(), before.revision());
}

#[tokio::test]
async fn what_the_agent_owns_is_corrected_and_what_people_own_stays() {
    let lab = Lab::new();
    let spec = FleetNodeSpec {
        node_name: "other".into(),
        roles: vec!["b".into(), "a".into()],
        tailscale_addr: Some("1.1.1.1".into()),
        slots: Some(7),
        unschedulable: Some(true),
        drain: Some(DrainSpec::default()),
    };
    let mut new = NewObject::<FleetNode>::new(Key::cluster("n"), spec).label("rack", "1");
    new.annotations.insert("note".into(), "mine".into());
    Store::create(&*lab.store, new).await.expect("created");
    let roles = |roles: &[&str]| Identity {
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        ..identity("n")
    };
    let (spec, writes) = upserted(&lab, roles(&["a", "b"])).await;
    let changes = json!({"nodeName": "n", "roles": ["a", "b"], "tailscaleAddr": null});
    assert_eq!(writes, [json!({"spec": changes})]);
    assert_eq!((spec.slots, spec.unschedulable, spec.drain.is_some()), (Some(7), Some(true), true));
    let node = lab.node_now("n").await.expect("there");
    assert_eq!(
        (&node.meta.labels["rack"], &node.meta.annotations["note"]),
        (&"1".into(), &"mine".into())
    );
    let (_, writes) = upserted(&lab, roles(&["b", "a"])).await;
    assert_eq!(writes, [json!({"spec": {"roles": ["b", "a"]}})], "order counts");
    let (_, writes) = upserted(&lab, roles(&[])).await;
    assert_eq!(writes, [json!({"spec": {"roles": null}})]);
    let (_, writes) = upserted(&lab, Identity { address: Some(String::new()), ..roles(&[]) }).await;
    assert_eq!(writes, Vec::<Value>::new(), "absent = empty");
}

#[tokio::test]
async fn a_racing_create_is_answered() {
    for fault in
        [Fault::DoneThen(StoreError::AlreadyExists { uid: None }), Fault::uncertain_but_done()]
    {
        let lab = Lab::new();
        lab.nodes.script(Operation::Create, [fault]);
        let me = Identity { roles: vec!["a".into()], ..identity("n") };
        let node = lab.registrar(me, Fixed::new(ram(1))).upsert().await.expect("registered");
        assert_eq!(node.spec.roles, ["a"]);
    }
}

#[tokio::test]
async fn later_beats_carry_only_what_moved_in_one_small_request() {
    let lab = Lab::new();
    let me = lab.registrar(identity("n"), Fixed::new(ram(100)));
    me.upsert().await.expect("registered");
    me.publish_session().await.expect("published");
    let first = me.heartbeat().await.expect("beat");
    assert_eq!(first.status.capability, Some(ram(100)));
    assert_eq!(first.status.capacity.and_then(|capacity| capacity.ram_gb), Some(128));
    assert_eq!(first.status.agent_version.as_deref(), Some("0"));
    for runs in [0_usize, 3] {
        let entries = (0..runs).map(|n| RunSummary {
            uid: Some(format!("00000000-0000-4000-8000-00000000000{n}")),
            ..summary("fix-login-when-cookie-is-stale-7f3a-code", 3)
        });
        let entries: Vec<_> = entries.collect();
        me.set_state(|state| state.runs = entries);
        lab.clock.advance(Duration::from_secs(30));
        lab.nodes.forget_calls();
        me.heartbeat().await.expect("beat");
        assert_eq!(lab.nodes.calls().len(), 1, "one request, no read before it");
        let patch = patches(&lab).remove(0);
        let fields: Vec<_> = patch["status"].as_object().expect("an object").keys().collect();
        let wanted: &[&str] =
            if runs == 0 { &["lastHeartbeatTime"] } else { &["lastHeartbeatTime", "runs"] };
        assert_eq!(fields, wanted);
        let bytes = patch.to_string().len();
        assert!(bytes <= IDLE_BEAT_BYTES_MAX + runs * RUN_BYTES_MAX, "{bytes} bytes: {patch}");
    }
    me.set_state(|state| state.runs.clear());
    lab.clock.advance(Duration::from_secs(30));
    let idle = me.heartbeat().await.expect("beat");
    assert_eq!(idle.status.runs, []);
}

#[tokio::test]
async fn available_memory_is_published_when_it_moved_by_a_twentieth() {
    let lab = Lab::new();
    let probe = Fixed::new(ram(100));
    let me = lab.registrar(identity("n"), probe.clone());
    me.upsert().await.expect("registered");
    let cases = [(100, 100), (96, 100), (104, 100), (95, 95), (98, 95), (99, 99), (10, 10), (9, 9)];
    for (probed, shown) in cases {
        probe.set(Ok(ram(probed)));
        let beat = me.heartbeat().await.expect("beat");
        let capability = beat.status.capability.expect("said");
        assert_eq!(capability.available_ram_gb, Some(shown), "{probed} probed");
    }
    let smaller = Capability { total_ram_gb: Some(8), ..ram(8) };
    probe.set(Ok(smaller.clone()));
    assert_eq!(me.heartbeat().await.expect("beat").status.capability, Some(smaller));
}

#[tokio::test]
async fn a_dead_accelerator_does_not_stay() {
    let lab = Lab::new();
    let cuda = Capability { accelerator: Some(Accelerator::Cuda.into()), ..ram(5) };
    let probe = Fixed::new(cuda.clone());
    let me = lab.registrar(identity("n"), probe.clone());
    me.upsert().await.expect("registered");
    assert_eq!(me.heartbeat().await.expect("beat").status.capability, Some(cuda.clone()));
    probe.set(Ok(ram(5)));
    assert_eq!(me.heartbeat().await.expect("beat").status.capability, Some(ram(5)));
    // Nor over a restart: the first beat of the next life replaces all of it.
    probe.set(Ok(cuda));
    me.heartbeat().await.expect("beat");
    let next = lab.registrar(identity("n"), Fixed::new(ram(5)));
    next.upsert().await.expect("registered");
    assert_eq!(next.heartbeat().await.expect("beat").status.capability, Some(ram(5)));
}

#[tokio::test]
async fn slots_that_people_gave_hold_from_the_first_beat_on() {
    let lab = Lab::new();
    let spec = FleetNodeSpec { node_name: "n".into(), slots: Some(4), ..FleetNodeSpec::default() };
    Store::create(&*lab.store, NewObject::<FleetNode>::new(Key::cluster("n"), spec))
        .await
        .expect("created");
    let me = lab.registrar(identity("n"), Fixed::new(ram(5)));
    me.upsert().await.expect("registered");
    let capacity = me.heartbeat().await.expect("beat").status.capacity.expect("said");
    assert_eq!(capacity.slots, Some(4));
}

#[tokio::test]
async fn a_deleted_node_is_registered_again_with_the_same_session() {
    let lab = Lab::new();
    let me = lab.registrar(identity("n"), Fixed::new(ram(5)));
    me.upsert().await.expect("registered");
    me.publish_session().await.expect("published");
    let first = me.heartbeat().await.expect("beat");
    let store: &dyn Store<FleetNode> = &*lab.store;
    let all = foreman_core::ports::Expect::Any;
    store.delete(&first.key(), first.uid(), all).await.expect("deleted");
    let again = me.heartbeat().await.expect("beat");
    assert_ne!(again.uid(), first.uid());
    assert_eq!(again.status, first.status);
    assert_eq!(again.status.session.as_deref(), Some(me.session().as_str()));
}

#[tokio::test]
async fn a_beat_of_a_session_that_was_replaced_says_so_and_gives_no_rights() {
    let lab = Lab::new();
    let me = lab.registrar(identity("n"), Fixed::new(ram(5)));
    me.upsert().await.expect("registered");
    me.publish_session().await.expect("published");
    me.heartbeat().await.expect("beat");
    let before = *me.last_beat().borrow();
    lab.clock.advance(Duration::from_secs(30));
    lab.patch_node("n", Change::of(Part::Status).set("session", "other")).await;
    let error = me.heartbeat().await.expect_err("superseded");
    assert!(
        matches!(&error, BeatError::Superseded { session, .. } if session == "other"),
        "{error}"
    );
    assert_eq!(*me.last_beat().borrow(), before);
    assert_eq!(in_time(me.run(watch::channel(false).1)).await, RegistrarEnd::Superseded);
}

#[tokio::test]
async fn a_probe_that_fails_costs_no_beat_once_one_succeeded() {
    let lab = Lab::new();
    let broken = || ProbeError { part: "gpu".into(), reason: "gone".into() };
    let probe = Fixed::new(ram(5));
    probe.set(Err(broken()));
    let me = lab.registrar(identity("n"), probe.clone());
    me.upsert().await.expect("registered");
    let error = me.heartbeat().await.expect_err("nothing is known");
    assert!(matches!(error, BeatError::Probe { .. }), "{error}");
    probe.set(Ok(ram(5)));
    me.heartbeat().await.expect("beat");
    probe.set(Err(broken()));
    lab.clock.advance(Duration::from_secs(30));
    let beat = me.heartbeat().await.expect("beat");
    assert_eq!(beat.status.last_heartbeat_time, Some(lab.clock.wall()));
    assert_eq!(beat.status.capability, Some(ram(5)));
}
