//! The Burn operation on the operator's seven golden cases: forward and both gradients as the original PyTorch code
//! computed them.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of tests may fail by panicking, like the test itself"
)]

use std::path::Path;

use addernet_train::{AdderConvOptions, adder_conv2d};
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::SafeTensors;

/// Says on standard error that a test is skipped. `eprintln!` would be hidden: the test passes.
fn skipped(reason: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
}

fn read(file: &SafeTensors<'_>, name: &str) -> TensorData {
    let view = file.tensor(name).unwrap();
    let shape: [usize; 4] = view.shape().try_into().unwrap();
    let values = view
        .data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    TensorData::new(values.collect::<Vec<f32>>(), shape)
}

/// The largest difference must be at most 10⁻⁴ of the largest value.
fn assert_close(name: &str, actual: Tensor<4>, expected: &TensorData) {
    let (actual, expected) = (actual.into_data(), expected.as_slice::<f32>().unwrap());
    let actual = actual.as_slice::<f32>().unwrap();
    assert_eq!(actual.len(), expected.len(), "{name}");
    let largest = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    let error = actual
        .iter()
        .zip(expected)
        .fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(error <= 1e-4 * largest, "{name}: {error} of {largest}");
}

#[test]
fn forward_and_gradients_match_the_original_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/golden/adder2d_forward_backward.safetensors");
    let Ok(bytes) = std::fs::read(&path) else {
        skipped(format_args!("{} is not there", path.display()));
        return;
    };
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let cases = &header.metadata().as_ref().unwrap()["cases"];
    let cases: Vec<serde_json::Value> = serde_json::from_str(cases).unwrap();
    assert_eq!(cases.len(), 7);
    let device = Device::flex().autodiff();
    for (i, case) in cases.iter().enumerate() {
        let number = |key: &str| case[key].as_u64().unwrap() as usize;
        let tensor = |what: &str| read(&file, &format!("case{i}.{what}"));
        let leaf = |what| Tensor::<4>::from_data(tensor(what), &device).require_grad();
        let (x, w) = (leaf("x"), leaf("w"));
        let options = AdderConvOptions::new([number("stride"); 2], [number("padding"); 2]);
        let y = adder_conv2d(x.clone().permute([0, 2, 3, 1]), w.clone(), options);
        let y = y.permute([0, 3, 1, 2]);
        assert_close(&format!("case{i}.y"), y.clone().inner(), &tensor("y"));
        let grad_y = Tensor::<4>::from_data(tensor("grad_y"), &device);
        let grads = (y * grad_y).sum().backward();
        for (what, leaf) in [("grad_x", x), ("grad_w", w)] {
            let grad = leaf.grad(&grads).unwrap();
            assert_close(&format!("case{i}.{what}"), grad, &tensor(what));
        }
    }
}
