//! Quantized AdderNets on integers alone.
//!
//! [`Program::lower`] turns a quantized model into integer steps, [`Engine`] runs them on the
//! kernels of this CPU, [`reference`](mod@reference) in plain loops; both give the same bits, on every machine. What
//! they compute is specified in docs/INTEGER.md.

mod engine;
mod error;
mod fixed;
mod headroom;
mod logits;
mod lower;
mod pixels;
mod program;
pub mod reference;
mod run;

pub use engine::{Engine, LayerTime};
pub use error::EngineError;
pub use headroom::LayerHeadroom;
pub use logits::Logits;
pub use pixels::Images;
pub use program::Program;
