//! Accuracy against energy: a point per way to quantize, and the front that no other point beats.

use std::fmt::Write;

use super::{Anchor, Scale, Svg, WIDTH, number};

/// The points of one method.
pub(crate) struct Method {
    /// Number of its colour.
    pub(crate) colour: usize,
    /// Its name.
    pub(crate) name: String,
    /// Its points.
    pub(crate) choices: Vec<Choice>,
}

/// One way to quantize.
pub(crate) struct Choice {
    /// Bits, as they are written beside the point.
    pub(crate) bits: String,
    /// Energy per image in µJ.
    pub(crate) microjoules: f64,
    /// Accuracy, 0 to 1.
    pub(crate) share: f64,
}

const LEFT: f64 = 60.0;
const RIGHT: f64 = WIDTH - 12.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 236.0;
/// Height of a line of the legend.
const LINE: f64 = 16.0;

/// Points of all methods against energy, the float model's accuracy as a reference, accuracies from `lowest` on.
/// What lies below stands at the lower edge with an arrow, its accuracy in the legend. The legend is part of the chart.
pub(crate) fn pareto(
    label: &str,
    unit: &str,
    methods: &[Method],
    float: f64,
    lowest: f64,
) -> String {
    let points = || methods.iter().flat_map(|m| &m.choices);
    let most = points().fold(0.0, |most: f64, p| most.max(p.microjoules));
    let highest = points().fold(float, |high, p| high.max(p.share));
    let legend = BOTTOM + 46.0;
    let entries = legend_entries(methods, lowest);
    let mut svg = Svg::new(legend + LINE * (entries.len() as f64 + 1.0), label);
    let x = Scale {
        values: [0.0, if most > 0.0 { 1.06 * most } else { 1.0 }],
        places: [LEFT, RIGHT],
    };
    let margin = (0.06 * (highest - lowest)).max(1e-4);
    let y = Scale {
        values: [100.0 * (lowest - margin), 100.0 * (highest + margin)],
        places: [BOTTOM, TOP],
    };
    for tick in y.ticks(6.0) {
        let place = y.place(tick);
        svg.line("grid", [LEFT, place], [RIGHT, place]);
        svg.text(
            "tick",
            [LEFT - 4.0, place + 4.0],
            Anchor::End,
            &(number(tick) + " %"),
        );
    }
    for tick in x.ticks(6.0) {
        let place = x.place(tick);
        svg.line("axis", [place, BOTTOM], [place, BOTTOM + 3.0]);
        svg.text(
            "tick",
            [place, BOTTOM + 15.0],
            Anchor::Middle,
            &number(tick),
        );
    }
    svg.line("axis", [LEFT, BOTTOM], [RIGHT, BOTTOM]);
    let reference = y.place(100.0 * float);
    svg.line("bound", [LEFT, reference], [RIGHT, reference]);
    let text = format!("float {:.2} %", 100.0 * float);
    svg.text("halo", [LEFT + 4.0, reference - 4.0], Anchor::Start, &text);
    front(
        &mut svg,
        points(),
        |p| [x.place(p.microjoules), y.place(100.0 * p.share)],
        lowest,
    );
    // Points over lines, numbers where neither a point nor another number is.
    let marks: Vec<(usize, &Choice, [f64; 2])> = methods
        .iter()
        .flat_map(|method| method.choices.iter().map(|choice| (method.colour, choice)))
        .map(|(colour, choice)| {
            let y = match choice.share < lowest {
                true => BOTTOM - 5.0,
                false => y.place(100.0 * choice.share),
            };
            (colour, choice, [x.place(choice.microjoules), y])
        })
        .collect();
    let mut taken: Vec<Area> = marks.iter().map(|(.., at)| Area::of_point(*at)).collect();
    for (_, choice, at) in &marks {
        let (place, area) = label_place(*at, &choice.bits, &taken);
        svg.text("halo", place, Anchor::Middle, &choice.bits);
        taken.push(area);
    }
    for (colour, choice, [x, y]) in &marks {
        let class = format!("dot c{colour}");
        match choice.share < lowest {
            true => svg.path(&class, &format!("M{:.1} {:.1}h8l-4 7Z", x - 4.0, y - 3.0)),
            false => svg.dot(&class, [*x, *y]),
        }
    }
    let centre = (LEFT + RIGHT) / 2.0;
    svg.text("title", [centre, BOTTOM + 31.0], Anchor::Middle, unit);
    svg.vertical_text((TOP + BOTTOM) / 2.0, "top-1 accuracy");
    let note = "numbers: bits; dashed: the best up to an energy";
    svg.text("tick", [LEFT, legend + 4.0], Anchor::Start, note);
    for (i, (colour, text)) in entries.iter().enumerate() {
        let y = legend + LINE * (i as f64 + 1.0) + 6.0;
        if let Some(colour) = colour {
            svg.dot(&format!("dot c{colour}"), [LEFT, y - 4.0]);
        }
        svg.text("label", [LEFT + 8.0, y], Anchor::Start, text);
    }
    svg.finish()
}

/// The legend's lines: methods with their colours, and below each its accuracies that are off the chart.
fn legend_entries(methods: &[Method], lowest: f64) -> Vec<(Option<usize>, String)> {
    /// Accuracies that fit into a line.
    const PER_LINE: usize = 4;
    let mut entries = Vec::new();
    for method in methods {
        entries.push((Some(method.colour), method.name.clone()));
        let below = method.choices.iter().filter(|c| c.share < lowest);
        let below: Vec<String> = below
            .map(|c| format!("{} ({:.0} %)", c.bits, 100.0 * c.share))
            .collect();
        for (i, part) in below.chunks(PER_LINE).enumerate() {
            let start = if i == 0 { "below: " } else { "" };
            entries.push((None, format!("{start}{}", part.join(", "))));
        }
    }
    entries
}

/// A rectangle: left, upper, right and lower edge.
#[derive(Clone, Copy)]
struct Area([f64; 4]);

impl Area {
    fn of_point([x, y]: [f64; 2]) -> Self {
        Area([x - 3.5, y - 3.5, x + 3.5, y + 3.5])
    }

    /// Of a text in the middle of whose base line `place` is.
    fn of_text([x, y]: [f64; 2], text: &str) -> Self {
        let half = 3.4 * text.chars().count() as f64;
        Area([x - half, y - 9.0, x + half, y + 0.5])
    }

    /// How much of it another one covers.
    fn overlap(self, other: Self) -> f64 {
        let Area([left, top, right, bottom]) = self;
        let Area(other) = other;
        let width = right.min(other[2]) - left.max(other[0]);
        let height = bottom.min(other[3]) - top.max(other[1]);
        width.max(0.0) * height.max(0.0)
    }
}

/// Where a point's number covers least of what is there: above, below, right or left.
fn label_place(at: [f64; 2], text: &str, taken: &[Area]) -> ([f64; 2], Area) {
    let [x, y] = at;
    let aside = 5.5 + 3.4 * text.chars().count() as f64;
    let places = [
        [x, y - 6.0],
        [x, y + 14.0],
        [x + aside, y + 4.0],
        [x - aside, y + 4.0],
    ];
    let covered = |place: [f64; 2]| -> f64 {
        let area = Area::of_text(place, text);
        let below_axis = (area.0[3] - BOTTOM).max(0.0) * (area.0[2] - area.0[0]);
        below_axis + taken.iter().map(|t| area.overlap(*t)).sum::<f64>()
    };
    let best = places.into_iter().fold(places[0], |best, place| {
        if covered(place) + 1e-9 < covered(best) {
            place
        } else {
            best
        }
    });
    (best, Area::of_text(best, text))
}

/// Steps along the points that are more accurate than all cheaper ones.
fn front<'a>(
    svg: &mut Svg,
    points: impl Iterator<Item = &'a Choice>,
    place: impl Fn(&Choice) -> [f64; 2],
    lowest: f64,
) {
    let mut sorted: Vec<&Choice> = points.filter(|p| p.share >= lowest).collect();
    sorted.sort_by(|a, b| {
        a.microjoules
            .total_cmp(&b.microjoules)
            .then(b.share.total_cmp(&a.share))
    });
    let (mut path, mut best) = (String::new(), f64::NEG_INFINITY);
    for point in sorted {
        if point.share <= best {
            continue;
        }
        best = point.share;
        let [x, y] = place(point);
        // Writing to a string does not fail.
        let _ = match path.is_empty() {
            true => write!(path, "M{x:.1} {y:.1}"),
            false => write!(path, "H{x:.1}V{y:.1}"),
        };
    }
    if !path.is_empty() {
        path += &format!("H{RIGHT:.1}");
        svg.path("front", &path);
    }
}
