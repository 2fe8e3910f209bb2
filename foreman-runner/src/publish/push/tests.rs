//! Pushes against a real remote, and who may move what.

use std::cell::Cell;

use super::{PublishError, PushRequest, Pushed, check_push_right, look_up, push_as};
use crate::git::{BranchName, Git, GitError, Repository};
use crate::workspace::tests::{Ground, commit_request, git, write};
use crate::workspace::{Commit, Start, Workspace};

struct Ready {
    ground: Ground,
    workspace: Workspace,
    commit: Commit,
    repository: Repository,
    branch: BranchName,
}

impl Ready {
    async fn new(attempt: i64) -> Self {
        let ground = Ground::new();
        let workspace = ground.workspace("u1").await;
        write(workspace.tree(), "change", "x\n");
        let request = commit_request("Change", attempt);
        let commit = workspace.commit(&request, &ground.cancel).await.expect("commit");
        let (repository, branch) = (ground.remote(), workspace.branch().expect("branch"));
        Self { ground, workspace, commit, repository, branch }
    }

    async fn push(&self, attempt: i64) -> Result<Pushed, PublishError> {
        self.push_while(attempt, || true).await
    }

    async fn push_while(
        &self,
        attempt: i64,
        allowed: impl Fn() -> bool,
    ) -> Result<Pushed, PublishError> {
        let request = PushRequest {
            workspace: &self.workspace,
            repository: &self.repository,
            branch: &self.branch,
            commit: &self.commit,
            expected: self.workspace.branch_at_start(),
        };
        push_as(&request, "u1", attempt, allowed, &self.ground.cancel).await
    }

    fn at_remote(&self) -> String {
        git(
            &self.ground.path("remote.git"),
            &["for-each-ref", "--format=%(objectname)", "refs/heads/foreman"],
        )
    }
}

#[tokio::test]
async fn a_push_is_done_once_and_recognised() {
    let ready = Ready::new(1).await;
    check_push_right(&ready.workspace, &ready.repository, &ready.ground.cancel)
        .await
        .expect("right");
    assert_eq!(ready.at_remote(), "", "the dry run wrote nothing");
    assert_eq!(ready.push(1).await.expect("push"), Pushed::Now);
    assert_eq!(ready.at_remote(), ready.commit.sha);
    assert_eq!(ready.push(1).await.expect("push"), Pushed::Already);
    let cancel = &ready.ground.cancel;
    let found =
        look_up(&Git::default(), &ready.repository, &ready.branch, cancel).await.expect("look");
    assert_eq!(found, Some(ready.commit.sha.clone()));
}

#[tokio::test]
async fn anothers_commit_is_never_replaced() {
    let ready = Ready::new(2).await;
    let other = ready.ground.push_other("foreman/fix", "somebody's");
    let error = ready.push(2).await.expect_err("refused");
    assert!(
        matches!(&error, PublishError::Refused { reason, .. } if reason.contains(&other)),
        "{error}"
    );
    assert_eq!(ready.at_remote(), other);
    // One that claims to be another task's, a higher attempt's, or this very one's.
    for trailer in
        ["Foreman-Task: u2/1", "Foreman-Task: u1/3", "Foreman-Task: u1/2", "Foreman-Task: u1/x"]
    {
        let other = ready.ground.push_other("foreman/fix", &format!("x\n\n{trailer}"));
        assert!(matches!(ready.push(2).await, Err(PublishError::Refused { .. })), "{trailer}");
        assert_eq!(ready.at_remote(), other);
    }
}

#[tokio::test]
async fn a_lower_attempt_of_the_same_task_is_replaced() {
    let ready = Ready::new(2).await;
    ready.ground.push_other("foreman/fix", "x\n\nForeman-Task: u1/1");
    assert_eq!(ready.push(2).await.expect("push"), Pushed::Now);
    assert_eq!(ready.at_remote(), ready.commit.sha);
}

#[tokio::test]
async fn a_lower_attempt_with_anothers_commit_beneath_is_not_replaced() {
    let ready = Ready::new(2).await;
    ready.ground.push_other("foreman/fix", "somebody's");
    let seed = ready.ground.path("seed");
    git(&seed, &["checkout", "-q", "other"]);
    git(&seed, &["commit", "-q", "--allow-empty", "-m", "x\n\nForeman-Task: u1/1"]);
    git(&seed, &["push", "-q", "../remote.git", "other:refs/heads/foreman/fix"]);
    let before = ready.at_remote();
    assert!(matches!(ready.push(2).await, Err(PublishError::Refused { .. })));
    assert_eq!(ready.at_remote(), before);
}

#[tokio::test]
async fn a_deleted_branch_is_not_brought_back() {
    let ground = Ground::new();
    ground.push_other("foreman/fix", "earlier");
    let mut request = ground.request("u1");
    let branch = BranchName::parse("foreman/fix").expect("branch");
    request.start = Start::Branch(branch.clone());
    let workspace = ground.open(&request).await.expect("workspace");
    write(workspace.tree(), "change", "x\n");
    let commit = workspace.commit(&commit_request("x", 1), &ground.cancel).await.expect("commit");
    let repository = ground.remote();
    let ready = Ready { ground, workspace, commit, repository, branch };
    git(&ready.ground.path("remote.git"), &["branch", "-q", "-D", "foreman/fix"]);
    assert!(matches!(ready.push(1).await, Err(PublishError::Refused { .. })));
    assert_eq!(ready.at_remote(), "");
}

#[tokio::test]
async fn somebody_faster_makes_us_look_again_and_refuse() {
    let ready = Ready::new(1).await;
    // The branch appears between our look and our push: on the first question
    // for leave, which the push asks.
    let asked = Cell::new(false);
    let result = ready.push_while(1, || {
        if !asked.replace(true) {
            ready.ground.push_other("foreman/fix", "faster");
        }
        true
    });
    let error = result.await.expect_err("refused");
    assert!(matches!(&error, PublishError::Refused { .. }), "{error:?}");
    assert_ne!(ready.at_remote(), ready.commit.sha);
}

#[tokio::test]
async fn no_leave_no_push_and_not_for_another_task() {
    let ready = Ready::new(1).await;
    let error = ready.push_while(1, || false).await.expect_err("no leave");
    assert!(
        matches!(error, PublishError::Git { source: GitError::NotAllowed { .. }, .. }),
        "{error:?}"
    );
    let request = PushRequest {
        workspace: &ready.workspace,
        repository: &ready.repository,
        branch: &ready.branch,
        commit: &ready.commit,
        expected: None,
    };
    let other = push_as(&request, "u2", 1, || true, &ready.ground.cancel).await;
    assert!(matches!(other, Err(PublishError::NotOurs { .. })));
    assert_eq!(ready.at_remote(), "");
}

#[tokio::test]
async fn leave_that_lapses_kills_a_push_that_hangs() {
    use std::os::unix::fs::PermissionsExt;
    let ready = Ready::new(1).await;
    let hook = ready.ground.path("remote.git/hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().expect("parent")).expect("hooks");
    std::fs::write(&hook, "#!/bin/sh\ntouch ../reached 2>/dev/null; exec sleep 300\n")
        .expect("hook");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("mode");
    let begun = std::time::Instant::now();
    let asked = Cell::new(0);
    let error = ready.push_while(1, || {
        asked.set(asked.get() + 1);
        asked.get() < 4
    });
    let error = error.await.expect_err("lapsed");
    assert!(
        matches!(error, PublishError::Git { source: GitError::NotAllowed { .. }, .. }),
        "{error:?}"
    );
    assert!(begun.elapsed() < std::time::Duration::from_mins(1));
    assert_eq!(ready.at_remote(), "");
}

#[tokio::test]
async fn a_remote_that_says_no_is_refused_with_its_words() {
    use std::os::unix::fs::PermissionsExt;
    let ready = Ready::new(1).await;
    let hook = ready.ground.path("remote.git/hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().expect("parent")).expect("hooks");
    std::fs::write(&hook, "#!/bin/sh\necho 'no branches on Fridays' >&2\nexit 1\n").expect("hook");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("mode");
    let error = ready.push(1).await.expect_err("refused");
    assert!(
        matches!(&error, PublishError::Refused { reason, .. } if reason.contains("no branches on Fridays")),
        "{error:?}"
    );
}
