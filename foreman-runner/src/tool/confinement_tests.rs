//! The ways out of the tree that must be closed, and those within it that must work.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use super::tests::Tree;

#[tokio::test]
async fn no_path_leaves_the_tree_or_reaches_git() {
    let tree = Tree::new();
    let outside = tree.outside.path();
    tree.put("a/file", "x\n");
    tree.put(".git/config", "[core]\n");
    let link = |target: &Path, at: &str| symlink(target, tree.dir.path().join(at)).expect("linked");
    link(outside, "out");
    link(&outside.join("secret"), "secret");
    link(Path::new("../../../../../../etc"), "up");
    link(Path::new(".git"), "git");
    link(Path::new("a/../.git/config"), "config");
    link(Path::new("loop2"), "loop1");
    link(Path::new("loop1"), "loop2");
    let absolute = outside.join("secret");
    let absolute = absolute.to_string_lossy();
    let refused = [
        ("../x", "outside"),
        ("a/../../x", "outside"),
        (absolute.as_ref(), "outside"),
        ("/etc/passwd", "outside"),
        ("out/secret", "outside"),
        ("out/new", "outside"),
        ("secret", "outside"),
        ("up/passwd", "outside"),
        (".git/config", ".git"),
        (".GIT/hooks/pre-push", ".git"),
        ("a/.git/x", ".git"),
        ("git/config", ".git"),
        ("config", ".git"),
        ("loop1", "symbolic links"),
        ("a/file/x", "not a directory"),
        ("a\0b", "zero byte"),
    ];
    for (path, why) in refused {
        tree.fails("read_file", json!({"path": path}), why).await;
        tree.fails("write_file", json!({"path": path, "content": "evil"}), why).await;
        tree.fails(
            "str_replace",
            json!({"path": path, "old_string": "the", "new_string": "evil"}),
            why,
        )
        .await;
        tree.fails(
            "grep",
            json!({"pattern": "x", "path": path}),
            if path == "a/file/x" { "" } else { why },
        )
        .await;
    }
    assert_eq!(std::fs::read_dir(outside).expect("read").count(), 1, "nothing was made outside");
    assert_eq!(std::fs::read_to_string(outside.join("secret")).expect("read"), "the secret\n");
    assert_eq!(tree.get(".git/config"), "[core]\n");
    let found = tree.ok("grep", json!({"pattern": "secret|core"})).await;
    assert!(found.starts_with("no match"), "{found}");
}

#[tokio::test]
async fn links_within_the_tree_work() {
    let tree = Tree::new();
    tree.put("docs/AGENTS.md", "rules\n");
    symlink("docs/AGENTS.md", tree.dir.path().join("CLAUDE.md")).expect("linked");
    symlink(
        tree.dir.path().canonicalize().expect("a path").join("docs"),
        tree.dir.path().join("d"),
    )
    .expect("linked");
    assert!(tree.ok("read_file", json!({"path": "CLAUDE.md"})).await.contains("rules"));
    tree.ok(
        "str_replace",
        json!({"path": "d/AGENTS.md", "old_string": "rules", "new_string": "laws"}),
    )
    .await;
    assert_eq!(tree.get("docs/AGENTS.md"), "laws\n");
    assert!(tree.dir.path().join("CLAUDE.md").symlink_metadata().expect("there").is_symlink());
    let absolute = tree.dir.path().canonicalize().expect("a path").join("docs/AGENTS.md");
    assert!(tree.ok("read_file", json!({"path": absolute})).await.contains("laws"));
    assert!(tree.ok("read_file", json!({"path": "docs/.."})).await.contains("CLAUDE.md"));
}

#[tokio::test]
async fn pipes_devices_and_directories_do_not_hang() {
    let tree = Tree::new();
    let pipe = tree.dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs");
    assert!(made.success());
    tree.put("dir/x", "");
    tree.fails("read_file", json!({"path": "pipe"}), "not a regular file").await;
    tree.fails("write_file", json!({"path": "pipe", "content": ""}), "not a regular file").await;
    tree.fails("write_file", json!({"path": "dir", "content": ""}), "is a directory").await;
    tree.fails("write_file", json!({"path": ".", "content": ""}), "is a directory").await;
    tree.fails(
        "str_replace",
        json!({"path": "pipe", "old_string": "a", "new_string": "b"}),
        "not a regular file",
    )
    .await;
    assert!(
        tree.ok("read_file", json!({"path": "dir"})).await.contains("directory with 1 names:\nx")
    );
    assert!(tree.ok("grep", json!({"pattern": "x"})).await.starts_with("no match"));
}

/// Renames; a directory that `write_file` made at the target in between gives way.
fn put(from: &Path, to: &Path) {
    while let Err(error) = std::fs::rename(from, to) {
        let gone = std::fs::remove_dir_all(to);
        assert!(gone.is_ok() || from.symlink_metadata().is_ok(), "{error}, {gone:?}");
    }
}

/// While a write goes on, its directory is again and again replaced by a link that leads outside.
#[tokio::test]
async fn a_directory_that_becomes_a_link_in_the_middle_leads_nowhere() {
    let tree = Tree::new();
    let here = tree.dir.path().to_owned();
    std::fs::create_dir(here.join("d")).expect("made");
    symlink(tree.outside.path(), here.join("link")).expect("linked");
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let swapping = std::sync::Arc::clone(&done);
    let swapper = std::thread::spawn(move || {
        let (d, link, aside) = (here.join("d"), here.join("link"), here.join("aside"));
        let mut swaps = 0_u32;
        while !swapping.load(std::sync::atomic::Ordering::Relaxed) {
            put(&d, &aside);
            put(&link, &d);
            put(&d, &link);
            put(&aside, &d);
            swaps += 1;
        }
        swaps
    });
    let (mut written, mut refused) = (0, 0);
    for n in 0..3_000 {
        let output =
            tree.call("write_file", json!({"path": "d/planted", "content": n.to_string()})).await;
        if output.is_error {
            refused += 1;
        } else {
            written += 1;
        }
        let read = tree.call("read_file", json!({"path": "d/secret"})).await;
        assert!(!read.content.contains("the secret"), "{}", read.content);
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    let swaps = swapper.join().expect("the swapper ends");
    assert!(
        !tree.outside.path().join("planted").exists(),
        "{written} written, {refused} refused, {swaps} swaps"
    );
    assert!(written > 0 && swaps > 0, "{written} written, {refused} refused, {swaps} swaps");
}
