//! A person at a real terminal: the live view, the keys, and the terminal as it is left behind.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Command as StdCommand, Stdio};

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::model::Model;
use super::support::{Lab, path, within};

/// What the keyboard sends for Ctrl-C.
const CTRL_C: &str = "\x03";

/// A command whose stdin, stdout and stderr are a terminal of its own.
struct AtTerminal {
    child: Child,
    keyboard: File,
    /// Kept open to look at its settings.
    terminal: OwnedFd,
    before: Termios,
    seen: watch::Receiver<String>,
}

/// A new terminal: its keyboard and screen, and what a program has of it. Neither is inherited by the
/// programs that other tests start meanwhile, as those of `openpty` would be.
fn terminal() -> (File, OwnedFd) {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = posix_openpt(flags).expect("a terminal");
    grantpt(&master).expect("granted");
    unlockpt(&master).expect("unlocked");
    let name = ptsname_r(&master).expect("a name");
    let mut open = OpenOptions::new();
    open.read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits());
    let slave = open.open(name).expect("opened");
    let mut stty = StdCommand::new("stty");
    stty.args(["rows", "40", "cols", "160"]).stdin(slave.try_clone().expect("cloned"));
    assert!(stty.status().expect("stty runs").success());
    (File::from(OwnedFd::from(master)), slave.into())
}

impl AtTerminal {
    fn start(lab: &Lab, arguments: &[&str]) -> Self {
        let (keyboard, terminal) = terminal();
        let stdio = || Stdio::from(terminal.try_clone().expect("cloned"));
        // Makes it the session's own terminal, as the login shell's is.
        let mut setsid = Command::new("setsid");
        setsid.arg("--ctty");
        let mut command = lab.command_through(setsid, arguments);
        command.env("TERM", "xterm").stdin(stdio()).stdout(stdio()).stderr(stdio());
        let before = tcgetattr(&terminal).expect("settings");
        let child = command.spawn().expect("started");
        let (tell, seen) = watch::channel(String::new());
        let mut screen = keyboard.try_clone().expect("cloned");
        // Ends when the last one that has the terminal open closes it.
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
                tell.send_modify(|seen| seen.push_str(&text));
            }
        });
        Self { child, keyboard, terminal, before, seen }
    }

    async fn shows(&mut self, text: &str) {
        within(self.seen.wait_for(|seen| seen.contains(text))).await.expect("it goes on");
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("pressed");
    }

    fn flags(&self) -> LocalFlags {
        tcgetattr(&self.terminal).expect("settings").local_flags
    }

    /// Waits for the end: the exit code, and all that was shown. The terminal must be as it was.
    async fn ended(mut self) -> (Option<i32>, String) {
        let code = within(self.child.wait()).await.expect("waited for").code();
        let after = tcgetattr(&self.terminal).expect("settings");
        assert_eq!(after, self.before, "the terminal is left as it was");
        // The reader ends with the terminal.
        drop(self.terminal);
        while within(self.seen.changed()).await.is_ok() {}
        let seen = self.seen.borrow().clone();
        assert_eq!(seen.matches("\x1b[?25l").count(), seen.matches("\x1b[?25h").count(), "{seen}");
        (code, seen)
    }
}

#[tokio::test]
async fn d_detaches_from_work_that_another_process_does_and_it_goes_on() {
    let lab = Lab::new();
    let repo = lab.repository();
    let model = Model::start(Some(2)).await;
    let up = lab.start(&["up", "--model-url", model.url()]);
    lab.until("nodes", |node| node["status"]["phase"] == "Ready").await;
    let mut run = AtTerminal::start(&lab, &["run", "--repo", path(&repo), "--no-review", "greet"]);
    run.shows("only follows it").await;
    run.shows("d detach   ctrl-c stop following").await;
    assert!(!run.flags().intersects(LocalFlags::ICANON | LocalFlags::ECHO));
    model.reached(2).await;
    run.press("d");
    let (code, seen) = run.ended().await;
    assert_eq!(code, Some(6), "{seen}");
    assert!(seen.contains(&format!("detached; pid {} (foreman up) goes on", up.pid())), "{seen}");
    assert!(seen.contains("next: foreman run --continue greet-"), "{seen}");
    let workload = lab.get("workloads").await.remove(0);
    let name = workload["metadata"]["name"].as_str().expect("a name");
    assert!(seen.contains(&format!("workload/{name}")), "{seen}");
    model.let_go();
    lab.until("workloads", |workload| workload["status"]["phase"] == "Completed").await;
}

#[tokio::test]
async fn d_says_how_to_go_on_when_this_process_works_and_ctrl_c_still_stops_it() {
    let lab = Lab::new();
    let repo = lab.repository();
    let model = Model::start(Some(2)).await;
    let run = ["run", "--repo", path(&repo), "--model-url", model.url(), "--no-review", "greet"];
    let mut run = AtTerminal::start(&lab, &run);
    run.shows("d detach   ctrl-c stop, work is kept").await;
    model.reached(2).await;
    run.press("d");
    run.shows("press ctrl-c and run in another one: foreman up").await;
    run.press(CTRL_C);
    let (code, seen) = run.ended().await;
    assert_eq!(code, Some(130), "{seen}");
    assert!(seen.contains("interrupted; the work is kept"), "{seen}");
}

#[tokio::test]
async fn no_key_is_read_where_no_input_is_wanted() {
    let lab = Lab::new();
    let repo = lab.repository();
    let model = Model::start(Some(2)).await;
    let run = ["run", "--no-input", "--repo", path(&repo), "--model-url", model.url(), "greet"];
    let mut run = AtTerminal::start(&lab, &run);
    run.shows("ctrl-c stop, work is kept").await;
    model.reached(2).await;
    assert!(run.flags().contains(LocalFlags::ICANON | LocalFlags::ECHO));
    run.press(CTRL_C);
    let (code, seen) = run.ended().await;
    assert_eq!(code, Some(130), "{seen}");
    assert!(!seen.contains("d detach"), "{seen}");
}
