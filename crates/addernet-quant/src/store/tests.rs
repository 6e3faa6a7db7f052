use std::path::Path;

use super::*;
use crate::method::MethodKind;
use crate::simulate::Simulator;
use crate::testing::{images, quantized};

fn reread(file: &ModelFile) -> Result<QuantizedModel, QuantError> {
    let bytes = file.to_bytes().unwrap();
    from_file(ModelFile::from_bytes(&bytes, Path::new("q.safetensors"))?)
}

#[test]
fn a_quantized_model_survives_its_file() {
    for kind in MethodKind::ALL {
        for bits in crate::format::BITS {
            let before = quantized(kind, bits);
            let file = to_file(&before).unwrap();
            assert!(file.is_quantized());
            let after = reread(&file).unwrap();
            assert_eq!(after.layers(), before.layers());
            assert_eq!(after.provenance(), before.provenance());
            assert_eq!(after.model().parameters(), before.model().parameters());
            let run = |q: &QuantizedModel| {
                let kernel = addernet_kernels::select(None).unwrap();
                Simulator::new(q, kernel)
                    .unwrap()
                    .run(images(2, 0.7))
                    .unwrap()
            };
            assert_eq!(run(&after), run(&before));
        }
    }
}

#[test]
fn codes_take_their_true_width() {
    let file = to_file(&quantized(MethodKind::Redistribution, 3)).unwrap();
    // conv2: 8 kernels of 5·3·3 weights of 3 bits.
    assert_eq!(
        file.tensors["conv2.adder.codes"].shape(),
        [(8 * 45 * 3usize).div_ceil(8)]
    );
    assert!(!file.tensors.contains_key("conv2.adder"));
}

#[test]
fn float_models_and_damaged_files_are_errors_that_name_the_layer() {
    let good = || to_file(&quantized(MethodKind::Redistribution, 3)).unwrap();
    let u8s = |values: Vec<u8>| ndarray::Array1::from(values).into_dyn();

    let float = ModelFile::from(crate::testing::model());
    assert!(
        reread(&float)
            .unwrap_err()
            .to_string()
            .contains("it is a float model")
    );

    let mut missing = good();
    missing.tensors.remove("conv2.adder.codes");
    let mut short = good();
    short.insert("conv2.adder.codes", u8s(vec![0; 7]));
    let mut group = good();
    group.insert("conv2.adder.groups", u8s(vec![200; 8]));
    let mut bias = good();
    bias.insert(
        "conv2.bias",
        ndarray::Array1::from(vec![f32::NAN; 8]).into_dyn(),
    );
    let edited = |edit: &dyn Fn(&mut serde_json::Value)| {
        let mut file = good();
        edit(file.extensions.get_mut(EXTENSION).unwrap());
        file
    };
    let bits = edited(&|v| v["layers"]["conv2"]["weight"]["bits"] = 200.into());
    let multiplier = edited(&|v| v["layers"]["conv2"]["activation"]["multiplier"] = 0.into());
    let step = edited(&|v| v["layers"]["conv2"]["groups"][0]["scale"] = (-1.0).into());
    let levels = edited(&|v| v["layers"]["conv2"]["groups"][0]["levels"] = 0.into());
    let no_groups = edited(&|v| v["layers"]["conv2"]["groups"] = serde_json::json!([]));
    let no_layer = edited(&|v| {
        v["layers"].as_object_mut().unwrap().remove("conv2");
    });
    for (file, reason) in [
        (missing, "codes"),
        (short, "codes"),
        (group, "group 200"),
        (bias, "bias"),
        (bits, "200 bits"),
        (multiplier, "multiplier"),
        (step, "no positive step"),
        (levels, "no positive step"),
        (no_groups, "group 0 of 0"),
        (no_layer, "no quantization"),
    ] {
        let error = reread(&file).unwrap_err().to_string();
        assert!(
            error.contains("conv2") && error.contains(reason),
            "{reason}: {error}"
        );
    }
    let stray = edited(&|v| {
        let layer = v["layers"]["conv2"].clone();
        v["layers"]["bn2"] = layer;
    });
    assert!(
        reread(&stray)
            .unwrap_err()
            .to_string()
            .contains("not an adder layer")
    );
    let unknown = edited(&|v| v["extra"] = 1.into());
    assert!(reread(&unknown).is_err());
}

#[test]
fn the_extension_fits_the_schema_and_the_schema_refuses_wrong_ones() {
    let schema = include_str!("../../../../docs/format.schema.json");
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let metadata = |edit: &dyn Fn(&mut serde_json::Value)| {
        let mut file = to_file(&quantized(MethodKind::Redistribution, 3)).unwrap();
        edit(file.extensions.get_mut(EXTENSION).unwrap());
        let mut metadata = serde_json::json!({
            "format_version": 1, "graph": file.graph, "info": file.info,
        });
        metadata[EXTENSION] = file.extensions[EXTENSION].clone();
        metadata
    };
    assert!(validator.is_valid(&metadata(&|_| ())));
    for edit in [
        |v: &mut serde_json::Value| v["layers"]["conv2"]["weight"]["bits"] = 9.into(),
        |v: &mut serde_json::Value| v["layers"]["conv2"]["groups"] = serde_json::json!([]),
        |v: &mut serde_json::Value| v["layers"]["conv2"]["groups"][0]["scale"] = 0.into(),
        |v: &mut serde_json::Value| v["provenance"]["outlier_quantile"] = 2.into(),
        |v: &mut serde_json::Value| v["extra"] = 1.into(),
    ] {
        assert!(!validator.is_valid(&metadata(&edit)));
    }
}

const FIXTURE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/version-1.safetensors"
);

#[test]
fn files_of_version_1_stay_readable() {
    let read = from_file(ModelFile::read(FIXTURE).unwrap()).unwrap();
    assert_eq!(
        read.layers(),
        quantized(MethodKind::Redistribution, 3).layers()
    );
}

#[test]
#[ignore = "writes the fixture; only a new format version needs a new one"]
fn write_the_fixture() {
    let file = to_file(&quantized(MethodKind::Redistribution, 3)).unwrap();
    file.write(FIXTURE).unwrap();
}
