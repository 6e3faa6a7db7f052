//! Why a run goes wrong.

use addernet_graph::{Graph, Op};

use crate::recipe::Recipe;

/// The likely cause of a loss or a parameter that is not finite.
pub(crate) fn diverged(graph: &Graph, recipe: &Recipe) -> String {
    missing_norm(graph)
        .or_else(|| unusual_eta(recipe))
        .unwrap_or_else(|| {
            format!(
                "the learning rate {}; try lr={} or a longer warm-up (warmup-epochs={})",
                recipe.lr,
                recipe.lr / 4.0,
                recipe.warmup_epochs + 1.0
            )
        })
}

/// The likely cause of a loss that stays where guessing leaves it.
pub(crate) fn stalled(graph: &Graph, recipe: &Recipe) -> String {
    missing_norm(graph)
        .or_else(|| unusual_eta(recipe))
        .unwrap_or_else(|| {
            let lr = recipe.lr;
            match lr {
                _ if lr < 1e-3 => format!("the learning rate {lr} is too small; try lr=0.1"),
                _ if lr > 0.5 => format!("the learning rate {lr} is too large; try lr=0.1"),
                _ => format!(
                    "labels that do not belong to their images, or the learning rate {lr}: look at a few images, then \
                     try lr={}; stall-epochs=0 goes on regardless",
                    lr / 4.0
                ),
            }
        })
}

/// An adder layer whose outputs nothing normalises.
fn missing_norm(graph: &Graph) -> Option<String> {
    let normalised = |id| {
        let mut readers = graph.nodes().iter().filter(|n| n.inputs().contains(&id));
        readers.all(|reader| matches!(reader.op(), Op::BatchNorm { .. }))
    };
    let (_, node, _) = graph.adder_nodes().find(|(id, ..)| !normalised(*id))?;
    Some(format!(
        "the adder layer `{}` has no batch normalisation behind it: its outputs are large and negative, and only grow; add \
         one behind every adder layer",
        node.name()
    ))
}

fn unusual_eta(recipe: &Recipe) -> Option<String> {
    let eta = recipe.eta;
    (!(0.01..=2.0).contains(&eta)).then(|| {
        format!(
            "η = {eta} scales the gradients of all adder layers, and is far from the published 0.2; try eta=0.2"
        )
    })
}

#[cfg(test)]
mod tests {
    use addernet_graph::{ConvAttributes, FeatureShape, GraphBuilder, zoo::Architecture};

    use super::*;

    fn recipe(settings: &[&str]) -> Recipe {
        Recipe::load("shapes", settings).unwrap()
    }

    #[test]
    fn a_missing_norm_is_named_first() {
        let mut b = GraphBuilder::new("bare", FeatureShape::new(3, 8, 8));
        let conv = ConvAttributes::square(3, 4, 3, 1, 1);
        b.add("first", Op::AdderConv(conv), &["input"]).unwrap();
        b.add("relu", Op::Relu, &["first"]).unwrap();
        let graph = b.build().unwrap();
        for text in [
            diverged(&graph, &recipe(&["eta=50"])),
            stalled(&graph, &recipe(&[])),
        ] {
            assert!(text.contains("`first` has no batch norm"), "{text}");
        }
    }

    #[test]
    fn settings_far_from_the_usual_are_named() {
        let shape = FeatureShape::new(3, 32, 32);
        let graph = Architecture::ResNet20.graph(shape, 10).unwrap();
        let text = diverged(&graph, &recipe(&["eta=50"]));
        assert!(text.contains("η = 50"), "{text}");
        let text = diverged(&graph, &recipe(&["lr=3"]));
        assert!(text.contains("learning rate 3;"), "{text}");
        let text = stalled(&graph, &recipe(&["lr=0.00001"]));
        assert!(text.contains("too small"), "{text}");
        let text = stalled(&graph, &recipe(&["lr=0.1"]));
        assert!(text.contains("labels"), "{text}");
    }
}
