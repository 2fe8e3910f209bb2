use super::*;

fn base(home: &Path) -> BaseDirs {
    BaseDirs {
        home: home.to_owned(),
        config: home.join(".config"),
        data: home.join(".local/share"),
        cache: home.join(".cache"),
    }
}

fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn resolve(home: &Path, global: &GlobalFlags, pairs: &[(&str, &str)]) -> Result<Settings, Failure> {
    let (model, node) = (ModelFlags::default(), NodeFlags::default());
    Settings::resolve(global, Some(&model), Some(&node), environment(pairs), &base(home))
}

fn write_config(home: &Path, text: &str) {
    std::fs::create_dir_all(home.join(".config/foreman")).expect("made");
    std::fs::write(home.join(".config/foreman/config.toml"), text).expect("written");
}

#[test]
fn without_a_word_everything_is_the_default() {
    let home = tempfile::tempdir().expect("a directory");
    let settings = resolve(home.path(), &GlobalFlags::default(), &[]).expect("resolves");
    assert_eq!(settings.paths.data_dir, home.path().join(".local/share/foreman"));
    assert_eq!(settings.paths.state_dir, settings.paths.data_dir);
    assert_eq!(settings.paths.store_file(), home.path().join(".local/share/foreman/foreman.db"));
    assert_eq!(settings.namespace, "default");
    assert_eq!(settings.node.sandbox, Tier::Network);
    assert!(settings.origins.values().all(|origin| *origin == Origin::Default));
}

#[test]
fn a_flag_wins_over_a_variable_and_that_over_the_file() {
    let home = tempfile::tempdir().expect("a directory");
    write_config(
        home.path(),
        "namespace = \"file\"\ndata-dir = \"~/store\"\nroles = [\"coder\", \"verifier\"]\nslots = 2\n",
    );
    let pairs = [("FOREMAN_NAMESPACE", "variable"), ("FOREMAN_SLOTS", "3")];
    let flags = GlobalFlags { namespace: Some("flag".to_owned()), ..GlobalFlags::default() };
    let settings = resolve(home.path(), &flags, &pairs).expect("resolves");
    assert_eq!(settings.namespace, "flag");
    assert_eq!(settings.node.slots, Some(3));
    assert_eq!(settings.paths.data_dir, home.path().join("store"));
    assert_eq!(settings.node.roles, ["coder", "verifier"]);
    let origin = |flag| settings.origins.get(flag).cloned();
    assert_eq!(origin("namespace"), Some(Origin::Flag));
    assert_eq!(origin("slots"), Some(Origin::Environment));
    assert_eq!(origin("data-dir"), Some(Origin::File));
    assert_eq!(origin("model"), Some(Origin::Default));
}

#[test]
fn what_is_wrong_names_its_place() {
    let home = tempfile::tempdir().expect("a directory");
    let none = GlobalFlags::default();
    let wrong = |pairs: &[(&str, &str)]| {
        let failure = resolve(home.path(), &none, pairs).expect_err("it is wrong");
        assert_eq!(failure.exit(), Exit::Usage);
        crate::telemetry::describe(&anyhow::Error::new(failure))
    };
    assert!(wrong(&[("FOREMAN_SLOTS", "many")]).contains("FOREMAN_SLOTS"));
    assert!(wrong(&[("FOREMAN_NAMESPACE", "Not Valid")]).contains("\"Not Valid\""));
    assert!(wrong(&[("FOREMAN_SANDBOX", "thick")]).contains("thick"));
    assert!(wrong(&[("FOREMAN_NO_INPUT", "perhaps")]).contains("FOREMAN_NO_INPUT"));
    assert!(wrong(&[("FOREMAN_CONFIG", "/nowhere/at/all.toml")]).contains("/nowhere/at/all.toml"));
    write_config(home.path(), "namespaces = \"x\"\n");
    let text = wrong(&[]);
    assert!(text.contains("config.toml") && text.contains("namespaces"), "{text}");
}

#[test]
fn the_key_is_read_from_its_file_only_when_it_is_needed() {
    let home = tempfile::tempdir().expect("a directory");
    let pairs = [("FOREMAN_MODEL_KEY_FILE", "~/key"), ("FOREMAN_MODEL_URL", "http://h:1/v1")];
    let settings = resolve(home.path(), &GlobalFlags::default(), &pairs).expect("resolves");
    assert!(settings.discovery().is_err(), "there is no such file yet");
    std::fs::write(home.path().join("key"), "s3cret\n").expect("written");
    let discovery = settings.discovery().expect("there is a key");
    assert!(discovery.key.is_some());
    assert_eq!(discovery.model_url, None, "the probe reads the variable itself");
    assert!(!format!("{settings:?}").contains("h:1"), "URLs may hold passwords");
}

#[test]
fn every_setting_is_a_flag_and_every_file_key_a_setting() {
    use clap::CommandFactory as _;
    let command = crate::cli::Cli::command();
    let mut flags: Vec<String> = Vec::new();
    for command in std::iter::once(&command).chain(command.get_subcommands()) {
        flags.extend(command.get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned)));
    }
    for setting in SETTINGS {
        assert!(flags.iter().any(|flag| flag == setting.flag), "--{} is no flag", setting.flag);
        let wanted = format!("FOREMAN_{}", setting.flag.to_ascii_uppercase().replace('-', "_"));
        assert_eq!(setting.variable, wanted);
        if setting.flag != "config" {
            let home = tempfile::tempdir().expect("a directory");
            let switch = ["no-input", "allow-cloud-providers"].contains(&setting.flag);
            let value = if switch { "true" } else { "1" };
            let text = ["\"network\"", "\"json\"", "\"a\"", value].map(|value| {
                write_config(home.path(), &format!("{} = {value}\n", setting.flag));
                resolve(home.path(), &GlobalFlags::default(), &[]).map(|settings| settings.origins)
            });
            let known = text
                .into_iter()
                .flatten()
                .any(|origins| origins.get(setting.flag) == Some(&Origin::File));
            assert!(known, "{} is no key of the config file", setting.flag);
        }
    }
}

/// Every flag of every verb, with its help.
fn flags() -> BTreeMap<String, String> {
    use clap::CommandFactory as _;
    let mut root = crate::cli::Cli::command();
    root.build();
    let mut flags = BTreeMap::new();
    for verb in root.get_subcommands() {
        for arg in verb.get_arguments() {
            if let Some(long) = arg.get_long() {
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                flags.insert(long.to_owned(), help.replace('\n', " "));
            }
        }
    }
    flags
}

#[test]
fn every_flag_with_a_variable_is_listed_and_every_listed_one_says_so() {
    let flags = flags();
    for (flag, help) in &flags {
        let said = help.split("[env: ").nth(1).and_then(|rest| rest.split(']').next());
        let listed = SETTINGS.iter().find(|setting| setting.flag == flag);
        assert_eq!(said, listed.map(|setting| setting.variable), "--{flag}: {help}");
    }
    assert!(SETTINGS.iter().all(|setting| flags.contains_key(setting.flag)));
}

#[test]
fn every_listed_variable_works() {
    for setting in SETTINGS {
        let home = tempfile::tempdir().expect("a directory");
        let config = home.path().join("c.toml");
        std::fs::write(&config, "").expect("written");
        let config = config.to_str().expect("text").to_owned();
        let values = [config.as_str(), "network", "json", "true", "1"];
        let works = values.iter().any(|value| {
            resolve(home.path(), &GlobalFlags::default(), &[(setting.variable, value)]).is_ok_and(
                |settings| settings.origins.get(setting.flag) == Some(&Origin::Environment),
            )
        });
        assert!(works, "{} does nothing", setting.variable);
    }
}

#[test]
fn a_variable_of_ours_that_is_no_text_is_never_passed_over() {
    use std::os::unix::ffi::OsStringExt as _;
    let bad = || OsString::from_vec(b"/tmp/\xff".to_vec());
    let failure = text_of([("FOREMAN_DATA_DIR".into(), bad())]).expect_err("not text");
    assert_eq!(failure.exit(), Exit::Usage);
    assert!(failure.to_string().contains("FOREMAN_DATA_DIR"), "{failure}");
    let others = text_of([("LESSOPEN".into(), bad()), (bad(), "x".into())]).expect("not ours");
    assert!(others.is_empty());
}

#[test]
fn the_token_file_is_a_setting_like_any_other() {
    let home = tempfile::tempdir().expect("a directory");
    write_config(home.path(), "token-file = \"~/token\"\n");
    let settings = resolve(home.path(), &GlobalFlags::default(), &[]).expect("resolves");
    assert_eq!(settings.token_file, Some(home.path().join("token")));
    let pairs = [("FOREMAN_TOKEN_FILE", "/t")];
    let settings = resolve(home.path(), &GlobalFlags::default(), &pairs).expect("resolves");
    assert_eq!(settings.token_file, Some("/t".into()));
}

#[test]
fn the_cloud_is_allowed_until_somebody_says_no() {
    let home = tempfile::tempdir().expect("a directory");
    let none = GlobalFlags::default();
    let allowed = |node: NodeFlags, pairs: &[(&str, &str)]| {
        let model = ModelFlags::default();
        let environment = environment(pairs);
        let said =
            Settings::resolve(&none, Some(&model), Some(&node), environment, &base(home.path()));
        said.map(|settings| settings.node.policy.allow_cloud)
    };
    let silent = NodeFlags::default;
    let said = |allow| NodeFlags { allow_cloud_providers: Some(allow), ..NodeFlags::default() };
    let no = [("FOREMAN_ALLOW_CLOUD_PROVIDERS", "no")];
    assert!(allowed(silent(), &[]).expect("resolves"));
    assert!(!allowed(silent(), &no).expect("resolves"));
    assert!(allowed(said(true), &no).expect("resolves"), "the flag wins");
    assert!(!allowed(said(false), &[]).expect("resolves"));
    write_config(home.path(), "allow-cloud-providers = false\n");
    assert!(!allowed(silent(), &[]).expect("resolves"));
    let wrong = allowed(silent(), &[("FOREMAN_ALLOW_CLOUD_PROVIDERS", "perhaps")]);
    assert!(wrong.expect_err("no switch").to_string().contains("FOREMAN_ALLOW_CLOUD_PROVIDERS"));
}
