//! What is said when `--slots` has no effect.

use foreman_core::model::{API_VERSION, FleetNode, Kind as _, Object};
use serde_json::json;

use super::run::repository::shell_word;
use crate::exit::{Exit, Failure};
use crate::parts::{Machine, Recipe};
use crate::untrusted;

/// The notice when the node is there and its spec says another number than the flag.
///
/// # Errors
/// The node cannot be read.
pub(super) async fn notice(
    recipe: &Recipe,
    machine: &Machine,
    flags: &str,
) -> Result<Option<String>, Failure> {
    let Some(wanted) = recipe.settings.node.slots else { return Ok(None) };
    let name = machine.name.as_str();
    let node = recipe.home.stores.nodes.get(&FleetNode::key("", name)).await;
    let node = node.map_err(|error| {
        Failure::new(Exit::Error, format!("node/{name} cannot be read"))
            .next("foreman doctor")
            .because(error)
    })?;
    Ok(node.and_then(|node| differ(&node, i32::from(wanted), flags)))
}

/// Slots of a node are its owner's; the flag counts only where the node is made.
fn differ(node: &Object<FleetNode>, wanted: i32, flags: &str) -> Option<String> {
    let said = node.spec.slots.unwrap_or(1);
    if said == wanted {
        return None;
    }
    let name = &node.meta.name;
    let mut spec = serde_json::to_value(&node.spec).ok()?;
    spec.as_object_mut()?.insert("slots".to_owned(), wanted.into());
    let manifest = json!({"apiVersion": API_VERSION, "kind": FleetNode::NAMES.kind,
        "metadata": {"name": name}, "spec": spec});
    let manifest = shell_word(&untrusted::escape_json(&manifest.to_string()));
    Some(format!(
        "--slots {wanted} has no effect: node/{name} is there already and its spec says {said}; \
         to change it: printf '%s' {manifest} | foreman apply{flags} -f -"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_that_has_no_effect_names_the_command_that_has() {
        let node = |slots: Option<i32>| {
            let mut node = json!({"metadata": {"name": "nn", "uid": "n", "resourceVersion": "1"},
                "spec": {"nodeName": "nn", "roles": ["it's"]}});
            if let Some(slots) = slots {
                node["spec"]["slots"] = slots.into();
            }
            Object::<FleetNode>::from_json(&node).expect("a node")
        };
        assert_eq!(differ(&node(None), 1, ""), None);
        assert_eq!(differ(&node(Some(3)), 3, ""), None);
        let notice = differ(&node(None), 3, " --data-dir /d").expect("they differ");
        assert!(notice.contains("its spec says 1"), "{notice}");
        let kept = r#""spec":{"nodeName":"nn","roles":["it'\''s"],"slots":3}}' |"#;
        assert!(notice.contains(kept), "{notice}");
        assert!(notice.ends_with("| foreman apply --data-dir /d -f -"), "{notice}");
    }
}
