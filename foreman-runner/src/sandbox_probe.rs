//! Finds out what the sandbox of this machine really holds, by trying to get
//! out of it. A tier is what the attempts proved, never what a kernel version
//! promises.

use std::fs;
use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::sandbox::{
    CommandOutput, Exit, HELPER_ARGUMENT, Layout, ProcessSandbox, Sandbox, SandboxCommand,
    SandboxError, SandboxSettings, Tier,
};

/// How long one attempt may take.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(20);
/// Output kept of one attempt, in bytes.
const OUTPUT_BYTES_MAX: usize = 4 << 10;
/// The exit code of an attempt that was refused.
const REFUSED: i32 = 77;

/// One attempt and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The tier that needs the attempt to be refused.
    pub tier: Tier,
    /// What was tried.
    pub attempt: &'static str,
    /// Whether the sandbox held.
    pub held: bool,
    /// What the attempt said.
    pub detail: String,
}

/// What the sandbox holds, and why not more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxReport {
    /// The highest tier whose every attempt, and those of the tiers below, were
    /// refused.
    pub tier: Tier,
    /// Why the next tier is not reached; none at the highest.
    pub why_not_more: Option<String>,
    /// Every attempt.
    pub findings: Vec<Finding>,
}

impl SandboxReport {
    fn none(reason: impl Into<String>) -> Self {
        Self { tier: Tier::None, why_not_more: Some(reason.into()), findings: Vec::new() }
    }

    fn of(findings: Vec<Finding>) -> Self {
        let broken = findings.iter().filter(|finding| !finding.held).min_by_key(|it| it.tier);
        let (tier, why_not_more) = match broken {
            None => (Tier::Full, None),
            Some(finding) => {
                let below = match finding.tier {
                    Tier::None | Tier::Files => Tier::None,
                    Tier::Network => Tier::Files,
                    Tier::Full => Tier::Network,
                };
                let reason = format!("{} was not refused ({})", finding.attempt, finding.detail);
                (below, Some(reason))
            }
        };
        Self { tier, why_not_more, findings }
    }
}

/// Tries the sandbox of `helper`, in a folder of its own beneath `scratch` that
/// is removed afterwards. Never fails: what cannot be tried is not held.
pub async fn probe(helper: Option<PathBuf>, scratch: &Path) -> SandboxReport {
    probe_with(helper, scratch, true).await
}

/// As [`probe`]; without `namespaces` the fallback is tried.
pub async fn probe_with(
    helper: Option<PathBuf>,
    scratch: &Path,
    namespaces: bool,
) -> SandboxReport {
    let Some(helper) = helper else {
        return SandboxReport::none("this program has no sandbox helper");
    };
    let ground = match Ground::new(scratch) {
        Ok(ground) => ground,
        Err(error) => {
            return SandboxReport::none(format!(
                "no self-test beneath {}: {error}",
                scratch.display()
            ));
        }
    };
    let mut settings = SandboxSettings::new(ground.layout());
    settings.read.push(helper.clone());
    settings.helper = Some(helper.clone());
    settings.namespaces = namespaces;
    let sandbox = match ProcessSandbox::new(settings, Tier::None) {
        Ok(sandbox) => sandbox,
        Err(error) => return SandboxReport::none(error.to_string()),
    };
    match ground.attempts(&sandbox, &helper).await {
        Ok(findings) => SandboxReport::of(findings),
        Err(error) => SandboxReport::none(chain(&error)),
    }
}

fn chain(error: &SandboxError) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// The things that a sandboxed process must not reach.
struct Ground {
    folder: tempfile::TempDir,
    secret: PathBuf,
    tcp: TcpListener,
    udp: UdpSocket,
    unix: std::os::unix::net::UnixListener,
    unix_path: PathBuf,
}

impl Ground {
    fn new(scratch: &Path) -> std::io::Result<Self> {
        fs::create_dir_all(scratch)?;
        let folder = tempfile::Builder::new().prefix("sandbox-test-").tempdir_in(scratch)?;
        let secret = folder.path().join("secret");
        fs::write(&secret, "a secret of the self-test")?;
        let tcp = TcpListener::bind("127.0.0.1:0")?;
        let udp = UdpSocket::bind("127.0.0.1:0")?;
        tcp.set_nonblocking(true)?;
        udp.set_nonblocking(true)?;
        let unix_path = folder.path().join("socket");
        let unix = std::os::unix::net::UnixListener::bind(&unix_path)?;
        unix.set_nonblocking(true)?;
        Ok(Self { folder, secret, tcp, udp, unix, unix_path })
    }

    fn layout(&self) -> Layout {
        let at = |name: &str| self.folder.path().join(name);
        Layout { tree: at("tree"), private: at("private"), cache: at("cache") }
    }

    async fn attempts(
        &self,
        sandbox: &ProcessSandbox,
        helper: &Path,
    ) -> Result<Vec<Finding>, SandboxError> {
        let inside = self.folder.path().join("tree/inside");
        let outside = self.folder.path().join("outside");
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let run = async |name: &str, argument: String| {
            let words = [HELPER_ARGUMENT, "attempt", name, &argument];
            let mut argv = vec![text(helper)];
            argv.extend(words.map(str::to_owned));
            let command = SandboxCommand {
                argv,
                dir: self.folder.path().join("tree"),
                timeout: ATTEMPT_LIMIT,
                output_bytes_max: OUTPUT_BYTES_MAX,
                network: false,
                env: std::collections::BTreeMap::new(),
            };
            sandbox.run(command, &CancellationToken::new()).await
        };
        // Refusals prove nothing in a sandbox where nothing works.
        let control = run("write", text(&inside)).await?;
        if control.exit != Exit::Code(0) {
            return Err(SandboxError::Setup {
                step: "write inside the tree".to_owned(),
                reason: format!("{:?}: {}", control.exit, control.output.trim()),
            });
        }
        let mut findings = Vec::new();
        for (tier, attempt, name, argument) in self.tries(&outside) {
            let output = run(name, argument).await?;
            let held = self.held(name, &output, &outside);
            let detail = output.output.trim().to_owned();
            findings.push(Finding { tier, attempt, held, detail });
        }
        Ok(findings)
    }

    /// What is tried: the tier that it breaks, its words, and how to do it.
    fn tries(&self, outside: &Path) -> Vec<(Tier, &'static str, &'static str, String)> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let address = |it: std::io::Result<std::net::SocketAddr>| {
            it.map(|address| address.to_string()).unwrap_or_default()
        };
        let (tcp, udp) = (address(self.tcp.local_addr()), address(self.udp.local_addr()));
        let (secret, unix) = (text(&self.secret), text(&self.unix_path));
        let (files, network, full) = (Tier::Files, Tier::Network, Tier::Full);
        let me = std::process::id().to_string();
        let tree = text(&self.folder.path().join("tree"));
        vec![
            (files, "writing outside the tree", "write", text(outside)),
            (files, "reading a file that was not granted", "read", secret.clone()),
            (network, "a TCP connection to this machine", "tcp", tcp),
            (network, "a UDP packet to this machine", "udp", udp),
            (network, "a connection to a socket file", "unix", unix),
            (full, "changing the mode of a file outside", "chmod", secret),
            (full, "signalling the agent", "signal", me),
            (full, "a new user namespace", "unshare", String::new()),
            (full, "a new mount", "mount", tree),
        ]
    }

    /// Whether an attempt failed: by its own word, and where somebody else can
    /// tell, by his. The sender of a UDP packet learns nothing, and a file
    /// written to a private `/tmp` is no escape: there only the other's counts.
    fn held(&self, name: &str, output: &CommandOutput, outside: &Path) -> bool {
        let nothing = |kind: Option<ErrorKind>| kind == Some(ErrorKind::WouldBlock);
        let refused = output.exit == Exit::Code(REFUSED);
        let ended = matches!(output.exit, Exit::Code(0 | REFUSED));
        match name {
            "tcp" => refused && nothing(self.tcp.accept().err().map(|it| it.kind())),
            "unix" => refused && nothing(self.unix.accept().err().map(|it| it.kind())),
            "write" => ended && !outside.exists(),
            "udp" => ended && nothing(self.udp.recv(&mut [0_u8; 8]).err().map(|it| it.kind())),
            _ => refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Finding, SandboxReport, Tier};

    fn report(held: [bool; 3]) -> (Tier, bool) {
        let tiers = [Tier::Files, Tier::Network, Tier::Full];
        let findings = tiers.into_iter().zip(held).map(|(tier, held)| Finding {
            tier,
            attempt: "x",
            held,
            detail: String::new(),
        });
        let report = SandboxReport::of(findings.collect());
        (report.tier, report.why_not_more.is_some())
    }

    #[test]
    fn a_tier_needs_every_tier_below_it() {
        assert_eq!(report([true, true, true]), (Tier::Full, false));
        assert_eq!(report([true, true, false]), (Tier::Network, true));
        assert_eq!(report([true, false, true]), (Tier::Files, true));
        assert_eq!(report([false, true, true]), (Tier::None, true));
    }
}
