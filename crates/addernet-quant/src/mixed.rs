//! Mixed precision: which layer gets how many bits.

/// One way to run a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// What it takes of the budget, in the budget's unit; finite, at least 0.
    pub cost: f64,
    /// What it loses, such as the divergence at the logits when this layer alone is quantized; finite.
    pub loss: f64,
}

/// Combinations kept after each layer; of more, the best within each of so many slices of the cost.
const KEPT: usize = 20_000;

/// By how much a sum of costs may exceed the budget through rounding, relative to it.
const ROUNDING: f64 = 1e-9;

/// Combinations of choices for the layers so far.
#[derive(Clone, Copy)]
struct Combination {
    cost: f64,
    loss: f64,
    /// Its place among the combinations of the layers before, and this layer's choice.
    before: usize,
    choice: usize,
}

/// Chooses one way for each layer so that their costs together stay within `budget` and their losses together
/// are the least: the multiple-choice knapsack problem, solved by dynamic programming over the
/// combinations that no other beats in both.
///
/// Losses are added up, as if layers did not act on each other.
///
/// Returns each layer's choice, or `None` if even the cheapest are beyond the budget. The solution is exact as
/// long as no more than 20,000 combinations are undominated, which always holds for whole bits.
///
/// ```
/// use addernet_quant::{Choice, allocate};
/// let layer = |losses: [f64; 3]| -> Vec<Choice> {
///     (2..).zip(losses).map(|(bits, loss)| Choice { cost: f64::from(bits), loss }).collect()
/// };
/// // The second layer suffers more: it gets the bits.
/// let layers = [layer([0.2, 0.1, 0.05]), layer([0.8, 0.3, 0.1])];
/// assert_eq!(allocate(&layers, 6.0), Some(vec![0, 2]));
/// assert_eq!(allocate(&layers, 3.0), None);
/// ```
pub fn allocate(layers: &[Vec<Choice>], budget: f64) -> Option<Vec<usize>> {
    let limit = budget * (1.0 + ROUNDING);
    // What the layers from each one on cost at least: combinations that cannot be completed are dropped.
    let mut least = vec![0.0; layers.len() + 1];
    for (index, choices) in layers.iter().enumerate().rev() {
        let cheapest = choices.iter().map(|c| c.cost).fold(f64::INFINITY, f64::min);
        least[index] = least[index + 1] + cheapest;
    }
    let mut stages: Vec<Vec<Combination>> = Vec::with_capacity(layers.len());
    let start = [Combination {
        cost: 0.0,
        loss: 0.0,
        before: 0,
        choice: 0,
    }];
    for (index, choices) in layers.iter().enumerate() {
        let before = stages.last().map_or(&start[..], Vec::as_slice);
        let next = before.iter().enumerate().flat_map(|(place, so_far)| {
            let extended = choices.iter().enumerate();
            extended.map(move |(choice, &Choice { cost, loss })| Combination {
                cost: so_far.cost + cost,
                loss: so_far.loss + loss,
                before: place,
                choice,
            })
        });
        let affordable = next
            .filter(|c| c.cost + least[index + 1] <= limit)
            .collect();
        stages.push(thinned(undominated(affordable), limit));
    }
    let last = stages.last().map_or(&start[..], Vec::as_slice);
    let mut best = (0..last.len()).min_by(|&a, &b| last[a].loss.total_cmp(&last[b].loss))?;
    let mut chosen = Vec::with_capacity(layers.len());
    for stage in stages.iter().rev() {
        chosen.push(stage[best].choice);
        best = stage[best].before;
    }
    chosen.reverse();
    Some(chosen)
}

/// Those for which no other is both as cheap and as good, by rising cost.
fn undominated(mut combinations: Vec<Combination>) -> Vec<Combination> {
    combinations.sort_by(|a, b| a.cost.total_cmp(&b.cost).then(a.loss.total_cmp(&b.loss)));
    let mut least = f64::INFINITY;
    combinations.retain(|c| {
        let better = c.loss < least;
        if better {
            least = c.loss;
        }
        better
    });
    combinations
}

/// At most [`KEPT`] of an undominated front: the last, so the best, of each slice of the cost, and the cheapest
/// of all.
fn thinned(front: Vec<Combination>, limit: f64) -> Vec<Combination> {
    if front.len() <= KEPT {
        return front;
    }
    let slice = |c: &Combination| (c.cost / limit * (KEPT - 1) as f64) as usize;
    let mut kept = vec![front[0]];
    for pair in front.windows(2) {
        if slice(&pair[0]) != slice(&pair[1]) {
            kept.push(pair[0]);
        }
    }
    kept.extend(front.last());
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The least loss within the budget, by trying everything.
    fn reference(layers: &[Vec<Choice>], budget: f64) -> Option<f64> {
        match layers.split_first() {
            None => Some(0.0),
            Some((choices, rest)) => choices
                .iter()
                .filter(|c| c.cost <= budget)
                .filter_map(|c| Some(c.loss + reference(rest, budget - c.cost)?))
                .min_by(f64::total_cmp),
        }
    }

    fn totals(layers: &[Vec<Choice>], chosen: &[usize]) -> (f64, f64) {
        let picked = layers.iter().zip(chosen).map(|(choices, &c)| choices[c]);
        picked.fold((0.0, 0.0), |(cost, loss), c| (cost + c.cost, loss + c.loss))
    }

    proptest! {
        #[test]
        fn finds_what_trying_everything_finds(
            problem in prop::collection::vec(
                prop::collection::vec((0u8..20, 0u8..100), 1..5),
                0..6,
            ),
            budget in 0u8..80,
        ) {
            // Whole numbers: no rounding anywhere.
            let layers: Vec<Vec<Choice>> = problem
                .iter()
                .map(|layer| {
                    let choice = |&(cost, loss): &(u8, u8)| Choice {
                        cost: f64::from(cost),
                        loss: f64::from(loss),
                    };
                    layer.iter().map(choice).collect()
                })
                .collect();
            let budget = f64::from(budget);
            let found = allocate(&layers, budget);
            let best = reference(&layers, budget);
            prop_assert_eq!(found.is_some(), best.is_some());
            if let (Some(found), Some(best)) = (found, best) {
                let (cost, loss) = totals(&layers, &found);
                prop_assert!(cost <= budget);
                prop_assert_eq!(loss, best);
            }
        }
    }

    #[test]
    fn many_layers_with_costs_of_all_sizes_stay_within_the_budget() {
        let layers: Vec<Vec<Choice>> = (0..60)
            .map(|layer| {
                (2..=8)
                    .map(|bits| Choice {
                        cost: f64::from(bits) * (1.0 + f64::from(layer * 7919 % 101) / 97.0),
                        loss: f64::from(layer % 7 + 1) * 0.25f64.powi(bits),
                    })
                    .collect()
            })
            .collect();
        let uniform = totals(&layers, &vec![2; layers.len()]);
        let chosen = allocate(&layers, uniform.0).unwrap();
        let (cost, loss) = totals(&layers, &chosen);
        assert!(cost <= uniform.0 * (1.0 + 1e-9));
        assert!(loss < uniform.1, "{loss} against {}", uniform.1);
    }

    #[test]
    fn a_budget_met_exactly_is_met() {
        let layers = vec![
            vec![Choice {
                cost: 0.1,
                loss: 1.0
            }];
            10
        ];
        assert!(allocate(&layers, 1.0).is_some());
        assert!(allocate(&layers, 0.99).is_none());
    }

    #[test]
    fn no_layers_need_nothing() {
        assert_eq!(allocate(&[], 0.0), Some(Vec::new()));
        assert_eq!(allocate(&[Vec::new()], 1.0), None);
    }
}
