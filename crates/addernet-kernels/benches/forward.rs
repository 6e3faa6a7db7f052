//! The f32 forward pass of every kernel on ResNet-20's and ResNet-18's layers, in elements |x − w|
//! per second, one image and one thread. A filter picks some of them:
//!
//! `cargo bench -p addernet-kernels --bench forward -- avx512`

use addernet_kernels::{KernelError, available, bench};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::time::Duration;

fn forward(c: &mut Criterion) -> Result<(), KernelError> {
    let networks = [
        ("resnet20", bench::resnet20_layers(1)?),
        ("resnet18", bench::resnet18_layers(1)?),
    ];
    for (network, layers) in networks {
        let mut group = c.benchmark_group(network);
        group
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_secs(1));
        for layer in layers {
            let geometry = layer.geometry;
            let x: Vec<f32> = (0..geometry.in_len())
                .map(|i| (i as f32 * 0.37).sin())
                .collect();
            let w: Vec<f32> = (0..geometry.weight_len())
                .map(|i| (i as f32 * 0.61).cos())
                .collect();
            let mut y = vec![0.0; geometry.out_len()];
            group.throughput(Throughput::Elements(geometry.elements()));
            for kernel in available() {
                let packed = kernel.pack(geometry.weight_shape(), &w)?;
                group.bench_function(BenchmarkId::new(kernel.name(), layer.name), |bencher| {
                    bencher.iter(|| kernel.forward(&geometry, &x, &packed, &mut y));
                });
            }
        }
        group.finish();
    }
    Ok(())
}

fn one_thread(c: &mut Criterion) {
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build_global();
    let result = threads.map_err(|error| error.to_string());
    if let Err(error) = result.and_then(|()| forward(c).map_err(|error| error.to_string())) {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

criterion_group!(benches, one_thread);
criterion_main!(benches);
