//! Config files, secrets, manifests and data directories that are not what they should be.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use super::table::{Bad, SECRET, bad, machine, refused};
use crate::crash::machine::{Machine, text};

/// Where SQLite keeps the version of the application's schema, a big-endian number.
const USER_VERSION_OFFSET: u64 = 60;

fn file(machine: &Machine, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = machine.root.join(name);
    std::fs::write(&path, content).expect("written");
    text(&path).to_owned()
}

fn run(machine: &Machine, says: &str, more: &[&str]) -> Bad {
    let (url, model) = (machine.remote.url(), machine.model.url.as_str());
    let words =
        ["run", "--repo", &url, "--model-url", model].into_iter().chain(more.iter().copied());
    bad(2, says, words.chain(["greet"]).map(str::to_owned))
}

#[tokio::test]
async fn a_config_file_that_is_wrong_is_named_with_the_place() {
    let machine = machine().await;
    let m = &machine;
    let config = |name: &str, content: &[u8], says: &str| {
        let path = file(m, name, content);
        run(m, &path, &["--config", &path]).and(says)
    };
    let large = vec![b'#'; (1 << 20) + 1];
    let table = vec![
        config("syntax.toml", b"namespace = \n", "is not valid"),
        config("unknown.toml", b"name-space = \"x\"\n", "unknown field `name-space`"),
        config("type.toml", b"slots = \"many\"\n", "slots"),
        config("range.toml", b"slots = -1\n", "slots"),
        config("twice.toml", b"slots = 1\nslots = 2\n", "duplicate key"),
        run(m, "wobbly", &["--config", &file(m, "sandbox.toml", "sandbox = \"wobbly\"\n")]),
        config("latin.toml", b"namespace = \"\xff\"\n", "UTF-8"),
        config("escape.toml", b"\x1b]0;x\x07 = 1\n", "is not valid"),
        config("large.toml", &large, "is larger than 1 MiB"),
        config(
            "secret.toml",
            format!("token = \"{SECRET}\"\n").as_bytes(),
            "unknown field `token`",
        ),
        run(m, "/no/such/config.toml cannot be read", &["--config", "/no/such/config.toml"]),
        run(m, "cannot be read", &["--config", text(&m.root)]),
    ];
    refused(m, table).await;
}

#[tokio::test]
async fn a_secret_file_that_is_none_is_named_and_never_shown() {
    let machine = machine().await;
    let m = &machine;
    let empty = file(m, "empty", " \n");
    let many = file(m, "many", format!("{SECRET}\n{SECRET}\n"));
    let bytes = file(m, "bytes", format!("{SECRET}\0\u{1b}"));
    let latin = file(m, "latin", [SECRET.as_bytes(), b"\xff"].concat());
    let large = file(m, "large-secret", SECRET.repeat(10_000));
    let folder = text(&m.root).to_owned();
    let token = |path: &str| run(m, path, &["--token-file", path]);
    let key = |path: &str| run(m, path, &["--model-key-file", path]);
    let table = vec![
        token("/no/such/token"),
        token(&empty).and("is empty"),
        token(&folder),
        token(&bytes),
        token(&latin),
        token(&large),
        key("/no/such/key"),
        key(&empty).and("is empty"),
        key(&folder),
        key(&bytes),
        key(&latin),
        key(&many),
        key(&large).and("64 KiB"),
    ];
    refused(m, table).await;
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_used_is_named_and_left_as_it_is() {
    let machine = machine().await;
    let m = &machine;
    let plain = file(m, "plain", "a file");
    let folder = |name: &str| {
        let folder = m.root.join(name);
        std::fs::create_dir(&folder).expect("made");
        folder
    };
    let store = |folder: PathBuf, content: &[u8]| {
        std::fs::write(folder.join("foreman.db"), content).expect("written");
        folder
    };
    let garbage = store(folder("garbage"), &b"this is no store ".repeat(1000));
    let newer =
        store(folder("newer"), &std::fs::read(m.data().join("foreman.db")).expect("a store"));
    let mut opened =
        std::fs::OpenOptions::new().write(true).open(newer.join("foreman.db")).expect("opened");
    opened.seek(SeekFrom::Start(USER_VERSION_OFFSET)).expect("there");
    opened.write_all(&9999_u32.to_be_bytes()).expect("written");
    drop(opened);
    let link = m.root.join("loop");
    std::os::unix::fs::symlink(&link, &link).expect("made");
    let before: Vec<_> =
        [&garbage, &newer].map(|it| std::fs::read(it.join("foreman.db")).expect("there")).into();

    let mut table = Vec::new();
    let (url, model) = (m.remote.url(), m.model.url.clone());
    for dir in [plain.as_str(), "/proc/foreman", text(&garbage), text(&newer), text(&link)] {
        if dir != "/proc/foreman" {
            // What is not there is an empty store.
            table.push(bad(1, dir, ["get", "tasks", "--data-dir", dir]));
        }
        table.push(bad(
            1,
            dir,
            ["run", "--data-dir", dir, "--repo", &url, "--model-url", &model, "greet"],
        ));
        table.push(bad(1, dir, ["up", "--data-dir", dir, "--model-url", &model]));
        table.push(bad(1, dir, ["delete", "task/x", "--data-dir", dir]));
    }
    let newer_said = bad(1, "9999", ["get", "tasks", "--data-dir", text(&newer)]);
    table.push(newer_said);
    refused(m, table).await;
    let after: Vec<_> =
        [&garbage, &newer].map(|it| std::fs::read(it.join("foreman.db")).expect("there")).into();
    assert!(before == after, "a store that is not ours was written");
}

#[tokio::test]
async fn manifests_are_refused_whole_with_file_line_and_rule() {
    let machine = machine().await;
    let m = &machine;
    let head = "apiVersion: foreman.llmkube.dev/v1alpha1\n";
    let good = format!(
        "{head}kind: Agent\nmetadata:\n  name: good\nspec:\n  role: coder\n  tools: [read_file]\n  inferenceServiceRef:\n    name: auto\n"
    );
    let manifests = [
        ("syntax.yaml", "a: [1,\n".to_owned(), "syntax.yaml"),
        ("kind.yaml", format!("{head}kind: Gadget\nmetadata:\n  name: x\n"), "Gadget"),
        (
            "group.yaml",
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: x\n".to_owned(),
            "group.yaml",
        ),
        ("list.yaml", "- a\n- b\n".to_owned(), "list.yaml"),
        (
            "name.yaml",
            format!("{head}kind: Workload\nmetadata:\n  name: Not_Valid\nspec:\n  intent: x\n"),
            "metadata.name",
        ),
        (
            "typo.yaml",
            format!("{good}---\n{head}kind: Workload\nmetadata:\n  name: w\nspec:\n  intnt: x\n"),
            "intnt",
        ),
        (
            "type.yaml",
            format!("{head}kind: Workload\nmetadata:\n  name: w\nspec:\n  intent: [x]\n"),
            "spec.intent",
        ),
        ("nul.yaml", format!("{head}kind: Workload\nmetadata:\n  name: w\0\n"), "nul.yaml"),
        ("latin.yaml", String::new(), "latin.yaml"),
        ("bomb.yaml", format!("a: &a [x,x]\n{}", "b: [*a,*a,*a]\n".repeat(2)), "bomb.yaml"),
    ];
    let mut table = Vec::new();
    for (name, content, says) in &manifests {
        let bytes: Vec<u8> = if *name == "latin.yaml" {
            b"kind: \xff\n".to_vec()
        } else {
            content.clone().into_bytes()
        };
        let path = file(m, name, bytes);
        for verb in ["apply", "validate"] {
            table.push(bad(2, says, [verb, "-f", &path]));
        }
        table.push(bad(2, says, ["run", "--model-url", &m.model.url, "--file", &path]));
    }
    for verb in ["apply", "validate"] {
        table.push(bad(2, "/no/such.yaml", [verb, "-f", "/no/such.yaml"]));
        table.push(bad(2, "-f", [verb]));
    }
    refused(m, table).await;
}
