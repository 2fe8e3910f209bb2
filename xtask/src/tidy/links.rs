//! Links between the repository's own texts: every target and every anchor must be there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::Finding;
use crate::repo;

/// Checks all Markdown files.
pub(super) fn check(root: &Path, files: &[String]) -> anyhow::Result<Vec<Finding>> {
    let mut texts = BTreeMap::new();
    for name in files.iter().filter(|name| is_markdown(name)) {
        texts.insert(name.clone(), repo::read(root, name)?);
    }
    let anchors: BTreeMap<_, _> =
        texts.iter().map(|(name, text)| (name.clone(), anchors(text))).collect();
    let mut findings = Vec::new();
    for (name, text) in &texts {
        for link in links(text) {
            if let Some(message) = dead(root, name, &link.target, &anchors) {
                findings.push(Finding::error(name, link.line, message));
            }
        }
    }
    Ok(findings)
}

fn is_markdown(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "md")
}

#[derive(Debug, PartialEq, Eq)]
struct Link {
    line: usize,
    target: String,
}

/// Why a link is dead, if it is. Links to other sites are not looked at.
fn dead(
    root: &Path,
    from: &str,
    target: &str,
    anchors: &BTreeMap<String, BTreeSet<String>>,
) -> Option<String> {
    let has_scheme = target.split_once(':').is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '+')
    });
    if has_scheme || target.starts_with("//") {
        return None;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(p, a)| (p, Some(a)));
    let path = path.replace("%20", " ");
    let file = if path.is_empty() {
        from.to_owned()
    } else if path.starts_with('/') {
        return Some(format!("link to {target}: use a relative path, or a full URL"));
    } else {
        match inside(from, &path) {
            Some(file) => file,
            None => return Some(format!("link to {target} leaves the repository")),
        }
    };
    if !root.join(&file).exists() {
        return Some(format!("link to {target}: there is no {file}"));
    }
    let anchor = anchor.filter(|anchor| !anchor.is_empty())?;
    let known = anchors.get(&file)?;
    if known.contains(anchor) {
        return None;
    }
    let near = known.iter().find(|known| known.contains(anchor) || anchor.contains(known.as_str()));
    let hint = near.map(|near| format!(", did you mean #{near}?")).unwrap_or_default();
    Some(format!("link to {target}: {file} has no heading #{anchor}{hint}"))
}

/// A path relative to the file `from`, as a path from the root; absent when it leaves the root.
fn inside(from: &str, path: &str) -> Option<String> {
    let mut whole = PathBuf::new();
    let base = Path::new(from).parent().unwrap_or(Path::new(""));
    for part in base.join(path).components() {
        match part {
            Component::Normal(name) => whole.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !whole.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    whole.to_str().map(ToOwned::to_owned)
}

/// The lines outside code fences, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fence: Option<&str> = None;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let start = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (None, None) => return Some((index + 1, line)),
            (Some(_), _) => {}
        }
        None
    })
}

/// A line without its inline code.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join(" ")
}

fn links(text: &str) -> Vec<Link> {
    let mut links = Vec::new();
    for (line, raw) in prose(text) {
        let plain = without_code(raw);
        for rest in plain.split("](").skip(1) {
            let Some((target, _)) = rest.split_once(')') else {
                continue;
            };
            let target = target.split_whitespace().next().unwrap_or_default();
            let target = target.trim_start_matches('<').trim_end_matches('>');
            links.push(Link { line, target: target.to_owned() });
        }
        let definition =
            plain.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        if let Some((_, target)) = definition {
            let target = target.split_whitespace().next().unwrap_or_default();
            links.push(Link { line, target: target.to_owned() });
        }
    }
    links
}

/// The anchors that GitHub and mdBook make of a text's headings, and those set by hand.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (_, line) in prose(text) {
        for mark in ["id=\"", "name=\""] {
            for rest in line.split(mark).skip(1) {
                anchors.extend(rest.split('"').next().map(ToOwned::to_owned));
            }
        }
        let hashes = line.chars().take_while(|c| *c == '#').count();
        if !(1..=6).contains(&hashes) {
            continue;
        }
        let Some(heading) = line.trim_start_matches('#').strip_prefix(' ') else {
            continue;
        };
        let slug = slug(heading);
        let count = seen.entry(slug.clone()).or_insert(0);
        anchors.insert(if *count == 0 { slug } else { format!("{slug}-{count}") });
        *count += 1;
    }
    anchors
}

fn slug(heading: &str) -> String {
    let shown = heading.split("](").next().unwrap_or(heading);
    let kept = shown.trim().chars().filter_map(|c| match c {
        ' ' | '-' => Some('-'),
        '_' => Some('_'),
        c if c.is_alphanumeric() => Some(c),
        _ => None,
    });
    kept.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_one(text: &str) -> Vec<String> {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("docs")).expect("mkdir");
        std::fs::write(dir.path().join("docs/a.md"), text).expect("write");
        std::fs::write(dir.path().join("b.md"), "# One two\n## One two\n<a id=\"by-hand\"></a>\n")
            .expect("write");
        let files = ["b.md".to_owned(), "docs/a.md".to_owned()];
        let findings = check(dir.path(), &files).expect("reads");
        findings.into_iter().map(|one| format!("{}: {}", one.line, one.message)).collect()
    }

    #[test]
    fn good_links_are_silent() {
        let text = "[a](../b.md) [b](../b.md#one-two-1) ![c](../b.md#by-hand) [d](https://x.y/z)\n\
                    [e](#own) `[f](nowhere.md)` [g](mailto:a@b.c)\n## Own\n```\n[h](nowhere.md)\n```\n";
        assert_eq!(check_one(text), Vec::<String>::new());
    }

    #[test]
    fn dead_links_are_named_with_their_line() {
        let text = "\n[a](c.md)\n[b](../b.md#one-tw) [c](../../x)\n[d]: gone.md\n[e](/abs.md)\n";
        assert_eq!(
            check_one(text),
            [
                "2: link to c.md: there is no docs/c.md",
                "3: link to ../b.md#one-tw: b.md has no heading #one-tw, did you mean #one-two?",
                "3: link to ../../x leaves the repository",
                "4: link to gone.md: there is no docs/gone.md",
                "5: link to /abs.md: use a relative path, or a full URL",
            ]
        );
    }

    #[test]
    fn slugs_are_those_of_github() {
        assert_eq!(slug("1. What `foreman run` does!"), "1-what-foreman-run-does");
        assert_eq!(slug("A & b_c – d"), "a--b_c--d");
    }
}
