//! What is known of a run before it begins: where its result will be, and the flags by which the next
//! commands find it and go on with it.

use std::path::{Path, PathBuf};

use super::repository::shell_word;
use crate::follow::Begun;
use crate::settings::{Origin, Settings};

/// What is known before anything is shown: where the result will be, and how it is told.
pub(in crate::cli) struct Told {
    pub(in crate::cli) begun: Begun,
    pub(in crate::cli) folder: Option<PathBuf>,
    pub(in crate::cli) url: Option<String>,
    pub(in crate::cli) base: Option<String>,
    pub(in crate::cli) flags: String,
    /// The flags by which a process that does the work does it in the same way.
    pub(in crate::cli) worker_flags: String,
    /// The commands that go on with the work, where they are not the usual ones.
    pub(in crate::cli) go_on: Option<Vec<String>>,
    pub(in crate::cli) notices: Vec<String>,
}

impl Told {
    pub(in crate::cli) fn nothing(flags: String) -> Self {
        let begun = Begun::default();
        Self {
            begun,
            folder: None,
            url: None,
            base: None,
            flags,
            worker_flags: String::new(),
            go_on: None,
            notices: Vec::new(),
        }
    }

    /// The commands that go on with the work: one that follows it, one that does not.
    pub(super) fn go_on(&self, name: &str) -> Vec<String> {
        let flags = format!("{}{}", self.flags, self.worker_flags);
        let usual =
            || vec![format!("foreman run --continue {name}{flags}"), format!("foreman up{flags}")];
        self.go_on.clone().unwrap_or_else(usual)
    }

    pub(super) fn begun_pushes_to(&mut self, push_to: &str) {
        if push_to.starts_with('/') {
            self.folder = Some(PathBuf::from(push_to));
        } else {
            self.url = Some(push_to.to_owned());
        }
    }

    /// Where the result is, as far as the repository tells it.
    pub(super) fn place(&mut self) {
        if self.folder.is_none()
            && self.url.is_none()
            && let Some(repo) = self.begun.repo.clone()
        {
            self.begun_pushes_to(&repo);
        }
        // Git does not know our short form.
        if let Some(slug) = self.url.as_deref().filter(|url| !url.contains(':')) {
            self.url = Some(format!("{}/{slug}", foreman_runner::git::DEFAULT_BASE_URL));
        }
    }
}

/// The flags by which the next command finds the same objects.
pub(in crate::cli) fn store_flags(settings: &Settings) -> String {
    let paths = &settings.paths;
    let flags = [
        ("config", paths.config_file.display().to_string()),
        ("data-dir", paths.data_dir.display().to_string()),
        ("state-dir", paths.state_dir.display().to_string()),
        ("namespace", settings.namespace.clone()),
    ];
    given(settings, flags)
}

/// The flags by which the next command does the work in the same way.
pub(in crate::cli) fn worker_flags(settings: &Settings, token_file: Option<&Path>) -> String {
    let model = &settings.model;
    let key_file = model.key_file.as_deref().map(|path| path.display().to_string());
    let read = settings.node.sandbox_read.iter().map(|path| path.display().to_string());
    let flags = [
        // One that may hold a password is not for a screen; its owner knows it.
        (
            "model-url",
            model.url.clone().filter(|url| !url.contains(['@', '?'])).unwrap_or_default(),
        ),
        ("model", model.name.clone().unwrap_or_default()),
        ("model-key-file", key_file.unwrap_or_default()),
        ("cache-dir", settings.paths.cache_dir.display().to_string()),
        ("fleet-node-name", settings.node.name.clone().unwrap_or_default()),
        ("sandbox", settings.node.sandbox.as_str().to_owned()),
        ("sandbox-read", read.collect::<Vec<_>>().join(",")),
        ("allow-cloud-providers", settings.node.policy.allow_cloud.to_string()),
    ];
    let token =
        token_file.map(|file| format!(" --token-file {}", shell_word(&file.display().to_string())));
    given(settings, flags) + &token.unwrap_or_default()
}

/// Those of the flags that were given as flags: what the environment or the config file says, they
/// say again.
fn given<const N: usize>(settings: &Settings, flags: [(&str, String); N]) -> String {
    let by_flag = |name: &str| settings.origins.get(name) == Some(&Origin::Flag);
    let words = flags.into_iter().filter(|(name, value)| by_flag(name) && !value.is_empty()).map(
        |(name, value)| {
            let flag = if name == "namespace" { "-n".to_owned() } else { format!("--{name}") };
            // A switch takes its value only so.
            let gap = if name == "allow-cloud-providers" { '=' } else { ' ' };
            format!(" {flag}{gap}{}", shell_word(&value))
        },
    );
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{BaseDirs, GlobalFlags, ModelFlags};

    fn settings(url: &str) -> Settings {
        let dir = |name: &str| PathBuf::from("/home/me").join(name);
        let base = BaseDirs {
            home: dir(""),
            config: dir("config"),
            data: dir("data"),
            cache: dir("cache"),
        };
        let global = GlobalFlags {
            data_dir: Some("/my data".into()),
            namespace: Some("lab".to_owned()),
            ..GlobalFlags::default()
        };
        let model = ModelFlags { model_url: Some(url.to_owned()), ..ModelFlags::default() };
        let said = [("FOREMAN_SANDBOX".to_owned(), "files".to_owned())];
        Settings::resolve(&global, Some(&model), None, said.into(), &base).expect("resolves")
    }

    #[test]
    fn the_next_command_has_the_flags_that_this_one_was_given_and_no_password() {
        let said = settings("http://studio:1/v1");
        assert_eq!(store_flags(&said), " --data-dir '/my data' -n lab");
        let token = Some(Path::new("/token"));
        assert_eq!(
            worker_flags(&said, token),
            " --model-url http://studio:1/v1 --token-file /token"
        );
        assert_eq!(worker_flags(&settings("http://me:secret@studio:1/v1"), None), "");
        let told = Told { flags: store_flags(&said), ..Told::nothing(String::new()) };
        assert_eq!(
            told.go_on("w"),
            [
                "foreman run --continue w --data-dir '/my data' -n lab",
                "foreman up --data-dir '/my data' -n lab"
            ]
        );
    }
}
