//! kill -9: what the store acknowledged is there afterwards.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use foreman_core::model::{
    AgenticTask, AgenticTaskPayload, AgenticTaskSpec, Key, NewObject, TaskKind,
};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Entropy, Expect, Query, Stores};
use foreman_core::testkit::sim::{SimClock, SimEntropy};
use foreman_sqlite::SqliteStore;
use futures::future::join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Set in the child: the file it writes to.
const CHILD_FILE: &str = "FOREMAN_TEST_CRASH_FILE";
/// Set in the child: which round it is.
const CHILD_ROUND: &str = "FOREMAN_TEST_CRASH_ROUND";
/// Kills.
const ROUNDS: u64 = 20;
/// Writers of the child.
const WRITERS: u64 = 8;
/// The child must acknowledge its first write within this.
const FIRST_ACK_MAX: Duration = Duration::from_mins(1);
/// The kill comes at a random moment within so many microseconds of the first acknowledgement.
const KILL_WITHIN_MICROS: u64 = 150_000;

fn open(path: &Path, seed: u64) -> Arc<SqliteStore> {
    SqliteStore::open(path, SimClock::new(), SimEntropy::new(seed)).expect("open")
}

fn key(round: &str, writer: u64, number: u64) -> Key {
    Key::namespaced("default", format!("r{round}-w{writer}-n{number}"))
}

/// Not a test of its own: [`what_was_acknowledged_survives_kill_9`] runs it in a child process.
/// Writes for ever: creates a task, patches it, and prints each name after its acknowledgement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crash_child() {
    let (Ok(path), Ok(round)) = (std::env::var(CHILD_FILE), std::env::var(CHILD_ROUND)) else {
        return;
    };
    let store = open(Path::new(&path), round.parse().expect("a number"));
    let stores = Stores::of(&store);
    join_all((0..WRITERS).map(|writer| {
        let (stores, round) = (stores.clone(), round.clone());
        async move {
            for number in 0.. {
                let key = key(&round, writer, number);
                let spec = AgenticTaskSpec::new(TaskKind::Freeform, AgenticTaskPayload::default());
                stores.tasks.create(NewObject::new(key.clone(), spec)).await.expect("create");
                acknowledge("created", &key);
                let change = Change::<AgenticTask>::of(Part::Status).set("attempt", number + 1);
                stores.tasks.patch(&key, change, Expect::Any).await.expect("patch");
                acknowledge("patched", &key);
            }
        }
    }))
    .await;
}

/// One write, so that a kill leaves whole lines or the beginning of one.
fn acknowledge(what: &str, key: &Key) {
    let line = format!("{what} {key} .\n");
    std::io::stdout().lock().write_all(line.as_bytes()).expect("the parent reads");
}

/// Starts the child, kills it at a random moment, and returns what it had acknowledged.
fn killed_child(path: &Path, round: u64, after: Duration) -> Vec<(String, String)> {
    let mut child = Command::new(std::env::current_exe().expect("this test's binary"))
        .args(["--exact", "conformance::crash::crash_child", "--nocapture", "--test-threads=1"])
        .env(CHILD_FILE, path)
        .env(CHILD_ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("start");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let (lines, acknowledged) = channel();
    let reader = std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            let parts: Vec<&str> = line.split(' ').collect();
            if let [what @ ("created" | "patched"), key, "."] = parts.as_slice() {
                // Nobody listens any more once the round is over.
                drop(lines.send(((*what).to_owned(), (*key).to_owned())));
            }
        }
    });
    let mut seen = vec![acknowledged.recv_timeout(FIRST_ACK_MAX).expect("a first write")];
    let deadline = std::time::Instant::now() + after;
    while let Some(left) = deadline.checked_duration_since(std::time::Instant::now()) {
        match acknowledged.recv_timeout(left) {
            Ok(line) => seen.push(line),
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => panic!("the child ended by itself"),
        }
    }
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    kill(pid, Signal::SIGKILL).expect("kill");
    child.wait().expect("reap");
    reader.join().expect("the reader ends with the pipe");
    seen.extend(acknowledged.try_iter());
    seen
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("foreman.db");
    let chance = SimEntropy::new(0x5eed);
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let after = Duration::from_micros(chance.next_u64() % KILL_WITHIN_MICROS);
        acknowledged.extend(killed_child(&path, round, after));
        let store = open(&path, 1_000 + round);
        assert_eq!(store.check().await.expect("check"), Vec::<String>::new(), "round {round}");
        let listing = Stores::of(&store).tasks.list(&Query::all()).await.expect("list");
        assert_eq!(listing.unreadable, []);
        let found: std::collections::BTreeMap<String, Option<i64>> = listing
            .objects
            .into_iter()
            .map(|task| (task.key().to_string(), task.status.attempt))
            .collect();
        for (what, key) in &acknowledged {
            let attempt = found.get(key);
            assert!(attempt.is_some(), "round {round}: {key} was acknowledged and is lost");
            let number: i64 = key.rsplit_once('n').expect("n").1.parse().expect("a number");
            if what == "patched" {
                assert_eq!(
                    attempt,
                    Some(&Some(number + 1)),
                    "round {round}: {key}'s patch is lost"
                );
            }
        }
    }
    assert!(acknowledged.len() > 100, "only {} writes were tried", acknowledged.len());
}
