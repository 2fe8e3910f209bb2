//! Each decision record has its page in the book, its line in the summary and its row in the list.

use std::fs;

use crate::repository::{files, root};

#[test]
fn every_decision_record_can_be_found_in_the_book() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap_or_default();
    let (list, summary) = (read("docs/src/decisions.md"), read("docs/src/SUMMARY.md"));
    let records = files(&root().join("docs/adr"), ".md");
    assert!(records.len() > 10, "only {} records", records.len());
    let mut missing = Vec::new();
    for record in records {
        let name = record.file_name().expect("a name").to_string_lossy().into_owned();
        let (link, number) = (format!("(decisions/{name})"), name.split('-').next());
        let row = format!("| [{}]{link} |", number.expect("a number"));
        let page = read(&format!("docs/src/decisions/{name}"));
        if !page.contains(&format!("adr/{name}}}}}")) {
            missing.push(format!("docs/src/decisions/{name} does not include {name}"));
        }
        if !summary.contains(&link) {
            missing.push(format!("docs/src/SUMMARY.md has no line for {name}"));
        }
        if !list.contains(&row) {
            missing.push(format!("docs/src/decisions.md has no row {row}"));
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
