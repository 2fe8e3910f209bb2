//! Tables as kubectl prints them: no borders, two spaces between columns.

use std::io::Write as _;

use tabwriter::TabWriter;

use crate::untrusted;

/// The longest cell, in characters.
const CELL_CHARS_MAX: usize = 120;

/// Rows under headings. Cells are made fit to show.
#[derive(Debug, Clone)]
pub struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
    /// The longest cell, in characters.
    chars_max: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self { headings: Vec::new(), rows: Vec::new(), chars_max: CELL_CHARS_MAX }
    }
}

impl Table {
    /// A table with these headings.
    pub fn new<T: Into<String>>(headings: impl IntoIterator<Item = T>) -> Self {
        Self { headings: headings.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// The same with cells that are never cut: for readers that need the whole value.
    #[must_use]
    pub fn uncut(self) -> Self {
        Self { chars_max: usize::MAX, ..self }
    }

    /// Adds a row; an empty cell shows `-`.
    pub fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let chars_max = self.chars_max;
        let shown = |cell: T| match untrusted::line(cell.as_ref().trim(), chars_max) {
            empty if empty.is_empty() => "-".to_owned(),
            text => text,
        };
        self.rows.push(cells.into_iter().map(shown).collect());
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Sorts the rows by their first cells.
    pub fn sort(&mut self) {
        self.rows.sort();
    }

    /// The text, with its headings unless they are not wanted.
    pub fn render(&self, headings: bool) -> String {
        let mut writer = TabWriter::new(Vec::new()).padding(2).minwidth(0).ansi(true);
        let heading = headings.then_some(&self.headings);
        let lines =
            heading.into_iter().map(|line| line.join("\t")).chain(self.rows.iter().map(|row| {
                row.iter().map(|cell| super::word(cell)).collect::<Vec<_>>().join("\t")
            }));
        for line in lines {
            // Writing into a vector does not fail.
            if writeln!(writer, "{line}").is_err() {
                break;
            }
        }
        let bytes = writer.into_inner().unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        text.lines().fold(String::new(), |all, line| all + line.trim_end() + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_whatever_is_in_them_and_nothing_is_obeyed() {
        let mut table = Table::new(["NAME", "PHASE", "REASON"]);
        table.row(["a", "Running", ""]);
        table.row(["longer-日本", "Failed", "\u{1b}[2Jwiped\nout\tof"]);
        let text = anstream::adapter::strip_str(&table.render(true)).to_string();
        assert_eq!(
            text,
            "NAME         PHASE    REASON\na            Running  -\nlonger-日本  Failed   wiped out of\n"
        );
        assert!(!table.render(false).contains("NAME"));
    }
}
