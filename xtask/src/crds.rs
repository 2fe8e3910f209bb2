//! `cargo xtask crds`: the custom resource definitions as files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use foreman_core::model::manifest::AnyKind;
use foreman_kube::crd;

use crate::repo::{self, say};

/// Where the files are kept, relative to the repository.
pub(crate) const DIR: &str = "deploy/crds";

/// Writes the files, or with `check` compares them.
pub(crate) fn run(out: &Path, check: bool) -> anyhow::Result<()> {
    let dir = repo::root().join(out);
    let wanted: BTreeMap<String, String> =
        AnyKind::ALL.into_iter().map(|kind| (crd::file_name(kind), crd::to_yaml(kind))).collect();
    if check {
        return compare(&dir, &wanted, out);
    }
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for (name, text) in &wanted {
        let path = dir.join(name);
        if fs::read_to_string(&path).is_ok_and(|old| old == *text) {
            say(format_args!("{} is current", out.join(name).display()));
            continue;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        say(format_args!("wrote {}", out.join(name).display()));
    }
    Ok(())
}

fn compare(dir: &Path, wanted: &BTreeMap<String, String>, out: &Path) -> anyhow::Result<()> {
    let drift = drift(dir, wanted)?;
    if drift.is_empty() {
        say(format_args!("{} definitions are current", wanted.len()));
        return Ok(());
    }
    let flag =
        if out == Path::new(DIR) { String::new() } else { format!(" --out {}", out.display()) };
    bail!(
        "{} differ from the structs:\n  {}\nrun `cargo xtask crds{flag}` and commit what it writes",
        out.display(),
        drift.join("\n  ")
    );
}

/// The files that differ, each with how and from which line on.
fn drift(dir: &Path, wanted: &BTreeMap<String, String>) -> anyhow::Result<Vec<String>> {
    let mut drift = Vec::new();
    for (name, text) in wanted {
        match fs::read_to_string(dir.join(name)) {
            Ok(old) if old == *text => {}
            Ok(old) => {
                let same = old.lines().zip(text.lines()).take_while(|(a, b)| a == b).count();
                drift.push(format!("{name}: differs from line {} on", same + 1));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                drift.push(format!("{name}: is missing"));
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {name}")),
        }
    }
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(drift);
    };
    for entry in entries {
        let name = entry.context("cannot list the directory")?.file_name();
        let name = name.to_string_lossy().into_owned();
        if !wanted.contains_key(&name) {
            drift.push(format!("{name}: is no longer made, delete it"));
        }
    }
    drift.sort();
    Ok(drift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_then_finds_nothing_then_names_each_difference() {
        let dir = tempfile::tempdir().expect("a directory");
        run(dir.path(), false).expect("writes");
        run(dir.path(), true).expect("nothing differs");
        fs::write(dir.path().join("old.yaml"), "x").expect("write");
        fs::remove_file(dir.path().join("foreman.llmkube.dev_agents.yaml")).expect("remove");
        let nodes = dir.path().join("foreman.llmkube.dev_fleetnodes.yaml");
        let text = fs::read_to_string(&nodes).expect("read");
        fs::write(&nodes, text.replace("kind: CustomResourceDefinition", "kind: Other"))
            .expect("write");
        let error = run(dir.path(), true).expect_err("drift").to_string();
        for part in [
            "foreman.llmkube.dev_agents.yaml: is missing",
            "foreman.llmkube.dev_fleetnodes.yaml: differs from line 3 on",
            "old.yaml: is no longer made, delete it",
            "--out",
        ] {
            assert!(error.contains(part), "{part} not in {error}");
        }
    }

    #[test]
    fn writing_twice_gives_the_same_bytes() {
        let (one, two) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("two"));
        run(one.path(), false).expect("writes");
        run(two.path(), false).expect("writes");
        for kind in AnyKind::ALL {
            let name = crd::file_name(kind);
            let read = |dir: &Path| fs::read(dir.join(&name)).expect("read");
            assert_eq!(read(one.path()), read(two.path()), "{name}");
        }
    }
}
