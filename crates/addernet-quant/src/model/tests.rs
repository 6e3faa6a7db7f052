use super::*;
use crate::method::{MethodKind, Redistribution};
use crate::testing::{model, observations, provenance, quantized};

#[test]
fn the_float_model_inside_holds_what_the_codes_stand_for() {
    let quantized = quantized(MethodKind::Redistribution, 6);
    for (name, layer) in quantized.layers() {
        let node = quantized.model().graph().node(name).unwrap();
        assert_eq!(
            quantized.model().values(node, "adder").unwrap(),
            layer.dequantized()
        );
        assert_eq!(quantized.model().values(node, "bias").unwrap(), layer.bias);
    }
    assert_eq!(
        quantized.layers().keys().collect::<Vec<_>>(),
        ["conv2", "conv3"]
    );
}

#[test]
fn layers_and_settings_that_do_not_fit_are_errors() {
    let model = model();
    let mut observations = observations(&model);
    let provenance = provenance(MethodKind::Redistribution, 4);
    let quantize = |observations: &Observations, bits, groups| {
        let method = Redistribution {
            bits,
            groups,
            weight_clamp: true,
        };
        QuantizedModel::quantize(&model, observations, &method, provenance.clone())
            .unwrap_err()
            .to_string()
    };
    assert!(quantize(&observations, 0, 4).starts_with("bits: must be 2 to 8"));
    assert!(quantize(&observations, 4, 9).starts_with("layer `conv2`: 9 groups"));
    observations.layers.remove("conv3");
    assert!(quantize(&observations, 4, 2).starts_with("layer `conv3`: it was not calibrated"));
}
