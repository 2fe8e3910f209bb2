//! Clone and push over smart HTTP, with a credential.

use foreman_core::model::Verdict;
use foreman_core::model::outcome::Infrastructure;
use foreman_runner::git::GitCredential;
use secrecy::SecretString;

use crate::support::bench::Bench;
use crate::support::git_server::{GitServer, Rights};
use crate::support::model_server::{mend, submit};
use crate::support::repository::MENDED;

const TOKEN: &str = "a-right-token-0123456789";

async fn served(rights: Rights, token: &str) -> (Bench, GitServer) {
    let mut bench = Bench::new(vec![mend(), submit("GO")]).await;
    let root = bench.folder.path().to_owned();
    let server = GitServer::new(root, "x-access-token", TOKEN, rights).await;
    // Slugs live there as well.
    bench.settings.git_base_url.clone_from(&server.url);
    bench.settings.credential = GitCredential::Token {
        username: "x-access-token".into(),
        token: SecretString::from(token.to_owned()),
    };
    (bench, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_clones_and_pushes_with_a_token() {
    let (bench, server) = served(Rights::ReadWrite, TOKEN).await;
    let mut spec = bench.code();
    spec.payload.repo = Some(format!("{}/remote.git", server.url));
    let finish = bench.finish(spec).await;
    assert_eq!(finish.verdict, Verdict::Go, "{}", finish.message);
    assert_eq!(bench.remote.branches(), ["foreman/fix"]);
    assert_eq!(bench.remote.ahead("foreman/fix"), "1");
    assert_eq!(bench.remote.file("foreman/fix", "greet.sh"), MENDED);
    assert!(server.let_in("POST /remote.git/git-upload-pack"));
    assert!(server.let_in("POST /remote.git/git-receive-pack"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_token_is_named_with_what_to_do() {
    let (bench, server) = served(Rights::ReadWrite, "a-wrong-token-0123456789").await;
    let mut spec = bench.code();
    spec.payload.repo = Some(format!("{}/remote.git", server.url));
    let finish = bench.finish(spec).await;
    assert!(!finish.succeeded);
    assert_eq!(finish.outcome.infrastructure, Infrastructure::GitUnavailable, "{}", finish.message);
    let message = &finish.message;
    assert!(
        message.contains("refused the credential") && message.contains("--token-file"),
        "{message}"
    );
    assert!(message.contains("/remote.git"), "{message}");
    assert!(!message.contains("a-wrong-token"), "{message}");
    assert_eq!(bench.model.asked().len(), 0);
    assert_eq!(bench.remote.branches(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_at_all_asks_nobody_and_says_so() {
    let (mut bench, server) = served(Rights::ReadWrite, TOKEN).await;
    bench.settings.credential = GitCredential::None;
    let mut spec = bench.code();
    spec.payload.repo = Some(format!("{}/remote.git", server.url));
    let finish = bench.finish(spec).await;
    assert_eq!(finish.outcome.infrastructure, Infrastructure::GitUnavailable, "{}", finish.message);
    assert!(finish.message.contains("--token-file"), "{}", finish.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_may_not_push_is_found_before_the_first_turn() {
    let (bench, server) = served(Rights::ReadOnly, TOKEN).await;
    let mut spec = bench.code();
    spec.payload.repo = Some(format!("{}/remote.git", server.url));
    let finish = bench.finish(spec).await;
    assert_eq!(finish.outcome.infrastructure, Infrastructure::PushRefused, "{}", finish.message);
    assert!(finish.message.contains("refused the credential"), "{}", finish.message);
    assert_eq!(bench.model.asked().len(), 0, "no turn was spent");
    assert_eq!(bench.remote.branches(), Vec::<String>::new());
    assert!(server.let_in("POST /remote.git/git-upload-pack"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_goes_to_its_own_host_only() {
    let (bench, server) = served(Rights::ReadWrite, TOKEN).await;
    // Another host that asks for a credential.
    let root = bench.folder.path().to_owned();
    let other = GitServer::new(root, "x-access-token", "another-token", Rights::ReadWrite).await;
    let mut spec = bench.code();
    spec.payload.repo = Some(format!("{}/remote.git", other.url));
    let finish = bench.finish(spec).await;
    assert_eq!(finish.outcome.infrastructure, Infrastructure::GitUnavailable, "{}", finish.message);
    assert!(!other.let_in(""), "nobody was let in");
    assert!(!server.let_in(""), "and the right one was not asked");
}
