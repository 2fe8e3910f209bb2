use std::time::Duration;

use super::*;

fn at(seconds: u64) -> AwakeTime {
    AwakeTime::new(Duration::from_secs(seconds))
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn one(node: &str, first: bool) -> Admitted {
    Admitted::One { node: node.to_owned(), first }
}

#[test]
fn few_silent_nodes_lose_their_claims_at_once_many_one_by_one() {
    let mut slow = Slow::default();
    let few = names(&["a", "b", "c"]);
    assert_eq!(slow.admit(3, &few, at(0)), (Admitted::All, None));
    assert_eq!(slow.admit(3, &names(&[]), at(1)), (Admitted::None, None));
    // The fourth falls silent: what was taken a moment ago counts.
    let many = names(&["d", "e"]);
    assert_eq!(slow.admit(5, &many, at(9)), (Admitted::None, Some(at(10))));
    assert_eq!(slow.admit(5, &many, at(10)), (one("d", true), Some(at(20))));
    assert_eq!(slow.admit(5, &many, at(12)), (one("d", false), Some(at(20))), "its second write");
    let rest = names(&["e"]);
    assert_eq!(slow.admit(5, &rest, at(13)), (Admitted::None, Some(at(20))));
    assert_eq!(slow.admit(5, &rest, at(20)), (one("e", false), Some(at(30))));
    assert_eq!(slow.admit(3, &rest, at(21)), (Admitted::All, None), "somebody came back");
    assert_eq!(slow.admit(4, &names(&["x", "y"]), at(40)), (one("x", true), Some(at(50))));
}

#[test]
fn a_node_whose_claims_cannot_be_taken_back_keeps_no_other_waiting() {
    let mut slow = Slow::default();
    let stuck = names(&["a", "b", "c", "d"]);
    let mut turns = Vec::new();
    for second in (0..60).step_by(10) {
        match slow.admit(4, &stuck, at(second)).0 {
            Admitted::One { node, .. } => turns.push(node),
            other @ (Admitted::All | Admitted::None) => panic!("{other:?}"),
        }
    }
    assert_eq!(turns, ["a", "b", "c", "d", "a", "b"]);
}
