//! One running API server.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::Assets;

/// How long a server may take until it is ready, on a slow machine under load.
const READY_MAX: Duration = Duration::from_mins(2);
/// How often it is asked.
const READY_EVERY: Duration = Duration::from_millis(100);
/// Another process may take a port between our look and the server's: then all is begun again.
const STARTS_MAX: usize = 3;
/// Where definitions are made.
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// Lines of a log that are shown when a server does not start.
const LOG_LINES_SHOWN: usize = 20;
/// Ends the program, and removes the folder, when its own standard input ends, which it does with the
/// process that holds the other end, even by `kill -9`.
const TIED: &str = r#"exec 3<&0; "$@" <&- 3<&- & child=$!
{ cat <&3; kill -9 "$child"; rm -rf -- "$FOLDER"; } >/dev/null 2>&1 &
wait "$child""#;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Their name, e.g. as the subject of a role binding.
    pub name: &'static str,
    /// The token they show.
    token: &'static str,
    group: &'static str,
}

/// May do everything.
pub const ADMIN: User = User { name: "admin", token: "token-of-admin", group: "system:masters" };

/// A running kube-apiserver with an etcd of its own, until dropped or until this process ends.
#[derive(Debug)]
pub struct Server {
    apiserver: Tied,
    /// Held so that it runs as long.
    _etcd: Tied,
    etcd_port: u16,
    folder: TempDir,
}

impl Server {
    /// Starts one, with an empty store, and waits until it is ready.
    ///
    /// # Errors
    /// What did not start, with the end of its log.
    pub async fn start(assets: &Assets) -> anyhow::Result<Self> {
        let mut start = 1;
        loop {
            match Self::start_once(assets).await {
                Err(_) if start < STARTS_MAX => start += 1,
                result => return result,
            }
        }
    }

    async fn start_once(assets: &Assets) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("foreman-apiserver-").tempdir()?;
        let [etcd_port, peer_port, port] = free_ports()?;
        let etcd = etcd(assets, folder.path(), etcd_port, peer_port)?;
        let apiserver = apiserver(assets, folder.path(), etcd_port, port)?;
        let server = Self { apiserver, _etcd: etcd, etcd_port, folder };
        server.write_kubeconfig(port)?;
        server.ready().await?;
        Ok(server)
    }

    /// A kubeconfig with one context, [`ADMIN`]'s.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// How a client of [`ADMIN`] reaches it: what a program makes of [`Server::kubeconfig`].
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub async fn config(&self) -> anyhow::Result<Config> {
        let file = Kubeconfig::read_from(self.kubeconfig())?;
        Ok(Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?)
    }

    /// Where its etcd answers by HTTP: for putting there what no API server would write.
    pub fn etcd_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.etcd_port)
    }

    /// Installs a custom resource definition, given as JSON, and returns once its kind is served.
    ///
    /// # Errors
    /// The server's refusal, or that the kind was not served in time.
    pub async fn install(&self, definition: &Value) -> anyhow::Result<()> {
        let client = Client::try_from(self.config().await?)?;
        let body = serde_json::to_vec(definition)?;
        let create = http::Request::post(DEFINITIONS)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body)?;
        client.request_text(create).await?;
        let text = |pointer: &str| definition.pointer(pointer).and_then(Value::as_str);
        let parts = ["/spec/group", "/spec/versions/0/name", "/spec/names/plural"].map(text);
        let [Some(group), Some(version), Some(plural)] = parts else {
            bail!("the definition has no group, version or name");
        };
        let collection = format!("/apis/{group}/{version}/{plural}");
        let deadline = Instant::now() + READY_MAX;
        loop {
            let list = http::Request::get(&collection).body(Vec::new())?;
            match client.request_text(list).await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(error).with_context(|| format!("{collection} is not served"));
                }
                Err(_) => tokio::time::sleep(READY_EVERY).await,
            }
        }
    }

    fn write_kubeconfig(&self, port: u16) -> anyhow::Result<()> {
        // JSON is YAML.
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": ADMIN.name}}],
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://127.0.0.1:{port}"),
                "certificate-authority": certificates(self.folder.path()).join("apiserver.crt"),
            }}],
            "users": [{"name": ADMIN.name, "user": {"token": ADMIN.token}}],
        });
        fs::write(self.kubeconfig(), config.to_string()).context("cannot write the kubeconfig")
    }

    async fn ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_MAX;
        loop {
            let Err(error) = self.ask().await else { return Ok(()) };
            let ended = self.apiserver.has_ended()?;
            if ended || Instant::now() > deadline {
                let how = if ended { "ended" } else { "is not ready" };
                let log = tail(&self.folder.path().join("kube-apiserver.log"));
                bail!("kube-apiserver {how} ({error:#}); its log ends with:\n{log}");
            }
            tokio::time::sleep(READY_EVERY).await;
        }
    }

    /// Whether it is ready, and has what every cluster has.
    async fn ask(&self) -> anyhow::Result<()> {
        let client = Client::try_from(self.config().await?)?;
        let get = |path: &str| http::Request::get(path).body(Vec::new());
        client.request_text(get("/readyz")?).await?;
        // Made by the server itself a moment after it says that it is ready.
        let _: Value = client.request(get("/api/v1/namespaces/default")?).await?;
        Ok(())
    }
}

fn certificates(folder: &Path) -> PathBuf {
    folder.join("certificates")
}

fn etcd(assets: &Assets, folder: &Path, port: u16, peer_port: u16) -> anyhow::Result<Tied> {
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let mut command = tied(&assets.program("etcd"), folder);
    command
        .arg("--data-dir")
        .arg(folder.join("etcd"))
        .args(["--listen-client-urls", &url(port), "--advertise-client-urls", &url(port)])
        .args(["--listen-peer-urls", &url(peer_port)])
        .args(["--initial-advertise-peer-urls", &url(peer_port)])
        .args(["--initial-cluster", &format!("default={}", url(peer_port))])
        // What a test stored need not survive the machine.
        .arg("--unsafe-no-fsync");
    Tied::spawn(command, &folder.join("etcd.log"))
}

fn apiserver(assets: &Assets, folder: &Path, etcd_port: u16, port: u16) -> anyhow::Result<Tied> {
    let (key, public) = service_account_keys(folder)?;
    let tokens = folder.join("tokens.csv");
    fs::write(
        &tokens,
        format!("{},{},{},\"{}\"\n", ADMIN.token, ADMIN.name, ADMIN.name, ADMIN.group),
    )
    .context("cannot write the tokens")?;
    let mut command = tied(&assets.program("kube-apiserver"), folder);
    command
        .args([&format!("--etcd-servers=http://127.0.0.1:{etcd_port}")])
        .args([&format!("--secure-port={port}"), "--bind-address=127.0.0.1"])
        .args(["--advertise-address=127.0.0.1", "--service-cluster-ip-range=10.0.0.0/24"])
        .args(["--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount"])
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .arg(flag("--cert-dir", &certificates(folder)))
        .arg(flag("--service-account-signing-key-file", &key))
        .arg(flag("--service-account-key-file", &public))
        .arg(flag("--token-auth-file", &tokens));
    Tied::spawn(command, &folder.join("kube-apiserver.log"))
}

/// The pair by which the server signs what it gives to service accounts, and knows it again.
fn service_account_keys(folder: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    let key = folder.join("service-accounts.key");
    let public = folder.join("service-accounts.pub");
    let openssl = |args: &[&str], out: &Path| {
        let made = Command::new("openssl")
            .args(args)
            .arg("-out")
            .arg(out)
            .current_dir(folder)
            .stderr(Stdio::null())
            .status()
            .context(
                "cannot start openssl, which makes the keys of service accounts: install it",
            )?;
        if !made.success() {
            bail!("openssl {} failed ({made})", args.join(" "));
        }
        Ok(())
    };
    openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], &key)?;
    openssl(&["pkey", "-in", "service-accounts.key", "-pubout"], &public)?;
    Ok((key, public))
}

fn flag(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

/// A command that ends with us.
fn tied(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", TIED, "sh"]).arg(program).env("FOLDER", folder);
    command
}

/// A program that ends with us.
#[derive(Debug)]
struct Tied {
    process: Mutex<Child>,
    /// What holds it alive.
    hold: Option<ChildStdin>,
}

impl Tied {
    fn spawn(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let file =
            fs::File::create(log).with_context(|| format!("cannot make {}", log.display()))?;
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("cannot start sh")?;
        let hold = process.stdin.take();
        Ok(Self { process: Mutex::new(process), hold })
    }

    fn has_ended(&self) -> anyhow::Result<bool> {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(process.try_wait()?.is_some())
    }
}

impl Drop for Tied {
    fn drop(&mut self) {
        drop(self.hold.take());
        let process = self.process.get_mut().unwrap_or_else(PoisonError::into_inner);
        // It is killed already; this only reaps it.
        drop(process.wait());
    }
}

/// Three ports that were free a moment ago.
fn free_ports() -> anyhow::Result<[u16; 3]> {
    let listen = || TcpListener::bind("127.0.0.1:0").context("there is no free port");
    let listeners = [listen()?, listen()?, listen()?];
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}
