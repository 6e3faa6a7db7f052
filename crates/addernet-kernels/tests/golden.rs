//! The operator's seven golden cases: forward and both gradients as the original PyTorch code
//! computed them.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of tests may fail by panicking, like the test itself"
)]

use addernet_kernels::{ConvGeometry, available, reference};
use safetensors::SafeTensors;
use std::path::Path;

/// Says on standard error that a test is skipped. `eprintln!` would be hidden: the test passes.
fn skipped(reason: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
}

/// A 4-D tensor of the file, dimensions in the file's order.
struct Tensor {
    shape: [usize; 4],
    data: Vec<f32>,
}

impl Tensor {
    fn read(file: &SafeTensors<'_>, name: &str) -> Self {
        let view = file.tensor(name).unwrap();
        let data = view
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        Self {
            shape: view.shape().try_into().unwrap(),
            data: data.collect(),
        }
    }

    /// NCHW to NHWC.
    fn channels_last(&self) -> Vec<f32> {
        let [n, c, h, w] = self.shape;
        let mut out = Vec::with_capacity(self.data.len());
        for n in 0..n {
            for i in 0..h {
                for j in 0..w {
                    out.extend((0..c).map(|c_at| self.data[((n * c + c_at) * h + i) * w + j]));
                }
            }
        }
        out
    }
}

/// Two ways of rounding the same sums differ by at most `terms` roundings of sums no larger than
/// `largest`.
fn assert_close(name: &str, actual: &[f32], expected: &[f32], terms: usize) {
    assert_eq!(actual.len(), expected.len(), "{name}");
    let largest = expected
        .iter()
        .fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let tolerance = largest * terms as f32 * f32::EPSILON;
    for (at, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        assert!(
            (actual - expected).abs() <= tolerance,
            "{name}[{at}]: {actual}, expected {expected} ± {tolerance}"
        );
    }
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
    for case in &cases {
        let size = |key: &str| usize::try_from(case[key].as_u64().unwrap()).unwrap();
        let name = format!("case{}", size("case"));
        let read = |tensor: &str| Tensor::read(&file, &format!("{name}.{tensor}"));
        let (x, w, grad_y) = (read("x"), read("w"), read("grad_y"));
        let [n, c, h, width] = x.shape;
        let [o, _, kh, kw] = w.shape;
        let geometry = ConvGeometry::new(
            [n, h, width, c],
            o,
            [kh, kw],
            [size("stride"); 2],
            [size("padding"); 2],
        )
        .unwrap();
        let (x, w, grad_y) = (x.channels_last(), w.data, grad_y.channels_last());

        let expected = read("y").channels_last();
        let mut y = vec![0.0; geometry.out_len()];
        reference::forward(&geometry, &x, &w, &mut y).unwrap();
        assert_close(&format!("{name}.y"), &y, &expected, geometry.taps());
        for kernel in available() {
            let packed = kernel.pack(geometry.weight_shape(), &w).unwrap();
            let mut y = vec![0.0; geometry.out_len()];
            kernel.forward(&geometry, &x, &packed, &mut y).unwrap();
            let name = format!("{name}.y by {}", kernel.name());
            assert_close(&name, &y, &expected, geometry.taps());
        }

        // An input element is seen by at most kernel height × width positions of each output
        // channel.
        let mut grad_x = vec![0.0; geometry.in_len()];
        reference::grad_input(&geometry, &x, &w, &grad_y, &mut grad_x).unwrap();
        let expected = read("grad_x").channels_last();
        assert_close(&format!("{name}.grad_x"), &grad_x, &expected, o * kh * kw);

        // A weight is used at every output position of every image.
        let mut grad_w = vec![0.0; geometry.weight_len()];
        reference::grad_weight(&geometry, &x, &w, &grad_y, &mut grad_w).unwrap();
        reference::normalise_grad_weight(&mut grad_w, 0.2);
        let positions = geometry.out_len() / o;
        assert_close(
            &format!("{name}.grad_w"),
            &grad_w,
            &read("grad_w").data,
            positions,
        );
    }
}
