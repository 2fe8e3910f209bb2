//! Repositories, branches and intents that no run can work with.

use super::table::{Bad, SECRET, bad, machine, refused};
use crate::crash::machine::{Machine, text};
use crate::support::repository::git;

fn run(machine: &Machine, code: i32, says: &str, more: &[&str]) -> Bad {
    let url = machine.model.url.as_str();
    let words = ["run", "--model-url", url].into_iter().chain(more.iter().copied());
    bad(code, says, words.chain(["--", "greet the world"]).map(str::to_owned))
}

fn repo(machine: &Machine, code: i32, says: &str, repo: &str) -> Bad {
    run(machine, code, says, &[&format!("--repo={repo}")])
}

#[tokio::test]
async fn a_repository_that_cannot_be_used_is_named_and_nothing_is_begun() {
    let machine = machine().await;
    let m = &machine;
    let empty = m.root.join("empty.git");
    std::fs::create_dir(&empty).expect("made");
    git(&empty, &["init", "-q", "--bare"]);
    let touched = m.root.join("touched");
    let long = "a".repeat(10 * 1024);
    let by_ext = format!("ext::sh -c touch% {}", touched.display());
    let by_flag = format!("--upload-pack=touch {}", touched.display());
    let with_secret = format!("https://user:{SECRET}@127.0.0.1:1/x.git");
    let table = vec![
        repo(m, 2, "there is no folder \"./nowhere\"", "./nowhere"),
        repo(m, 2, "there is no folder", "/no/such/folder"),
        repo(m, 2, "is in no git repository", text(&m.root.join("home"))),
        repo(m, 2, "--repo names no repository", ""),
        repo(m, 2, "has no commit yet", text(&empty)),
        repo(m, 2, "has no commit yet", &format!("file://{}", empty.display())),
        repo(m, 2, "--repo names no repository", &with_secret).and("--token-file"),
        repo(m, 2, "--repo names no repository", &by_flag),
        repo(m, 2, "--repo names no repository", &by_ext),
        repo(m, 2, "--repo names no repository", "-leading"),
        repo(m, 2, "--repo names no repository", "file:///a\nb"),
        repo(m, 2, "--repo names no repository", "https://host/\u{1b}]0;x\u{7}/y"),
        repo(m, 2, "--repo names no repository", &long),
        repo(m, 2, "--repo names no repository", &format!("https://host/{long}")),
        repo(m, 2, "--repo names no repository", "ftp://127.0.0.1/x.git"),
        repo(m, 2, "--repo names no repository", "http://[::1"),
        repo(m, 2, "--repo names no repository", "just-a-word"),
        repo(m, 2, "--repo names no repository", "owner/name/more"),
        repo(m, 2, "--repo names no repository", "owner/../name"),
        repo(m, 2, "cannot be used", "file:///no/such/repository.git"),
        repo(m, 4, "cannot be used", "http://127.0.0.1:1/owner/name.git"),
        run(
            m,
            2,
            "--push-to names no repository",
            &["--repo", &m.remote.url(), "--push-to=--exec=id"],
        ),
        run(m, 2, "cannot be used", &["--repo", &m.remote.url(), "--push-to=file:///no/such.git"]),
        run(m, 2, "has no branch \"nowhere\"", &["--repo", &m.remote.url(), "--base", "nowhere"]),
        run(m, 2, "has no branch", &["--repo", &m.remote.url(), "--base=--all"]),
    ];
    refused(m, table).await;
    assert!(!touched.exists(), "a repository's name was run");
}

#[tokio::test]
async fn a_branch_that_cannot_be_made_is_named() {
    let machine = machine().await;
    let m = &machine;
    let url = m.remote.url();
    let branch =
        |says: &str, name: &str| run(m, 2, says, &["--repo", &url, &format!("--branch={name}")]);
    let invalid = "the branch to make has no valid name";
    let long = "b".repeat(10 * 1024);
    let mut table = vec![branch("branch main exists already", "main").and("--branch NAME")];
    for name in [
        "",
        "-x",
        "a..b",
        "a b",
        "x.lock",
        "a@{0}",
        "refs/heads/../x",
        "/x",
        "x/",
        "a//b",
        "HEAD",
        "@",
        "a~1",
        "a^",
        "a:b",
        "a?b",
        "a*b",
        "a[b",
        "a\\b",
        "a\nb",
        "a\u{1b}[2Jb",
        ".hidden",
        "a/.b",
        "a.",
        &long,
    ] {
        table.push(branch(invalid, name));
    }
    refused(m, table).await;
}

#[tokio::test]
async fn an_intent_that_is_none_or_too_much_is_refused() {
    let machine = machine().await;
    let m = &machine;
    let url = m.remote.url();
    let model = m.model.url.as_str();
    let intent = |code, says: &str, intent: &str| {
        bad(code, says, ["run", "--repo", &url, "--model-url", model, "--", intent])
    };
    let manifest = m.root.join("large.yaml");
    let large = format!(
        "apiVersion: foreman.llmkube.dev/v1alpha1\nkind: Workload\nmetadata:\n  name: large\nspec:\n  intent: {}\n  repo: {url}\n",
        "x".repeat(2 << 20)
    );
    std::fs::write(&manifest, large).expect("written");
    let table = vec![
        intent(2, "the intent is empty", ""),
        intent(2, "the intent is empty", " \t\n "),
        intent(2, "the intent is empty", "\u{200b}\u{202e}"),
        bad(2, "INTENT", ["run", "--repo", &url]),
        bad(2, "cannot be used with", ["run", "--file", "w.yaml", "greet"]),
        bad(2, "cannot be used with", ["run", "--continue", "w", "greet"]),
        bad(2, "large", ["run", "--model-url", model, "--file", text(&manifest)]),
        bad(
            2,
            "at most 5",
            [
                "run", "--repo", &url, "--gate", "a", "--gate", "b", "--gate", "c", "--gate", "d",
                "--gate", "e", "--gate", "f", "x",
            ],
        ),
        bad(2, "--gate", ["run", "--repo", &url, "--gate", " ", "x"]),
    ];
    refused(m, table).await;
}
