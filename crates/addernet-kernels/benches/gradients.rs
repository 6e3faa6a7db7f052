//! The gradients of every kernel on ResNet-20's layers, in terms per second, one image and one thread:
//!
//! `cargo bench -p addernet-kernels --bench gradients -- avx512`

use addernet_kernels::{KernelError, WeightGradient, available, bench};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::time::Duration;

fn gradients(c: &mut Criterion) -> Result<(), KernelError> {
    for gradient in ["input", "weight", "clamped-weight"] {
        let mut group = c.benchmark_group(gradient);
        group
            .warm_up_time(Duration::from_millis(100))
            .measurement_time(Duration::from_millis(500));
        for layer in bench::resnet20_layers(1)? {
            let geometry = layer.geometry;
            let values = |len: usize, step: f32| -> Vec<f32> {
                (0..len).map(|i| (i as f32 * step).sin()).collect()
            };
            let x = values(geometry.in_len(), 0.37);
            let w = values(geometry.weight_len(), 0.61);
            let grad_y = values(geometry.out_len(), 0.53);
            let (mut grad_x, mut grad_w) = (x.clone(), w.clone());
            group.throughput(Throughput::Elements(geometry.elements()));
            for kernel in available() {
                group.bench_function(BenchmarkId::new(kernel.name(), layer.name), |bencher| {
                    bencher.iter(|| match gradient {
                        "input" => kernel.grad_input(&geometry, &x, &w, &grad_y, &mut grad_x),
                        "weight" => {
                            let kind = WeightGradient::FullPrecision;
                            kernel.grad_weight(&geometry, &x, &w, &grad_y, kind, &mut grad_w)
                        }
                        _ => {
                            let kind = WeightGradient::Clamped;
                            kernel.grad_weight(&geometry, &x, &w, &grad_y, kind, &mut grad_w)
                        }
                    });
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
    if let Err(error) = result.and_then(|()| gradients(c).map_err(|error| error.to_string())) {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

criterion_group!(benches, one_thread);
criterion_main!(benches);
