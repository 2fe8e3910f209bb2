//! The future of a run dropped at each place where it can wait, and a new claim on the same data.
//! The same with a real kill -9 of a whole process is in the suite of the commands.

use foreman_core::BeatBegan;
use foreman_core::model::outcome::{Infrastructure, Verification};
use foreman_core::model::{Key, Verdict};
use foreman_core::ports::executor::{Executor as _, Finish, Stop};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Expect};
use foreman_runner::journal::{EffectState, Entry, JournalKey, decode, encode};
use foreman_runner::observe::RunEvent;
use serde_json::Value;

use crate::support::bench::{Bench, finished};
use crate::support::model_server::{Act, bash, mend, read, submit};
use crate::support::repository::{BROKEN, GATE, Remote, TEST};
use crate::support::within;

/// One branch, one commit on it, and the end as if nothing had happened.
fn assert_whole(bench: &Bench, finish: &Finish) {
    assert_eq!(finish.verdict, Verdict::Go, "{}", finish.message);
    assert_eq!(finish.outcome.verification, Verification::Passed);
    assert_eq!(finish.outcome.infrastructure, Infrastructure::Ok);
    assert_eq!(bench.remote.branches(), ["foreman/fix"]);
    assert_eq!(bench.remote.ahead("foreman/fix"), "1");
    assert_eq!(finish.commit_sha, Some(bench.remote.tip("foreman/fix")));
    assert_eq!(finish.branch.as_deref(), Some("foreman/fix"));
}

async fn resume(bench: &Bench, key: &Key) -> Finish {
    finished(bench.start(key, "s2").await.ended().await)
}

/// The result without the time that telling it took.
fn words(finish: &Finish) -> serde_json::Map<String, Value> {
    let mut result = finish.result.0.clone();
    result.remove("elapsedSec");
    result
}

/// Cuts the journal of an attempt behind the last record that `keep` picks: as a crash right after
/// that record was written leaves it.
fn cut_after(bench: &Bench, uid: &str, attempt: u32, keep: impl Fn(&Entry) -> bool) {
    let path = bench.settings.data_dir.join(format!("journals/{uid}/{attempt}.journal"));
    let bytes = std::fs::read(&path).expect("a journal");
    let records = decode(&bytes).records;
    let last = records.iter().rposition(|record| keep(&record.entry)).expect("such a record");
    let mut kept = Vec::new();
    for record in records.iter().take(last + 1) {
        let value = serde_json::to_value(record).expect("JSON");
        kept.extend(encode(&value).expect("small"));
    }
    assert!(bytes.starts_with(&kept), "a prefix");
    std::fs::write(&path, kept).expect("cut");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_while_cloning() {
    let bench = Bench::new(vec![mend(), submit("GO")]).await;
    let task = bench.task("fix", bench.code()).await;
    for round in 0..6 {
        let run = bench.start(&task.key(), &format!("early-{round}")).await;
        // Somewhere in the clone: after so many turns of the runtime.
        for _ in 0..round * round * 40 {
            tokio::task::yield_now().await;
        }
        if run.is_finished() {
            break;
        }
        run.crash().await;
    }
    let finish = resume(&bench, &task.key()).await;
    assert_whole(&bench, &finish);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_in_a_model_call() {
    let bench = Bench::new(vec![mend(), Act::Hang]).await;
    let task = bench.task("fix", bench.code()).await;
    let run = bench.start(&task.key(), "s1").await;
    bench.model.asked_times(2).await;
    run.crash().await;
    bench.model.then(vec![submit("GO")]);
    let finish = resume(&bench, &task.key()).await;
    assert_whole(&bench, &finish);
    let asked = bench.model.asked();
    let (hung, again) = (asked.get(1).expect("asked"), asked.get(2).expect("asked"));
    assert_eq!(hung.raw, again.raw, "the same turn, byte for byte");
    assert!(bench.heard.all().contains(&RunEvent::Resumed { turns: 1 }));
    assert_eq!(finish.usage.turns, Some(2), "what the dead claim spent is charged as well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_in_a_tool() {
    let script = vec![mend(), bash("echo half > half.txt; touch began; exec sleep 54322")];
    let bench = Bench::new(script).await;
    let task = bench.task("fix", bench.code()).await;
    let run = bench.start(&task.key(), "s1").await;
    let began = "the command";
    within(began, async {
        while !bench.trees().iter().any(|tree| tree.join("began").exists()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    run.crash().await;
    bench.model.then(vec![submit("GO")]);
    let finish = resume(&bench, &task.key()).await;
    assert_whole(&bench, &finish);
    let last = bench.model.asked().pop().expect("asked").messages().pop().expect("a message");
    assert!(last.contains("interrupted; effects may be partial"), "{last}");
    // What the command did so far is there, as the model was told.
    assert_eq!(bench.remote.file("foreman/fix", "half.txt"), "half\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_in_the_gate() {
    let bench = Bench::on(vec![mend(), submit("GO")], |folder| {
        // Waits in its first run only: the file is outside the tree, in the private TMPDIR.
        let gate = "[gate]\ntest = \"test -e ../../../../again || sleep 54323; sh test.sh\"\n";
        let files = [("greet.sh", BROKEN), ("test.sh", TEST), (".foreman.toml", gate)];
        Remote::with(folder, "remote", &files)
    })
    .await;
    let task = bench.task("fix", bench.code()).await;
    let run = bench.start(&task.key(), "s1").await;
    let started = |event: &RunEvent| matches!(event, RunEvent::GateStarted { .. });
    bench.heard.once("the gate", started).await;
    run.crash().await;
    // Not readable in the sandbox, so the gate is replaced by way of the task instead.
    let change = Change::of(Part::Spec).set(
        "gateProfile",
        serde_json::json!({"language": "generic", "commands": {"test": "sh test.sh"}}),
    );
    bench.stores.tasks.patch(&task.key(), change, Expect::Any).await.expect("changed");
    let finish = resume(&bench, &task.key()).await;
    assert_whole(&bench, &finish);
    assert_eq!(bench.model.asked().len(), 2, "the submission is judged again, not asked for");
}

/// Runs to the end, then leaves the journal as a crash after the picked record does.
async fn ended_then_cut(keep: impl Fn(&Entry) -> bool) -> (Bench, Key, String) {
    let bench = Bench::new(vec![mend(), submit("GO")]).await;
    let task = bench.task("fix", bench.code()).await;
    // The tree is tidied up once the end is in the journal: put it aside before that.
    let run = bench.start(&task.key(), "s1").await;
    bench.beat.send_replace(None);
    let mut moved = run.moved.clone();
    let publishing =
        moved.wait_for(|it| it.stage.is_some_and(|it| format!("{it:?}") == "Publishing"));
    within("the publication", publishing).await.expect("the run lives");
    let journals = bench.executor().journals().clone();
    let uid = task.meta.uid.to_string();
    within("the intent", async {
        loop {
            let key = JournalKey::new(&uid, 1).expect("a key");
            let replay = journals.read(key).await.expect("read");
            if matches!(replay.effects.values().next(), Some(EffectState::Intended { .. })) {
                break;
            }
        }
    })
    .await;
    let data = &bench.settings.data_dir;
    let aside = bench.folder.path().join("aside");
    copy(&data.join("workspaces"), &aside.join("workspaces"));
    copy(&data.join("git"), &aside.join("git"));
    bench.beat.send_replace(Some(BeatBegan::now(&*bench.clock)));
    let first = finished(run.ended().await);
    assert_eq!(first.verdict, Verdict::Go, "{}", first.message);
    copy(&aside.join("workspaces"), &data.join("workspaces"));
    copy(&aside.join("git"), &data.join("git"));
    cut_after(&bench, &uid, 1, keep);
    let tip = bench.remote.tip("foreman/fix");
    (bench, task.key(), tip)
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("made");
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg(format!("{}/.", from.display()))
        .arg(to)
        .status()
        .expect("cp");
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_between_the_intent_and_the_push() {
    let bench = Bench::new(vec![mend(), submit("GO")]).await;
    let task = bench.task("fix", bench.code()).await;
    let run = bench.start(&task.key(), "s1").await;
    bench.beat.send_replace(None);
    let journals = bench.executor().journals().clone();
    within("the intent", async {
        loop {
            let key = JournalKey::new(task.meta.uid.as_str(), 1).expect("a key");
            // Not there yet at first.
            if let Ok(replay) = journals.read(key).await
                && !replay.effects.is_empty()
            {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    run.crash().await;
    assert_eq!(bench.remote.branches(), Vec::<String>::new());
    let gates = |bench: &Bench| {
        let completed = bench.heard.all().into_iter();
        completed.filter(|event| matches!(event, RunEvent::GateCompleted { .. })).count()
    };
    let before = gates(&bench);
    let finish = resume(&bench, &task.key()).await;
    assert_whole(&bench, &finish);
    assert_eq!(gates(&bench), before, "what the gate said is in the journal");
    let message = bench.remote.git(&["log", "-1", "--format=%B", "foreman/fix"]);
    assert!(message.contains(&format!("Foreman-Task: {}/1", task.meta.uid)), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_between_the_push_and_its_record() {
    let intent = |entry: &Entry| matches!(entry, Entry::EffectIntent { .. });
    let (bench, key, tip) = ended_then_cut(intent).await;
    let finish = resume(&bench, &key).await;
    assert_whole(&bench, &finish);
    assert_eq!(bench.remote.tip("foreman/fix"), tip, "no second push");
    assert!(bench.heard.notices().contains("was pushed before"), "{}", bench.heard.notices());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_between_the_record_and_the_end() {
    let done = |entry: &Entry| matches!(entry, Entry::EffectDone { .. });
    let (bench, key, tip) = ended_then_cut(done).await;
    let finish = resume(&bench, &key).await;
    assert_whole(&bench, &finish);
    assert_eq!(bench.remote.tip("foreman/fix"), tip);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_between_the_end_and_its_terminal_write() {
    let bench = Bench::new(vec![mend(), submit("GO")]).await;
    let task = bench.task("fix", bench.code()).await;
    let first = finished(bench.run(&task.key()).await);
    let references = bench.remote.references();
    for session in ["s2", "s3"] {
        let again = finished(bench.start(&task.key(), session).await.ended().await);
        assert_eq!(words(&again), words(&first), "the same words");
        assert_eq!(again.outcome, first.outcome);
        assert_eq!(again.commit_sha, first.commit_sha);
        assert_eq!(again.usage.turns, first.usage.turns, "nobody was charged yet");
    }
    assert_eq!(bench.remote.references(), references);
    assert_eq!(bench.model.asked().len(), 2);
    assert!(bench.heard.notices().contains("its outcome is told again"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pushed_branch_that_somebody_moved_since_is_left_alone() {
    let intent = |entry: &Entry| matches!(entry, Entry::EffectIntent { .. });
    let (bench, key, _) = ended_then_cut(intent).await;
    let theirs = bench.remote.pushed_by_somebody_else("foreman/fix", "foreman/fix");
    let finish = resume(&bench, &key).await;
    assert_eq!(finish.outcome.infrastructure, Infrastructure::PushRefused, "{}", finish.message);
    assert_eq!(bench.remote.tip("foreman/fix"), theirs);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_cache_loses_no_work() {
    let bench = Bench::new(vec![mend(), Act::Hang]).await;
    let task = bench.task("fix", bench.code()).await;
    let run = bench.start(&task.key(), "s1").await;
    bench.model.asked_times(2).await;
    run.told(Stop::Drain { by: bench.clock.boot() }).await;
    std::fs::remove_dir_all(&bench.settings.cache_dir).expect("wiped");
    bench.model.then(vec![submit("GO")]);
    let finish = resume(&bench, &task.key()).await;
    assert_whole(&bench, &finish);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_prefix_of_a_journal_goes_on_to_one_push() {
    let (bench, key, _) = ended_then_cut(|_| true).await;
    let task = bench.now(&key).await;
    let uid = task.meta.uid.to_string();
    let path = bench.settings.data_dir.join(format!("journals/{uid}/1.journal"));
    let whole = std::fs::read(&path).expect("a journal");
    let count = decode(&whole).records.len();
    assert!(count > 8, "{count}");
    let data = &bench.settings.data_dir;
    let aside = bench.folder.path().join("aside");
    let mut ends: Vec<usize> = vec![0];
    let mut at = 0;
    for record in decode(&whole).records {
        at += encode(&serde_json::to_value(&record).expect("JSON")).expect("small").len();
        ends.push(at);
    }
    // Behind each record, and in the middle of each.
    let middles: Vec<usize> =
        ends.windows(2).filter_map(|it| Some(it.first()?.midpoint(*it.last()?))).collect();
    for end in ends.into_iter().chain(middles) {
        for attempt in 2..=bench.executor().highest_attempt(&task.meta.uid).await {
            drop(std::fs::remove_file(path.with_file_name(format!("{attempt}.journal"))));
        }
        std::fs::write(&path, whole.get(..end).expect("in range")).expect("cut");
        copy(&aside.join("workspaces"), &data.join("workspaces"));
        copy(&aside.join("git"), &data.join("git"));
        bench.model.forget();
        // Whatever is missing: the model goes on from what it is shown.
        bench.model.then(vec![Act::Next, Act::Next, Act::Next, Act::Next]);
        let finish = resume(&bench, &key).await;
        assert_eq!(finish.verdict, Verdict::Go, "cut at {end}: {}", finish.message);
        assert_eq!(bench.remote.branches(), ["foreman/fix"]);
        assert_eq!(bench.remote.ahead("foreman/fix"), "1", "cut at {end}");
        assert_eq!(finish.commit_sha, Some(bench.remote.tip("foreman/fix")), "cut at {end}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resumed_run_uses_the_agent_and_the_tools_it_began_with() {
    let mut bench = Bench::new(vec![mend(), Act::Hang]).await;
    let task = bench.task("fix", bench.code()).await;
    let run = bench.start(&task.key(), "s1").await;
    bench.model.asked_times(2).await;
    run.crash().await;
    bench.agent.system_prompt = Some("another role".into());
    bench.agent.tools = vec!["read_file".into(), "submit_result".into()];
    let key = Key::namespaced("default", "coder");
    let agent = bench.stores.agents.get(&key).await.expect("read").expect("there");
    bench.stores.agents.delete(&key, agent.uid(), Expect::Any).await.expect("deleted");
    bench.model.then(vec![read("greet.sh"), submit("GO")]);
    let finish = resume(&bench, &task.key()).await;
    assert_whole(&bench, &finish);
    let asked = bench.model.asked();
    let tools = |at: usize| asked.get(at).and_then(|it| it.body.get("tools").map(Value::to_string));
    assert_eq!(tools(2), tools(0));
    assert_eq!(
        asked.get(2).map(|it| it.messages().first().cloned()),
        asked.first().map(|it| it.messages().first().cloned())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_is_not_ours_to_read_ends_the_run_by_name() {
    let bench = Bench::new(vec![mend(), submit("GO")]).await;
    let _ = GATE;
    let task = bench.task("fix", bench.code()).await;
    let folder = bench.settings.data_dir.join(format!("journals/{}", task.meta.uid));
    std::fs::create_dir_all(&folder).expect("made");
    let header = serde_json::json!({"at": 1, "kind": "header", "schema": 99, "fence": {"uid": task.meta.uid.as_str(), "attempt": 1, "session": "s", "node": "n", "claimedAt": "t"}, "base_commit": "b", "baseCommit": "b", "agent": {}, "tools": []});
    std::fs::write(folder.join("1.journal"), encode(&header).expect("small")).expect("written");
    let finish = finished(bench.run(&task.key()).await);
    assert_eq!(finish.outcome.infrastructure, Infrastructure::Error);
    assert!(finish.message.contains("written by a newer version"), "{}", finish.message);
    assert_eq!(bench.remote.branches(), Vec::<String>::new());
}
