//! A real llama-server, where there is one.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use super::within;

/// Set by CI: a suite that cannot run is a failure, not a silence.
const NO_SKIP: &str = "FOREMAN_TEST_NO_SKIP";
/// How often a server that starts is asked whether it is ready.
const READY_EVERY: Duration = Duration::from_millis(50);

/// A running server, until dropped.
pub(crate) struct Llama {
    pub(crate) url: String,
    _process: Child,
}

impl Llama {
    /// Starts one with this context in tokens a slot. None, said loudly, where the program was never
    /// fetched; then `what` is not tested.
    pub(crate) async fn start(what: &str, context_tokens: u32) -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("support/llama-server.sh");
        let output = Command::new(&script).arg("--where").output().await.expect("a script");
        let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        let program = folder.join("llama-server");
        if !program.is_file() {
            let reason = format!(
                "SKIPPED: {what}: there is no llama-server in {}; run {} once to fetch it",
                folder.display(),
                script.display()
            );
            assert!(std::env::var_os(NO_SKIP).is_none(), "{reason} ({NO_SKIP} is set)");
            say_loudly(&reason);
            return None;
        }
        let port = free_port();
        let mut command = Command::new(program);
        command
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .arg("-m")
            .arg(folder.join("model.gguf"))
            .args(["--jinja", "--no-webui", "-np", "1", "-t", "2"])
            .args(["-c", &context_tokens.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut process = command.spawn().expect("started");
        let url = format!("http://127.0.0.1:{port}/v1");
        foreman_probe::install_tls_provider();
        let health = format!("http://127.0.0.1:{port}/health");
        within("a ready llama-server", async {
            loop {
                let ended = process.try_wait().expect("asked");
                assert!(ended.is_none(), "the llama-server ended: {ended:?}");
                let answer = reqwest::get(&health).await;
                if answer.is_ok_and(|answer| answer.status().is_success()) {
                    break;
                }
                tokio::time::sleep(READY_EVERY).await;
            }
        })
        .await;
        Some(Self { url, _process: process })
    }
}

fn say_loudly(reason: &str) {
    use std::io::Write as _;
    // Past the capture of the harness, which would hide it in a run that passes.
    writeln!(std::io::stderr(), "\n{reason}\n").expect("written");
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
