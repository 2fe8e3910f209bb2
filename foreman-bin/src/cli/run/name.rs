//! Names made from what a person wants: `fix-login-7f3a`.

use foreman_core::ports::Entropy;

/// Characters of the words in a name. A task's name adds its step, and all of it is to be typed.
const WORDS_CHARS_MAX: usize = 32;
/// Stands for an intent without a single letter or digit.
const NO_WORDS: &str = "work";

/// A name for a workload: the intent's first words and four random characters.
pub(in crate::cli) fn workload_name(intent: &str, entropy: &dyn Entropy) -> String {
    format!("{}-{:04x}", words(intent), entropy.next_u64() & 0xffff)
}

fn words(intent: &str) -> String {
    let lower = intent.to_lowercase();
    let parts = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut name = String::new();
    for word in parts {
        let joint = usize::from(!name.is_empty());
        if name.len() + joint + word.len() > WORDS_CHARS_MAX {
            if name.is_empty() {
                name.extend(word.chars().take(WORDS_CHARS_MAX));
            }
            break;
        }
        if joint == 1 {
            name.push('-');
        }
        name.push_str(word);
    }
    if name.is_empty() { NO_WORDS.to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use foreman_core::model::ids::check_label_name;

    use super::*;

    struct Fixed(u64);

    impl Entropy for Fixed {
        fn next_u64(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn an_intent_becomes_a_name_that_a_person_recognises() {
        let cases = [
            ("Fix login", "fix-login"),
            ("fix: the login loops when the cookie is stale", "fix-the-login-loops-when-the"),
            ("  ../../etc/passwd; rm -rf /", "etc-passwd-rm-rf"),
            ("日本語だけ", "work"),
            ("", "work"),
            ("Über-Änderung", "ber-nderung"),
        ];
        for (intent, expected) in cases {
            assert_eq!(words(intent), expected, "{intent}");
        }
        let long = "x".repeat(100);
        assert_eq!(words(&long), "x".repeat(WORDS_CHARS_MAX));
    }

    #[test]
    fn a_name_ends_in_four_random_characters_and_is_a_valid_label() {
        assert_eq!(workload_name("Fix login", &Fixed(0xffff_7f3a)), "fix-login-7f3a");
        assert_eq!(workload_name("Fix login", &Fixed(0xa)), "fix-login-000a");
        for intent in ["", "-", "a b c", "Ü", "1 2"] {
            let name = workload_name(intent, &Fixed(7));
            assert!(check_label_name(&name).is_ok(), "{name}");
        }
    }
}
