//! Dependencies: one place for versions, one line of reason each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context;
use toml::{Table, Value};

use super::Finding;
use crate::repo;

/// Where the reasons are.
const REASONS: &str = "docs/dependencies.md";
/// Where the versions are.
const ROOT: &str = "Cargo.toml";

/// Compares the manifests with the reasons.
pub(super) fn check(root: &Path, files: &[String]) -> anyhow::Result<Vec<Finding>> {
    let manifest = parse(root, ROOT)?;
    let reasons = reasons(&repo::read(root, REASONS)?);
    let mut members = BTreeMap::new();
    for name in files.iter().filter(|name| name.ends_with("/Cargo.toml")) {
        members.insert(name.clone(), parse(root, name)?);
    }
    Ok(compare(&manifest, &members, &reasons))
}

fn parse(root: &Path, name: &str) -> anyhow::Result<Table> {
    repo::read(root, name)?.parse().with_context(|| format!("cannot parse {name}"))
}

/// The dependencies that have a reason, with the line it stands in: ``- `name`: why``.
fn reasons(text: &str) -> BTreeMap<String, usize> {
    let mut reasons = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let named = line.strip_prefix("- `").and_then(|rest| rest.split_once("`: "));
        if let Some((name, why)) = named
            && !why.trim().is_empty()
        {
            reasons.insert(name.to_owned(), index + 1);
        }
    }
    reasons
}

fn compare(
    manifest: &Table,
    members: &BTreeMap<String, Table>,
    reasons: &BTreeMap<String, usize>,
) -> Vec<Finding> {
    let workspace = manifest.get("workspace").and_then(|table| table.get("dependencies"));
    let ours = |spec: &Value| spec.get("path").is_some();
    let wanted: BTreeSet<&str> = workspace
        .and_then(Value::as_table)
        .into_iter()
        .flatten()
        .filter(|(_, spec)| !ours(spec))
        .map(|(name, _)| name.as_str())
        .collect();
    let mut findings = Vec::new();
    for name in &wanted {
        if !reasons.contains_key(*name) {
            let line = format!("- `{name}`: <why>");
            findings.push(Finding::error(
                ROOT,
                0,
                format!("{name} has no reason: add a line {line:?} to {REASONS}"),
            ));
        }
    }
    for (name, line) in reasons {
        if !wanted.contains(name.as_str()) {
            findings.push(Finding::error(
                REASONS,
                *line,
                format!("{name} is no dependency any more"),
            ));
        }
    }
    let mut used = BTreeSet::new();
    for (file, member) in members {
        for (name, spec) in declared(member) {
            used.insert(name.to_owned());
            let inherits = spec.get("workspace").and_then(Value::as_bool) == Some(true);
            if !inherits && !ours(spec) {
                findings.push(Finding::error(
                    file,
                    0,
                    format!(
                        "{name} has a version of its own: move it to {ROOT}, use workspace = true"
                    ),
                ));
            }
        }
    }
    for name in wanted.iter().filter(|name| !used.contains(**name)) {
        findings.push(Finding::warning(ROOT, 0, format!("{name} is used by no crate: remove it")));
    }
    findings
}

/// Every dependency a crate declares, whatever for and on whatever target.
fn declared(member: &Table) -> Vec<(&str, &Value)> {
    let targets = member.get("target").and_then(Value::as_table);
    let tables = std::iter::once(member)
        .chain(targets.into_iter().flat_map(|all| all.values().filter_map(Value::as_table)));
    tables
        .flat_map(|table| {
            ["dependencies", "dev-dependencies", "build-dependencies"]
                .into_iter()
                .filter_map(|section| table.get(section).and_then(Value::as_table))
        })
        .flatten()
        .map(|(name, spec)| (name.as_str(), spec))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        text.parse().expect("TOML")
    }

    fn messages(root: &str, member: &str, reasons_text: &str) -> Vec<String> {
        let members = BTreeMap::from([("a/Cargo.toml".to_owned(), table(member))]);
        let findings = compare(&table(root), &members, &reasons(reasons_text));
        findings
            .into_iter()
            .map(|one| format!("{}:{}: {}", one.file, one.line, one.message))
            .collect()
    }

    #[test]
    fn all_in_order() {
        let found = messages(
            "[workspace.dependencies]\nours = { path = \"ours\" }\nserde = \"1\"\nlibc = \"0.2\"",
            "[dependencies]\nserde.workspace = true\nours.workspace = true\n\
             [target.'cfg(unix)'.dependencies]\nlibc = { workspace = true, features = [\"x\"] }",
            "# Why\n- `serde`: the wire form\n- `libc`: signals\n",
        );
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn each_fault_is_named() {
        let found = messages(
            "[workspace.dependencies]\nserde = \"1\"\nidle = \"1\"",
            "[dev-dependencies]\nserde = \"1\"",
            "- `gone`: was needed\n- `idle`: not yet\n- `serde`: \n",
        );
        assert_eq!(
            found,
            [
                "Cargo.toml:0: serde has no reason: add a line \"- `serde`: <why>\" to docs/dependencies.md",
                "docs/dependencies.md:1: gone is no dependency any more",
                "a/Cargo.toml:0: serde has a version of its own: move it to Cargo.toml, use workspace = true",
                "Cargo.toml:0: idle is used by no crate: remove it",
            ]
        );
    }
}
