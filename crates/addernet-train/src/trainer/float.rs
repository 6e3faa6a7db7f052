//! Training in floating point, on Burn.

use std::collections::BTreeMap;

use addernet_data::Batch;
use addernet_graph::{Graph, Model};
use addernet_kernels::AdderKernelF32;
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::trainee::{At, Outcome, State, Trained, Trainee};
use crate::error::TrainError;
use crate::evaluate::largest;
use crate::network::{Network, NetworkOptions};
use crate::recipe::Recipe;
use crate::sgd::Sgd;

/// A network with its optimizer.
pub(super) struct FloatTrainee {
    network: Network,
    sgd: Sgd,
    loss: CrossEntropyLoss,
    device: Device,
}

impl FloatTrainee {
    pub(super) fn new(
        recipe: &Recipe,
        model: &Model,
        velocities: BTreeMap<String, Vec<f32>>,
        kernel: &'static dyn AdderKernelF32,
    ) -> Result<Self, TrainError> {
        let device = Device::flex().autodiff();
        let options = NetworkOptions {
            eta: Some(recipe.eta),
            bn_momentum: recipe.bn_momentum,
            kernel,
        };
        let network = Network::from_model(model, options, &device)?;
        let mut sgd = Sgd::new(recipe.momentum, recipe.weight_decay);
        sgd.restore(&network, velocities, &device.clone().inner());
        let smoothing = (recipe.label_smoothing > 0.0).then_some(recipe.label_smoothing);
        let loss = CrossEntropyLossConfig::new()
            .with_smoothing(smoothing)
            .init(&device);
        Ok(Self {
            network,
            sgd,
            loss,
            device,
        })
    }

    /// The network as it is now.
    pub(super) fn model(&self) -> Result<Model, TrainError> {
        self.network.to_model()
    }

    fn tensors(&self, batch: &Batch) -> (Tensor<4>, Tensor<1, Int>) {
        let (n, height, width, channels) = batch.images.dim();
        let images: Vec<f32> = match batch.images.as_slice() {
            Some(values) => values.to_vec(),
            None => batch.images.iter().copied().collect(),
        };
        let labels: Vec<i64> = batch.labels.iter().map(|&label| label.into()).collect();
        let images = TensorData::new(images, [n, height, width, channels]);
        (
            Tensor::from_data(images, &self.device),
            Tensor::from_data(TensorData::new(labels, [n]), &self.device),
        )
    }
}

impl Trainee for FloatTrainee {
    fn graph(&self) -> &Graph {
        self.network.graph()
    }

    fn step(&mut self, batch: &Batch, at: At) -> Result<Outcome, TrainError> {
        let (images, labels) = self.tensors(batch);
        let logits = self.network.forward(images);
        let values = logits.to_data();
        let loss = self.loss.forward(logits, labels);
        let value = loss.clone().into_scalar::<f32>();
        let classes = self.network.graph().classes();
        // Burn gives f32 for f32.
        let rows = values
            .as_slice::<f32>()
            .unwrap_or(&[])
            .chunks_exact(classes);
        let correct = rows
            .zip(&batch.labels)
            .filter(|(row, label)| largest(row) == **label as usize)
            .count();
        if value.is_finite() {
            let grads = GradientsParams::from_grads(loss.backward(), &self.network);
            self.network = self.sgd.step(at.lr, self.network.clone(), grads);
        }
        Ok(Outcome {
            loss: value.into(),
            correct,
        })
    }

    fn trained(&self) -> Result<Trained, TrainError> {
        Ok(Trained::Float(self.model()?))
    }

    fn state(&self) -> Result<State, TrainError> {
        Ok(State {
            model: self.model()?,
            values: self.sgd.state(&self.network),
            observations: None,
        })
    }
}
