use std::fs;

use super::*;

const AGENT: &str = "apiVersion: foreman.llmkube.dev/v1alpha1\nkind: Agent\nmetadata:\n  name: a\n\
                     spec:\n  role: coder\n  tools: [bash]\n";

fn good(text: &str) -> Vec<Located<Manifest>> {
    read_bytes("m.yaml", text.as_bytes(), "default").expect("good")
}

fn bad(text: &str) -> Vec<String> {
    let problems = read_bytes("m.yaml", text.as_bytes(), "default").expect_err("bad");
    problems.0.iter().map(ToString::to_string).collect()
}

#[test]
fn a_good_manifest_is_defaulted_and_gets_the_namespace() {
    let found = good(AGENT);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].place, Place { file: "m.yaml".to_owned(), line: 1, document: 1 });
    assert_eq!(found[0].value.object["metadata"]["namespace"], "default");
    assert_eq!(found[0].value.object["spec"]["maxTurns"], 50);
}

#[test]
fn every_problem_has_its_own_line_whatever_document_it_is_in() {
    let text = format!(
        "# first\n---\n{AGENT}---\n\n---\n{}---\nkind: [\n---\n{}",
        AGENT.replace("role: coder", "role: cook\n  promt: x"),
        AGENT.replace("  name: a\n", "  labels:\n    a.b/c: '-'\n"),
    );
    assert_eq!(
        bad(&text),
        [
            "m.yaml:18: document 2: spec.role: must be one of coder, verifier, reviewer, planner, got \"cook\"",
            "m.yaml:19: document 2: spec.promt: unknown field",
            "m.yaml:22: document 3: is not valid YAML: unclosed bracket '['",
            "m.yaml:26: document 4: metadata.name: is required",
            "m.yaml:28: document 4: metadata.labels[a.b/c]: must consist of letters, digits, '-', '_' or '.', \
             with a letter or digit at both ends, got \"-\"",
        ]
    );
}

#[test]
fn numbers_and_booleans_are_read_as_kubectl_reads_them() {
    let found =
        good(&format!("{AGENT}  maxTurns: 3.0\n  maxRetries: 0o7\n  vision: {{enabled: yes}}\n"));
    let spec = &found[0].value.object["spec"];
    assert_eq!((&spec["maxTurns"], &spec["maxRetries"]), (&3.into(), &7.into()));
    assert_eq!(spec["vision"]["enabled"], true);
    assert_eq!(
        bad(&format!("{AGENT}  maxTurns: 3.5\n")),
        ["m.yaml:8: document 1: spec.maxTurns: must be of type integer, got number 3.5"]
    );
}

#[test]
fn a_list_is_its_items() {
    let item = AGENT.replace('\n', "\n  ");
    let item = item.trim_end();
    let broken = item.replace("coder", "cook");
    let list = format!("apiVersion: v1\nkind: List\nitems:\n- {item}\n- {broken}\n");
    assert_eq!(
        bad(&list),
        [
            "m.yaml:16: document 1: items[1].spec.role: must be one of coder, verifier, reviewer, planner, got \"cook\""
        ]
    );
    assert_eq!(good(&list.replace("cook", "coder")).len(), 2);
}

#[test]
fn json_with_tabs_and_a_byte_order_mark_are_read() {
    let json = "\u{feff}{\n\t\"apiVersion\": \"foreman.llmkube.dev/v1alpha1\",\n\t\"kind\": \"FleetNode\",\n\
                \t\"metadata\": {\"name\": \"n\"},\n\t\"spec\": {\"nodeName\": \"n\"}\n}\n";
    assert_eq!(good(json).len(), 1);
}

#[test]
fn merge_keys_give_way_to_what_is_written() {
    let text = AGENT.replace(
        "spec:\n",
        "spec:\n  retries: &r {editFreeTurnsLimit: 1, repeatedToolThreshold: 2}\n  \
         stuckLoopDetection: {<<: *r, editFreeTurnsLimit: 9}\n",
    );
    let problems = bad(&text);
    assert_eq!(problems.len(), 1, "{problems:?}");
    let tree = Tree::parse(&text, 0).expect("YAML").expect("a document");
    assert_eq!(
        tree.to_json()["spec"]["stuckLoopDetection"],
        serde_json::json!({"editFreeTurnsLimit": 9, "repeatedToolThreshold": 2})
    );
}

#[test]
fn files_directories_and_stdin_come_in_order() {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in
        [("b.yml", AGENT), ("a.yaml", AGENT), ("c.txt", "not: [read"), ("d.json", "")]
    {
        fs::write(dir.path().join(name), text).expect("write");
    }
    let paths = [PathBuf::from("-"), dir.path().to_path_buf()];
    let found = read(&paths, &mut AGENT.as_bytes(), "default").expect("good");
    let files: Vec<_> = found.iter().map(|one| one.place.file.clone()).collect();
    let name = |file: &str| dir.path().join(file).display().to_string();
    assert_eq!(files, ["<stdin>".to_owned(), name("a.yaml"), name("b.yml")]);
}

#[test]
fn what_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let problems = |path: &Path| {
        let paths = [path.to_path_buf()];
        let said = read(&paths, &mut std::io::empty(), "default").expect_err("bad").to_string();
        said.replace(&dir.path().display().to_string(), "DIR")
    };
    assert_eq!(problems(dir.path()), "DIR: has no file of *.yaml, *.yml, *.json");
    assert_eq!(
        problems(&dir.path().join("x.yaml")),
        "DIR/x.yaml: cannot be opened: No such file or directory (os error 2)"
    );
    let empty = dir.path().join("empty.yaml");
    fs::write(&empty, "# nothing\n---\n").expect("write");
    assert_eq!(problems(&empty), "DIR/empty.yaml: there is no manifest in it");
}

#[test]
fn limits_hold() {
    let size = usize::try_from(FILE_BYTES_MAX).expect("fits");
    let mut bytes = AGENT.as_bytes().to_vec();
    bytes.resize(size, b'#');
    bytes[AGENT.len() - 1] = b'\n';
    assert!(read_bytes("m.yaml", &bytes, "default").is_ok());
    bytes.push(b'#');
    let said = read_bytes("m.yaml", &bytes, "default").expect_err("large").to_string();
    assert_eq!(said, "m.yaml: is larger than 10 MiB: split it");

    let node = "kind: FleetNode\napiVersion: foreman.llmkube.dev/v1alpha1\nmetadata: {name: m}\nspec: {nodeName: m}\n---\n";
    assert_eq!(good(&node.repeat(DOCUMENTS_MAX)).len(), DOCUMENTS_MAX);
    assert_eq!(
        bad(&node.repeat(DOCUMENTS_MAX + 1)),
        ["m.yaml: has more than 1000 documents: split it"]
    );

    assert_eq!(
        read_bytes("m.yaml", b"a: 1\nb: \xff\n", "default").expect_err("bytes").to_string(),
        "m.yaml:2: is not UTF-8 text: save it as UTF-8"
    );
}
