//! Dependencies point inwards only, and the core does no I/O: read from what cargo says and from the
//! core's own text.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

use crate::repository::root;

const CORE: &str = "foreman-core";
const ADAPTERS: [&str; 4] = ["foreman-kube", "foreman-sqlite", "foreman-probe", "foreman-runner"];
/// What the core must not reach, however far away.
const FORBIDDEN: [&str; 12] = [
    "hyper",
    "k8s-openapi",
    "kube",
    "libsqlite3-sys",
    "mio",
    "nix",
    "rand",
    "reqwest",
    "rusqlite",
    "rustix",
    "socket2",
    "sysinfo",
];

fn metadata() -> Metadata {
    let mut command = MetadataCommand::new();
    command.manifest_path(root().join("Cargo.toml")).other_options(["--offline".to_owned()]);
    command.exec().expect("cargo metadata")
}

fn package<'a>(metadata: &'a Metadata, name: &str) -> &'a Package {
    let found = metadata.workspace_packages().into_iter().find(|package| *package.name == name);
    found.unwrap_or_else(|| panic!("no member {name}"))
}

/// The names of what a member depends on when it is built for use, not for its tests.
fn normal<'a>(metadata: &'a Metadata, name: &str) -> BTreeSet<&'a str> {
    let dependencies = package(metadata, name).dependencies.iter();
    dependencies
        .filter(|one| one.kind != DependencyKind::Development)
        .map(|one| one.name.as_str())
        .collect()
}

/// What a member reaches over any number of normal dependencies, each with the way there.
fn reached(metadata: &Metadata, name: &str) -> BTreeMap<String, String> {
    let graph = metadata.resolve.as_ref().expect("a resolved graph");
    let nodes: BTreeMap<_, _> = graph.nodes.iter().map(|node| (&node.id, node)).collect();
    let mut ways = BTreeMap::new();
    let mut open = vec![(&package(metadata, name).id, name.to_owned())];
    while let Some((id, way)) = open.pop() {
        // The graph is of the whole workspace: tokio has there what other members ask of it. What the
        // core asks of it has a test of its own.
        if *metadata[id].name == "tokio" {
            continue;
        }
        for dependency in &nodes[id].deps {
            let normal =
                dependency.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development);
            let name = metadata[&dependency.pkg].name.to_string();
            if normal && !ways.contains_key(&name) {
                let way = format!("{way} > {name}");
                ways.insert(name, way.clone());
                open.push((&dependency.pkg, way));
            }
        }
    }
    ways
}

#[test]
fn the_core_reaches_no_adapter_and_no_io() {
    let metadata = metadata();
    let ways = reached(&metadata, CORE);
    assert!(ways.contains_key("serde_json"), "the graph is empty: {ways:?}");
    assert!(
        reached(&metadata, "foreman-sqlite").contains_key("rusqlite"),
        "the walk finds nothing"
    );
    for name in FORBIDDEN.iter().chain(&ADAPTERS).chain(&["foreman-bin"]) {
        assert!(!ways.contains_key(*name), "the core must not depend on {name}: {}", ways[*name]);
    }
}

#[test]
fn the_core_uses_no_more_of_tokio_than_sync() {
    let metadata = metadata();
    let core = package(&metadata, CORE);
    let tokio: Vec<_> = core
        .dependencies
        .iter()
        .filter(|one| one.name == "tokio" && one.kind != DependencyKind::Development)
        .collect();
    assert_eq!(tokio.len(), 1);
    assert_eq!(tokio[0].features, ["sync"]);
    assert!(!tokio[0].uses_default_features);
    for (feature, parts) in &core.features {
        assert!(!parts.iter().any(|part| part.contains("tokio")), "feature {feature} widens tokio");
    }
}

#[test]
fn seeded_bugs_are_turned_on_by_nobody() {
    let metadata = metadata();
    for package in metadata.workspace_packages() {
        let asked = package.dependencies.iter().flat_map(|one| &one.features);
        assert!(asked.into_iter().all(|one| one != "seeded-bugs"), "{} does", package.name);
        let turn_on = package.features.iter().filter(|(_, what)| {
            what.iter().any(|what| what.rsplit('/').next() == Some("seeded-bugs"))
        });
        let names: Vec<_> = turn_on.map(|(name, _)| name.as_str()).collect();
        let only: &[&str] = if *package.name == "xtask" { &["seeded-bugs"] } else { &[] };
        assert_eq!(names, only, "features of {}", package.name);
    }
    let core = package(&metadata, "foreman-core");
    assert!(core.features.contains_key("seeded-bugs"), "it has another name now: mend this test");
}

#[test]
fn no_adapter_knows_another_and_only_programs_compose_them() {
    let metadata = metadata();
    for adapter in ADAPTERS {
        let names = normal(&metadata, adapter);
        assert!(names.contains(CORE), "{adapter} is no adapter of the core");
        for other in ADAPTERS.into_iter().chain(["foreman-bin", "xtask", "foreman-tests"]) {
            assert!(!names.contains(other), "{adapter} must not depend on {other}");
        }
    }
}

#[test]
fn every_member_is_in_the_map() {
    let metadata = metadata();
    let members: BTreeSet<String> =
        metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
    let known = ADAPTERS.into_iter().chain([
        CORE,
        "foreman-apiserver",
        "foreman-examples",
        "foreman-bin",
        "foreman-tests",
        "xtask",
    ]);
    assert_eq!(members, known.map(ToOwned::to_owned).collect());
}

/// What the core's own text must not say, and why.
const UNSAYABLE: [(&str, &str); 11] = [
    ("std::fs", "files belong to adapters"),
    ("std::net", "sockets belong to adapters"),
    ("std::process", "processes belong to adapters"),
    ("std::env", "settings are given, not read"),
    ("SystemTime::now", "time comes from the Clock port"),
    ("Instant::now", "time comes from the Clock port"),
    ("Timestamp::now", "time comes from the Clock port"),
    ("thread::spawn", "threads belong to the programs"),
    ("thread::sleep", "time comes from the Clock port"),
    ("tokio::spawn", "loops hold their futures"),
    ("HashMap", "order must not depend on the process"),
];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file: without comments, and without the tests at its end.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The offences of one file's code.
fn offences(text: &str) -> Vec<String> {
    // Constants of the compiler, whatever module they stand in.
    let code = code(text).replace("std::env::consts", "");
    let said = UNSAYABLE.iter().filter(|(word, _)| code.contains(word));
    said.map(|(word, why)| format!("{word}: {why}")).collect()
}

#[test]
fn the_core_has_no_clock_no_files_and_no_hash_order() {
    let mut files = Vec::new();
    sources(&root().join("foreman-core/src"), &mut files);
    assert!(files.len() > 20, "only {} files found", files.len());
    let mut all = Vec::new();
    for file in files {
        // `tests.rs` files are compiled for tests only.
        if file.file_name().is_some_and(|name| name == "tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).expect("a source");
        all.extend(offences(&text).into_iter().map(|one| format!("{}: {one}", file.display())));
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn offences_are_found_in_code_and_only_there() {
    assert_eq!(offences("use std::fs;\n").len(), 1);
    assert_eq!(offences("let home = std::env::var(\"HOME\");\n").len(), 1);
    assert_eq!(offences("let os = std::env::consts::OS;\n"), Vec::<String>::new());
    assert_eq!(offences("let map: HashMap<u8, u8>;\nlet now = Instant::now();\n").len(), 2);
    assert_eq!(offences("// std::fs\n/// `HashMap`\n"), Vec::<String>::new());
    assert_eq!(
        offences("fn a() {}\n#[cfg(test)]\nmod tests { use std::fs; }\n"),
        Vec::<String>::new()
    );
}
