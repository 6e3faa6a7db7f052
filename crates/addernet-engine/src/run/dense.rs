//! Ordinary convolutions and linear layers of maps: few and small, at the end of a network.

use addernet_graph::FeatureShape;

use super::plain::inside;
use super::workspace::Workspace;
use crate::program::Dense;

/// Terms whose i16 x i8 products always fit an i32 together.
const CHUNK: usize = 256;

/// Runs the layer on `from`; its output goes to the slot `to`, or to the workspace's wide sums.
pub(super) fn run(
    dense: &Dense,
    shape: FeatureShape,
    from: &[i16],
    to: Option<usize>,
    space: &mut Workspace,
) {
    let window = &dense.window;
    let [outputs, channels, kernel_height, kernel_width] = window.shape;
    let extent = |size: usize, at: usize| {
        (size + 2 * window.padding[at] - window.shape[2 + at]) / window.stride[at] + 1
    };
    let (height, width) = (extent(shape.height, 0), extent(shape.width, 1));
    let taps = channels * kernel_height * kernel_width;
    let mut patch = std::mem::take(&mut space.window);
    patch.clear();
    patch.resize(taps, 0);
    if to.is_none() {
        space.wide.clear();
        space.wide.resize(height * width * outputs, 0);
    }
    for pixel in 0..height * width {
        let (top, left) = (
            pixel / width * window.stride[0],
            pixel % width * window.stride[1],
        );
        patch.fill(0);
        for y in inside(top, window.padding[0], kernel_height, shape.height) {
            let columns = inside(left, window.padding[1], kernel_width, shape.width);
            let (u, v) = (
                y + window.padding[0] - top,
                columns.start + window.padding[1] - left,
            );
            let values =
                &from[(y * shape.width + columns.start) * channels..][..columns.len() * channels];
            patch[(u * kernel_width + v) * channels..][..values.len()].copy_from_slice(values);
        }
        for (o, weights) in dense.weights.chunks_exact(taps).enumerate() {
            let scale = dense.scales[o];
            let value = (dot(&patch, weights) * scale.multiplier + scale.offset) >> scale.shift;
            let value = if dense.relu { value.max(0) } else { value };
            let at = pixel * outputs + o;
            match to {
                None => space.wide[at] = value.clamp(i32::MIN.into(), i32::MAX.into()) as i32,
                Some(slot) => {
                    space.maps[slot][at] = value.clamp(i16::MIN.into(), i16::MAX.into()) as i16
                }
            }
        }
    }
    space.window = patch;
}

/// Σ x·w, exactly.
fn dot(x: &[i16], w: &[i8]) -> i64 {
    let chunk = |(x, w): (&[i16], &[i8])| {
        let product = |(&x, &w): (&i16, &i8)| i32::from(x) * i32::from(w);
        i64::from(x.iter().zip(w).map(product).sum::<i32>())
    };
    x.chunks(CHUNK).zip(w.chunks(CHUNK)).map(chunk).sum()
}
