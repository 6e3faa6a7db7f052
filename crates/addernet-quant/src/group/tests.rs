use proptest::prelude::*;

use super::*;

fn cost(ranges: &[f32], assigned: &[usize]) -> f64 {
    let groups = assigned.iter().max().map_or(0, |&g| g + 1);
    (0..groups)
        .map(|g| {
            let values: Vec<f64> = ranges
                .iter()
                .zip(assigned)
                .filter(|&(_, &a)| a == g)
                .map(|(&r, _)| f64::from(r))
                .collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            values.iter().map(|v| (v - mean).powi(2)).sum::<f64>()
        })
        .sum()
}

/// The cheapest assignment by exhaustion.
fn cheapest(ranges: &[f32], groups: usize) -> f64 {
    let mut best = f64::INFINITY;
    for code in 0..groups.pow(ranges.len() as u32) {
        let mut rest = code;
        let assigned: Vec<usize> = ranges
            .iter()
            .map(|_| {
                let g = rest % groups;
                rest /= groups;
                g
            })
            .collect();
        let value = cost(ranges, &assigned);
        if value < best {
            best = value;
        }
    }
    best
}

proptest! {
    #[test]
    fn grouping_is_optimal(
        ranges in prop::collection::vec(0.0f32..70.0, 4..8),
        groups in 1usize..4,
    ) {
        let assigned = group_kernels("n", &ranges, groups).unwrap();
        let (found, best) = (cost(&ranges, &assigned), cheapest(&ranges, groups));
        prop_assert!(found <= best * (1.0 + 1e-6) + 1e-9, "{found} against {best}");
    }

    #[test]
    fn groups_are_intervals_in_rising_order(
        ranges in prop::collection::vec(0.0f32..70.0, 1..200),
        groups in 1usize..9,
    ) {
        prop_assume!(groups <= ranges.len());
        let assigned = group_kernels("n", &ranges, groups).unwrap();
        let mut pairs: Vec<(f32, usize)> = ranges.iter().copied().zip(assigned).collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        prop_assert!(pairs.windows(2).all(|p| p[0].1 <= p[1].1));
        prop_assert!(pairs.last().unwrap().1 < groups);
    }
}

#[test]
fn equal_ranges_share_a_group() {
    assert_eq!(
        group_kernels("n", &[3.0, 1.0, 3.0, 1.0], 4).unwrap(),
        [1, 0, 1, 0]
    );
    assert_eq!(group_kernels("n", &[2.0; 5], 3).unwrap(), [0; 5]);
}

#[test]
fn absurd_group_counts_are_errors() {
    let error = group_kernels("conv", &[1.0, 2.0], 3)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "layer `conv`: 3 groups, but it has only 2 kernels: ask for at most that many groups"
    );
    assert!(
        group_kernels("conv", &[1.0], 0)
            .unwrap_err()
            .to_string()
            .starts_with("groups: must")
    );
    assert!(group_kernels("conv", &[1.0; 300], 256).is_err());
}
