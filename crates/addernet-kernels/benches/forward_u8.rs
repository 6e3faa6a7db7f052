//! The u8 forward pass of every kernel on ResNet-20's and ResNet-18's layers, in elements |x − w| per
//! second, one image and one thread. A filter picks some of them:
//!
//! `cargo bench -p addernet-kernels --bench forward_u8 -- avx512-vnni`

use addernet_kernels::{KernelError, available_u8, bench};
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
            let (x, w) = bench::operands_u8(&geometry);
            let mut y = vec![0; geometry.out_len()];
            group.throughput(Throughput::Elements(geometry.elements()));
            for kernel in available_u8() {
                let packed = kernel.pack(geometry.weight_shape(), &w)?;
                group.bench_function(BenchmarkId::new(kernel.name(), layer.name), |bencher| {
                    bencher.iter(|| kernel.forward(&geometry, &x, 0, &packed, &mut y));
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
