//! The Kubernetes adapter on a real API server, with the definitions of this repository.

mod conformance;
mod corpus;
mod definitions;
mod faults;
mod proxy;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::{Method, Request};
use foreman_apiserver::Server;
use foreman_core::model::manifest::AnyKind;
use foreman_core::model::object::{GROUP, Scope, VERSION};
use foreman_kube::{KubeStore, Limits};
use foreman_probe::os_clock::{SystemClock, SystemEntropy};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::repository::{files, root};

/// A server that serves our kinds, and two namespaces of it that nobody else uses.
pub(crate) struct Cluster {
    pub(crate) server: &'static Server,
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) other_namespace: String,
}

/// What the server answered.
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) json: Value,
}

impl Cluster {
    /// `None` where there is no API server on this machine; then `what` is not tested.
    pub(crate) async fn new(what: &str) -> Option<Self> {
        static INSTALLED: OnceCell<()> = OnceCell::const_new();
        static NUMBER: AtomicUsize = AtomicUsize::new(1);
        let server = foreman_apiserver::shared(what).await?;
        let client = Client::try_from(server.config().await.expect("a kubeconfig"));
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let [namespace, other_namespace] =
            ["here", "elsewhere"].map(|place| format!("{place}-{number}"));
        let cluster =
            Self { server, client: client.expect("a client"), namespace, other_namespace };
        INSTALLED.get_or_init(|| cluster.install_definitions()).await;
        for name in [&cluster.namespace, &cluster.other_namespace] {
            cluster.must("POST", "/api/v1/namespaces", json!({"metadata": {"name": name}})).await;
        }
        Some(cluster)
    }

    /// A store with a client of its own.
    pub(crate) async fn store(&self) -> Arc<KubeStore> {
        store(self.server.config().await.expect("a kubeconfig"))
    }

    /// One request as it is.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.ask_as(method, path, body, "application/json").await
    }

    /// The same, with the media type of the answer.
    pub(crate) async fn ask_as(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        accept: &str,
    ) -> Answer {
        let media_type = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).expect("a method"))
            .uri(path)
            .header("accept", accept)
            .header("content-type", media_type)
            .body(body.map(|json| json.to_string().into_bytes()).unwrap_or_default().into());
        let response = self.client.send(request.expect("a request")).await.expect("an answer");
        let code = response.status().as_u16();
        let bytes = response.into_body().collect_bytes().await.expect("a whole answer");
        let json = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| json!({"message": String::from_utf8_lossy(&bytes)}));
        Answer { code, json }
    }

    /// A request that must succeed.
    pub(crate) async fn must(&self, method: &str, path: &str, body: Value) -> Value {
        let body = Some(body).filter(|body| !body.is_null());
        let Answer { code, json } = self.ask(method, path, body.as_ref()).await;
        assert!((200..300).contains(&code), "{method} {path}: {code} {json}");
        json
    }

    /// What `cargo xtask crds` writes.
    async fn install_definitions(&self) {
        for file in files(&root().join("deploy/crds"), ".yaml") {
            let text = fs::read_to_string(&file).expect("the file");
            let definition: Value = serde_saphyr::from_str(&text).expect("YAML");
            self.server.install(&definition).await.expect("a served kind");
        }
    }
}

/// The way in which a server ends with its process, also by kill -9: what holds it is closed.
#[tokio::test]
async fn a_server_that_nobody_holds_ends_and_leaves_nothing() {
    if Cluster::new("the end of an API server").await.is_none() {
        return;
    }
    let assets = foreman_apiserver::Assets::find().expect("there is one");
    let server = Server::start(&assets).await.expect("another one");
    let (kubeconfig, etcd) = (server.kubeconfig(), server.etcd_url());
    let client = Client::try_from(server.config().await.expect("a kubeconfig")).expect("a client");
    client.apiserver_version().await.expect("it answers");
    drop(server);
    let etcd = etcd.trim_start_matches("http://");
    assert!(client.apiserver_version().await.is_err(), "it still answers");
    assert!(std::net::TcpStream::connect(etcd).is_err(), "its etcd still answers");
    assert!(!kubeconfig.exists(), "its folder is still there");
}

/// A store with a client of its own. Its times are long: what is tested is not how fast a busy machine
/// is.
pub(crate) fn store(config: Config) -> Arc<KubeStore> {
    let long = Duration::from_mins(2);
    let limits = Limits { read: long, write: long, ..Limits::default() };
    let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
    KubeStore::new(config, clock, entropy, limits).expect("a client")
}

/// The path of a kind's collection.
pub(crate) fn collection(kind: AnyKind, namespace: Option<&str>) -> String {
    let names = kind.names();
    let plural = names.plural;
    match namespace.filter(|_| names.scope == Scope::Namespaced) {
        Some(namespace) => format!("/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{plural}"),
        None => format!("/apis/{GROUP}/{VERSION}/{plural}"),
    }
}
