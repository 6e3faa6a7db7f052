use addernet_data::{DatasetKind, Split};
use addernet_quant::{Reconstruction, Tuning};

use super::*;
use crate::quantize::{MethodSettings, Quantization, QuantizeOptions, quantize};
use crate::testing::lenet;

/// Few images and no tuning, so that the tests are quick.
fn run(budget: f64) -> Result<Quantization, Error> {
    within(Budget::AverageBits(budget))
}

fn within(budget: Budget) -> Result<Quantization, Error> {
    listened(budget, &())
}

/// Fails the test if any layer's sensitivity is measured.
struct NoSensitivity;

impl Progress for NoSensitivity {
    fn begin(&self, stage: Stage, _: usize) {
        assert_eq!(stage, Stage::Calibration);
    }
}

fn listened(budget: Budget, progress: &dyn Progress) -> Result<Quantization, Error> {
    let mut method = Reconstruction::new(4, 4);
    method.tuning = Tuning {
        steps: 0,
        ..method.tuning
    };
    let model = lenet();
    let training = Images::open(&model, DatasetKind::Shapes, None, Split::Train, None)?;
    let options = QuantizeOptions {
        calibration_images: 64,
        budget: Some(budget),
        ..QuantizeOptions::new(MethodSettings::Reconstruction(method))
    };
    let kernel = addernet_kernels::select(None)?;
    quantize(&model, &training, &options, kernel, progress)
}

#[test]
fn a_whole_number_of_bits_does_not_lose_more_than_the_same_for_all() {
    let made = run(3.0).unwrap();
    let allocation = made.allocation.as_ref().unwrap();
    assert!(allocation.average_bits <= 3.0 + 1e-9);
    assert!(allocation.expected_kl <= allocation.uniform_kl);
    // What was chosen is what the layers have, and what the file says.
    let recorded = made.result().provenance().reconstruction.as_ref().unwrap();
    let mut terms = [0.0; 2];
    for layer in &allocation.layers {
        let quantized = &made.result().layers()[&layer.node];
        assert_eq!(quantized.weight_format.bits, layer.bits);
        assert_eq!(quantized.activation_format.bits, layer.bits);
        assert_eq!(recorded.layer_bits[&layer.node], [layer.bits; 2]);
        terms[0] += f64::from(layer.bits) * layer.terms as f64;
        terms[1] += layer.terms as f64;
    }
    assert!((allocation.average_bits - terms[0] / terms[1]).abs() < 1e-9);
    let most = allocation.layers.iter().map(|l| l.bits).max().unwrap();
    assert_eq!(made.result().provenance().weight_bits, most);
}

#[test]
fn more_budget_expects_less_loss() {
    let expected = |budget| run(budget).unwrap().allocation.unwrap().expected_kl;
    let (few, some, all) = (expected(2.0), expected(3.5), expected(8.0));
    assert!(few > some && some > all, "{few} {some} {all}");
}

#[test]
fn bits_beyond_the_measured_ones_quarter_the_loss() {
    let allocation = run(8.0).unwrap().allocation.unwrap();
    for layer in &allocation.layers {
        assert_eq!((layer.bits, layer.kl.len()), (8, 7));
        assert_eq!(layer.kl[6], layer.kl[2] / 256.0);
        assert!(layer.kl[0] > layer.kl[2], "{layer:?}");
    }
}

#[test]
fn impossible_budgets_are_refused() {
    for budget in [1.9, 8.1, f64::NAN, f64::INFINITY] {
        let error = run(budget).unwrap_err().to_string();
        assert!(error.contains("2 to 8"), "{error}");
    }
}

#[test]
fn an_energy_budget_is_kept() {
    let model = EnergyModel::named(EnergyModel::DEFAULT).unwrap();
    let energies = LayerEnergies::new(lenet().graph(), &model, 1).unwrap();
    let uniform = |bits: u8| {
        let nodes = energies.nodes().map(|node| (node.to_owned(), [bits; 2]));
        energies.total(&nodes.collect()).unwrap()
    };
    let budget = |limit: Energy| Budget::Energy {
        limit,
        model: Box::new(model.clone()),
    };
    // Between the network with 3 and the one with 4 bits.
    let between = (uniform(3).picojoules() + uniform(4).picojoules()) / 2.0;
    let limit = Energy::from_picojoules(between);
    assert_eq!(budget(limit).uniform_bits(lenet().graph()).unwrap(), 3);
    let allocation = within(budget(limit)).unwrap().allocation.unwrap();
    assert!(energies.total(&allocation.layer_bits()).unwrap() <= limit);
    assert!(allocation.expected_kl <= allocation.uniform_kl);

    let little = Energy::from_picojoules(uniform(2).picojoules() * 0.9);
    let refused = listened(budget(little), &NoSensitivity);
    let error = refused.unwrap_err().to_string();
    assert!(error.contains(&uniform(2).to_string()), "{error}");
}
