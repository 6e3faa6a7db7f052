use addernet_graph::{Executor, GraphError};
use ndarray::Axis;

use super::*;
use crate::method::MethodKind;
use crate::testing::{images, quantized};

/// Collects the mean and variance, over everything it sees, of each BN layer's input.
#[derive(Default)]
struct Moments(BTreeMap<String, (Vec<f64>, Vec<f64>)>);

impl Hook for Moments {
    fn inputs(&mut self, _: NodeId, node: &Node, inputs: &[&Array4<f32>]) -> Result<(), HookError> {
        if let Op::BatchNorm { channels, .. } = node.op() {
            let x = inputs[0].mapv(f64::from);
            let pixels = x.len() / channels;
            let x = x.into_shape_with_order((pixels, *channels)).unwrap();
            let mean = x.mean_axis(Axis(0)).unwrap();
            let var = x.var_axis(Axis(0), 1.0);
            self.0
                .insert(node.name().to_owned(), (mean.to_vec(), var.to_vec()));
        }
        Ok(())
    }
}

#[test]
fn one_batch_gives_that_batchs_statistics_at_every_layer() {
    let quantized = quantized(MethodKind::Redistribution, 4);
    let kernel = addernet_kernels::select(None).unwrap();
    let simulator = Simulator::new(&quantized, kernel).unwrap();
    let batch = || Ok::<_, GraphError>(images(8, 0.2));
    let adapted = reestimate_bn(&simulator, &quantized, [batch()]).unwrap();
    assert_eq!(adapted.provenance().bn_images, 8);

    // In the adapted network each BN layer must see the very statistics that it holds, up to the
    // difference between the biased variance it normalised by and the unbiased one it keeps.
    let simulator = Simulator::new(&adapted, kernel).unwrap();
    let mut moments = Moments::default();
    simulator.run_with(images(8, 0.2), &mut moments).unwrap();
    assert_eq!(moments.0.len(), 3);
    for (name, (mean, var)) in moments.0 {
        let node = adapted.model().graph().node(&name).unwrap();
        let held = |suffix| adapted.model().values(node, suffix).unwrap();
        for c in 0..mean.len() {
            let (m, v) = (
                f64::from(held("running_mean")[c]),
                f64::from(held("running_var")[c]),
            );
            assert!(
                (m - mean[c]).abs() < 0.02 * var[c].sqrt(),
                "{name}: {m} {}",
                mean[c]
            );
            assert!((v / var[c] - 1.0).abs() < 0.05, "{name}: {v} {}", var[c]);
        }
    }
    // The first layer's input does not depend on BN at all: exact there.
    let executor = Executor::new(quantized.model(), kernel).unwrap();
    let mut moments = Moments::default();
    executor.run_with(images(8, 0.2), &mut moments).unwrap();
    let node = adapted.model().graph().node("bn1").unwrap();
    for (held, (_, exact)) in [
        ("running_mean", &moments.0["bn1"].0),
        ("running_var", &moments.0["bn1"].1),
    ]
    .map(|(s, exact)| (adapted.model().values(node, s).unwrap(), ((), exact)))
    {
        held.iter()
            .zip(exact)
            .for_each(|(h, e)| assert!((f64::from(*h) / e - 1.0).abs() < 1e-5));
    }
}

#[test]
fn batches_count_equally_and_threads_do_not_matter() {
    let quantized = quantized(MethodKind::Redistribution, 4);
    let simulator = Simulator::new(&quantized, addernet_kernels::select(None).unwrap()).unwrap();
    let run = |phases: &[f64]| {
        let batches = phases.iter().map(|&p| Ok::<_, GraphError>(images(8, p)));
        let adapted = reestimate_bn(&simulator, &quantized, batches).unwrap();
        let node = adapted.model().graph().node("bn1").unwrap();
        adapted
            .model()
            .values(node, "running_mean")
            .unwrap()
            .to_vec()
    };
    let (a, b, both) = (run(&[0.2]), run(&[1.2]), run(&[0.2, 1.2]));
    for ((a, b), both) in a.iter().zip(&b).zip(&both) {
        assert!(((a + b) / 2.0 - both).abs() < 1e-6);
    }
    let pool = |n| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(n)
            .build()
            .unwrap()
    };
    assert_eq!(
        pool(1).install(|| run(&[0.2, 1.2])),
        pool(3).install(|| run(&[0.2, 1.2]))
    );
}

#[test]
fn no_batch_is_an_error() {
    let quantized = quantized(MethodKind::Redistribution, 4);
    let simulator = Simulator::new(&quantized, addernet_kernels::select(None).unwrap()).unwrap();
    let none: [Result<Array4<f32>, GraphError>; 0] = [];
    let error = reestimate_bn(&simulator, &quantized, none)
        .unwrap_err()
        .to_string();
    assert!(error.contains("at least one batch"), "{error}");
}
