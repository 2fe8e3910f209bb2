//! The gate profile of a task, and its presets.

use foreman_core::model::shared::GateProfile;

use super::{GateError, GateStep, checked_steps};

/// A gate that the task itself names; an empty command keeps the preset's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExplicitGate {
    /// `go`, `python`, `rust`, `node` or `generic`; none = `go`.
    pub language: Option<String>,
    /// Checks the format.
    pub format: Option<String>,
    /// Checks the style.
    pub lint: Option<String>,
    /// Builds.
    pub build: Option<String>,
    /// Tests.
    pub test: Option<String>,
    /// Checks that generated files are current. No preset has one here: the one
    /// of Go is for a single project's Makefile.
    pub codegen_check: Option<String>,
}

impl From<&GateProfile> for ExplicitGate {
    fn from(profile: &GateProfile) -> Self {
        let commands = profile.commands.clone().unwrap_or_default();
        let language = profile
            .language
            .as_ref()
            .and_then(|language| serde_json::to_value(language).ok()?.as_str().map(str::to_owned));
        Self {
            language,
            format: commands.format,
            lint: commands.lint,
            build: commands.build,
            test: commands.test,
            codegen_check: commands.codegen_check,
        }
    }
}

/// Format, lint, build, test of a language; empty = none.
const PRESETS: &[(&str, [&str; 4])] = &[
    (
        "go",
        [
            "test -z \"$(gofmt -l . | tee /dev/stderr)\"",
            "golangci-lint run ./...",
            "go build ./...",
            "go test ./...",
        ],
    ),
    ("python", ["ruff format --check .", "ruff check .", "python -m compileall .", "pytest -q"]),
    ("rust", ["cargo fmt --check", "cargo clippy", "cargo build", "cargo test"]),
    ("node", ["prettier --check .", "eslint .", "", "npm test"]),
    ("generic", ["", "", "", ""]),
];

impl ExplicitGate {
    pub(super) fn steps(&self) -> Result<Vec<GateStep>, GateError> {
        let language = self.language.as_deref().filter(|it| !it.is_empty()).unwrap_or("go");
        let preset = PRESETS.iter().find(|(name, _)| *name == language);
        let Some((_, [format, lint, build, test])) = preset else {
            return Err(GateError::UnknownLanguage { language: language.to_owned() });
        };
        let own = [
            ("format", &self.format, *format),
            ("lint", &self.lint, *lint),
            ("build", &self.build, *build),
            ("test", &self.test, *test),
            ("codegenCheck", &self.codegen_check, ""),
        ];
        let commands = own.into_iter().map(|(name, own, preset)| {
            let own = own.as_deref().filter(|command| !command.is_empty());
            (name, own.unwrap_or(preset).to_owned())
        });
        checked_steps(commands.filter(|(_, command)| !command.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::ExplicitGate;

    fn lines(gate: &ExplicitGate) -> Vec<String> {
        let steps = gate.steps().expect("steps");
        steps.into_iter().map(|step| format!("{}: {}", step.name, step.command)).collect()
    }

    #[test]
    fn a_profile_without_language_is_go_and_its_commands_replace_the_presets() {
        let gate =
            ExplicitGate { lint: Some("go vet ./...".to_owned()), ..ExplicitGate::default() };
        let lines = lines(&gate);
        assert_eq!(lines.len(), 4);
        assert_eq!(lines.get(1).map(String::as_str), Some("lint: go vet ./..."));
        assert_eq!(lines.get(3).map(String::as_str), Some("test: go test ./..."));
    }

    #[test]
    fn generic_starts_empty_and_an_empty_command_keeps_the_preset() {
        let mut gate = ExplicitGate {
            language: Some("generic".to_owned()),
            test: Some("make check".to_owned()),
            ..ExplicitGate::default()
        };
        assert_eq!(lines(&gate), ["test: make check"]);
        gate.language = Some("node".to_owned());
        gate.test = Some(String::new());
        assert_eq!(
            lines(&gate),
            ["format: prettier --check .", "lint: eslint .", "test: npm test"]
        );
    }

    #[test]
    fn an_unknown_language_or_a_bad_command_is_an_error() {
        let gate = ExplicitGate { language: Some("cobol".to_owned()), ..ExplicitGate::default() };
        assert!(gate.steps().is_err());
        let gate = ExplicitGate { test: Some("  ".to_owned()), ..ExplicitGate::default() };
        assert!(gate.steps().is_err());
    }
}
