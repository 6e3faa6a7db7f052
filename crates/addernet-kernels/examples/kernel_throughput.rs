//! Prints as JSON how fast every kernel runs ResNet-20's and ResNet-18's layers on one thread, beside
//! the machine's peaks. Arguments: seconds per layer (0.5), images (1), `all`, `f32` or `u8` (all).
//!
//! `cargo run --release -p addernet-kernels --example kernel_throughput -- 0.5 1 u8`

use addernet_kernels::{ConvGeometry, KernelError, available, available_u8, bench, peak};
use serde_json::{Map, Value, json};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(0.5), |text| text.parse())?;
    let batch = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let wanted = arguments.next().unwrap_or_else(|| "all".to_owned());
    if !["all", "f32", "u8"].contains(&wanted.as_str()) {
        return Err(format!("the third argument is `{wanted}`; give all, f32 or u8").into());
    }
    let time = Duration::try_from_secs_f64(seconds)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let mut report = json!({ "threads": 1, "batch": batch });
    pool.install(|| {
        if wanted != "u8" {
            report["f32"] = report_f32(time, batch)?;
        }
        if wanted != "f32" {
            report["u8"] = report_u8(time, batch)?;
        }
        Ok::<(), KernelError>(())
    })?;
    println!("{report:#}");
    Ok(())
}

fn report_f32(time: Duration, batch: usize) -> Result<Value, KernelError> {
    let kernels = available();
    let names: Vec<_> = kernels.iter().map(|kernel| kernel.name()).collect();
    let l1 = kernels
        .iter()
        .map(|&kernel| peak::l1_elements_per_second(kernel, time));
    let fma = kernels
        .iter()
        .map(|&kernel| peak::fma_elements_per_second(kernel, time));
    let (l1, fma): (Vec<_>, Vec<_>) = (l1.collect(), fma.collect());
    let layers = layers(batch, &names, &l1, |geometry| {
        bench::forward_throughputs(kernels, geometry, time)
    })?;
    Ok(json!({
        "best": names[0],
        "peak_gelem_per_s": by_name(&names, &l1, 1e9),
        "peak_fma_gelem_per_s": by_name(&names, &fma, 1e9),
        "layers": layers,
    }))
}

fn report_u8(time: Duration, batch: usize) -> Result<Value, KernelError> {
    let kernels = available_u8();
    let names: Vec<_> = kernels.iter().map(|kernel| kernel.name()).collect();
    let peaks: Vec<_> = kernels
        .iter()
        .map(|&kernel| peak::u8_elements_per_second(kernel, time))
        .collect();
    let layers = layers(batch, &names, &peaks, |geometry| {
        bench::forward_throughputs_u8(kernels, geometry, time)
    })?;
    Ok(json!({
        "best": names[0],
        "peak_gelem_per_s": by_name(&names, &peaks, 1e9),
        "layers": layers,
    }))
}

/// Each layer's rates and their shares of the kernels' peaks.
fn layers(
    batch: usize,
    names: &[&str],
    peaks: &[f64],
    measure: impl Fn(&ConvGeometry) -> Result<Vec<f64>, KernelError>,
) -> Result<Vec<Value>, KernelError> {
    let mut reports = Vec::new();
    for (network, layers) in [
        ("resnet20", bench::resnet20_layers(batch)?),
        ("resnet18", bench::resnet18_layers(batch)?),
    ] {
        for layer in layers {
            let rates = measure(&layer.geometry)?;
            let shares: Vec<_> = rates
                .iter()
                .zip(peaks)
                .map(|(rate, peak)| rate / peak)
                .collect();
            reports.push(json!({
                "network": network,
                "name": layer.name,
                "elements": layer.geometry.elements(),
                "gelem_per_s": by_name(names, &rates, 1e9),
                "share_of_peak": by_name(names, &shares, 1.0),
            }));
        }
    }
    Ok(reports)
}

fn by_name(names: &[&str], values: &[f64], unit: f64) -> Map<String, Value> {
    names
        .iter()
        .zip(values)
        .map(|(name, value)| ((*name).to_owned(), json!(value / unit)))
        .collect()
}
