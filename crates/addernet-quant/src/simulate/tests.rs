use super::*;
use crate::method::MethodKind;
use crate::testing::{images, quantized};

/// The layer's formula in integers, straight from its definition.
fn reference(
    x: &Array4<f32>,
    layer: &crate::layer::QuantizedLayer,
    attributes: &ConvAttributes,
) -> Vec<f32> {
    let (batch, height, width, channels) = x.dim();
    let [kernels, _, kh, kw] = attributes.weight_shape();
    let extent = |size: usize, axis: usize| {
        (size + 2 * attributes.padding[axis] - attributes.kernel[axis]) / attributes.stride[axis]
            + 1
    };
    let mut y = Vec::new();
    for n in 0..batch {
        for i in 0..extent(height, 0) {
            for j in 0..extent(width, 1) {
                for o in 0..kernels {
                    let group = layer.group(o);
                    let mut sum = 0i64;
                    for c in 0..channels {
                        for (u, v) in (0..kh).flat_map(|u| (0..kw).map(move |v| (u, v))) {
                            let row =
                                (i * attributes.stride[0] + u).checked_sub(attributes.padding[0]);
                            let column =
                                (j * attributes.stride[1] + v).checked_sub(attributes.padding[1]);
                            let value = match (row, column) {
                                (Some(r), Some(c_)) if r < height && c_ < width => x[[n, r, c_, c]],
                                _ => 0.0,
                            };
                            let q_x =
                                layer
                                    .activation_format
                                    .encode(value, group.scale, group.levels);
                            let q_w = layer.codes[((o * channels + c) * kh + u) * kw + v];
                            let units =
                                layer.activation_format.units(q_x) - layer.weight_format.units(q_w);
                            sum += i64::from(units.abs());
                        }
                    }
                    y.push(-(sum as f32) * group.step() + layer.bias[o]);
                }
            }
        }
    }
    y
}

/// Compares the output of every adder layer with the reference on the input it really had.
struct Check<'a> {
    quantized: &'a QuantizedModel,
    input: Option<Array4<f32>>,
    checked: usize,
}

impl Hook for Check<'_> {
    fn inputs(&mut self, _: NodeId, node: &Node, inputs: &[&Array4<f32>]) -> Result<(), HookError> {
        self.input = node.adder().map(|_| inputs[0].clone());
        Ok(())
    }

    fn output(&mut self, _: NodeId, node: &Node, output: &Array4<f32>) -> Result<(), HookError> {
        if let (Some(attributes), Some(x)) = (node.adder(), self.input.take()) {
            let expected = reference(&x, &self.quantized.layers()[node.name()], attributes);
            let found: Vec<f32> = output.iter().copied().collect();
            assert_eq!(found, expected, "{}", node.name());
            self.checked += 1;
        }
        Ok(())
    }
}

#[test]
fn every_variant_computes_the_integer_formula_exactly() {
    for kind in MethodKind::ALL {
        for bits in [2, 3, 4, 8] {
            let quantized = quantized(kind, bits);
            let mut logits: Option<Array2<f32>> = None;
            for &kernel in addernet_kernels::available() {
                let simulator = Simulator::new(&quantized, kernel).unwrap();
                let mut check = Check {
                    quantized: &quantized,
                    input: None,
                    checked: 0,
                };
                let y = simulator.run_with(images(3, 0.9), &mut check).unwrap();
                assert_eq!(check.checked, 2);
                assert_eq!(logits.get_or_insert(y.clone()), &y, "{}", kernel.name());
            }
        }
    }
}

#[test]
fn eight_bits_follow_the_float_model_closely_and_two_do_not() {
    let error = |bits: u8| {
        let quantized = quantized(MethodKind::Redistribution, bits);
        let float = crate::testing::model();
        let kernel = addernet_kernels::select(None).unwrap();
        let y = Executor::new(&float, kernel)
            .unwrap()
            .run(images(3, 0.9))
            .unwrap();
        let q = Simulator::new(&quantized, kernel)
            .unwrap()
            .run(images(3, 0.9))
            .unwrap();
        let norm = |a: &Array2<f32>| a.iter().map(|v| v * v).sum::<f32>().sqrt();
        norm(&(&q - &y)) / norm(&y)
    };
    let errors = [8, 4, 2].map(error);
    assert!(errors[0] < 0.01, "{errors:?}");
    assert!(
        errors.windows(2).all(|pair| pair[0] < pair[1]),
        "{errors:?}"
    );
}

#[test]
fn a_node_refuses_what_does_not_fit_it() {
    let quantized = quantized(MethodKind::Redistribution, 4);
    let kernel = addernet_kernels::select(None).unwrap();
    let simulator = Simulator::new(&quantized, kernel).unwrap();
    let graph = quantized.model().graph();
    let id = |name: &str| graph.id(name).unwrap();
    let map = |channels: usize| Array4::<f32>::zeros((1, 6, 6, channels));
    assert!(simulator.node(id("conv2"), &[&map(5)]).is_ok());
    assert!(simulator.node(id("bn2"), &[&map(8)]).is_ok());
    let refused = |id, inputs: &[&Array4<f32>]| simulator.node(id, inputs).unwrap_err().to_string();
    let message = refused(id("conv2"), &[&map(4)]);
    assert!(message.contains("conv2"), "{message}");
    for (id, inputs) in [
        (id("bn2"), &[&map(7)] as &[_]),
        (id("conv1"), &[]),
        (id("bn2"), &[&map(8), &map(8)]),
        (0, &[&map(3)]),
        (graph.nodes().len(), &[&map(6)]),
    ] {
        let message = refused(id, inputs);
        assert!(message.contains("other shapes than its own"), "{message}");
    }
}
