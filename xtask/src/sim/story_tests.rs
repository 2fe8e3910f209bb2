use foreman_core::testkit::sim::simulate;

use super::*;

fn told(seed: u64) -> (Scenario, Vec<Mark>) {
    let scenario = Scenario::draw(seed);
    let marks = simulate(&scenario, true).marks;
    (scenario, marks)
}

#[test]
fn bars_lie_inside_the_picture_and_none_above_another_in_a_row() {
    for seed in 1..=5 {
        let (scenario, marks) = told(seed);
        let story = Story::of(&scenario, &marks);
        let bars: Vec<_> = story.lanes.iter().flat_map(|lane| &lane.bars).collect();
        assert!(!bars.is_empty(), "seed {seed} places something");
        for lane in &story.lanes {
            for (index, bar) in lane.bars.iter().enumerate() {
                assert!(bar.spell.from <= bar.spell.to && bar.spell.to <= story.end, "{bar:?}");
                let mut others = lane.bars.iter().skip(index + 1);
                let over =
                    others.find(|other| other.row == bar.row && other.spell.from < bar.spell.to);
                assert_eq!(over, None, "over {bar:?} in seed {seed}");
            }
        }
    }
}

#[test]
fn one_seed_has_one_picture() {
    let [once, again] = [told(3), told(3)];
    let draw =
        |(scenario, marks): &(Scenario, Vec<Mark>)| super::super::picture::draw(scenario, marks);
    assert_eq!(draw(&once), draw(&again));
}

#[test]
fn a_claim_that_is_lost_is_shown_where_it_was() {
    let (scenario, _) = told(1);
    let node = scenario.nodes.first().map(|node| node.name.to_owned());
    let at = Duration::from_secs;
    let standing = |phase: &str, attempt: i64, strikes: i64| Standing {
        task: "t".to_owned(),
        uid: foreman_core::model::Uid::new("u"),
        phase: phase.to_owned(),
        node: node.clone().filter(|_| phase != "Pending"),
        attempt,
        strikes,
        verdict: None,
        ended: (phase == "Pending").then(|| "NodeLost".to_owned()),
    };
    let steps = [
        (1, "Scheduled", 0, 0),
        (2, "Running", 1, 0),
        (99, "Running", 1, 1),
        (100, "Pending", 1, 1),
    ];
    let marks = steps.map(|(second, phase, attempt, strikes)| Mark {
        at: at(second),
        what: Told::Task(standing(phase, attempt, strikes)),
    });
    let story = Story::of(&scenario, &marks);
    let bars: Vec<_> = story.lanes.iter().flat_map(|lane| &lane.bars).collect();
    let [placed, claimed] = bars.as_slice() else { panic!("{bars:?}") };
    assert_eq!((placed.end, placed.spell), (End::Open, Spell { from: at(1), to: at(2) }));
    assert_eq!((claimed.end, claimed.spell), (End::TakenBack, Spell { from: at(2), to: at(100) }));
    assert_eq!(claimed.signs, [(at(99), Sign::Strike), (at(100), Sign::TakenBack)]);
}
