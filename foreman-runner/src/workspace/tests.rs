//! Workspaces with real git over file:// and a path, and the attacks on git.

mod attacks;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::{
    Change, CommitRequest, Person, Start, Workspace, WorkspaceError, WorkspaceRequest,
    WorkspaceRoots,
};
use crate::git::{BranchName, Git, GitError, Repository};

/// A repository at its own place, and room for workspaces.
pub(crate) struct Ground {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) cancel: CancellationToken,
}

impl Ground {
    pub(crate) fn new() -> Self {
        let ground =
            Self { folder: tempfile::tempdir().expect("folder"), cancel: CancellationToken::new() };
        let seed = ground.path("seed");
        std::fs::create_dir(&seed).expect("seed");
        git(&seed, &["init", "-q", "-b", "main"]);
        write(&seed, "README", "hello\n");
        write(&seed, "src/lib.txt", "one\ntwo\n");
        write(&seed, ".gitignore", "target/\n");
        git(&seed, &["add", "."]);
        git(&seed, &["commit", "-q", "-m", "first"]);
        git(ground.folder.path(), &["clone", "-q", "--bare", "seed", "remote.git"]);
        ground
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn roots(&self) -> WorkspaceRoots {
        WorkspaceRoots { data: self.path("data"), cache: self.path("cache") }
    }

    pub(crate) fn remote(&self) -> Repository {
        let url = format!("file://{}", self.path("remote.git").display());
        Repository::parse(&url, "https://x").expect("url")
    }

    pub(crate) fn request(&self, uid: &str) -> WorkspaceRequest {
        WorkspaceRequest {
            namespace: "default".to_owned(),
            task: "fix".to_owned(),
            uid: uid.to_owned(),
            repository: self.remote(),
            base_branch: None,
            start: Start::Base,
            branch: BranchName::parse("foreman/fix").expect("branch"),
            push_to: None,
            continues: None,
            fresh: false,
        }
    }

    pub(crate) async fn open(
        &self,
        request: &WorkspaceRequest,
    ) -> Result<Workspace, WorkspaceError> {
        Workspace::open(Git::default(), &self.roots(), request, &self.cancel).await
    }

    pub(crate) async fn workspace(&self, uid: &str) -> Workspace {
        self.open(&self.request(uid)).await.expect("workspace")
    }

    /// A commit pushed to the remote by somebody else.
    pub(crate) fn push_other(&self, branch: &str, message: &str) -> String {
        let seed = self.path("seed");
        git(&seed, &["checkout", "-q", "-B", "other", "main"]);
        write(&seed, "other", message);
        git(&seed, &["add", "."]);
        git(&seed, &["commit", "-q", "-m", message]);
        git(&seed, &["push", "-q", "-f", "../remote.git", &format!("other:refs/heads/{branch}")]);
        let commit = git(&seed, &["rev-parse", "HEAD"]);
        git(&seed, &["checkout", "-q", "main"]);
        commit
    }
}

/// Plain git as a person would run it.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = std::process::Command::new("git")
        .args(["-c", "user.name=Somebody", "-c", "user.email=some@body"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .expect("git");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

pub(crate) fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
    std::fs::write(path, text).expect("write");
}

pub(crate) fn commit_request(message: &str, attempt: i64) -> CommitRequest {
    CommitRequest {
        message: message.to_owned(),
        author: Person { name: "Ada".to_owned(), email: "ada@example.org".to_owned() },
        date_seconds: 1_795_000_000,
        attempt,
        sign_off: true,
        assisted_by: Some("qwen".to_owned()),
    }
}

fn changes(list: &[Change]) -> Vec<String> {
    list.iter().map(|change| format!("{} {}", change.kind, change.path)).collect()
}

#[tokio::test]
async fn a_workspace_is_the_base_and_is_found_again() {
    let ground = Ground::new();
    let workspace = ground.workspace("u1").await;
    let text = std::fs::read_to_string(workspace.tree().join("src/lib.txt")).expect("file");
    assert_eq!(text, "one\ntwo\n");
    assert_eq!(workspace.base(), git(&ground.path("seed"), &["rev-parse", "main"]));
    assert_eq!((workspace.base_branch(), workspace.branch_at_start()), (Some("main"), None));
    assert!(!workspace.has_changes(&ground.cancel).await.expect("look"));
    assert!(!workspace.git_dir().starts_with(workspace.tree()));
    // Tools in the sandbox see a repository.
    assert_eq!(git(workspace.tree(), &["status", "--porcelain"]), "");
    // A resumed run does not ask the remote, and keeps what it was based on.
    let base = workspace.base().to_owned();
    write(workspace.tree(), "new", "x");
    ground.push_other("main", "moved");
    std::fs::rename(ground.path("remote.git"), ground.path("away.git")).expect("rename");
    let again = ground.workspace("u1").await;
    assert_eq!(again.base(), base);
    assert!(again.tree().join("new").exists());
    again.reap().expect("reap");
    assert!(!workspace.tree().exists() && !workspace.git_dir().exists());
}

#[tokio::test]
async fn status_diff_and_patch_see_every_kind_of_change() {
    let ground = Ground::new();
    let workspace = ground.workspace("u1").await;
    let tree = workspace.tree();
    write(tree, "src/lib.txt", "one\nTWO\n");
    write(tree, "odd name \"é\n.txt", "x\n");
    write(tree, "-rf", "option?\n");
    write(tree, ":(exclude)magic", "pathspec?\n");
    write(tree, "target/ignored", "x");
    std::fs::write(tree.join("binary"), [0_u8, 159, 146, 150]).expect("write");
    std::os::unix::fs::symlink("../../etc/passwd", tree.join("link")).expect("link");
    write(tree, "run.sh", "#!/bin/sh\n");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(tree.join("run.sh"), mode).expect("mode");
    std::fs::remove_file(tree.join("README")).expect("remove");
    let status = workspace.status(&ground.cancel).await.expect("status");
    assert_eq!(
        changes(&status),
        [
            "A -rf",
            "A :(exclude)magic",
            "D README",
            "A binary",
            "A link",
            "A odd name \"é\n.txt",
            "A run.sh",
            "M src/lib.txt",
        ]
    );
    let diff = workspace.diff(None, 100_000, &ground.cancel).await.expect("diff");
    assert!(diff.contains("-two\n+TWO\n") && diff.contains("new file mode 120000"), "{diff}");
    let cut = workspace.diff(None, 10, &ground.cancel).await.expect("diff");
    assert!(cut.starts_with("diff --git") && cut.contains("left out"), "{cut}");
    let unknown = workspace.diff(Some("--output=/tmp/x"), 10, &ground.cancel).await;
    assert!(matches!(unknown, Err(WorkspaceError::Git { .. })), "{unknown:?}");
    let patch = ground.path("work.patch");
    workspace.patch(&patch, &ground.cancel).await.expect("patch");
    let other = ground.workspace("u2").await;
    git(other.tree(), &["apply", &patch.display().to_string()]);
    assert_eq!(
        other.tree_hash(&ground.cancel).await.expect("hash"),
        workspace.tree_hash(&ground.cancel).await.expect("hash")
    );
}

#[tokio::test]
async fn a_checkpoint_brings_the_tree_back() {
    let ground = Ground::new();
    let workspace = ground.workspace("u1").await;
    let tree = workspace.tree();
    write(tree, "src/lib.txt", "changed\n");
    write(tree, "new/file", "new\n");
    std::fs::remove_file(tree.join("README")).expect("remove");
    let kept = workspace.checkpoint(1, 4, &ground.cancel).await.expect("checkpoint");
    let twice = workspace.checkpoint(1, 4, &ground.cancel).await.expect("checkpoint");
    assert_eq!(kept, twice);
    write(tree, "src/lib.txt", "ruined\n");
    write(tree, "README", "back\n");
    write(tree, "later", "x");
    write(tree, "target/cache", "x");
    std::fs::remove_dir_all(tree.join("new")).expect("remove");
    // Killed in the middle of writing an index.
    std::fs::write(workspace.git_dir().join("foreman-index.lock"), "").expect("lock");
    workspace.restore(&kept, &ground.cancel).await.expect("restore");
    let read = |name: &str| std::fs::read_to_string(tree.join(name)).ok();
    assert_eq!(read("src/lib.txt").as_deref(), Some("changed\n"));
    assert_eq!(read("new/file").as_deref(), Some("new\n"));
    assert_eq!((read("README"), read("later")), (None, None));
    assert_eq!(read("target/cache").as_deref(), Some("x"), "ignored files stay");
    assert_eq!(workspace.tree_hash(&ground.cancel).await.expect("hash"), kept.tree);
    // It survives in a workspace that is opened anew.
    let again = ground.workspace("u1").await;
    write(tree, "src/lib.txt", "ruined\n");
    again.restore(&kept, &ground.cancel).await.expect("restore");
    assert_eq!(read("src/lib.txt").as_deref(), Some("changed\n"));
}

#[tokio::test]
async fn one_commit_with_our_trailers_and_the_same_hash_each_time() {
    let ground = Ground::new();
    let workspace = ground.workspace("u1").await;
    let nothing = workspace.commit(&commit_request("x", 1), &ground.cancel).await;
    assert!(matches!(nothing, Err(WorkspaceError::NoChanges { .. })), "{nothing:?}");
    write(workspace.tree(), "new", "x\n");
    workspace.checkpoint(1, 1, &ground.cancel).await.expect("checkpoint");
    let message = "Fix it\n\nBecause.\nForeman-Task: other/9\n";
    let request = commit_request(message, 2);
    let commit = workspace.commit(&request, &ground.cancel).await.expect("commit");
    assert_eq!(commit.parent, workspace.base());
    assert_eq!(commit, workspace.commit(&request, &ground.cancel).await.expect("again"));
    let shown = git(workspace.git_dir(), &["log", "-1", "--format=%an <%ae> %at%n%B", &commit.sha]);
    assert_eq!(
        shown,
        "Ada <ada@example.org> 1795000000\nFix it\n\nBecause.\n\n\
         Signed-off-by: Ada <ada@example.org>\nAssisted-by: qwen\nForeman-Task: u1/2"
    );
    let (cancel, base) = (&ground.cancel, workspace.base());
    assert!(workspace.is_ancestor(base, &commit.sha, cancel).await.expect("compare"));
    assert!(!workspace.is_ancestor(&commit.sha, base, cancel).await.expect("compare"));
}

#[tokio::test]
async fn a_branch_is_revised_on_its_tip_and_a_commit_is_judged_as_it_is() {
    let ground = Ground::new();
    let tip = ground.push_other("foreman/fix", "earlier");
    let branch = BranchName::parse("foreman/fix").expect("branch");
    let mut request = ground.request("u1");
    request.start = Start::Branch(branch.clone());
    let workspace = ground.open(&request).await.expect("workspace");
    assert_eq!(workspace.parent(), tip);
    assert_eq!(workspace.branch_at_start(), Some(tip.as_str()));
    assert_ne!(workspace.base(), tip);
    write(workspace.tree(), "more", "x");
    let commit =
        workspace.commit(&commit_request("More", 1), &ground.cancel).await.expect("commit");
    assert_eq!(commit.parent, tip);
    request.uid = "u2".to_owned();
    request.start = Start::Commit(branch.clone(), tip.clone());
    assert_eq!(ground.open(&request).await.expect("workspace").parent(), tip);
    request.uid = "u3".to_owned();
    request.start = Start::Commit(branch, "0".repeat(40));
    assert!(matches!(ground.open(&request).await, Err(WorkspaceError::Moved { .. })));
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let ground = Ground::new();
    let mut request = ground.request("u1");
    request.base_branch = Some(BranchName::parse("mian").expect("branch"));
    let error = ground.open(&request).await.expect_err("no branch").to_string();
    assert!(error.contains("mian") && error.contains("it has main"), "{error}");
    std::fs::create_dir(ground.path("empty.git")).expect("folder");
    git(&ground.path("empty.git"), &["init", "-q", "--bare"]);
    request.base_branch = None;
    request.repository =
        Repository::parse(&ground.path("empty.git").display().to_string(), "").expect("path");
    assert!(matches!(ground.open(&request).await, Err(WorkspaceError::Empty { .. })));
    request.repository =
        Repository::parse(&ground.path("data").parent().expect("x").display().to_string(), "")
            .expect("path");
    let no_repository = ground.open(&request).await;
    assert!(
        matches!(
            &no_repository,
            Err(WorkspaceError::Git { source: GitError::NotFound { .. }, .. })
        ),
        "{no_repository:?}"
    );
    request.repository = Repository::parse("https://127.0.0.1:1/x.git", "").expect("url");
    let unreachable = ground.open(&request).await;
    assert!(
        matches!(
            &unreachable,
            Err(WorkspaceError::Git { source: GitError::Unreachable { .. }, .. })
        ),
        "{unreachable:?}"
    );
    for uid in ["", "..", "a/b", ".x", "a\nb"] {
        let bad = ground.open(&ground.request(uid)).await;
        assert!(matches!(bad, Err(WorkspaceError::BadName { .. })), "{uid:?}");
    }
}

#[tokio::test]
async fn a_path_is_taken_at_its_commit_and_uncommitted_changes_are_counted() {
    let ground = Ground::new();
    let seed = ground.path("seed");
    git(&seed, &["checkout", "-q", "--detach"]);
    write(&seed, "README", "not committed\n");
    write(&seed, "untracked", "x");
    let mut request = ground.request("u1");
    request.repository = Repository::parse(&seed.display().to_string(), "").expect("path");
    let workspace = ground.open(&request).await.expect("workspace");
    let text = std::fs::read_to_string(workspace.tree().join("README")).expect("file");
    assert_eq!((text.as_str(), workspace.base_branch()), ("hello\n", None));
    let [warning] = workspace.warnings() else { panic!("{:?}", workspace.warnings()) };
    assert!(warning.starts_with("2 uncommitted changes in "), "{warning}");
}

#[tokio::test]
async fn large_files_and_nested_repositories_are_refused_by_name() {
    let ground = Ground::new();
    let workspace = ground.workspace("u1").await;
    let tree = workspace.tree();
    let large = std::fs::File::create(tree.join("large")).expect("file");
    large.set_len(super::FILE_BYTES_MAX).expect("size");
    std::fs::remove_file(tree.join("large")).expect("remove");
    let large = std::fs::File::create(tree.join("large")).expect("file");
    large.set_len(super::FILE_BYTES_MAX + 1).expect("size");
    let error = workspace.checkpoint(1, 1, &ground.cancel).await.expect_err("too large");
    assert!(matches!(&error, WorkspaceError::TooLarge { path, .. } if path == "large"), "{error}");
    std::fs::remove_file(tree.join("large")).expect("remove");
    // One without a commit makes git fail, one with a commit becomes a mark.
    for name in ["sub", "sub two"] {
        std::fs::create_dir(tree.join(name)).expect("folder");
        git(&tree.join(name), &["init", "-q"]);
        write(&tree.join(name), "file", "x");
    }
    git(&tree.join("sub"), &["add", "."]);
    git(&tree.join("sub"), &["commit", "-q", "-m", "x"]);
    write(tree, "kept", "x");
    let status = workspace.status(&ground.cancel).await.expect("status");
    assert_eq!(changes(&status), ["A kept"]);
    workspace.checkpoint(1, 1, &ground.cancel).await.expect("the rest is kept");
    let error =
        workspace.commit(&commit_request("x", 1), &ground.cancel).await.expect_err("nested");
    assert!(
        matches!(&error, WorkspaceError::NestedRepository { path } if path == "sub two"),
        "{error}"
    );
}

#[tokio::test]
async fn two_tasks_share_a_mirror_at_the_same_time() {
    let ground = Ground::new();
    let (one, two) = (ground.request("u1"), ground.request("u2"));
    let (one, two) = tokio::join!(ground.open(&one), ground.open(&two));
    let (one, two) = (one.expect("one"), two.expect("two"));
    assert_eq!(one.mirror(), two.mirror());
    assert_ne!(one.tree(), two.tree());
}
