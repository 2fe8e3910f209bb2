//! Malformed manifests: each is refused with exactly the problems that its first lines announce, as
//! `# expect: FIELD: RULE (line N)`; `-` = no field, a rule that ends in `…` is cut short there.

use std::fs;

use foreman_bin::manifest_file::{self, FILE_BYTES_MAX, Problem};

use crate::repository::{files, fixture};

const REJECTED_MIN: usize = 40;
const EXPECT: &str = "# expect: ";

fn said(problem: &Problem) -> String {
    let field = if problem.field.is_empty() { "-" } else { &problem.field };
    format!("{field}: {} (line {})", problem.rule, problem.place.line)
}

/// Whether a problem is the expected one.
fn is_expected(said: &str, expected: &str) -> bool {
    let Some((start, line)) = expected.split_once('…') else {
        return said == expected;
    };
    said.starts_with(start) && said.ends_with(line)
}

#[test]
fn each_is_refused_with_field_rule_and_line() {
    let files = files(&fixture("rejected"), ".yaml");
    assert!(files.len() >= REJECTED_MIN, "only {} malformed manifests", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let bytes = fs::read(&file).expect("the file");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let expected: Vec<&str> =
            text.lines().map_while(|line| line.strip_prefix(EXPECT)).collect();
        assert!(!expected.is_empty(), "{} expects nothing", file.display());
        let found = match manifest_file::read(
            std::slice::from_ref(&file),
            &mut std::io::empty(),
            "default",
        ) {
            Ok(manifests) => vec![format!("accepted {} manifests", manifests.len())],
            Err(problems) => problems.0.iter().map(said).collect(),
        };
        let fits = found.len() == expected.len()
            && found.iter().zip(&expected).all(|(found, expected)| is_expected(found, expected));
        if !fits {
            let name = file.file_name().expect("a name").to_string_lossy();
            wrong.push(format!(
                "{name}\n  found    {}\n  expected {}",
                found.join("\n           "),
                expected.join("\n           ")
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_said_fits_on_a_screen() {
    for file in files(&fixture("rejected"), ".yaml") {
        let problems =
            manifest_file::read(std::slice::from_ref(&file), &mut std::io::empty(), "default");
        for problem in problems.expect_err("refused").0 {
            let text = problem.to_string();
            let length = text.chars().count() - file.display().to_string().chars().count();
            assert!(length < 400, "{length} characters: {text}");
            assert!(!text.chars().any(char::is_control), "{text:?} has control characters");
        }
    }
}

#[test]
fn a_huge_file_is_refused_before_it_is_parsed() {
    let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
    // Sparse: it takes no room on the disk.
    file.as_file().set_len(FILE_BYTES_MAX * 100).expect("grows");
    let problems =
        manifest_file::read(&[file.path().to_path_buf()], &mut std::io::empty(), "default");
    assert_eq!(
        problems.expect_err("refused").to_string(),
        format!("{}: is larger than 10 MiB: split it", file.path().display())
    );
}
