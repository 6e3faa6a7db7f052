//! Prints as JSON how fast every kernel runs ResNet-20's layers on one thread, beside the machine's
//! peaks. Arguments: seconds per layer (0.5), images (1), `f32` or `u8` (f32). With `u8` ResNet-18's
//! layers follow, and each layer has its kernels' shares of their peaks.
//!
//! `cargo run --release -p addernet-kernels --example kernel_throughput -- 0.5 1 u8`

use addernet_kernels::{KernelError, available, available_u8, bench, peak};
use serde_json::{Map, Value, json};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(0.5), |text| text.parse())?;
    let batch = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let time = Duration::try_from_secs_f64(seconds)?;
    let report = match arguments.next().as_deref() {
        None | Some("f32") => report,
        Some("u8") => report_u8,
        Some(other) => return Err(format!("`{other}` is no type of kernel: f32 or u8").into()),
    };
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

fn report_u8(time: Duration, batch: usize) -> Result<Value, KernelError> {
    let kernels = available_u8();
    let mut layers = Vec::new();
    let networks = [
        ("resnet20", bench::resnet20_layers(batch)?),
        ("resnet18", bench::resnet18_layers(batch)?),
    ];
    for (network, layer) in networks
        .into_iter()
        .flat_map(|(network, layers)| layers.into_iter().map(move |layer| (network, layer)))
    {
        let rates = bench::forward_throughputs_u8(kernels, &layer.geometry, time)?;
        let (mut gelem, mut shares) = (Map::new(), Map::new());
        for (kernel, rate) in kernels.iter().zip(rates) {
            // Beside the layer, so that both meet the machine at the same speed.
            let peak = peak::u8_elements_per_second(*kernel, time / 4);
            gelem.insert(kernel.name().to_owned(), json!(rate / 1e9));
            shares.insert(kernel.name().to_owned(), json!(rate / peak));
        }
        layers.push(json!({
            "network": network,
            "name": layer.name,
            "elements": layer.geometry.elements(),
            "gelem_per_s": gelem,
            "share_of_peak": shares,
        }));
    }
    let peaks: Map<_, _> = kernels
        .iter()
        .map(|&kernel| {
            let peak = peak::u8_elements_per_second(kernel, time) / 1e9;
            (kernel.name().to_owned(), json!({ "u8": peak }))
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
