//! No credential reaches what a model can see, or anything that is written down.

use foreman_core::model::Verdict;
use foreman_runner::git::GitCredential;
use foreman_runner::sandbox::Tier;
use secrecy::SecretString;

use crate::support::bench::{API_KEY, Bench, finished};
use crate::support::git_server::{GitServer, Rights};
use crate::support::model_server::{Act, bash, mend, submit};
use serde_json::json;

const TOKEN: &str = "ghp_the-token-of-this-test-0123456789";

/// Shows everything that a command of a model can find out about this machine.
const LOOK: &str = "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; \
                    ls -la / .. 2>&1; cat ../../../../journals/*/* ../../../journals/*/* 2>&1; \
                    git config --list 2>&1; cat .git/config $(sed 's/gitdir: //' .git)/config 2>&1; true";

async fn bench(token: &str, acts: Vec<Act>) -> (Bench, GitServer) {
    let mut bench = Bench::new(acts).await;
    let root = bench.folder.path().to_owned();
    let server = GitServer::new(root, "x-access-token", token, Rights::ReadWrite).await;
    bench.settings.credential = GitCredential::Token {
        username: "x-access-token".into(),
        token: SecretString::from(token.to_owned()),
    };
    (bench, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_token_nor_key_is_seen_by_a_command_or_written_anywhere() {
    let (bench, server) = bench(TOKEN, vec![bash(LOOK), mend(), submit("GO")]).await;
    let mut spec = bench.code();
    spec.payload.repo = Some(format!("{}/remote.git", server.url));
    let finish = bench.finish(spec).await;
    assert_eq!(finish.verdict, Verdict::Go, "{}", finish.message);
    let asked = bench.model.asked();
    // The key is really in use, and the command really looked.
    assert_eq!(
        asked.first().and_then(|it| it.authorization.clone()),
        Some(format!("Bearer {API_KEY}"))
    );
    let shown = asked.get(1).expect("asked").messages().pop().expect("a result");
    assert!(shown.contains("PATH="), "{shown}");
    for secret in [TOKEN, API_KEY] {
        for (number, request) in asked.iter().enumerate() {
            assert!(!request.body.to_string().contains(secret), "request {number} holds a secret");
        }
        let whole = format!("{finish:?}{:?}", bench.heard.all());
        assert!(!whole.contains(secret), "an event or the result holds a secret");
        assert_eq!(bench.files_with(secret), Vec::<std::path::PathBuf>::new());
    }
    // A result that says "redacted" would mean that the sandbox let it through.
    if bench.settings.sandbox_required >= Tier::Files {
        assert!(!shown.contains("[redacted]"), "the command could read a secret: {shown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_a_model_repeats_is_not_written_down() {
    let (bench, _server) = bench(TOKEN, vec![]).await;
    bench.model.then(vec![
        bash(Box::leak(format!("echo {TOKEN}").into_boxed_str())),
        Act::Call(
            "str_replace",
            json!({"path": "greet.sh", "old_string": "$1", "new_string": "${1:-world}"}),
        ),
        Act::Call(
            "submit_result",
            json!({"verdict": "GO", "summary": format!("used {TOKEN}"), "commit_message": format!("With {TOKEN}")}),
        ),
    ]);
    let finish = bench.finish(bench.code()).await;
    assert_eq!(finish.verdict, Verdict::Go, "{}", finish.message);
    assert!(!format!("{finish:?}{:?}", bench.heard.all()).contains(TOKEN));
    assert_eq!(bench.files_with(TOKEN), Vec::<std::path::PathBuf>::new());
    let message = bench.remote.git(&["log", "-1", "--format=%B", "foreman/fix"]);
    assert!(message.starts_with("With [redacted]"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_is_in_no_argument_of_git() {
    // Of this test alone: another one makes its model say the other token in a command.
    const TOKEN: &str = "ghp_never-an-argument-0123456789";
    let (bench, server) = bench(TOKEN, vec![mend(), submit("GO")]).await;
    let mut spec = bench.code();
    spec.payload.repo = Some(format!("{}/remote.git", server.url));
    let task = bench.task("fix", spec).await;
    let watching = tokio::spawn(async {
        let mut found = Vec::new();
        loop {
            for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
                let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
                if line.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes()) {
                    found.push(String::from_utf8_lossy(&line).into_owned());
                }
            }
            if !found.is_empty() {
                return found;
            }
            tokio::task::yield_now().await;
        }
    });
    let finish = finished(bench.run(&task.key()).await);
    assert_eq!(finish.verdict, Verdict::Go, "{}", finish.message);
    watching.abort();
    if let Ok(found) = watching.await {
        panic!("the token was an argument: {found:?}");
    }
    assert!(server.let_in("POST /remote.git/git-receive-pack"));
}
