//! The conformance suites of the store and of the lease, on the real API server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use foreman_core::model::Key;
use foreman_core::model::apiserver::key_of;
use foreman_core::model::manifest::AnyKind;
use foreman_core::model::object::GROUP;
use foreman_core::ports::{Entropy, Stores};
use foreman_core::testkit::conformance::{Subject, leases};
use foreman_core::testkit::sim::SimEntropy;
use foreman_kube::{KubeLeases, KubeStore, Limits};
use foreman_probe::os_clock::{SystemClock, SystemEntropy};
use serde_json::{Value, json};

use super::proxy::{Fault, Proxy};
use super::{Cluster, store};

/// How many requests of one kind meet a fault one after the other: fewer than a call has tries.
const FAULTS_AT_ONCE: u32 = 2;

/// Two clients of one server.
struct Kube {
    cluster: Cluster,
    first: Arc<KubeStore>,
    second: Arc<KubeStore>,
    /// What the clients go by, if not straight.
    _proxy: Option<Proxy>,
}

impl Kube {
    async fn new() -> Option<Self> {
        let cluster = Cluster::new("the store on Kubernetes").await?;
        let (first, second) = (cluster.store().await, cluster.store().await);
        Some(Self { cluster, first, second, _proxy: None })
    }

    /// Both clients by a proxy with faults that a caller of the port must not see: reads that fail
    /// or break off, a server too busy to write, delays, watches cut at any byte.
    async fn behind_faults() -> Option<Self> {
        let cluster = Cluster::new("the store on Kubernetes behind faults").await?;
        let proxy = Proxy::start(cluster.client.clone()).await;
        proxy.plan(hidden_faults());
        let (first, second) = (store(proxy.config()), store(proxy.config()));
        Some(Self { cluster, first, second, _proxy: Some(proxy) })
    }
}

/// Faults drawn from a seed, the same each time.
fn hidden_faults() -> impl FnMut(&str, &str) -> Fault + Send + 'static {
    let chance = SimEntropy::new(0x5eed);
    let mut row: BTreeMap<String, u32> = BTreeMap::new();
    move |method, address| {
        let below = |most: u64| chance.next_u64() % most;
        let byte = |most: u64| usize::try_from(below(most)).expect("small");
        let fault = match (method, address.contains("watch=1"), below(100)) {
            ("GET", true, 0..50) => Fault::CutAfter(byte(6_000)),
            ("GET", false, 0) => Fault::Refuse(500),
            ("GET", false, 1) => Fault::Refuse(503),
            ("GET", false, 2) => Fault::Cut,
            ("GET", false, 3) => Fault::CutAfter(byte(500)),
            ("GET", ..) => Fault::None,
            (_, _, 0..3) => Fault::Refuse(429),
            (_, _, 3..20) => Fault::Late(Duration::from_millis(below(30))),
            _ => Fault::None,
        };
        let seen = row.entry(format!("{method} {address}")).or_default();
        *seen = if fault == Fault::None { 0 } else { *seen + 1 };
        if *seen > FAULTS_AT_ONCE {
            *seen = 0;
            return Fault::None;
        }
        fault
    }
}

#[async_trait]
impl Subject for Kube {
    fn stores(&self) -> Stores {
        Stores::of(&self.first)
    }

    fn second_handle(&self) -> Stores {
        Stores::of(&self.second)
    }

    fn namespace(&self) -> &str {
        &self.cluster.namespace
    }

    fn other_namespace(&self) -> &str {
        &self.cluster.other_namespace
    }

    fn prefix(&self) -> &str {
        &self.cluster.namespace
    }

    // Few: this many writers of one object stand in each other's way there, and how far a watcher may
    // be behind is a matter of seconds and of megabytes.
    fn changes_past_any_buffer(&self) -> usize {
        400
    }

    // The garbage collector is no part of an API server.
    fn cascades(&self) -> bool {
        false
    }

    // An API server finds an object by the name that it says of itself.
    async fn put_raw(&self, kind: &'static str, key: &Key, object: Value) -> bool {
        if key_of(&object).as_ref() != Some(key) {
            return false;
        }
        let kind = AnyKind::ALL.into_iter().find(|known| known.names().kind == kind);
        let plural = kind.expect("a kind of ours").names().plural;
        let namespace = key.namespace.as_ref().map(|name| format!("{name}/")).unwrap_or_default();
        let path = format!("/registry/{GROUP}/{plural}/{namespace}{}", key.name);
        let put = json!({"key": base64(path.as_bytes()),
            "value": base64(object.to_string().as_bytes())});
        let url = format!("{}/v3/kv/put", self.cluster.server.etcd_url());
        foreman_probe::install_tls_provider();
        let answer = reqwest::Client::new().post(url).json(&put).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{answer:?}");
        true
    }
}

/// The alphabet that etcd's gateway wants its bytes in.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let group = three
            .iter()
            .enumerate()
            .fold(0, |group, (number, byte)| group | (u32::from(*byte) << (16 - 8 * number)));
        for digit in 0..4 {
            let value = usize::try_from((group >> (18 - 6 * digit)) & 63).expect("small");
            text.push(if digit <= three.len() { char::from(ALPHABET[value]) } else { '=' });
        }
    }
    text
}

#[test]
fn bytes_are_encoded_as_the_rfc_shows() {
    for (text, wanted) in
        [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
    {
        assert_eq!(base64(text.as_bytes()), wanted);
    }
}

mod straight {
    foreman_core::store_conformance!(async || super::Kube::new().await);
}

mod behind_faults {
    foreman_core::store_conformance!(async || super::Kube::behind_faults().await);
}

#[tokio::test]
async fn leases_conform() {
    static NUMBER: AtomicUsize = AtomicUsize::new(1);
    let Some(cluster) = Cluster::new("the lease on Kubernetes").await else { return };
    leases::run_all(async || {
        let name = format!("lease-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let config = cluster.server.config().await.expect("a kubeconfig");
        let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
        KubeLeases::new(config, clock, entropy, Limits::default(), &cluster.namespace, &name)
            .expect("a client")
    })
    .await;
}
