//! Manifests in files: what `-f FILE…` names, read and checked to the end.
//!
//! All problems of all files are collected, each with its file, line and document, so that a person
//! corrects them in one go. Nothing is half accepted: either every document is a good manifest, or
//! the answer is the list of problems.

mod documents;
mod hint;
mod tree;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use foreman_core::model::manifest::{self, Manifest};

use tree::Tree;

/// A larger file is not read.
pub const FILE_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// More documents in one file are refused.
pub const DOCUMENTS_MAX: usize = 1000;
/// More files in one directory are refused.
pub const DIRECTORY_FILES_MAX: usize = 10_000;
/// What a directory is searched for.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];
/// How stdin is named, on the command line.
const STDIN: &str = "-";

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file as it was named; `<stdin>` for `-`.
    pub file: String,
    /// The line, from 1; 0 = the file as a whole.
    pub line: usize,
    /// The document in its file, from 1, empty ones not counted; 0 = the file as a whole.
    pub document: usize,
}

/// Something and where it was written.
#[derive(Debug)]
pub struct Located<T> {
    /// The thing.
    pub value: T,
    /// Where it begins.
    pub place: Place,
}

/// What is wrong at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// The field's path, e.g. `spec.pipeline[0].name`; empty = the document or file as a whole.
    pub field: String,
    /// The rule that is broken, in words.
    pub rule: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if self.document > 0 {
            write!(f, ": document {}", self.document)?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place)?;
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.rule)
    }
}

/// Everything that is wrong, one problem a line, in the order of the files.
#[derive(Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Reads and checks what `-f` names: files, directories (their `*.yaml`, `*.yml` and `*.json`, by
/// name, not below) and `-` for `stdin`. `namespace` is used where a manifest names none.
///
/// # Errors
/// [`Problems`]: all that is wrong in all files, or that there is no manifest at all.
pub fn read(
    paths: &[PathBuf],
    stdin: &mut dyn Read,
    namespace: &str,
) -> Result<Vec<Located<Manifest>>, Problems> {
    let mut found = Found { manifests: Vec::new(), problems: Vec::new() };
    for path in paths {
        if path.as_os_str() == STDIN {
            found.stream("<stdin>", stdin, namespace);
        } else {
            found.path(path, namespace);
        }
    }
    found.into_result(paths)
}

/// Reads and checks one text that is already in memory; `file` is how problems call it.
///
/// # Errors
/// [`Problems`]: all that is wrong in it.
pub fn read_bytes(
    file: &str,
    bytes: &[u8],
    namespace: &str,
) -> Result<Vec<Located<Manifest>>, Problems> {
    let mut found = Found { manifests: Vec::new(), problems: Vec::new() };
    found.stream(file, &mut &*bytes, namespace);
    found.into_result(&[PathBuf::from(file)])
}

struct Found {
    manifests: Vec<Located<Manifest>>,
    problems: Vec<Problem>,
}

impl Found {
    fn into_result(mut self, paths: &[PathBuf]) -> Result<Vec<Located<Manifest>>, Problems> {
        if self.manifests.is_empty() && self.problems.is_empty() {
            let names: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
            self.whole(&names.join(", "), "there is no manifest in it");
        }
        if self.problems.is_empty() { Ok(self.manifests) } else { Err(Problems(self.problems)) }
    }

    /// A problem of a file as a whole.
    fn whole(&mut self, file: &str, rule: impl Into<String>) {
        let place = Place { file: file.to_owned(), line: 0, document: 0 };
        self.problems.push(Problem { place, field: String::new(), rule: rule.into() });
    }

    fn path(&mut self, path: &Path, namespace: &str) {
        let name = path.display().to_string();
        if path.is_dir() {
            match directory(path) {
                Ok(files) => files.iter().for_each(|file| self.path(file, namespace)),
                Err(rule) => self.whole(&name, rule),
            }
            return;
        }
        match File::open(path) {
            Ok(mut file) => self.stream(&name, &mut file, namespace),
            Err(error) => self.whole(&name, format!("cannot be opened: {error}")),
        }
    }

    fn stream(&mut self, file: &str, source: &mut dyn Read, namespace: &str) {
        let mut bytes = Vec::new();
        if let Err(error) = source.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes) {
            self.whole(file, format!("cannot be read: {error}"));
            return;
        }
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
            let mib = FILE_BYTES_MAX / (1024 * 1024);
            self.whole(file, format!("is larger than {mib} MiB: split it"));
            return;
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => self.text(file, text, namespace),
            Err(error) => {
                let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let line = 1 + String::from_utf8_lossy(good).matches('\n').count();
                let place = Place { file: file.to_owned(), line, document: 0 };
                let rule = "is not UTF-8 text: save it as UTF-8".to_owned();
                self.problems.push(Problem { place, field: String::new(), rule });
            }
        }
    }

    fn text(&mut self, file: &str, text: &str, namespace: &str) {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut document = 0;
        for chunk in documents::split(text) {
            let parsed = Tree::parse(chunk.text, chunk.lines_before);
            if matches!(parsed, Ok(None)) {
                continue;
            }
            document += 1;
            if document > DOCUMENTS_MAX {
                self.whole(file, format!("has more than {DOCUMENTS_MAX} documents: split it"));
                return;
            }
            let place = |line| Place { file: file.to_owned(), line, document };
            match parsed {
                Ok(Some(tree)) => self.document(&tree, place, namespace),
                Err(error) => self.problems.push(Problem {
                    place: place(error.line),
                    field: String::new(),
                    rule: error.rule,
                }),
                Ok(None) => {}
            }
        }
    }

    /// One document: a manifest, or a list of manifests as `kubectl get -o yaml` prints it.
    fn document(&mut self, tree: &Tree, place: impl Fn(usize) -> Place, namespace: &str) {
        let Some(items) = tree.list_items() else {
            self.manifest(tree, "", &place, namespace);
            return;
        };
        for (index, item) in items.iter().enumerate() {
            self.manifest(item, &format!("items[{index}]"), &place, namespace);
        }
    }

    fn manifest(
        &mut self,
        tree: &Tree,
        prefix: &str,
        place: &impl Fn(usize) -> Place,
        namespace: &str,
    ) {
        let field = |path: &str| match (prefix, path) {
            ("", path) => path.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, path) => format!("{prefix}.{path}"),
        };
        let read = match manifest::read(tree.to_json(), namespace) {
            Ok(read) => read,
            Err(error) => {
                let place = place(tree.line_of("kind"));
                self.problems.push(Problem { place, field: field(""), rule: error.to_string() });
                return;
            }
        };
        let schema = read.kind.schema();
        let unknown = read.unknown.iter().map(|path| (path, hint::unknown(schema, path)));
        let broken = read.violations.iter().map(|one| (&one.field, hint::broken(&one.rule)));
        let mut problems: Vec<_> = unknown
            .chain(broken)
            .map(|(path, rule)| Problem {
                place: place(tree.line_of(path)),
                field: field(path),
                rule,
            })
            .collect();
        if problems.is_empty() {
            self.manifests.push(Located { value: read, place: place(tree.line) });
            return;
        }
        problems.sort_by_key(|problem| problem.place.line);
        self.problems.append(&mut problems);
    }
}

/// The manifests of a directory, by name.
fn directory(path: &Path) -> Result<Vec<PathBuf>, String> {
    let cannot = |error: std::io::Error| format!("cannot be listed: {error}");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(cannot)? {
        let file = entry.map_err(cannot)?.path();
        let extension = file.extension().and_then(|extension| extension.to_str());
        if file.is_file() && extension.is_some_and(|found| EXTENSIONS.contains(&found)) {
            files.push(file);
        }
        if files.len() > DIRECTORY_FILES_MAX {
            return Err(format!("has more than {DIRECTORY_FILES_MAX} manifest files"));
        }
    }
    if files.is_empty() {
        return Err(format!("has no file of *.{}", EXTENSIONS.join(", *.")));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests;
