//! `--engine`: what runs a network.

use std::fmt;
use std::path::Path;

use addernet::{AnyModel, Classifier, Executor, Simulator, kernels};
use anyhow::bail;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::args::{RunArgs, Runtime};

/// What runs the network.
#[derive(Args)]
pub(crate) struct EngineArgs {
    /// How to run the network [default: integer for quantized models, else float]
    #[arg(long, value_name = "NAME")]
    engine: Option<Engine>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Engine {
    /// Floating point; of a quantized model, the weights that its codes stand for, on unquantized activations
    Float,
    /// Floating point but for the adder layers of a quantized model, which sum the very integers of its codes
    Simulated,
    /// A quantized model on integers alone, from the pixels to the logits
    Integer,
}

impl EngineArgs {
    /// The engine for `model`, which was read from `path`.
    pub(crate) fn choose(&self, path: &Path, model: &AnyModel) -> anyhow::Result<Engine> {
        Ok(match (self.engine, model) {
            (Some(Engine::Simulated | Engine::Integer), AnyModel::Float(_)) => bail!(
                "{}: holds a float model, which has no integers to run; quantize it first: addernet \
                 quantize {0} --bits 4 …",
                path.display()
            ),
            (Some(engine), _) => engine,
            (None, AnyModel::Float(_)) => Engine::Float,
            (None, AnyModel::Quantized(_)) => Engine::Integer,
        })
    }
}

impl Engine {
    /// What runs `model`, and the name of the operator's variant that it uses.
    pub(crate) fn start<'m>(
        self,
        model: &'m AnyModel,
        args: &RunArgs,
        runtime: &Runtime,
    ) -> anyhow::Result<(Box<dyn Classifier + 'm>, &'static str)> {
        Ok(match (self, model) {
            (Engine::Simulated, AnyModel::Quantized(quantized)) => (
                Box::new(Simulator::new(quantized, runtime.kernel)?),
                runtime.kernel.name(),
            ),
            (Engine::Integer, AnyModel::Quantized(quantized)) => {
                let kernel = kernels::select_u8(args.kernel.as_deref())?;
                let engine = match addernet::Engine::new(quantized, kernel) {
                    Ok(engine) => engine,
                    Err(error) => bail!("{error}; --engine simulated runs it in floating point"),
                };
                (Box::new(engine), kernel.name())
            }
            _ => (
                Box::new(Executor::new(model.float(), runtime.kernel)?),
                runtime.kernel.name(),
            ),
        })
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Engine::Float => "float",
            Engine::Simulated => "simulated",
            Engine::Integer => "integer",
        })
    }
}
