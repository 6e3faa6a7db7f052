//! Stochastic gradient descent with momentum, with a state that can be stored.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};

use crate::network::Network;

/// SGD as PyTorch has it: `v ← momentum·v + ∂w + decay·w`, `w ← w − lr·v`, dampening 0.
///
/// Burn's own keeps its state in a record that shows neither names nor shapes, and trusts what it reads back; a
/// checkpoint needs both.
#[derive(Debug)]
pub(crate) struct Sgd {
    momentum: f64,
    weight_decay: f64,
    /// Flattened.
    velocities: BTreeMap<ParamId, Tensor<1>>,
}

impl Sgd {
    pub(crate) fn new(momentum: f64, weight_decay: f64) -> Self {
        Self {
            momentum,
            weight_decay,
            velocities: BTreeMap::new(),
        }
    }

    /// One step against the gradients.
    pub(crate) fn step(&mut self, lr: f64, network: Network, grads: GradientsParams) -> Network {
        let mut step = Step {
            sgd: self,
            lr,
            grads,
        };
        network.map(&mut step)
    }

    /// The velocities under their parameters' names; none before the first step.
    pub(crate) fn state(&self, network: &Network) -> BTreeMap<String, Vec<f32>> {
        let values = |id: &ParamId| {
            let data = self.velocities.get(id)?.to_data();
            Some(data.as_slice::<f32>().ok()?.to_vec())
        };
        let learned = network.learned().into_iter();
        learned
            .filter_map(|(name, id)| Some((name, values(&id)?)))
            .collect()
    }

    /// Takes up velocities that [`state`](Self::state) gave.
    pub(crate) fn restore(
        &mut self,
        network: &Network,
        state: BTreeMap<String, Vec<f32>>,
        device: &Device,
    ) {
        let ids: BTreeMap<String, ParamId> = network.learned().into_iter().collect();
        self.velocities = state
            .into_iter()
            .filter_map(|(name, values)| {
                let len = values.len();
                let data = TensorData::new(values, [len]);
                Some((*ids.get(&name)?, Tensor::from_data(data, device)))
            })
            .collect();
    }
}

struct Step<'s> {
    sgd: &'s mut Sgd,
    lr: f64,
    grads: GradientsParams,
}

impl ModuleMapper for Step<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        let Some(grad) = self.grads.remove::<D>(id) else {
            return Param::from_mapped_value(id, tensor, mapper);
        };
        let shape = tensor.shape();
        let weights = tensor.inner().flatten::<1>(0, D - 1);
        let grad = grad.flatten::<1>(0, D - 1) + weights.clone().mul_scalar(self.sgd.weight_decay);
        let velocity = match self.sgd.velocities.remove(&id) {
            Some(velocity) => velocity.mul_scalar(self.sgd.momentum) + grad,
            None => grad,
        };
        let weights = weights - velocity.clone().mul_scalar(self.lr);
        self.sgd.velocities.insert(id, velocity);
        let tensor = Tensor::<D>::from_inner(weights.reshape(shape)).require_grad();
        Param::from_mapped_value(id, tensor, mapper)
    }
}
