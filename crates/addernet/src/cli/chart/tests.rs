use super::*;

#[test]
fn numbers_are_short() {
    let shown = [0.0, 3.369, -58.04, 1234.5, 0.5, 70.0, 2.3e-5].map(number);
    assert_eq!(shown, ["0", "3.37", "−58", "1234", "0.5", "70", "2.3e−5"]);
}

#[test]
fn ticks_are_round_and_few() {
    let ticks = |values| {
        let places = [0.0, 1.0];
        Scale { values, places }.ticks(4.0)
    };
    assert_eq!(ticks([0.0, 37.0]), [0.0, 10.0, 20.0, 30.0]);
    assert_eq!(ticks([-4.0, 9.0]), [0.0, 5.0]);
    assert!(ticks([0.0, 0.0]).len() < 3);
    assert!(ticks([0.0, f64::INFINITY]).len() <= 100);
}

#[test]
fn names_cannot_break_out_of_a_chart() {
    let rows = [(r#"<script>"&"#.to_owned(), Some(1.0))];
    let chart = bars("SNR", "dB", &rows);
    assert!(!chart.contains("<script>"), "{chart}");
    assert!(chart.contains("&lt;script&gt;&quot;&amp;"), "{chart}");
}

#[test]
fn charts_of_nothing_are_charts() {
    for chart in [
        bars("x", "dB", &[]),
        bars("x", "dB", &[("a".into(), None)]),
        bars(
            "x",
            "dB",
            &[("a".into(), Some(0.0)), ("b".into(), Some(-3.0))],
        ),
        lines("x", &[], &[], 0.9, [0.0, 1.0]),
    ] {
        assert!(chart.starts_with("<svg") && chart.ends_with("</svg>"));
        assert!(!chart.contains("NaN") && !chart.contains("inf"), "{chart}");
    }
}

fn method(points: &[(&str, f64, f64)]) -> Method {
    let choice = |&(bits, microjoules, share): &(&str, f64, f64)| Choice {
        bits: bits.to_owned(),
        microjoules,
        share,
    };
    Method {
        colour: 1,
        name: "a & b".to_owned(),
        choices: points.iter().map(choice).collect(),
    }
}

#[test]
fn the_front_leaves_out_what_is_beaten() {
    let points = [
        ("8", 2.0, 0.9),
        ("6", 1.5, 0.91),
        ("4", 1.0, 0.88),
        ("2", 0.5, 0.1),
    ];
    let chart = pareto("x", "µJ", &[method(&points)], 0.92, 0.85);
    let front = chart.split_once("class=\"front\" d=\"").unwrap().1;
    let front = front.split_once('"').unwrap().0;
    // From 4 bits up to 6; 8 bits cost more and give less; 2 bits are off the chart.
    assert_eq!(front.matches('V').count(), 1, "{front}");
    assert_eq!(chart.matches("<circle").count(), 3 + 1);
    assert!(
        chart.contains("2 (10 %)") && chart.contains("a &amp; b"),
        "{chart}"
    );
    let file = standalone(&chart, &[]);
    assert!(file.starts_with("<svg ") && file.ends_with("</svg>\n"));
    assert!(file.contains("xmlns=") && file.contains("width=\"720\" height=\""));
    // Two points on top of each other have their numbers above and below.
    let close = [("4", 1.0, 0.91), ("5", 1.0, 0.9102)];
    let chart = pareto("x", "µJ", &[method(&close)], 0.92, 0.85);
    let heights: Vec<f64> = chart
        .split("class=\"halo\"")
        .skip(2)
        .map(|text| text.split_once("y=\"").unwrap().1)
        .map(|text| text.split_once('"').unwrap().0.parse().unwrap())
        .collect();
    assert!((heights[0] - heights[1]).abs() > 9.0, "{chart}");
    let key = Key {
        mark: Mark::Area,
        class: "weights".to_owned(),
        name: "w & x".to_owned(),
    };
    let height = |file: &str| -> f64 {
        let (_, rest) = file.split_once("viewBox=\"0 0 360 ").unwrap();
        rest.split_once('"').unwrap().0.parse().unwrap()
    };
    let with_legend = standalone(&chart, &[key.clone(), key]);
    let without = standalone(&chart, &[]);
    assert_eq!(height(&with_legend), height(&without) + 32.0);
    assert_eq!(with_legend.matches("w &amp; x").count(), 2);
    assert_eq!(with_legend.matches("</svg>").count(), 1);
    let empty = pareto("x", "µJ", &[], 0.9, 0.9);
    assert!(!empty.contains("NaN") && !empty.contains("inf"), "{empty}");
}
