//! Real git: a token reaches the host it is for, limits hold.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{Git, GitCredential, GitError, Repository};

fn script(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join(name);
    std::fs::write(&path, text).expect("write");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("mode");
    path
}

#[tokio::test]
async fn a_missing_git_is_named() {
    let git = Git::default().with_program("/no/such/git".into());
    let result = git.call("look").args(["version"]).run(&CancellationToken::new()).await;
    assert!(matches!(result, Err(GitError::Missing { program }) if program == "/no/such/git"));
}

#[tokio::test]
async fn a_token_is_in_the_environment_only_and_for_one_host() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("token"), "t0ken\nsecond line\n").expect("token");
    let dump =
        script(folder.path(), "git", "#!/bin/sh\nfor a in \"$@\"; do echo \"arg $a\"; done\nenv\n");
    let credential = GitCredential::from_file(&folder.path().join("token")).expect("token");
    assert!(!format!("{credential:?}").contains("t0ken"));
    let git = Git::new(credential).with_program(dump);
    let remote = Repository::parse("https://host.test/a/b", "https://x").expect("url");
    let cancel = CancellationToken::new();
    let output = git.call("look").with_remote(&remote).run(&cancel).await.expect("run").text();
    assert!(output.contains("FOREMAN_GIT_TOKEN=t0ken"), "{output}");
    assert!(output.contains("arg credential.https://host.test.helper=!f()"), "{output}");
    assert!(
        output.lines().filter(|line| line.starts_with("arg ")).all(|line| !line.contains("t0ken"))
    );
    assert!(output.contains("arg protocol.https.allow=always"), "{output}");
    let output = git.call("look").run(&cancel).await.expect("run").text();
    assert!(!output.contains("t0ken"), "a call without a remote has no token: {output}");
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "\n").expect("write");
    assert!(matches!(GitCredential::from_file(&empty), Err(GitError::Invalid { .. })));
}

#[tokio::test]
async fn gits_own_helper_protocol_gives_the_token_to_its_host_alone() {
    let credential =
        GitCredential::Token { username: "me".to_owned(), token: "t0ken".to_owned().into() };
    let git = Git::new(credential);
    let cancel = CancellationToken::new();
    let remote = Repository::parse("https://host.test/a", "https://x").expect("url");
    let ask = async |host: &str| {
        let question = format!("protocol=https\nhost={host}\n\n").into_bytes();
        let call =
            git.call("ask").with_remote(&remote).args(["credential", "fill"]).stdin(question);
        call.run(&cancel).await
    };
    let answer = ask("host.test").await.expect("answer").text();
    assert!(answer.contains("username=me") && answer.contains("password=t0ken"), "{answer}");
    let other = ask("evil.test").await;
    assert!(!format!("{other:?}").contains("t0ken"), "{other:?}");
}

#[tokio::test]
async fn time_leave_cancel_and_output_have_limits() {
    let folder = tempfile::tempdir().expect("folder");
    let slow = script(folder.path(), "slow", "#!/bin/sh\nsleep 300 &\nsleep 300\n");
    let git = Git::default().with_program(slow);
    let cancel = CancellationToken::new();
    let begun = Instant::now();
    let result = git.call("wait").limit(Duration::from_millis(200)).run(&cancel).await;
    assert!(matches!(result, Err(GitError::TimedOut { .. })), "{result:?}");
    let asked = std::cell::Cell::new(0);
    let result = git.call("wait").run_while(&cancel, || {
        asked.set(asked.get() + 1);
        asked.get() < 3
    });
    assert!(matches!(result.await, Err(GitError::NotAllowed { .. })));
    let (result, ()) = tokio::join!(git.call("wait").run(&cancel), async { cancel.cancel() });
    assert!(matches!(result, Err(GitError::Cancelled { .. })));
    assert!(begun.elapsed() < Duration::from_secs(30));
    let loud = script(folder.path(), "loud", "#!/bin/sh\nyes | head -c 100000\n");
    let git = Git::default().with_program(loud);
    let result = git.call("shout").output_bytes_max(1000).run(&CancellationToken::new()).await;
    assert!(matches!(result, Err(GitError::TooMuchOutput { bytes_max: 1000, .. })), "{result:?}");
}
