//! Bad input: what models, journals, URLs and repositories can bring. Each one ends in one clear
//! sentence, without a panic, and with nothing changed at the remote.

use std::path::Path;

use foreman_core::model::AgenticTaskSpec;
use foreman_core::model::shared::{GateCommands, GateProfile};
use foreman_core::model::wellknown::ANNOTATION_PUSH_TO;
use foreman_core::model::{AgenticTask, Key, NewObject};
use foreman_core::ports::executor::RunEnd;
use foreman_runner::journal::{decode, encode};
use serde_json::{Value, json};

use crate::support::bench::{Bench, finished, given_back};
use crate::support::model_server::{Act, bash, event, mend, submit};
use crate::support::repository::{BROKEN, Remote, git, write};

/// What is wrong, by a change of the spec, and what the sentence must hold.
type SpecCase = (&'static str, fn(&mut AgenticTaskSpec, &Path), &'static str);

/// Its claim was given back, or it ended, with a sentence that says why, and nothing was pushed.
fn assert_refused(bench: &Bench, what: &str, before: &str, end: &RunEnd, wanted: &str) {
    let message = match end {
        RunEnd::Finished(finish) => {
            assert!(finish.branch.is_none() && finish.commit_sha.is_none(), "{what}");
            finish.message.as_str()
        }
        RunEnd::Released { .. } | RunEnd::Lost => given_back(end).1,
    };
    assert!(message.contains(wanted), "{what}: {wanted:?} is not in {message:?}");
    assert!(!message.contains('\n') || message.lines().count() < 12, "{what}: {message}");
    assert!(!message.contains("hunter2secret"), "{message}");
    assert_eq!(bench.remote.references(), before, "{what}: the remote changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn repositories_branches_and_gates() {
    let cases: &[SpecCase] = &[
        ("no repository", |spec, _| spec.payload.repo = None, "spec.payload.repo is empty"),
        ("an empty one", |spec, _| spec.payload.repo = Some(String::new()), "name a repository"),
        (
            "an option",
            |spec, _| spec.payload.repo = Some("--upload-pack=touch /tmp/x".into()),
            "starts with '-'",
        ),
        (
            "a remote helper",
            |spec, _| spec.payload.repo = Some("ext::sh -c true".into()),
            "remote helper",
        ),
        (
            "another scheme",
            |spec, _| spec.payload.repo = Some("ftp://host/a.git".into()),
            "has a scheme other than",
        ),
        (
            "a credential in the URL",
            |spec, _| spec.payload.repo = Some("https://user:hunter2secret@host/a.git".into()),
            "spec.payload.repo:",
        ),
        (
            "a control character",
            |spec, _| spec.payload.repo = Some("https://host/a\u{7}.git".into()),
            "control character",
        ),
        (
            "a relative path",
            |spec, _| spec.payload.repo = Some("../here".into()),
            "spec.payload.repo:",
        ),
        (
            "a path without a folder",
            |spec, _| spec.payload.repo = Some("/no/such/folder".into()),
            "no folder",
        ),
        (
            "a folder that is no repository",
            |spec, folder| {
                std::fs::create_dir(folder.join("plain")).expect("made");
                spec.payload.repo = Some(folder.join("plain").display().to_string());
            },
            "plain",
        ),
        (
            "an empty repository",
            |spec, folder| {
                git(folder, &["init", "-q", "--bare", "void.git"]);
                spec.payload.repo = Some(format!("file://{}", folder.join("void.git").display()));
            },
            "is empty: push a first commit",
        ),
        (
            "a repository whose objects are gone",
            |spec, folder| {
                git(folder, &["clone", "-q", "--bare", "remote.git", "torn.git"]);
                std::fs::remove_dir_all(folder.join("torn.git/objects")).expect("removed");
                std::fs::create_dir(folder.join("torn.git/objects")).expect("made");
                spec.payload.repo = Some(format!("file://{}", folder.join("torn.git").display()));
            },
            "torn.git",
        ),
        (
            "a host that is not there",
            |spec, _| spec.payload.repo = Some("http://127.0.0.1:9/a.git".into()),
            "was not reached",
        ),
        (
            "a slug on such a host",
            |spec, _| spec.payload.repo = Some("owner/name".into()),
            "git.invalid",
        ),
        (
            "a branch with a space",
            |spec, _| spec.payload.branch = Some("a b".into()),
            "spec.payload.branch:",
        ),
        (
            "a branch with two dots",
            |spec, _| spec.payload.branch = Some("a..b".into()),
            "spec.payload.branch:",
        ),
        (
            "a branch that is an option",
            |spec, _| spec.payload.branch = Some("--force".into()),
            "spec.payload.branch:",
        ),
        (
            "a branch that is a reference elsewhere",
            |spec, _| spec.payload.branch = Some("a/../../HEAD".into()),
            "spec.payload.branch:",
        ),
        (
            "a branch of a kilobyte",
            |spec, _| spec.payload.branch = Some("x".repeat(1024)),
            "spec.payload.branch:",
        ),
        (
            "a base that is not there",
            |spec, _| spec.payload.base_branch = Some("develop".into()),
            "branch develop does not exist",
        ),
        (
            "a base that cannot be",
            |spec, _| spec.payload.base_branch = Some("a^b".into()),
            "spec.payload.baseBranch:",
        ),
        (
            "a branch to revise that is not there",
            |spec, _| spec.payload.revise_from_branch = Some("gone".into()),
            "branch gone does not exist",
        ),
        (
            "no prompt",
            |spec, _| spec.payload.prompt = Some("  \n".into()),
            "spec.payload without prompt",
        ),
        (
            "an empty gate command",
            |spec, _| {
                let commands = GateCommands { test: Some("  ".into()), ..GateCommands::default() };
                spec.gate_profile =
                    Some(GateProfile { commands: Some(commands), ..GateProfile::default() });
            },
            "gateProfile.commands.test",
        ),
        (
            "a branch that git keeps for itself",
            |spec, _| spec.payload.branch = Some("a.lock".into()),
            "spec.payload.branch:",
        ),
    ];
    assert_eq!(cases.len(), 25);
    for (what, change, wanted) in cases {
        let bench = Bench::new(vec![mend(), submit("GO")]).await;
        let mut spec = bench.code();
        change(&mut spec, bench.folder.path());
        let before = bench.remote.references();
        let end = bench.end(spec).await;
        assert_refused(&bench, what, &before, &end, wanted);
        assert_eq!(bench.model.asked().len(), 0, "{what}: a turn was spent");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_to_push() {
    for (what, given, wanted) in [
        ("no address", "not a repository", "push-to:"),
        ("a helper", "ext::sh -c true", "push-to:"),
        ("nobody there", "http://127.0.0.1:9/a.git", "was not reached"),
    ] {
        let bench = Bench::new(vec![mend(), submit("GO")]).await;
        let before = bench.remote.references();
        let key = Key::namespaced("default", "fix");
        let mut new = NewObject::<AgenticTask>::new(key.clone(), bench.code());
        new.annotations.insert(ANNOTATION_PUSH_TO.to_owned(), given.to_owned());
        bench.stores.tasks.create(new).await.expect("created");
        let end = bench.run(&key).await;
        assert_refused(&bench, what, &before, &end, wanted);
        assert_eq!(bench.model.asked().len(), 0, "{what}: a turn was spent");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn project_files() {
    for (what, file, wanted) in [
        ("no TOML", "[gate\n", ".foreman.toml of the base commit"),
        ("a misspelt key", "[gate]\ntset = \"true\"\n", "tset"),
        ("a number for a command", "[gate]\ntest = 1\n", ".foreman.toml of the base commit"),
        ("an empty command", "[gate]\ntest = \"\"\n", ".foreman.toml"),
        (
            "an endless limit",
            "[gate]\ntest = \"true\"\ntimeout_seconds = 99999999999\n",
            ".foreman.toml",
        ),
    ] {
        let bench = Bench::on(vec![mend(), submit("GO")], |folder| {
            Remote::with(folder, "remote", &[("greet.sh", BROKEN), (".foreman.toml", file)])
        })
        .await;
        let before = bench.remote.references();
        let end = bench.end(bench.code()).await;
        assert_refused(&bench, what, &before, &end, wanted);
        assert_eq!(bench.model.asked().len(), 0, "{what}: a turn was spent");
    }
}

/// A stream that calls one tool with these raw arguments.
fn raw_call(name: &str, arguments: &str) -> Act {
    let call = json!({"index": 0, "id": "c", "function": {"name": name, "arguments": arguments}});
    let delta =
        json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": null}]});
    let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]});
    Act::Raw(event(&delta) + &event(&end) + "data: [DONE]\n\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_end_a_run() {
    let refused = |status, body: &str| Act::Status(status, "application/json", body.to_owned());
    let error = json!({"error": {"message": "no such model"}}).to_string();
    let cases: Vec<(&str, Act, &str)> = vec![
        ("an empty body", Act::Raw(String::new()), "model server at"),
        ("no JSON in the stream", Act::Raw("data: {oops\n\n".into()), "model server at"),
        ("a stream that stops in its middle", Act::Raw(event(&json!({"choices": [{"index": 0, "delta": {"content": "hal"}}]}))), "model server at"),
        ("a list", Act::Raw("data: []\n\n".into()), "model server at"),
        ("an error in the stream", Act::Raw(event(&json!({"error": {"message": "out of memory"}}))), "out of memory"),
        ("an unknown model", refused(404, &error), "no such model"),
        ("forbidden", refused(403, "{}"), "refused the credentials"),
        ("too long", refused(400, &json!({"error": {"message": "the request exceeds the available context size (512 tokens)"}}).to_string()), "longer than the context"),
        ("an endless line", Act::Raw(format!("data: {}", "x".repeat(9 << 20))), "model server at"),
        ("a redirect", refused(302, ""), "redirects"),
    ];
    assert_eq!(cases.len(), 10);
    for (what, act, wanted) in cases {
        let bench = Bench::new(vec![act]).await;
        let before = bench.remote.references();
        let end = bench.end(bench.code()).await;
        assert_refused(&bench, what, &before, &end, wanted);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_come_back_to_the_model() {
    let cases: Vec<(&str, Act, &str)> = vec![
        ("a tool that is not there", raw_call("launch", "{}"), "launch"),
        ("arguments that are no JSON", raw_call("read_file", "{\"path\": "), "not valid JSON"),
        ("arguments that are a list", raw_call("read_file", "[1]"), "list"),
        ("a missing argument", raw_call("read_file", "{}"), "path"),
        (
            "a path out of the tree",
            raw_call("read_file", "{\"path\": \"../../../etc/passwd\"}"),
            "error",
        ),
        (
            "an absolute path",
            raw_call("write_file", "{\"path\": \"/tmp/owned\", \"content\": \"x\"}"),
            "error",
        ),
        (
            "a path into the git dir",
            raw_call("write_file", "{\"path\": \".git/config\", \"content\": \"x\"}"),
            "error",
        ),
        (
            "a submission without a verdict",
            raw_call("submit_result", "{\"summary\": \"x\"}"),
            "verdict",
        ),
        (
            "a verdict of its own",
            raw_call("submit_result", "{\"verdict\": \"MAYBE\", \"summary\": \"x\"}"),
            "verdict",
        ),
    ];
    assert_eq!(cases.len(), 9);
    for (what, act, wanted) in cases {
        let bench = Bench::new(vec![act, submit("NO-GO")]).await;
        let before = bench.remote.references();
        let finish = bench.finish(bench.code()).await;
        let asked = bench.model.asked();
        let answer =
            asked.get(1).unwrap_or_else(|| panic!("{what}: not asked again: {}", finish.message));
        let answer = answer.messages().pop().expect("a message").to_lowercase();
        assert!(answer.contains(&wanted.to_lowercase()), "{what}: {wanted:?} is not in {answer}");
        assert_eq!(bench.remote.references(), before, "{what}");
        assert_eq!(finish.message, "the model declined", "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trees_that_cannot_be_pushed() {
    let nested = "git init -q inner 2>&1; mkdir -p inner; printf x > inner/file; \
                  mkdir -p inner/.git/refs inner/.git/objects; echo 'ref: refs/heads/main' > inner/.git/HEAD; true";
    for (what, command, wanted) in [
        ("a repository within", nested, "repository of its own"),
        ("a file too large", "head -c 200000000 /dev/zero > big.bin", "big.bin has"),
    ] {
        let bench = Bench::new(vec![bash(command), mend(), submit("GO")]).await;
        let before = bench.remote.references();
        let end = bench.end(bench.code()).await;
        assert_refused(&bench, what, &before, &end, wanted);
    }
}

/// A journal, from the header of one as a run wrote it.
type Make = Box<dyn Fn(&Value) -> Vec<u8>>;

/// Journals that are damaged, foreign or hostile: the run goes on from what is good of them, or ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn journals() {
    let coded = |value: &Value| encode(value).expect("small");
    let with = |header: &Value, parent: Value| {
        let mut header = header.clone();
        header.as_object_mut().expect("an object").insert("parent".into(), parent);
        encode(&header).expect("small")
    };
    let cases: Vec<(&str, Make, Option<&str>)> = vec![
        ("nothing in it", Box::new(|_| Vec::new()), None),
        ("zeros", Box::new(|_| vec![0; 4096]), None),
        ("noise", Box::new(|_| (0..=255).cycle().take(10_000).collect()), None),
        ("a length without end", Box::new(|_| vec![0xff; 64]), None),
        (
            "no header first",
            Box::new(move |_| coded(&json!({"at": 1, "kind": "outcome", "outcome": {}}))),
            None,
        ),
        (
            "a header and noise",
            Box::new(move |header| [coded(header), b"noise that is no record".to_vec()].concat()),
            None,
        ),
        (
            "an outcome of another version",
            Box::new(move |header| {
                let outcome = json!({"at": 1, "kind": "outcome", "outcome": {"verdict": 7}});
                [coded(header), coded(&outcome)].concat()
            }),
            None,
        ),
        (
            "a kind of record of another version",
            Box::new(move |header| {
                [coded(header), coded(&json!({"at": 1, "kind": "dream"}))].concat()
            }),
            None,
        ),
        (
            "a newer schema",
            Box::new(move |header| {
                let mut header = header.clone();
                header.as_object_mut().expect("an object").insert("schema".into(), json!(99));
                coded(&header)
            }),
            Some("newer version"),
        ),
        (
            "its own parent",
            Box::new(move |header| {
                let uid = header.pointer("/fence/uid").cloned();
                with(header, json!({"uid": uid, "attempt": 1, "bytes": 100_000}))
            }),
            Some("journal"),
        ),
        (
            "a parent that is not there",
            Box::new(move |header| with(header, json!({"uid": "gone", "attempt": 1, "bytes": 10}))),
            Some("journal"),
        ),
        (
            "a parent out of the folder",
            Box::new(move |header| {
                with(header, json!({"uid": "../../x", "attempt": 1, "bytes": 10}))
            }),
            Some("is no task uid"),
        ),
    ];
    assert_eq!(cases.len(), 12);
    for (what, make, wanted) in cases {
        let bench = Bench::new(vec![Act::Hang]).await;
        let before = bench.remote.references();
        let task = bench.task("fix", bench.code()).await;
        let run = bench.start(&task.key(), "s1").await;
        bench.model.asked_times(1).await;
        run.crash().await;
        let path = bench.settings.data_dir.join(format!("journals/{}/1.journal", task.meta.uid));
        let records = decode(&std::fs::read(&path).expect("a journal")).records;
        let header = serde_json::to_value(records.first().expect("a header")).expect("JSON");
        std::fs::write(&path, make(&header)).expect("written");
        bench.model.then(vec![mend(), submit("GO")]);
        let end = bench.start(&task.key(), "s2").await.ended().await;
        if let Some(wanted) = wanted {
            assert_refused(&bench, what, &before, &end, wanted);
        } else {
            let finish = finished(end);
            assert_eq!(finish.verdict.to_string(), "GO", "{what}: {}", finish.message);
            assert_eq!(bench.remote.ahead("foreman/fix"), "1", "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_that_attacks_the_agents_git_runs_nothing() {
    let bench = Bench::on(vec![mend(), submit("GO")], |folder| {
        let remote = Remote::greeting(folder);
        let seed = folder.join("remote-seed");
        write(&seed, ".gitattributes", "* filter=evil diff=evil merge=evil\n");
        write(
            &seed,
            ".gitmodules",
            "[submodule \"x\"]\n\tpath = x\n\turl = ext::sh -c 'touch owned'\n",
        );
        git(&seed, &["add", "-A"]);
        git(&seed, &["commit", "-q", "-m", "attack"]);
        git(&seed, &["push", "-q", "../remote.git", "main"]);
        remote
    })
    .await;
    let finish = bench.finish(bench.code()).await;
    assert_eq!(finish.verdict.to_string(), "GO", "{}", finish.message);
    assert_eq!(bench.files_with("owned").iter().filter(|it| it.ends_with("owned")).count(), 0);
    assert_eq!(bench.remote.ahead("foreman/fix"), "1");
}
