//! Where a network is trained.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;

use crate::error::TrainError;

/// The processor that a network is trained on.
///
/// It decides how fast a run is, and its numbers only as far as rounding goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrainDevice {
    /// The CPU.
    #[default]
    Cpu,
    /// The GPU that the graphics driver puts first: through Vulkan, Metal, DirectX 12 or WebGPU. Needs the feature `gpu`.
    Gpu,
}

impl TrainDevice {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Cpu, Self::Gpu];

    /// Its name: `cpu` or `gpu`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        }
    }

    /// Burn's device, ready for use. A GPU is looked for once per process, at the first call.
    ///
    /// # Errors
    /// [`TrainError::GpuNotBuilt`] without the feature `gpu`, [`TrainError::GpuUnavailable`] if there is no GPU or no driver
    /// for it.
    ///
    /// ```
    /// use addernet_train::{TrainDevice, TrainError};
    ///
    /// let device = match TrainDevice::Gpu.open() {
    ///     Err(error @ TrainError::GpuUnavailable { .. }) => {
    ///         eprintln!("{error}");
    ///         TrainDevice::Cpu.open()?
    ///     }
    /// #   Err(TrainError::GpuNotBuilt) => TrainDevice::Cpu.open()?,
    ///     other => other?,
    /// };
    /// # let _ = device;
    /// # Ok::<(), TrainError>(())
    /// ```
    pub fn open(self) -> Result<Device, TrainError> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            Self::Gpu => gpu().map(|(device, _)| device),
        }
    }

    /// What it is called: `cpu`, or the GPU's own name and the interface that it is reached by.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn description(self) -> Result<String, TrainError> {
        match self {
            Self::Cpu => Ok(self.as_str().to_owned()),
            Self::Gpu => gpu().map(|(_, description)| description),
        }
    }
}

impl fmt::Display for TrainDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TrainDevice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|device| device.as_str() == name);
        found.ok_or_else(|| format!("`{name}` is no device; use cpu or gpu"))
    }
}

#[cfg(not(feature = "gpu"))]
fn gpu() -> Result<(Device, String), TrainError> {
    Err(TrainError::GpuNotBuilt)
}

/// The GPU and its description. Burn lets a GPU be set up once; whoever uses one that is not there is answered by a panic.
#[cfg(feature = "gpu")]
fn gpu() -> Result<(Device, String), TrainError> {
    use burn::tensor::wgpu::WgpuInitError;
    use std::sync::OnceLock;
    static GPU: OnceLock<Result<(Device, String), String>> = OnceLock::new();
    let found = GPU.get_or_init(|| {
        let opened = Device::wgpu_options().init_with_setup();
        let (device, setup) = opened.map_err(|error| match error {
            // Its text has Burn's name for the device in it.
            WgpuInitError::AdapterUnavailable { message, .. } => one_line(&message),
            other => one_line(&other.to_string()),
        })?;
        let adapter = setup.adapter.get_info();
        Ok((device, format!("{} ({:?})", adapter.name, adapter.backend)))
    });
    found
        .clone()
        .map_err(|reason| TrainError::GpuUnavailable { reason })
}

#[cfg(feature = "gpu")]
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
