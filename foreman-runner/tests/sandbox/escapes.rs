//! Attempts to get out. Each must be refused, and where the victim can tell, the
//! victim is asked.

use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use foreman_runner::sandbox::Exit;
use foreman_runner::sandbox_probe;

use crate::support::{BOTH, Case, WITH, Way, World, until};

pub(crate) const CASES: &[Case] = &[
    Case { name: "work_inside_the_tree_goes_on", ways: BOTH, body: |w| Box::pin(works(w)) },
    Case { name: "write_outside_the_tree", ways: BOTH, body: |w| Box::pin(write_outside(w)) },
    Case { name: "write_through_a_link", ways: BOTH, body: |w| Box::pin(write_by_link(w)) },
    Case { name: "write_through_proc_root", ways: BOTH, body: |w| Box::pin(write_by_proc(w)) },
    Case { name: "rename_and_hard_link_out", ways: BOTH, body: |w| Box::pin(rename_out(w)) },
    Case { name: "read_a_secret", ways: BOTH, body: |w| Box::pin(read_secret(w)) },
    Case { name: "read_credentials_of_the_system", ways: BOTH, body: |w| Box::pin(read_shadow(w)) },
    Case { name: "read_the_agents_memory", ways: BOTH, body: |w| Box::pin(read_agent(w)) },
    Case { name: "see_the_agents_environment", ways: BOTH, body: |w| Box::pin(see_env(w)) },
    Case { name: "change_modes_outside", ways: WITH, body: |w| Box::pin(chmod_outside(w)) },
    Case { name: "connect_by_tcp", ways: BOTH, body: |w| Box::pin(tcp(w)) },
    Case { name: "send_by_udp", ways: BOTH, body: |w| Box::pin(udp(w)) },
    Case { name: "connect_to_a_socket_file", ways: BOTH, body: |w| Box::pin(unix(w)) },
    Case {
        name: "connect_to_an_abstract_socket",
        ways: BOTH,
        body: |w| Box::pin(unix_abstract(w)),
    },
    Case { name: "signal_the_agent", ways: BOTH, body: |w| Box::pin(signal(w)) },
    Case { name: "trace_a_process", ways: BOTH, body: |w| Box::pin(trace(w)) },
    Case { name: "write_a_git_dir", ways: BOTH, body: |w| Box::pin(write_git(w)) },
    Case { name: "become_another_user", ways: BOTH, body: |w| Box::pin(other_user(w)) },
    Case { name: "mount_and_unshare", ways: BOTH, body: |w| Box::pin(mount(w)) },
    Case {
        name: "gain_rights_by_a_setuid_program",
        ways: BOTH,
        body: |w| Box::pin(setuid_program(w)),
    },
    Case { name: "type_into_the_terminal", ways: BOTH, body: |w| Box::pin(terminal(w)) },
    Case { name: "open_a_netlink_socket", ways: BOTH, body: |w| Box::pin(netlink(w)) },
    Case { name: "write_kernel_settings", ways: BOTH, body: |w| Box::pin(kernel_settings(w)) },
    Case { name: "loopback_of_its_own", ways: WITH, body: |w| Box::pin(own_loopback(w)) },
    Case { name: "the_self_test_names_the_tier", ways: BOTH, body: |w| Box::pin(self_test(w)) },
    Case {
        name: "the_self_test_where_namespaces_are_refused",
        ways: WITH,
        body: |w| Box::pin(nested(w)),
    },
    Case { name: "the_self_test_as_nobody", ways: WITH, body: |w| Box::pin(as_nobody(w)) },
];

async fn works(world: World) {
    let script = "echo hello > file && mkdir -p a/b && mv file a/b/ && cat a/b/file && \
                  echo x > \"$HOME/x\" && echo y > \"$TMPDIR/y\" && echo err >&2 && \
                  test -r /etc/passwd && ls /usr/bin > /dev/null";
    let output = world.sh(script, &[]).await;
    assert_eq!((output.exit, output.output.as_str()), (Exit::Code(0), "hello\nerr\n"));
    assert!(world.path("tree/a/b/file").exists());
}

async fn write_outside(world: World) {
    for name in ["outside", "private/other", "git/hooks"] {
        // Where `/tmp` is private this may write there; the file is what counts.
        world.attempt("write", &world.text(name)).await;
        assert!(!world.path(name).exists(), "{name}");
    }
    world.sh("echo x >> \"$1\"", &[&world.text("secret")]).await;
    let secret = std::fs::read_to_string(world.path("secret")).expect("secret");
    assert_eq!(secret, "TOPSECRET");
    let output = world.sh("rm -rf \"$1\"", &[&world.text("secret")]).await;
    assert!(world.path("secret").exists(), "{}", output.output);
    for system in ["/etc/fm-escape", "/usr/fm-escape", "/root/fm-escape", "/fm-escape"] {
        world.attempt("write", system).await;
        assert!(!std::path::Path::new(system).exists(), "{system}");
    }
}

async fn write_by_link(world: World) {
    let outside = world.text("outside");
    world.sh("ln -s \"$1\" link; echo x > link", &[&outside]).await;
    assert!(world.path("tree/link").is_symlink());
    let folder = world.text("");
    world.sh("ln -s \"$1\" dir; echo x > dir/outside", &[&folder]).await;
    assert!(!world.path("outside").exists());
    let output = world.sh("cat dir/secret", &[]).await;
    assert!(!output.output.contains("TOPSECRET"));
}

async fn write_by_proc(world: World) {
    let outside = world.text("outside");
    let me = std::process::id().to_string();
    let script = "for p in self $PPID 1 $2; do echo x > /proc/$p/root$1; \
                  echo x > /proc/$p/cwd/../outside; done";
    world.sh(script, &[&outside, &me]).await;
    assert!(!world.path("outside").exists());
}

async fn rename_out(world: World) {
    let script = "echo x > f; mv f \"$1\"; ln \"$2\" here; cat here";
    let output = world.sh(script, &[&world.text("outside"), &world.text("secret")]).await;
    assert!(!world.path("outside").exists());
    assert!(!output.output.contains("TOPSECRET"), "{}", output.output);
}

async fn read_secret(world: World) {
    world.refused("read", &world.text("secret")).await;
    let output = world
        .sh("cat /proc/self/root$1 /proc/1/root$1; cat ../secret", &[&world.text("secret")])
        .await;
    assert!(!output.output.contains("TOPSECRET"), "{}", output.output);
    let home = std::env::var("HOME").unwrap_or_default();
    for name in [".ssh", ".aws", ".netrc", ".git-credentials", ".cargo/credentials.toml"] {
        let script = "cat \"$1\" \"$1\"/* 2>/dev/null; ls \"$1\"/ 2>/dev/null; true";
        let output = world.sh(script, &[&format!("{home}/{name}")]).await;
        assert_eq!(output.output, "", "{name}");
    }
}

async fn read_shadow(world: World) {
    world.refused("read", "/etc/shadow").await;
    let output = world.sh("cat /proc/self/root/etc/shadow /etc/gshadow 2>/dev/null", &[]).await;
    assert_eq!(output.output, "");
}

async fn read_agent(world: World) {
    let me = std::process::id();
    for file in ["environ", "mem", "maps", "fd/0"] {
        world.refused("read", &format!("/proc/{me}/{file}")).await;
    }
    let script = "cat /proc/$PPID/environ /proc/1/environ 2>/dev/null | tr '\\0' '\\n'";
    let output = world.sh(script, &[]).await;
    assert!(!output.output.contains("CARGO_MANIFEST_DIR"), "{}", output.output);
}

async fn see_env(world: World) {
    assert!(std::env::var_os("PATH").is_some());
    let output = world.sh("env", &[]).await;
    assert_eq!(output.exit, Exit::Code(0));
    for line in output.output.lines() {
        let name = line.split('=').next().unwrap_or_default();
        assert!(
            !name.contains("TOKEN") && !name.contains("SECRET") && name != "SSH_AUTH_SOCK",
            "{line}"
        );
        assert!(name != "CARGO_PKG_NAME" && name != "CARGO_MANIFEST_DIR", "{line}");
    }
}

async fn chmod_outside(world: World) {
    use std::os::unix::fs::PermissionsExt;
    let mode = || std::fs::metadata(world.path("secret")).expect("secret").permissions().mode();
    let before = mode();
    world.refused("chmod", &world.text("secret")).await;
    assert_eq!(mode(), before);
    world.refused("chmod", "/etc/passwd").await;
}

async fn tcp(world: World) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    listener.set_nonblocking(true).expect("nonblocking");
    let address = listener.local_addr().expect("address").to_string();
    world.refused("tcp", &address).await;
    assert!(listener.accept().is_err(), "somebody connected");
    // A check that the attempt works where nothing is confined.
    let exe = std::env::current_exe().expect("own path");
    let outside = std::process::Command::new(exe)
        .args(["__sandbox", "attempt", "tcp", &address])
        .status()
        .expect("run");
    assert!(outside.success());
    assert!(listener.accept().is_ok());
}

async fn udp(world: World) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
    socket.set_nonblocking(true).expect("nonblocking");
    let address = socket.local_addr().expect("address").to_string();
    world.attempt("udp", &address).await;
    assert!(socket.recv(&mut [0; 8]).is_err(), "a packet came out");
}

async fn unix(world: World) {
    let listener = UnixListener::bind(world.path("socket")).expect("bind");
    listener.set_nonblocking(true).expect("nonblocking");
    world.refused("unix", &world.text("socket")).await;
    assert!(listener.accept().is_err(), "somebody connected");
}

async fn unix_abstract(world: World) {
    let name = format!("fm-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("address");
    let listener = UnixListener::bind_addr(&address).expect("bind");
    listener.set_nonblocking(true).expect("nonblocking");
    world.refused("abstract", &name).await;
    assert!(listener.accept().is_err(), "somebody connected");
}

async fn signal(world: World) {
    let mut victim = std::process::Command::new("sleep").arg("300").spawn().expect("victim");
    world.refused("signal", &victim.id().to_string()).await;
    world.sh("kill -9 $1; kill -9 -1", &[&victim.id().to_string()]).await;
    assert!(victim.try_wait().expect("look").is_none(), "the victim is dead");
    victim.kill().expect("end it");
    victim.wait().expect("reap it");
}

async fn trace(world: World) {
    // Of its own child, which nothing but the list of system calls forbids.
    let script = "import ctypes,os; l=ctypes.CDLL(None,use_errno=True); r=l.ptrace(16,os.getppid(),0,0); \
                  print('r',r,ctypes.get_errno())";
    let output = world.run(&["python3", "-c", script]).await.expect("runs");
    assert_eq!(output.output.trim(), "r -1 1");
}

async fn write_git(world: World) {
    std::fs::create_dir(world.path("git/hooks")).expect("hooks");
    for name in ["git/config", "git/hooks/pre-push", "git/HEAD"] {
        world.refused("write", &world.text(name)).await;
    }
    let config = std::fs::read_to_string(world.path("git/config")).expect("config");
    assert_eq!(config, "[core]\n");
    // Reading it is granted here.
    let output = world.sh("cat \"$1\"", &[&world.text("git/config")]).await;
    assert_eq!(output.output, "[core]\n");
}

async fn other_user(world: World) {
    world.refused("setuid", "12345").await;
}

async fn mount(world: World) {
    world.refused("mount", &world.text("tree")).await;
    world.refused("unshare", "").await;
    let output = world.sh("unshare -Ur true", &[]).await;
    assert_ne!(output.exit, Exit::Code(0), "{}", output.output);
    let output = world
        .sh("grep -E '^(Cap(Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp):' /proc/self/status", &[])
        .await;
    if world.way == Way::Namespaces {
        let nothing = "\t0000000000000000";
        for line in ["CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"].map(|it| format!("{it}{nothing}"))
        {
            assert!(output.output.contains(&line), "{line}: {}", output.output);
        }
        assert!(output.output.contains("NoNewPrivs:\t1"), "{}", output.output);
    }
    // As root too, and without namespaces: no right is left, and none comes back.
    let output = world.sh("touch f && chown 12345 f", &[]).await;
    assert_ne!(output.exit, Exit::Code(0), "root could still give files away");
}

async fn setuid_program(world: World) {
    let output = world.sh("su -c id root < /dev/null; sudo -n id", &[]).await;
    assert!(!output.output.contains("uid=0(root) gid=0(root) groups"), "{}", output.output);
}

async fn terminal(world: World) {
    let script = "import fcntl,os,pty,sys\n\
                  try:\n fd=os.open('/dev/tty',os.O_RDWR); print('tty opened')\n\
                  except OSError as e: print('no tty')\n\
                  try:\n fcntl.ioctl(0,0x5412,b'x'); print('typed')\n\
                  except OSError as e: print('refused',e.errno)\n";
    let output = world.run(&["python3", "-c", script]).await.expect("runs");
    assert_eq!(output.output, "no tty\nrefused 1\n");
}

async fn netlink(world: World) {
    let script = "import socket\n\
                  for f in (16,17,40):\n\
                  \x20try: socket.socket(f,socket.SOCK_DGRAM); print('opened',f)\n\
                  \x20except OSError as e: print(e.errno)\n";
    let output = world.run(&["python3", "-c", script]).await.expect("runs");
    assert_eq!(output.output, "97\n97\n97\n");
}

async fn kernel_settings(world: World) {
    for name in ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/sys/kernel/mm/ksm/run"] {
        if std::path::Path::new(name).exists() {
            let output = world.sh("echo 0 > \"$1\"", &[name]).await;
            assert_ne!(output.exit, Exit::Code(0), "{name}");
        }
    }
}

async fn own_loopback(world: World) {
    let script = "import socket\n\
                  s=socket.socket(); s.bind(('127.0.0.1',0)); s.listen()\n\
                  c=socket.create_connection(s.getsockname()); print('connected')\n";
    let output = world.run(&["python3", "-c", script]).await.expect("runs");
    assert_eq!(output.output, "connected\n");
}

async fn self_test(world: World) {
    let helper = std::env::current_exe().ok();
    let namespaces = world.way == Way::Namespaces;
    let report = sandbox_probe::probe_with(helper, world.folder.path(), namespaces).await;
    let expected = if namespaces { "full" } else { "network" };
    assert_eq!(report.tier.as_str(), expected, "{report:#?}");
    assert_eq!(report.why_not_more.is_none(), namespaces);
    let none = sandbox_probe::probe(None, world.folder.path()).await;
    assert_eq!(none.tier.as_str(), "none");
    let wrong = sandbox_probe::probe(Some("/bin/true".into()), world.folder.path()).await;
    assert_eq!(wrong.tier.as_str(), "none", "a helper that does nothing holds nothing");
}

/// A sandbox in the sandbox, where the system refuses new namespaces: the
/// fallback is taken by itself.
async fn nested(world: World) {
    let exe = std::env::current_exe().expect("own path");
    let argv = [&exe.to_string_lossy(), "role=probe", &world.text("tree/scratch")];
    let output = world.run(&argv).await.expect("runs");
    assert!(output.output.starts_with("tier=network Some("), "{}", output.output);
}

/// The same without root's rights. Needs root to give them up.
async fn as_nobody(_: World) {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    if !std::fs::metadata("/proc/self")
        .is_ok_and(|it| std::os::unix::fs::MetadataExt::uid(&it) == 0)
    {
        return;
    }
    let place = tempfile::tempdir().expect("a folder that nobody can enter");
    let folder = place.path();
    let open = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("mode");
    };
    let scratch = folder.join("scratch").to_string_lossy().into_owned();
    let exe = folder.join("program");
    std::fs::copy(std::env::current_exe().expect("own path"), &exe).expect("copy");
    std::fs::create_dir(folder.join("scratch")).expect("scratch");
    open(folder, 0o755);
    open(&exe, 0o755);
    open(&folder.join("scratch"), 0o777);
    let output = std::process::Command::new(&exe)
        .args(["role=probe", &scratch])
        .env("HOME", &scratch)
        .env("PATH", "/usr/bin:/bin")
        .uid(65534)
        .gid(65534)
        .output()
        .expect("run as nobody");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.starts_with("tier=full None"),
        "{text} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    until("nothing is left", || crate::support::processes_with(&scratch).is_empty()).await;
}
