//! Splits a YAML stream into its documents, so that a fault in one does not hide the others.

/// One document's text, its `---` line included.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunk<'a> {
    /// The text.
    pub(super) text: &'a str,
    /// How many lines of the stream stand before it.
    pub(super) lines_before: usize,
}

/// The documents of a stream; some may be empty. In YAML a `---` or `...` at the beginning of a
/// line ends a document whatever stands around it, also inside of quotes and blocks.
pub(super) fn split(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let (mut begin, mut lines_before) = (0, 0);
    // Comments and directives before a `---` belong to the document that it begins.
    let mut only_prologue = true;
    let mut at = 0;
    for (line_number, line) in text.split_inclusive('\n').enumerate() {
        if is_marker(line, "---") && !only_prologue {
            chunks.extend(chunk(text, begin, at, lines_before));
            (begin, lines_before) = (at, line_number);
        }
        at += line.len();
        only_prologue = only_prologue && is_prologue(line);
        if is_marker(line, "...") {
            chunks.extend(chunk(text, begin, at, lines_before));
            (begin, lines_before, only_prologue) = (at, line_number + 1, true);
        }
    }
    chunks.extend(chunk(text, begin, text.len(), lines_before));
    chunks
}

fn chunk(text: &str, begin: usize, end: usize, lines_before: usize) -> Option<Chunk<'_>> {
    let text = text.get(begin..end).filter(|text| !text.trim().is_empty())?;
    Some(Chunk { text, lines_before })
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn is_prologue(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with(['#', '%'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<(usize, &str)> {
        split(text).into_iter().map(|chunk| (chunk.lines_before, chunk.text)).collect()
    }

    #[test]
    fn documents_keep_their_place() {
        assert_eq!(parts(""), []);
        assert_eq!(parts("a: 1"), [(0, "a: 1")]);
        assert_eq!(
            parts("# c\n---\na: 1\n---\nb: 2\n"),
            [(0, "# c\n---\na: 1\n"), (3, "---\nb: 2\n")]
        );
        assert_eq!(parts("---\n---\na\n"), [(0, "---\n"), (1, "---\na\n")]);
        assert_eq!(parts("a\n...\nb\n"), [(0, "a\n...\n"), (2, "b\n")]);
        assert_eq!(parts("a: |\n  ---\n  x\n"), [(0, "a: |\n  ---\n  x\n")]);
        assert_eq!(
            parts("--- # one\r\na\r\n--- {b: 1}\r\n"),
            [(0, "--- # one\r\na\r\n"), (2, "--- {b: 1}\r\n")]
        );
        assert_eq!(parts("---x: 1\n"), [(0, "---x: 1\n")]);
    }
}
