use std::process::Command;

use super::*;
use crate::os_clock::SystemEntropy;

fn git(dir: &Path, arguments: &[&str]) {
    let status = Command::new("git")
        .current_dir(dir)
        .args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .status()
        .expect("git runs");
    assert!(status.success(), "{arguments:?}");
}

fn repository(with_commit: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    git(dir.path(), &["init", "-q"]);
    if with_commit {
        std::fs::create_dir(dir.path().join("src")).expect("made");
        std::fs::write(dir.path().join("src/a"), "1\n").expect("written");
        git(dir.path(), &["add", "."]);
        git(dir.path(), &["commit", "-q", "-m", "first"]);
    }
    dir
}

fn asked<'a>(repo: &'a str, branch: &'a str) -> Asked<'a> {
    Asked { repo, base: None, branch: Some(branch), push_to: None }
}

async fn look(asked: Asked<'_>) -> Result<Found, Failure> {
    look_at(asked, &Git::default(), &SystemEntropy).await
}

#[tokio::test]
async fn a_folder_within_a_repository_is_taken_up_to_its_root_and_left_untouched() {
    let dir = repository(true);
    let root = dir.path().canonicalize().expect("there");
    std::fs::write(root.join("src/a"), "changed\n").expect("written");
    std::fs::write(root.join("new"), "x").expect("written");
    let inner = root.join("src");
    let found = look(asked(inner.to_str().expect("text"), "foreman/x")).await.expect("usable");
    assert_eq!(found.name, root.to_str().expect("text"));
    assert_eq!(found.folder.as_deref(), Some(root.as_path()));
    assert_eq!(found.base_branch.as_deref(), Some("main"));
    assert_eq!(found.uncommitted, 2);
    let branches = Command::new("git").arg("-C").arg(&root).args(["branch", "-a"]).output();
    assert_eq!(String::from_utf8_lossy(&branches.expect("ran").stdout), "* main\n");
}

#[tokio::test]
async fn what_a_person_can_correct_is_usage() {
    let (empty, full) = (repository(false), repository(true));
    let nothing = tempfile::tempdir().expect("a folder");
    git(full.path(), &["branch", "taken"]);
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let (empty, full, nothing) = (text(empty.path()), text(full.path()), text(nothing.path()));
    let cases = [
        (asked(&empty, "foreman/x"), "has no commit yet"),
        (asked(&nothing, "foreman/x"), "is in no git repository"),
        (asked("/no/such/folder", "foreman/x"), "there is no folder"),
        (asked("ext::sh -c id", "foreman/x"), "names no repository"),
        (asked(&full, "a..b"), "no valid name"),
        (asked(&full, "taken"), "exists already"),
        (Asked { base: Some("nope"), ..asked(&full, "foreman/x") }, "has no branch"),
        (Asked { push_to: Some("/no/such"), ..asked(&full, "foreman/x") }, "there is no folder"),
    ];
    for (asked, expected) in cases {
        let failure = look(asked).await.expect_err(expected);
        assert!(failure.to_string().contains(expected), "{failure}");
        assert_eq!(failure.exit(), Exit::Usage, "{failure}");
    }
}

#[test]
fn words_for_a_shell_are_quoted_where_they_must_be() {
    let cases = [
        ("foreman/x-1", "foreman/x-1"),
        ("my shop", "'my shop'"),
        ("it's", "'it'\\''s'"),
        ("$(rm -rf /)", "'$(rm -rf /)'"),
        ("~root", "'~root'"),
        ("", "''"),
    ];
    for (word, shown) in cases {
        assert_eq!(shell_word(word), shown);
    }
}
