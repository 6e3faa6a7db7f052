//! What a model costs per image.

use addernet_cost::{AdderForm, Comparison, EnergyModel, Precision, compare, with_input};
use addernet_graph::FeatureShape;
use serde::Serialize;

use crate::any_model::AnyModel;
use crate::error::Error;

/// How to count.
#[derive(Clone, Debug, PartialEq)]
pub struct CostOptions {
    /// What operations and memory accesses cost.
    pub energy_model: EnergyModel,
    /// How integer adder layers compute Σ|x − w|.
    pub form: AdderForm,
    /// Image size `[height, width]` to count for; none: the network's own.
    pub image: Option<[usize; 2]>,
    /// Widths to count besides those that the model has: as if all adder layers had codes of so many bits.
    pub bits: Vec<u8>,
    /// Groups of different scales per layer at these widths.
    pub groups: usize,
}

impl CostOptions {
    /// The model as it is, priced with `energy_model`.
    pub fn new(energy_model: EnergyModel) -> Self {
        Self {
            energy_model,
            form: AdderForm::default(),
            image: None,
            bits: Vec::new(),
            groups: 1,
        }
    }
}

/// What a model costs per image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CostReport {
    /// Shape of the image.
    pub input: FeatureShape,
    /// What operations and memory accesses cost.
    pub energy_model: EnergyModel,
    /// How integer adder layers compute Σ|x − w|.
    pub form: AdderForm,
    /// Groups of different scales that were supposed at widths which the model does not have.
    pub supposed_groups: usize,
    /// The model as it is, then at the widths asked for; each beside the same network as a CNN.
    pub precisions: Vec<Comparison>,
}

/// Counts operations, bytes and energy of `model` for one image, and those of the same network as a CNN.
///
/// # Errors
/// If the network does not fit images of the size asked for, or bits or groups are out of range.
pub fn cost(model: &AnyModel, options: &CostOptions) -> Result<CostReport, Error> {
    let own = model.graph();
    let graph = match options.image {
        Some([height, width]) => with_input(
            own,
            FeatureShape::new(own.input_shape().channels, height, width),
        )?,
        None => own.clone(),
    };
    let as_it_is = match model {
        AnyModel::Float(_) => Precision::Float,
        AnyModel::Quantized(quantized) => Precision::of(quantized),
    };
    let mut precisions = vec![as_it_is];
    for &bits in &options.bits {
        precisions.push(Precision::uniform(&graph, bits, bits, options.groups)?);
    }
    let compare = |precision| compare(&graph, precision, &options.energy_model, options.form);
    Ok(CostReport {
        input: graph.input_shape(),
        energy_model: options.energy_model.clone(),
        form: options.form,
        supposed_groups: options.groups,
        precisions: precisions.iter().map(compare).collect::<Result<_, _>>()?,
    })
}
