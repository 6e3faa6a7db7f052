//! The public face of the engine.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use addernet_graph::file::ModelFile;
use addernet_kernels::{AdderKernelU8, select_u8};
use addernet_quant::{QuantizedModel, store};
use rayon::prelude::*;

use crate::error::EngineError;
use crate::logits::Logits;
use crate::pixels::Images;
use crate::program::{Program, StepKind};
use crate::run::Runner;
use crate::run::workspace::Workspace;

/// Tasks per thread, so that an uneven division costs little.
const TASKS_PER_THREAD: usize = 4;
/// Images that a thread takes at a time at most.
const IMAGES_PER_TASK: usize = 64;

/// Runs a quantized network on integers. It is shared between threads as it is.
///
/// ```no_run
/// use addernet_engine::Engine;
///
/// let engine = Engine::load("resnet20-4bit.safetensors")?;
/// let pixels = vec![0u8; 2 * 32 * 32 * 3]; // two images: height, width, channels
/// let logits = engine.run(&pixels[..])?;
/// for image in 0..logits.images() {
///     println!("class {} {:?}", logits.top1(image), logits.image(image));
/// }
/// # Ok::<(), addernet_engine::EngineError>(())
/// ```
pub struct Engine {
    runner: Runner,
    /// Memory that is not in use at the moment.
    spaces: Mutex<Vec<Workspace>>,
}

/// Time spent in one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTime {
    /// The node that the layer's step starts with.
    pub node: String,
    /// What the step is: `adder`, `pixel-conv`, `dense` …
    pub kind: &'static str,
    /// Terms |x − w| of one image; 0 unless it is an adder layer.
    pub elements: u64,
    /// Its time on one image.
    pub time: Duration,
}

impl Engine {
    /// Opens a quantized model file and prepares it for the best kernel that this CPU has, or the one
    /// that the environment variable `ADDERNET_KERNEL` names.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged, holds a float model, or cannot run on integers.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, EngineError> {
        let path = path.as_ref();
        let file = ModelFile::read(path)?;
        if !file.is_quantized() {
            return Err(EngineError::FloatModel {
                path: path.to_owned(),
            });
        }
        let kernel = select_u8(None).map_err(EngineError::kernel(file.graph.name()))?;
        Self::new(&store::from_file(file)?, kernel)
    }

    /// Prepares a quantized model for `kernel`.
    ///
    /// # Errors
    /// As [`Program::lower`].
    pub fn new(
        quantized: &QuantizedModel,
        kernel: &'static dyn AdderKernelU8,
    ) -> Result<Self, EngineError> {
        Self::from_program(Program::lower(quantized)?, kernel)
    }

    /// Prepares a lowered model for `kernel`.
    ///
    /// # Errors
    /// If the kernel refuses a layer.
    pub fn from_program(
        program: Program,
        kernel: &'static dyn AdderKernelU8,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            runner: Runner::new(program, kernel)?,
            spaces: Mutex::new(Vec::new()),
        })
    }

    /// The network; its weights are packed, and no longer part of it.
    pub fn program(&self) -> &Program {
        self.runner.program()
    }

    /// The kernel that it runs on.
    pub fn kernel(&self) -> &'static dyn AdderKernelU8 {
        self.runner.kernel()
    }

    /// The logits of some images (N x height x width x channels): pixels as `[u8]`, or normalised
    /// values as `[f32]`.
    ///
    /// Images are divided among the threads of rayon's current pool. The result does not depend on their
    /// number, nor on the kernel.
    ///
    /// # Errors
    /// [`EngineError::ImageLength`] if the values are no whole number of images,
    /// [`EngineError::NonFinite`] if one is NaN or infinite.
    pub fn run<I: Images + ?Sized>(&self, images: &I) -> Result<Logits, EngineError> {
        let program = self.program();
        let per_image = program.graph.input_shape().values();
        let count = program.images(images.count())?;
        let classes = program.classes();
        let mut values = vec![0; count * classes];
        let threads = rayon::current_num_threads();
        let run = |first: usize, logits: &mut [i32]| -> Result<(), EngineError> {
            let mut space = self.take_space();
            for (i, logits) in logits.chunks_exact_mut(classes).enumerate() {
                let pixels = images.pixels(first + i, per_image, &program.preprocessing)?;
                self.runner.run(&pixels, &mut space, logits, |_| ())?;
            }
            self.give_space(space);
            Ok(())
        };
        if threads == 1 || count < 2 {
            run(0, &mut values)?;
        } else {
            let size = count
                .div_ceil(threads * TASKS_PER_THREAD)
                .min(IMAGES_PER_TASK);
            values
                .par_chunks_mut(size * classes)
                .enumerate()
                .map(|(task, logits)| run(task * size, logits))
                // The first failure in the order of the images.
                .collect::<Vec<_>>()
                .into_iter()
                .collect::<Result<(), _>>()?;
        }
        Ok(Logits::new(values, classes, program.fraction()))
    }

    /// Runs one image on this thread and measures each layer.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn layer_times(&self, pixels: &[u8]) -> Result<Vec<LayerTime>, EngineError> {
        let program = self.program();
        let shape = program.graph.input_shape();
        if pixels.len() != shape.values() {
            let values = pixels.len();
            return Err(EngineError::ImageLength { values, shape });
        }
        let mut space = self.take_space();
        let mut logits = vec![0; program.classes()];
        let mut times = Vec::with_capacity(program.steps.len());
        let mut start = Instant::now();
        self.runner.run(pixels, &mut space, &mut logits, |_| {
            let now = Instant::now();
            times.push(now - start);
            start = now;
        })?;
        self.give_space(space);
        Ok(program
            .steps
            .iter()
            .zip(times)
            .map(|(step, time)| LayerTime {
                node: step.node.clone(),
                kind: step.kind.name(),
                elements: step.kind.elements(),
                time,
            })
            .collect())
    }

    fn take_space(&self) -> Workspace {
        let space = self
            .spaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        space.unwrap_or_else(|| Workspace::new(self.program()))
    }

    fn give_space(&self, space: Workspace) {
        self.spaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(space);
    }
}

impl StepKind {
    fn name(&self) -> &'static str {
        match self {
            StepKind::Pixels { .. } => "pixels",
            StepKind::PixelMap { .. } => "pixel-map",
            StepKind::PixelConv(_) => "pixel-conv",
            StepKind::Adder(_) => "adder",
            StepKind::Dense(_) => "dense",
            StepKind::Rescale { .. } => "rescale",
            StepKind::Add { .. } => "add",
            StepKind::Relu { .. } => "relu",
            StepKind::Pool { .. } => "pool",
            StepKind::Flatten { .. } => "flatten",
            StepKind::Quantize { .. } => "quantize",
        }
    }

    /// Terms |x − w| of one image.
    fn elements(&self) -> u64 {
        let StepKind::Adder(adder) = self else {
            return 0;
        };
        let pixels = adder.out.height * adder.out.width;
        let per_group = |group: &crate::program::AdderGroup| {
            (pixels * group.window.shape.iter().product::<usize>()) as u64
        };
        adder.groups.iter().map(per_group).sum()
    }
}
