//! Batch normalisation as PyTorch has it.

use burn::module::{Module, Param, RunningState};
use burn::tensor::module::batch_norm;
use burn::tensor::{Tensor, TensorData};

/// Batch normalisation over the last axis.
///
/// Burn's own module keeps the biased variance of each batch; PyTorch, and with it every published checkpoint, the
/// unbiased one (n/(n − 1) times as large).
#[derive(Module, Debug)]
pub(super) struct BatchNorm {
    /// Factor behind the normalisation, `[channels]`.
    pub(super) weight: Param<Tensor<1>>,
    /// Offset behind the normalisation, `[channels]`.
    pub(super) bias: Param<Tensor<1>>,
    running_mean: RunningState<Tensor<1>>,
    running_var: RunningState<Tensor<1>>,
    eps: f64,
    momentum: f64,
}

impl BatchNorm {
    pub(super) fn new(
        [weight, bias]: [Tensor<1>; 2],
        [mean, variance]: [Tensor<1>; 2],
        eps: f64,
        momentum: f64,
    ) -> Self {
        Self {
            weight: Param::from_tensor(weight),
            bias: Param::from_tensor(bias),
            running_mean: RunningState::new(mean),
            running_var: RunningState::new(variance),
            eps,
            momentum,
        }
    }

    /// `[N, height, width, channels]` gives the same shape.
    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let shape @ [batch, height, width, channels] = x.dims();
        let pixels = batch * height * width;
        let training = x.device().is_autodiff();
        let x = x.reshape([pixels, channels]);
        let y = if training {
            self.train(x, pixels)
        } else {
            batch_norm(
                x,
                self.weight.val(),
                self.bias.val(),
                self.running_mean.value_sync(),
                self.running_var.value_sync(),
                self.eps,
            )
        };
        y.reshape(shape)
    }

    /// Normalises with the statistics of the batch.
    ///
    /// In tensor operations, down the columns as the values lie: Burn's own `batch_norm_train` brings each channel's values together first, several times in
    /// each pass, and takes ten times as long on such a matrix.
    fn train(&self, x: Tensor<2>, pixels: usize) -> Tensor<2> {
        let [_, channels] = x.dims();
        let row = |vector: Tensor<1>| vector.reshape([1, channels]);
        let mean = x.clone().mean_dim(0);
        let centred = x - mean.clone();
        let variance = (centred.clone() * centred.clone()).mean_dim(0);
        let unbiased = pixels as f64 / pixels.saturating_sub(1).max(1) as f64;
        for (state, batch) in [
            (&self.running_mean, mean),
            (&self.running_var, variance.clone().mul_scalar(unbiased)),
        ] {
            let batch = batch.detach().reshape([channels]);
            let old = state.value_sync();
            let new = old.mul_scalar(1.0 - self.momentum) + batch.mul_scalar(self.momentum);
            state.update(new.detach());
        }
        let factor = variance.add_scalar(self.eps).sqrt().recip() * row(self.weight.val());
        centred * factor + row(self.bias.val())
    }

    /// The running mean.
    pub(super) fn mean(&self) -> TensorData {
        self.running_mean.value_sync().to_data()
    }

    /// The running variance.
    pub(super) fn variance(&self) -> TensorData {
        self.running_var.value_sync().to_data()
    }
}
