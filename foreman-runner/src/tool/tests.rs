//! The tools on a real tree.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::limits::{GREP_FILE_BYTES_MAX, READ_BYTES_MAX};
use crate::sandbox::{CommandOutput, Exit, Sandbox, SandboxCommand, SandboxError, Tier};

pub(super) struct Tree {
    pub(super) dir: TempDir,
    pub(super) outside: TempDir,
    tools: ToolBox,
}

struct NoChange;

#[async_trait]
impl TreeView for NoChange {
    async fn status(&self) -> Result<String, String> {
        Ok("\n".into())
    }

    async fn diff(&self, path: Option<&str>) -> Result<String, String> {
        Err(format!("no diff of {path:?}"))
    }
}

/// Answers with what it was told to run.
#[derive(Default)]
struct FakeSandbox {
    seen: Mutex<Vec<SandboxCommand>>,
}

#[async_trait]
impl Sandbox for FakeSandbox {
    fn tier(&self) -> Tier {
        Tier::None
    }

    async fn run(
        &self,
        command: SandboxCommand,
        _: &CancellationToken,
    ) -> Result<CommandOutput, SandboxError> {
        let text = command.argv.last().cloned().unwrap_or_default();
        self.seen.lock().expect("unpoisoned").push(command);
        let exit = match text.as_str() {
            "false" => Exit::Code(1),
            "kill" => Exit::Signal(9),
            "sleep" => Exit::TimedOut,
            "cancelled" => Exit::Cancelled,
            "broken" => {
                return Err(SandboxError::Unavailable {
                    reason: "no namespaces".into(),
                    hint: "enable them".into(),
                });
            }
            _ => Exit::Code(0),
        };
        Ok(CommandOutput {
            exit,
            output: format!("ran {text}\n"),
            truncated: false,
            duration: Duration::from_millis(1_500),
        })
    }
}

impl Tree {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let outside = tempfile::tempdir().expect("a directory");
        let root = Root::open(dir.path()).expect("opened");
        let view: Arc<dyn TreeView> = Arc::new(NoChange);
        let available: Vec<Arc<dyn Tool>> = vec![
            Arc::new(ReadFile::new(root.clone())),
            Arc::new(Grep::new(root.clone())),
            Arc::new(StrReplace::new(root.clone())),
            Arc::new(WriteFile::new(root.clone())),
            Arc::new(GitStatus::new(Arc::clone(&view))),
            Arc::new(GitDiff::new(view)),
            Arc::new(Bash::new(
                Arc::new(FakeSandbox::default()),
                BashSettings::new(root.path().to_owned()),
            )),
        ];
        let names: Vec<String> = available.iter().map(|tool| tool.spec().name).collect();
        let (tools, missing) = ToolBox::select(available, &names, SubmitRole::Coder);
        assert!(missing.is_empty());
        std::fs::write(outside.path().join("secret"), "the secret\n").expect("written");
        Self { dir, outside, tools }
    }

    pub(super) fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, content).expect("written");
    }

    pub(super) fn get(&self, path: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(path)).expect("read")
    }

    pub(super) async fn call(&self, name: &str, arguments: Value) -> ToolOutput {
        let call = ToolCall { id: "1".into(), name: name.into(), arguments: arguments.to_string() };
        match self.tools.check(&call, false) {
            Ok(arguments) => self
                .tools
                .call(name, &arguments, &CancellationToken::new())
                .await
                .expect("no fault"),
            Err(why) => ToolOutput::malformed(why),
        }
    }

    pub(super) async fn ok(&self, name: &str, arguments: Value) -> String {
        let output = self.call(name, arguments.clone()).await;
        assert!(!output.is_error, "{name} {arguments}: {}", output.content);
        output.content
    }

    pub(super) async fn fails(&self, name: &str, arguments: Value, why: &str) {
        let output = self.call(name, arguments.clone()).await;
        assert!(output.is_error, "{name} {arguments}: {}", output.content);
        assert!(output.content.contains(why), "{name} {arguments}: {}", output.content);
    }
}

#[tokio::test]
async fn read_file_pages_numbers_and_bounds() {
    let tree = Tree::new();
    tree.put(
        "a.txt",
        (1..=3_000).map(|n| format!("line {n}")).collect::<Vec<_>>().join("\n") + "\n",
    );
    let all = tree.ok("read_file", json!({"path": "a.txt"})).await;
    assert!(
        all.starts_with("a.txt: lines 1-1500 of 3000\n     1\tline 1\n"),
        "{}",
        crate::text::head(&all, 200)
    );
    assert!(all.ends_with("[more lines follow: go on with offset=1501]\n"));
    let page = tree.ok("read_file", json!({"path": "a.txt", "offset": "2999", "limit": 5})).await;
    assert_eq!(page, "a.txt: lines 2999-3000 of 3000\n  2999\tline 2999\n  3000\tline 3000\n");
    assert!(
        tree.ok("read_file", json!({"path": "a.txt", "offset": 9_999}))
            .await
            .contains("there is no line 9999")
    );
    tree.put("empty", "");
    assert_eq!(tree.ok("read_file", json!({"path": "empty"})).await, "empty is empty");
    tree.put("crlf", "a\r\nb");
    assert_eq!(
        tree.ok("read_file", json!({"path": "crlf"})).await,
        "crlf: lines 1-2 of 2, line ends CRLF\n     1\ta\n     2\tb\n"
    );
    tree.put("bin", b"ELF\0\x01");
    assert!(tree.ok("read_file", json!({"path": "bin"})).await.contains("not a text file"));
    tree.put("latin", b"caf\xe9\n");
    assert!(tree.ok("read_file", json!({"path": "latin"})).await.contains("not UTF-8"));
    tree.fails("read_file", json!({"path": "b.txt"}), "holds: ").await;
    tree.fails("read_file", json!({"path": "nodir/a.txt"}), "nodir is not there either").await;
}

#[tokio::test]
async fn huge_files_and_lines_are_bounded() {
    let tree = Tree::new();
    tree.put("line", "é".repeat(5 * 1024 * 1024));
    let shown = tree.ok("read_file", json!({"path": "line"})).await;
    assert!(shown.len() < READ_BYTES_MAX && shown.contains("bytes more"), "{} bytes", shown.len());
    let big = tree.dir.path().join("big");
    std::fs::File::create(&big).and_then(|file| file.set_len(200 * 1024 * 1024)).expect("made");
    assert!(tree.ok("read_file", json!({"path": "big"})).await.contains("not a text file"));
    tree.fails(
        "str_replace",
        json!({"path": "big", "old_string": "a", "new_string": "b"}),
        "use bash with sed",
    )
    .await;
    tree.put(
        "wide",
        format!("needle\n{}", "x".repeat(usize::try_from(GREP_FILE_BYTES_MAX).expect("small"))),
    );
    assert!(tree.ok("grep", json!({"pattern": "needle"})).await.contains("3 files above"));
}

#[tokio::test]
async fn str_replace_changes_exactly_what_it_says() {
    let tree = Tree::new();
    tree.put("a.rs", "fn a() {}\nfn b() {}\nfn a() {}\n");
    let script = tree.dir.path().join("a.rs");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("set");
    let said = tree
        .ok(
            "str_replace",
            json!({"path": "a.rs", "old_string": "fn b() {}", "new_string": "fn c() {\n}"}),
        )
        .await;
    assert_eq!(
        said,
        "a.rs: replaced at line 2. It now reads:\n     1\tfn a() {}\n     2\tfn c() {\n     3\t}\n     4\tfn a() {}"
    );
    assert_eq!(tree.get("a.rs"), "fn a() {}\nfn c() {\n}\nfn a() {}\n");
    assert_eq!(std::fs::metadata(&script).expect("there").permissions().mode() & 0o777, 0o755);
    for (arguments, why) in [
        (
            json!({"path": "a.rs", "old_string": "fn a() {}", "new_string": "x"}),
            "stands 2 times in a.rs (lines 1, 4), expected 1",
        ),
        (
            json!({"path": "a.rs", "old_string": "fn c() {", "new_string": "x", "expected_replacements": 2}),
            "stands 1 times",
        ),
        (
            json!({"path": "a.rs", "old_string": "fn cc() {", "new_string": "x"}),
            "The nearest lines are",
        ),
        (json!({"path": "a.rs", "old_string": "same", "new_string": "same"}), "are the same"),
        (
            json!({"path": "a.rs", "old_string": "", "new_string": "x"}),
            "old_string must have at least 1",
        ),
        (
            json!({"path": "new.rs", "old_string": "a", "new_string": "x"}),
            "create it with write_file",
        ),
    ] {
        tree.fails("str_replace", arguments, why).await;
    }
    assert_eq!(
        tree.get("a.rs"),
        "fn a() {}\nfn c() {\n}\nfn a() {}\n",
        "a failed call changes nothing"
    );
    tree.ok("str_replace", json!({"path": "a.rs", "old_string": "fn a() {}", "new_string": "", "expected_replacements": 2})).await;
    assert_eq!(tree.get("a.rs"), "\nfn c() {\n}\n\n");
    tree.put("crlf", "one\r\ntwo\r\n");
    tree.ok("str_replace", json!({"path": "crlf", "old_string": "one\ntwo", "new_string": "1\n2"}))
        .await;
    assert_eq!(tree.get("crlf"), "1\r\n2\r\n");
}

#[tokio::test]
async fn write_file_makes_directories_and_replaces_hard_links() {
    let tree = Tree::new();
    assert_eq!(
        tree.ok("write_file", json!({"path": "x/y/z.txt", "content": "a\nb\n"})).await,
        "created x/y/z.txt: 2 lines, 4 bytes"
    );
    std::fs::hard_link(tree.outside.path().join("secret"), tree.dir.path().join("hard"))
        .expect("linked");
    assert!(
        tree.ok("write_file", json!({"path": "hard", "content": "mine"}))
            .await
            .starts_with("replaced hard")
    );
    assert_eq!(
        std::fs::read_to_string(tree.outside.path().join("secret")).expect("read"),
        "the secret\n"
    );
    let left: Vec<String> = std::fs::read_dir(tree.dir.path())
        .expect("read")
        .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert!(left.iter().all(|name| !name.contains("foreman-write")), "{left:?}");
}

#[tokio::test]
async fn grep_finds_in_order_and_leaves_out_what_git_ignores() {
    let tree = Tree::new();
    tree.put(".gitignore", "target\n");
    tree.put("target/x.rs", "needle\n");
    tree.put("b.rs", "needle two\nother\n");
    tree.put("a/a.rs", "x\nneedle (one)\n");
    tree.put(".github/ci.yml", "needle\n");
    tree.put("bin", b"needle\0needle");
    assert_eq!(
        tree.ok("grep", json!({"pattern": "needle"})).await,
        ".github/ci.yml:1:needle\na/a.rs:2:needle (one)\nb.rs:1:needle two\n"
    );
    assert_eq!(
        tree.ok("grep", json!({"pattern": "(one)", "literal": true})).await,
        "a/a.rs:2:needle (one)\n"
    );
    assert_eq!(
        tree.ok("grep", json!({"pattern": "NEEDLE", "ignore_case": "true", "glob": "b.*"})).await,
        "b.rs:1:needle two\n"
    );
    assert_eq!(
        tree.ok("grep", json!({"pattern": "needle", "path": "a"})).await,
        "a/a.rs:2:needle (one)\n"
    );
    let first = tree.ok("grep", json!({"pattern": "needle", "max": 1})).await;
    assert!(first.contains("more matches; shown are the first 1"), "{first}");
    tree.fails("grep", json!({"pattern": "(one"}), "no regular expression").await;
    tree.fails("grep", json!({"pattern": "x", "path": "nowhere"}), "there is no").await;
    tree.fails("grep", json!({"pattern": "x", "glob": "["}), "glob").await;
    // An absurd wish is cut, not allocated.
    tree.ok("grep", json!({"pattern": "needle", "max": 1_000_000_000_000_u64})).await;
}

#[tokio::test]
async fn bash_says_how_it_ended() {
    let tree = Tree::new();
    assert_eq!(
        tree.ok("bash", json!({"command": "make"})).await,
        "exit code 0 after 1.5 s\nran make\n"
    );
    tree.fails("bash", json!({"command": "false"}), "exit code 1").await;
    tree.fails("bash", json!({"command": "kill"}), "ended by signal 9").await;
    tree.fails(
        "bash",
        json!({"command": "sleep", "timeout_seconds": 999_999}),
        "stopped with all its children after 1800 s",
    )
    .await;
    tree.fails("bash", json!({"command": "a\0b"}), "no zero byte").await;
    for (command, fault) in [
        ("cancelled", ToolFault::Cancelled),
        ("broken", ToolFault::Sandbox { why: "no sandbox: no namespaces; enable them".into() }),
    ] {
        let arguments = json!({"command": command}).as_object().cloned().expect("an object");
        assert_eq!(
            tree.tools.call("bash", &arguments, &CancellationToken::new()).await,
            Err(fault)
        );
    }
}

#[tokio::test]
async fn git_views_and_the_whitelist() {
    let tree = Tree::new();
    assert_eq!(tree.ok("git_status", json!({})).await, "nothing is changed");
    tree.fails("git_diff", json!({"path": "a"}), "no diff of Some(\\\"a\\\")").await;
    tree.fails("git_diff", json!({}), "no diff of None").await;
    tree.fails(
        "rm_rf",
        json!({}),
        "there is no tool \\\"rm_rf\\\"; the tools are: read_file, grep",
    )
    .await;

    let root = Root::open(tree.dir.path()).expect("opened");
    let available: Vec<Arc<dyn Tool>> =
        vec![Arc::new(ReadFile::new(root.clone())), Arc::new(WriteFile::new(root))];
    let allowed = ["read_file".to_owned(), "fetch_issue".to_owned(), "submit_result".to_owned()];
    let (tools, missing) = ToolBox::select(available, &allowed, SubmitRole::Reviewer);
    assert_eq!(
        (tools.names(), missing),
        (vec!["read_file", "submit_result"], vec!["fetch_issue".to_owned()])
    );
    let call = ToolCall {
        id: "1".into(),
        name: "write_file".into(),
        arguments: json!({"path": "x", "content": "y"}).to_string(),
    };
    assert!(tools.check(&call, false).is_err_and(|why| why.contains("there is no tool")));
    let output =
        tools.call("write_file", &Map::new(), &CancellationToken::new()).await.expect("no fault");
    assert!(output.is_malformed, "not even past the check");
    assert!(!tree.dir.path().join("x").exists());
}

#[tokio::test]
async fn malformed_calls_are_explained() {
    let tree = Tree::new();
    let call = |arguments: &str| ToolCall {
        id: "1".into(),
        name: "read_file".into(),
        arguments: arguments.into(),
    };
    for (arguments, why) in [
        ("{\"path\": ", "not valid JSON"),
        ("path=a", "not valid JSON"),
        ("[\"a\"]", "a list, not a JSON object"),
        ("3", "a single value"),
        ("\"a\"", "a string, not a JSON object"),
        ("", "the argument path is missing"),
        ("{\"file\": \"a\"}", "path is missing (file is not known)"),
        ("{\"path\": {}}", "must be of type string, not an object"),
        ("{\"path\": \"a\", \"offset\": 0}", "offset must be at least 1"),
        ("{\"path\": \"a\"}{\"path\": \"b\"}", "not valid JSON"),
    ] {
        let told = tree.tools.check(&call(arguments), false).expect_err(arguments);
        assert!(told.contains(why) && told.contains("Nothing was run"), "{arguments}: {told}");
    }
    let told = tree.tools.check(&call("{\"path\": \"a"), true).expect_err("cut");
    assert!(told.contains("cut off at the output limit"), "{told}");
}
