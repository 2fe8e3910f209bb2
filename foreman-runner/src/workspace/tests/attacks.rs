//! A model that writes what makes git run programs. Each test first shows that the
//! attack works on a git that trusts the tree.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::{Ground, commit_request, git, write};
use crate::workspace::Workspace;

/// A program that says by a file that it was run.
fn trap(ground: &Ground) -> (String, PathBuf) {
    let (marker, program) = (ground.path("RAN"), ground.path("trap.sh"));
    let text = format!("#!/bin/sh\necho \"$0 $*\" >> '{}'\ncat\n", marker.display());
    std::fs::write(&program, text).expect("trap");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("mode");
    (program.display().to_string(), marker)
}

/// Everything that our git does with a tree.
async fn use_everything(ground: &Ground, workspace: &Workspace) {
    let cancel = &ground.cancel;
    workspace.status(cancel).await.expect("status");
    workspace.diff(None, 100_000, cancel).await.expect("diff");
    let kept = workspace.checkpoint(1, 1, cancel).await.expect("checkpoint");
    workspace.restore(&kept, cancel).await.expect("restore");
    workspace.patch(&ground.path("p.patch"), cancel).await.expect("patch");
    let commit = workspace.commit(&commit_request("x", 1), cancel).await.expect("commit");
    let (repository, branch) = (ground.remote(), workspace.branch().expect("branch"));
    crate::publish::check_push_right(workspace, &repository, cancel).await.expect("dry run");
    let request = crate::publish::PushRequest {
        workspace,
        repository: &repository,
        branch: &branch,
        commit: &commit,
        expected: None,
    };
    crate::publish::push_for_tests(&request, workspace.uid(), 1, || true, cancel)
        .await
        .expect("push");
}

#[tokio::test]
async fn a_rewritten_git_file_runs_nothing() {
    let ground = Ground::new();
    let workspace = ground.workspace("u1").await;
    let (program, marker) = trap(&ground);
    // The model's own git dir, inside the tree, with everything that runs programs.
    let own = workspace.tree().join("own");
    git(
        workspace.tree().parent().expect("parent"),
        &["init", "-q", "--bare", &own.display().to_string()],
    );
    let config = own.join("config");
    for (name, value) in [
        ("core.fsmonitor", program.as_str()),
        ("core.pager", &program),
        ("diff.external", &program),
        ("core.sshCommand", &program),
        ("filter.x.clean", &program),
        ("filter.x.smudge", &program),
        ("diff.x.textconv", &program),
        ("core.editor", &program),
        ("core.bare", "false"),
        ("core.hooksPath", &own.join("hooks").display().to_string()),
        ("core.worktree", ".."),
    ] {
        git(&own, &["config", "--file", &config.display().to_string(), name, value]);
    }
    let hooks =
        ["pre-commit", "post-checkout", "pre-push", "reference-transaction", "post-index-change"];
    for hook in hooks {
        std::fs::create_dir_all(own.join("hooks")).expect("hooks");
        std::fs::copy(&program, own.join("hooks").join(hook)).expect("hook");
    }
    std::fs::write(workspace.tree().join(".git"), "gitdir: own\n").expect("rewrite");
    // The trap does spring for a git that trusts the tree.
    git(workspace.tree(), &["-c", "safe.directory=*", "status"]);
    assert!(marker.exists(), "the attack does not work, so the test proves nothing");
    std::fs::remove_file(&marker).expect("remove");
    write(workspace.tree(), "change", "x\n");
    use_everything(&ground, &workspace).await;
    assert!(!marker.exists(), "{}", std::fs::read_to_string(&marker).unwrap_or_default());
}

#[tokio::test]
async fn attributes_hooks_and_nested_repositories_run_nothing() {
    let ground = Ground::new();
    let workspace = ground.workspace("u1").await;
    let (program, marker) = trap(&ground);
    let tree = workspace.tree();
    write(tree, ".gitattributes", "* filter=x diff=x merge=x\n");
    write(
        tree,
        ".gitconfig",
        &format!("[filter \"x\"]\n\tclean = {program}\n[core]\n\tfsmonitor = {program}\n"),
    );
    write(tree, ".lfsconfig", "[lfs]\n\turl = file:///\n");
    write(
        tree,
        ".gitmodules",
        &format!("[submodule \"s\"]\n\tpath = s\n\turl = ext::{program}\n\tupdate = !{program}\n"),
    );
    write(tree, "change", "x\n");
    // A `.git` folder where the file was.
    std::fs::remove_file(tree.join(".git")).expect("remove");
    git(tree, &["init", "-q"]);
    for (name, value) in [("core.fsmonitor", &program), ("filter.x.clean", &program)] {
        git(tree, &["config", name, value]);
    }
    std::fs::create_dir_all(tree.join(".git/hooks")).expect("hooks");
    std::fs::copy(&program, tree.join(".git/hooks/pre-push")).expect("hook");
    git(tree, &["status"]);
    assert!(marker.exists(), "the attack does not work, so the test proves nothing");
    std::fs::remove_file(&marker).expect("remove");
    use_everything(&ground, &workspace).await;
    // A repository within the tree, which git itself would ask for its state.
    let sub = tree.join("sub");
    std::fs::create_dir(&sub).expect("folder");
    git(&sub, &["init", "-q"]);
    write(&sub, "f", "x");
    git(&sub, &["add", "."]);
    git(&sub, &["commit", "-q", "-m", "x"]);
    git(&sub, &["config", "core.fsmonitor", &program]);
    git(&sub, &["config", "filter.x.clean", &program]);
    write(&sub, ".gitattributes", "* filter=x\n");
    workspace.status(&ground.cancel).await.expect("status");
    workspace.diff(None, 100_000, &ground.cancel).await.expect("diff");
    workspace.checkpoint(1, 2, &ground.cancel).await.expect("checkpoint");
    assert!(!marker.exists(), "{}", std::fs::read_to_string(&marker).unwrap_or_default());
}
