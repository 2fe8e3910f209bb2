//! A timeline of one simulation, as a picture: who was up, where each run was, and how it ended.

use std::fmt::Write as _;
use std::time::Duration;

use foreman_core::testkit::sim::{Mark, Scenario};

use super::story::{Bar, End, Lane, Sign, Spell, Story};

const LEFT: f64 = 110.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 34.0;
const WIDTH: f64 = 1000.0;
const ROW: f64 = 20.0;
const GAP: f64 = 12.0;

const STYLE: &str = "\
svg{background:#fff;font:11px ui-sans-serif,system-ui,sans-serif}\
text{fill:#24292f}.dim{fill:#6e7781}.grid{stroke:#d0d7de;stroke-width:.6}.lane{fill:#f6f8fa}\
.asleep{fill:#b6c8e8}.cut{fill:#f0dca0}.dead{fill:#c9c9cf}.in{fill:#fff}.sign{fill:#24292f}\
.claimed{fill:#8c959f}.good{fill:#1a7f37}.off{fill:#9a6700}.failed{fill:#a40e26}.taken{fill:#8250df}.back{fill:#0969da}\
.mark{stroke:#24292f;stroke-width:1.2;stroke-dasharray:3 2}.strike{stroke:#cf222e;stroke-width:2;fill:none}\
@media(prefers-color-scheme:dark){svg{background:#0d1117}text{fill:#e6edf3}.dim{fill:#9198a1}.grid{stroke:#30363d}\
.lane{fill:#161b22}.asleep{fill:#2b3f66}.cut{fill:#5c4a12}.dead{fill:#4a4d55}.in{fill:#fff}.sign{fill:#e6edf3}\
.mark{stroke:#e6edf3}.strike{stroke:#ff7b72}.claimed{fill:#656c76}.good{fill:#238636}.off{fill:#9e6a03}.failed{fill:#b62324}\
.taken{fill:#8957e5}.back{fill:#1f6feb}}";

/// The picture of what was told of a simulation.
pub(super) fn draw(scenario: &Scenario, marks: &[Mark]) -> String {
    let story = Story::of(scenario, marks);
    let scale = (WIDTH - LEFT - RIGHT) / story.end.as_secs_f64().max(1.0);
    let mut picture = Picture { text: String::new(), scale, y: TOP };
    for lane in &story.lanes {
        picture.lane(lane, story.end);
    }
    let height = picture.y + 44.0;
    let axis = picture.axis(story.end);
    let mut whole = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
         role=\"img\" aria-label=\"Timeline of seed {seed}\">\n<style>{STYLE}</style>\n",
        seed = scenario.seed
    );
    let title = format!(
        "Seed {}: {} node(s), {} control loop(s); minutes and seconds of simulated time",
        scenario.seed,
        scenario.nodes.len(),
        scenario.operators
    );
    line(&mut whole, format_args!("<text x=\"8\" y=\"16\">{}</text>", escaped(&title)));
    // Grid below, bars above.
    whole.push_str(&axis);
    whole.push_str(&picture.text);
    legend(&mut whole, picture.y + 32.0);
    whole.push_str("</svg>\n");
    whole
}

struct Picture {
    text: String,
    scale: f64,
    y: f64,
}

impl Picture {
    fn x(&self, at: Duration) -> f64 {
        LEFT + at.as_secs_f64() * self.scale
    }

    fn rect(&mut self, class: &str, spell: Spell, y: f64, height: f64, title: &str) {
        let (x, to) = (self.x(spell.from), self.x(spell.to));
        let width = (to - x).max(1.5);
        let title = escaped(title);
        line(
            &mut self.text,
            format_args!(
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
                 height=\"{height:.1}\" rx=\"2\"><title>{title}</title></rect>"
            ),
        );
    }

    fn lane(&mut self, lane: &Lane, end: Duration) {
        let rows = lane.rows().max(1);
        let height = ROW * f64::from(rows) + 4.0;
        let y = self.y;
        self.rect("lane", Spell { from: Duration::ZERO, to: end }, y, height, &lane.name);
        let name_y = y + height / 2.0 + 4.0;
        let name = escaped(&lane.name);
        line(&mut self.text, format_args!("<text x=\"8\" y=\"{name_y:.1}\">{name}</text>"));
        for (class, spell) in &lane.spells {
            let title = format!("{} {} {spell}", lane.name, class.words());
            self.rect(class.css(), *spell, y, height, &title);
        }
        for bar in &lane.bars {
            self.bar(lane, bar, y + 2.0 + ROW * f64::from(bar.row));
        }
        self.y += height + GAP;
    }

    fn bar(&mut self, lane: &Lane, bar: &Bar, y: f64) {
        let title = format!(
            "{} on {}, claim {}, {}: {}",
            bar.task, lane.name, bar.attempt, bar.spell, bar.said
        );
        self.rect(css(bar.end), bar.spell, y + 1.0, ROW - 4.0, &title);
        let (x, to) = (self.x(bar.spell.from), self.x(bar.spell.to));
        let label = format!("{} ·{}", bar.task, bar.attempt);
        // Half a dozen units a character.
        let needed = 6.0 * f64::from(u32::try_from(label.chars().count()).unwrap_or(u32::MAX));
        // Beside the bar where it does not fit; a placement is told by the claim after it.
        let (class, x) = if to - x > needed { ("in", x + 4.0) } else { ("dim", to + 8.0) };
        if bar.end != End::Open || class == "in" {
            let (y, label) = (y + 13.0, escaped(&label));
            let text =
                format_args!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{label}</text>");
            line(&mut self.text, text);
        }
        for (at, sign) in &bar.signs {
            self.sign(*at, *sign, y);
        }
    }

    fn sign(&mut self, at: Duration, sign: Sign, y: f64) {
        let x = self.x(at);
        let text = match sign {
            Sign::Push => format!(
                "<path class=\"sign\" d=\"M{x:.1} {:.1}l5 8h-10z\"><title>push</title></path>",
                y - 4.0
            ),
            Sign::TakenBack => format!(
                "<path class=\"mark\" d=\"M{x:.1} {:.1}v{:.1}\"><title>taken back</title></path>",
                y - 4.0,
                ROW + 4.0
            ),
            Sign::Strike => format!(
                "<path class=\"strike\" d=\"M{:.1} {:.1}l8 8m0 -8l-8 8\"><title>strike</title></path>",
                x - 4.0,
                y + 5.0
            ),
        };
        line(&mut self.text, format_args!("{text}"));
    }

    fn axis(&self, end: Duration) -> String {
        let steps = [10_u64, 30, 60, 120, 300, 600, 1200, 3600];
        let fits = |step: &u64| end.as_secs() / step <= 14;
        let step = steps.into_iter().find(fits).unwrap_or(7200);
        let mut text = String::new();
        let mut at = 0;
        while at <= end.as_secs() {
            let x = self.x(Duration::from_secs(at));
            let (low, label_y) = (self.y - 4.0, self.y + 10.0);
            let moment = format!("{:02}:{:02}", at / 60, at % 60);
            line(
                &mut text,
                format_args!(
                    "<path class=\"grid\" d=\"M{x:.1} {TOP}V{low:.1}\"/>\
                     <text class=\"dim\" x=\"{x:.1}\" y=\"{label_y:.1}\" text-anchor=\"middle\">{moment}</text>"
                ),
            );
            at += step;
        }
        text
    }
}

const fn css(end: End) -> &'static str {
    match end {
        End::Open => "claimed",
        End::Good => "good",
        End::OffTarget => "off",
        End::Failed => "failed",
        End::TakenBack => "taken",
        End::HandedBack => "back",
    }
}

fn legend(text: &mut String, y: f64) {
    let runs = [
        ("good", "ended on target"),
        ("off", "ended off target"),
        ("failed", "failed"),
        ("taken", "claim lost"),
        ("back", "given back"),
        ("claimed", "placed"),
        ("dead", "dead"),
        ("asleep", "asleep"),
        ("cut", "cut off"),
    ];
    let mut x = 8.0;
    for (class, words) in runs {
        let box_y = y - 9.0;
        let words_x = x + 14.0;
        line(
            text,
            format_args!(
                "<rect class=\"{class}\" x=\"{x:.0}\" y=\"{box_y:.1}\" width=\"10\" height=\"10\" rx=\"2\"/>\
                 <text class=\"dim\" x=\"{words_x:.0}\" y=\"{y:.1}\">{words}</text>"
            ),
        );
        x += 24.0 + 5.6 * f64::from(u32::try_from(words.len()).unwrap_or(0));
    }
    line(
        text,
        format_args!(
            "<text class=\"dim\" x=\"{x:.0}\" y=\"{y:.1}\">▲ push  ✕ strike  ┆ taken back</text>"
        ),
    );
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    text.write_fmt(what).unwrap_or_default();
    text.push('\n');
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
