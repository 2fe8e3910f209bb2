//! Text of models, people and repositories never reaches a terminal raw, whatever verb shows it.

use serde_json::json;

use crate::crash::machine::{Machine, reviewer};

/// Clipboard, link, cursor, title by 8-bit codes, reversed letters, invisible ones, and a bell. Each
/// part has a word that must survive, so that the text was shown at all.
const HOSTILE: &str = "evil\u{1b}]52;c;cHduZWQ=\u{7}text\u{1b}]8;;http://x.example/\u{1b}\\link\u{1b}]8;;\u{1b}\\ \
\u{1b}[2J\u{1b}[31m\u{9b}31m\u{9d}0;title\u{9c}\u{90}dcs\u{9c}\u{202e}\u{2066}\u{200b}\u{feff}\u{7}\u{8}\r\u{7f}end";

/// Whether a terminal would obey a character, or hide that it is there.
fn is_obeyed(c: char) -> bool {
    let bidi = matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    bidi || (c.is_control() && !matches!(c, '\n' | '\t'))
}

fn assert_harmless(what: &str, text: &str) {
    let found: Vec<_> = text.lines().filter(|line| line.chars().any(is_obeyed)).collect();
    assert!(found.is_empty(), "{what}: {found:#?}");
    assert!(
        !text.contains("cHduZWQ=") || text.contains("\\u001b"),
        "{what}: a control string's text was left: {text}"
    );
}

/// A gate that says it all and fails once, a file with it, a model that says and does it.
async fn hostile() -> Machine {
    let mend = json!({"path": "greet.sh", "old_string": "$1", "new_string": "${1:-world}"});
    let submit = json!({
        "verdict": "GO", "says": HOSTILE,
        "summary": format!("done {HOSTILE}"),
        "commit_message": format!("Greet {HOSTILE}\n\nbody {HOSTILE}"),
    });
    let coder = vec![
        ("read_file", json!({"path": "hostile.txt", "says": HOSTILE})),
        ("bash", json!({"command": format!("cat hostile.txt; : '{HOSTILE}'")})),
        ("read_file", json!({"path": format!("no/{HOSTILE}")})),
        // The gate fails and shows the file.
        ("submit_result", submit.clone()),
        ("str_replace", mend),
        ("submit_result", submit),
    ];
    let mut review = reviewer();
    for (_, arguments) in &mut review {
        arguments["says"] = json!(HOSTILE);
        arguments["summary"] = json!(format!("read {HOSTILE}"));
    }
    let gate = "cat hostile.txt; cat hostile.txt >&2; test \"$(sh greet.sh)\" = 'hello world'\n";
    let files = [("hostile.txt", HOSTILE), ("test.sh", gate)];
    Machine::with(coder, review, &files).await
}

#[tokio::test]
async fn no_verb_lets_text_of_others_through() {
    let machine = hostile().await;
    let url = machine.model.url.clone();
    let repo = machine.remote.url();
    let intent = format!("greet {HOSTILE}");
    let run = |more: &[&str]| {
        let words =
            ["run", "--repo", &repo, "--model-url", &url].into_iter().chain(more.iter().copied());
        words.chain([intent.as_str()]).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut workload = String::new();
    for output in [&[][..], &["-o", "json"], &["-o", "jsonl"]] {
        let words = run(output);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let ended = machine.run(&words).await;
        assert_eq!(ended.code, Some(0), "{output:?}: {ended:?}");
        assert_harmless(&format!("run {output:?}, stdout"), &ended.stdout);
        assert_harmless(&format!("run {output:?}, stderr"), &ended.stderr);
        let last = ended.stdout.lines().last().unwrap_or_default();
        if let Ok(result) = serde_json::from_str::<serde_json::Value>(last) {
            workload = result["workload"].as_str().expect("a name").to_owned();
        }
    }
    let (task, whole) = (format!("task/{workload}-code"), format!("workload/{workload}"));
    let review = format!("task/{workload}-review");
    let mut shown = String::new();
    for words in [
        &["get", "workloads"][..],
        &["get", "workloads", "-o", "wide"],
        &["get", "workloads", "-o", "json"],
        &["get", "workloads", "-o", "yaml"],
        &["get", "tasks", "-o", "json"],
        &["get", "tasks", "-o", "yaml"],
        &["get", "tasks", "-o", "wide"],
        &["describe", &whole],
        &["describe", &task],
        &["describe", &review],
        &["describe", "node/vm", "-n", "default"],
        &["explain", &whole],
        &["explain", &task],
        &["logs", &task],
        &["logs", &task, "--tools", "full"],
        &["logs", &task, "--raw"],
        &["logs", &whole, "--tools", "full"],
    ] {
        let ended = machine.run(words).await;
        let (stdout, stderr) = (&ended.stdout, &ended.stderr);
        assert!(ended.code == Some(0) || words.contains(&"node/vm"), "{words:?}: {ended:?}");
        assert_harmless(&format!("{words:?}, stdout"), stdout);
        assert_harmless(&format!("{words:?}, stderr"), stderr);
        shown.push_str(stdout);
    }
    for word in ["evil", "end", "done", "read"] {
        assert!(shown.contains(word), "{word} was never shown");
    }
}
