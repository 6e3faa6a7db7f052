//! The parameters that training starts from.

use addernet_graph::{Graph, Model, Op, Parameters};
use ndarray::{ArrayD, IxDyn};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::TrainError;

/// A model of `graph` with the authors' initial parameters, a function of `seed` alone.
///
/// | layer | weights | bias |
/// |---|---|---|
/// | adder convolution | normal, deviation 1 | 0 |
/// | convolution | normal, deviation √(2 / (kernel area · out channels)) (He et al. 2015, fan-out) | 0 |
/// | linear | uniform in ±1/√in (PyTorch's default) | the same |
/// | BN | 1, running mean 0, running variance 1 | 0 |
///
/// # Errors
/// If a shape of the graph has too many elements for memory's address range.
pub fn initial_model(graph: Graph, seed: u64) -> Result<Model, TrainError> {
    let mut parameters = Parameters::new();
    let mut index = 0;
    for node in graph.nodes() {
        for ((suffix, shape), (name, _)) in node.op().parameters().iter().zip(node.parameters()) {
            let mut random = Random::new(seed, index);
            index += 1;
            let draw: Box<dyn FnMut() -> f32> = match (node.op(), *suffix) {
                (Op::AdderConv(_), "adder") => Box::new(move || random.normal() as f32),
                (Op::Conv(conv), "weight") => {
                    let fan_out = conv.kernel[0] * conv.kernel[1] * conv.out_channels;
                    let deviation = (2.0 / fan_out as f64).sqrt();
                    Box::new(move || (deviation * random.normal()) as f32)
                }
                (Op::Linear { in_features, .. }, _) => {
                    let bound = 1.0 / (*in_features as f64).sqrt();
                    Box::new(move || (bound * random.symmetric()) as f32)
                }
                (Op::BatchNorm { .. }, "weight" | "running_var") => Box::new(|| 1.0),
                _ => Box::new(|| 0.0),
            };
            let array = ArrayD::from_shape_simple_fn(IxDyn(shape), draw);
            parameters.insert(name, array);
        }
    }
    Ok(Model::new(graph, parameters)?)
}

/// A stream of random numbers for one parameter.
struct Random(ChaCha8Rng);

impl Random {
    fn new(seed: u64, index: u64) -> Self {
        /// Tells these streams from those of other crates, whose purposes are small numbers.
        const PURPOSE: u64 = u64::from_le_bytes(*b"initials");
        let mut key = [0; 32];
        for (bytes, word) in key.chunks_exact_mut(8).zip([seed, PURPOSE, index, 0]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Uniform in [−1, 1).
    fn symmetric(&mut self) -> f64 {
        2.0 * self.0.random::<f64>() - 1.0
    }

    /// Normal with mean 0 and deviation 1 (Marsaglia's polar method).
    fn normal(&mut self) -> f64 {
        loop {
            let (u, v) = (self.symmetric(), self.symmetric());
            let s = u * u + v * v;
            if s > 0.0 && s < 1.0 {
                return u * (-2.0 * s.ln() / s).sqrt();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use addernet_graph::{FeatureShape, zoo::Architecture};

    use super::*;

    fn model(seed: u64) -> Model {
        let graph = Architecture::ResNet20.graph(FeatureShape::new(3, 32, 32), 10);
        initial_model(graph.unwrap(), seed).unwrap()
    }

    #[test]
    fn distributions_are_the_authors() {
        let model = model(0);
        let deviation = |name: &str| {
            let values = &model.parameters()[name];
            let mean = values.mean().unwrap();
            let variance = values.mapv(|v| (v - mean).powi(2)).mean().unwrap();
            (mean, variance.sqrt())
        };
        // 36,864 values: the mean's deviation is 0.005, the deviation's half of that.
        let (mean, one) = deviation("layer3.1.conv1.adder");
        assert!(
            mean.abs() < 0.03 && (one - 1.0).abs() < 0.02,
            "{mean} {one}"
        );
        let (_, stem) = deviation("conv1.weight");
        let expected = (2.0_f32 / 144.0).sqrt();
        assert!((stem / expected - 1.0).abs() < 0.15, "{stem} {expected}");
        assert_eq!(deviation("bn1.running_var"), (1.0, 0.0));
        assert_eq!(deviation("bn1.bias"), (0.0, 0.0));
    }

    #[test]
    fn the_seed_decides() {
        let (a, b) = (model(1), model(2));
        assert_eq!(a.parameters(), model(1).parameters());
        assert_ne!(a.parameters(), b.parameters());
        // Layers of the same shape differ.
        assert_ne!(
            a.parameters()["layer1.0.conv1.adder"],
            a.parameters()["layer1.0.conv2.adder"]
        );
    }
}
