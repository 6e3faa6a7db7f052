use super::*;
use crate::layer::Group;
use crate::observer::ActivationRange;

/// Three kernels of two weights: inside the range, far below it, far above it.
const WEIGHTS: [f32; 6] = [0.5, 1.0, -40.0, -2.0, 60.0, 0.0];

fn quantize(method: &dyn Method, weights: &[f32], non_negative_input: bool) -> QuantizedLayer {
    let attributes = ConvAttributes::square(2, weights.len() / 2, 1, 1, 0);
    let layer = FloatLayer {
        node: "conv",
        attributes: &attributes,
        weights,
        bias: &[],
        non_negative_input,
        range: ActivationRange {
            min: 0.0,
            max: 5.0,
            bound: 3.0,
        },
    };
    let quantized = method.quantize(&layer).unwrap();
    quantized.check(&attributes).unwrap();
    quantized
}

fn redistribution(bits: u8, groups: usize, weight_clamp: bool) -> Redistribution {
    Redistribution {
        bits,
        groups,
        weight_clamp,
    }
}

#[test]
fn redistribution_clamps_into_the_activation_range_and_keeps_the_rest_as_bias() {
    let layer = quantize(&redistribution(4, 1, true), &WEIGHTS, true);
    // One group: S = min(60, 3); a unit is worth 3/15.
    assert_eq!(
        layer.groups,
        [Group {
            scale: 3.0,
            levels: 15
        }]
    );
    // round(w·15/6), at most 7, at least −8.
    assert_eq!(layer.codes, [1, 2, -8, -5, 7, 0]);
    assert_eq!(layer.bias, [0.0, -37.0, -57.0]);
    assert!(layer.weight_format.signed && layer.weight_format.multiplier == 2);
    assert!(!layer.activation_format.signed && layer.activation_format.multiplier == 1);
}

#[test]
fn groups_whose_scale_is_the_activation_range_become_one() {
    // Ranges 1, 40 and 60: three groups, of which two are cut to S = 3.
    let layer = quantize(&redistribution(8, 3, true), &WEIGHTS, true);
    assert_eq!(
        layer.groups.iter().map(|g| g.scale).collect::<Vec<_>>(),
        [1.0, 3.0]
    );
    assert_eq!(layer.group_of, [0, 1, 1]);
}

#[test]
fn without_the_weight_clamp_the_scale_covers_both_ranges() {
    let layer = quantize(&redistribution(8, 3, false), &WEIGHTS, true);
    assert_eq!(
        layer.groups.iter().map(|g| g.scale).collect::<Vec<_>>(),
        [3.0, 40.0, 60.0]
    );
    assert_eq!(layer.bias, [0.0; 3]);
}

#[test]
fn layers_that_see_negative_activations_get_signed_activation_codes() {
    let layer = quantize(&redistribution(4, 1, true), &WEIGHTS, false);
    assert_eq!(layer.activation_format, layer.weight_format);
    assert_eq!(layer.activation_format.encode(-3.0, 3.0, 15), -8);
}

#[test]
fn kernels_of_zeros_take_the_activations_scale() {
    let layer = quantize(&redistribution(4, 2, true), &[0.0, 0.0, 50.0, 1.0], true);
    assert_eq!(
        layer.groups.iter().map(|g| g.scale).collect::<Vec<_>>(),
        [3.0]
    );
}

#[test]
fn an_existing_bias_is_kept() {
    let attributes = ConvAttributes::square(1, 1, 1, 1, 0).with_bias();
    let layer = FloatLayer {
        node: "conv",
        attributes: &attributes,
        weights: &[7.0],
        bias: &[0.5],
        non_negative_input: true,
        range: ActivationRange {
            min: 0.0,
            max: 3.0,
            bound: 3.0,
        },
    };
    assert_eq!(
        redistribution(8, 1, true).quantize(&layer).unwrap().bias,
        [0.5 - 4.0]
    );
    assert_eq!(
        SharedScale { bits: 8 }.quantize(&layer).unwrap().bias,
        [0.5]
    );
}

#[test]
fn shared_scale_covers_weights_and_activations_with_one_symmetric_grid() {
    let layer = quantize(&SharedScale { bits: 4 }, &WEIGHTS, true);
    assert_eq!(
        layer.groups,
        [Group {
            scale: 60.0,
            levels: 7
        }]
    );
    assert_eq!(layer.codes, [0, 0, -5, 0, 7, 0]);
    assert_eq!(layer.bias, [0.0; 3]);
}

#[test]
fn activation_oriented_puts_both_on_the_activations_grid_without_a_sign() {
    let method = ActivationOriented {
        weight_bits: 2,
        activation_bits: 4,
    };
    let layer = quantize(&method, &WEIGHTS, true);
    // S is the activations' bound; a unit is 3/15, a weight's step five of them.
    assert_eq!(
        layer.groups,
        [Group {
            scale: 3.0,
            levels: 15
        }]
    );
    assert_eq!(layer.codes, [0, 1, 0, 0, 3, 0]);
    assert_eq!(layer.bias, [0.0, -42.0, -57.0]);
    let multipliers = [layer.weight_format, layer.activation_format].map(|f| f.multiplier);
    assert_eq!(multipliers, [5, 1]);
    // Where activations can be negative, both have a sign.
    let layer = quantize(&method, &WEIGHTS, false);
    assert!(layer.weight_format.signed && layer.activation_format.signed);
    // A unit is 3/7, a weight's step four of them.
    assert_eq!(layer.codes, [0, 1, -2, -1, 1, 0]);
}

#[test]
fn names_round_trip() {
    for kind in MethodKind::ALL {
        assert_eq!(kind.name().parse::<MethodKind>().unwrap(), kind);
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
    }
    assert_eq!("auto".parse::<MethodKind>().unwrap(), MethodKind::BEST);
    let error = "magic".parse::<MethodKind>().unwrap_err().to_string();
    assert_eq!(
        error,
        "method: `magic` is unknown; known: reconstruction, redistribution, activation-oriented, shared-scale"
    );
}
