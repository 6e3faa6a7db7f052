use addernet_graph::GraphError;
use ndarray::{Axis, array, concatenate};

use super::*;
use crate::method::Redistribution;
use crate::testing::{images, model, observations};

fn method(bits: u8) -> Redistribution {
    Redistribution {
        bits,
        groups: 2,
        weight_clamp: true,
    }
}

fn measure(bits: u8, batches: Vec<Array4<f32>>) -> Sensitivity {
    let model = model();
    let kernel = addernet_kernels::select(None).unwrap();
    let batches = batches.into_iter().map(Ok::<_, GraphError>);
    sensitivity(
        &model,
        &observations(&model),
        &method(bits),
        kernel,
        batches,
    )
    .unwrap()
}

#[test]
fn more_bits_are_less_noise_at_every_layer() {
    let [two, four, eight] = [2, 4, 8].map(|bits| measure(bits, vec![images(5, 0.9)]));
    let names: Vec<&str> = eight.layers.iter().map(|l| l.node.as_str()).collect();
    assert_eq!(names, ["conv2", "conv3"]);
    assert_eq!((eight.images, eight.float_top1), (5, None));
    for ((two, four), eight) in two.layers.iter().zip(&four.layers).zip(&eight.layers) {
        let snr = [two, four, eight].map(|l| l.output_snr_db.unwrap());
        assert!(snr[0] < snr[1] && snr[1] < snr[2], "{snr:?}");
        // Four times the levels and more are at least 10 dB.
        assert!(snr[2] > snr[1] + 10.0, "{snr:?}");
        let logits = [two, four, eight].map(|l| l.as_is.logits_snr_db.unwrap());
        assert!(logits[1] < logits[2], "{logits:?}");
        assert!(four.as_is.kl > eight.as_is.kl && eight.as_is.kl >= 0.0);
        assert!(eight.centred_output_snr_db >= eight.output_snr_db);
        assert!(eight.as_is.top1_agreement >= 0.8 && eight.as_is.top1.is_none());
    }
}

#[test]
fn the_last_layer_alone_is_what_the_logits_see() {
    // Of a network quantized in one layer the logits are those of the executor with that layer
    // replaced: the whole simulated network with all other layers float would say the same.
    let model = model();
    let kernel = addernet_kernels::select(None).unwrap();
    let mut layers = quantize_layers(&model, &observations(&model), &method(4)).unwrap();
    let all = measure(4, vec![images(5, 0.9)]);
    layers.remove("conv2");
    let mut probe = SensitivityProbe::new(&model, &layers, kernel).unwrap();
    probe.add(images(5, 0.9), None).unwrap();
    let one = probe.finish().unwrap();
    assert_eq!(one.layers, all.layers[1..]);
}

#[test]
fn batches_and_threads_change_nothing() {
    let whole = measure(4, vec![images(6, 0.9)]);
    let all = images(6, 0.9);
    let (a, b) = all.view().split_at(Axis(0), 2);
    let parts = measure(4, vec![a.to_owned(), b.to_owned()]);
    assert_eq!(concatenate![Axis(0), a, b], all);
    for (whole, parts) in whole.layers.iter().zip(&parts.layers) {
        let difference = whole.output_snr_db.unwrap() - parts.output_snr_db.unwrap();
        assert!(difference.abs() < 1e-9);
        assert!((whole.as_is.kl - parts.as_is.kl).abs() < 1e-12);
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let one = pool.unwrap().install(|| measure(4, vec![images(6, 0.9)]));
    assert_eq!(one, whole);
}

#[test]
fn offsets_are_taken_away_where_they_are_said_to_be() {
    // One image of which the whole error of the last layer is an offset: nothing is left of it.
    let model = model();
    let kernel = addernet_kernels::select(None).unwrap();
    let mut layers = quantize_layers(&model, &observations(&model), &method(8)).unwrap();
    let bias = &mut layers.get_mut("conv3").unwrap().bias;
    bias.iter_mut()
        .enumerate()
        .for_each(|(o, b)| *b += 30.0 * o as f32);
    let mut probe = SensitivityProbe::new(&model, &layers, kernel).unwrap();
    probe.add(images(5, 0.9), None).unwrap();
    let shifted = probe.finish().unwrap();
    let [as_is, centred] = [&shifted.layers[1].as_is, &shifted.layers[1].centred];
    assert!(centred.kl < as_is.kl / 10.0, "{as_is:?} {centred:?}");
    let plain = measure(8, vec![images(5, 0.9)]);
    assert!((centred.kl - plain.layers[1].centred.kl).abs() < 1e-3);
}

#[test]
fn labels_give_accuracy_and_must_be_complete() {
    let model = model();
    let kernel = addernet_kernels::select(None).unwrap();
    let layers = quantize_layers(&model, &observations(&model), &method(8)).unwrap();
    let float = Executor::new(&model, kernel).unwrap();
    let logits = float.run(images(5, 0.9)).unwrap();
    let labels: Vec<u32> = logits.rows().into_iter().map(|r| top(r) as u32).collect();
    let mut probe = SensitivityProbe::new(&model, &layers, kernel).unwrap();
    probe.add(images(5, 0.9), Some(&labels)).unwrap();
    assert!(probe.add(images(5, 0.9), Some(&labels[1..])).is_err());
    let result = probe.finish().unwrap();
    assert_eq!(result.float_top1, Some(1.0));
    for layer in &result.layers {
        for effect in [&layer.as_is, &layer.centred] {
            assert_eq!(effect.top1, Some(effect.top1_agreement));
        }
    }
    let probe = SensitivityProbe::new(&model, &layers, kernel).unwrap();
    assert!(probe.finish().err().unwrap().to_string().contains("image"));
}

#[test]
fn figures_of_small_signals_are_exact() {
    let mut output = ChannelSignal::new(1);
    let exact = Array4::from_shape_vec((1, 1, 2, 1), vec![101.0, 99.0]).unwrap();
    // Error 1 on both: the signal about its mean has power 2, the error 2, and all of it is offset.
    output.add(&exact, &exact.mapv(|v| v + 1.0));
    assert_eq!(output.snr_db(), Some(0.0));
    assert_eq!(output.centred_snr_db(), None);
    let mut found = exact.mapv(|v| v + 1.0);
    remove_offsets(&exact, &mut found);
    assert_eq!(found, exact);

    let mut logits = LogitSignal::default();
    let exact = array![[1.0, -1.0], [3.0, 3.0]];
    logits.add(&exact, &exact.mapv(|v| v + 5.0));
    assert!(logits.snr_db().is_none_or(|snr| snr > 250.0));
    assert!(logits.kl() < 1e-15);
    assert_eq!(logits.agreement(), 1.0);
    logits.add(&array![[0.0, 1.0]], &array![[1.0, 0.0]]);
    assert_eq!(logits.agreement(), 2.0 / 3.0);
    assert!(logits.kl() > 0.1);
}
