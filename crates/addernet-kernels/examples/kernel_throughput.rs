//! Prints as JSON how fast every kernel runs ResNet-20's layers on one thread, beside the machine's
//! peaks. Arguments: seconds per layer (0.5), images (1).
//!
//! `cargo run --release -p addernet-kernels --example kernel_throughput -- 0.5 1`

use addernet_kernels::{KernelError, available, bench, peak};
use serde_json::{Map, Value, json};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(0.5), |text| text.parse())?;
    let batch = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let time = Duration::try_from_secs_f64(seconds)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let report = pool.install(|| report(time, batch))?;
    println!("{report:#}");
    Ok(())
}

fn report(time: Duration, batch: usize) -> Result<Value, KernelError> {
    let kernels = available();
    let mut layers = Vec::new();
    for layer in bench::resnet20_layers(batch)? {
        let rates = bench::forward_throughputs(kernels, &layer.geometry, time)?;
        let rates: Map<_, _> = kernels
            .iter()
            .zip(rates)
            .map(|(kernel, rate)| (kernel.name().to_owned(), json!(rate / 1e9)))
            .collect();
        layers.push(json!({
            "name": layer.name,
            "elements": layer.geometry.elements(),
            "gelem_per_s": rates,
        }));
    }
    let peaks: Map<_, _> = kernels
        .iter()
        .map(|&kernel| {
            let peaks = json!({
                "l1": peak::l1_elements_per_second(kernel, time) / 1e9,
                "fma": peak::fma_elements_per_second(kernel, time) / 1e9,
            });
            (kernel.name().to_owned(), peaks)
        })
        .collect();
    Ok(json!({
        "threads": 1,
        "batch": batch,
        "best": kernels[0].name(),
        "peak_gelem_per_s": peaks,
        "layers": layers,
    }))
}
