//! Quantized models in model files (docs/FORMAT.md, "Quantization").

use std::collections::BTreeMap;

use addernet_graph::Model;
use addernet_graph::file::ModelFile;
use ndarray::ArrayD;
use serde::{Deserialize, Serialize};

use crate::error::QuantError;
use crate::format::{self, CodeFormat};
use crate::layer::{Group, QuantizedLayer};
use crate::model::{Provenance, QuantizedModel};
use crate::observer::ActivationRange;

/// Key of the extension in the file's metadata.
const EXTENSION: &str = "quantization";

/// The extension's content.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredQuantization {
    provenance: Provenance,
    layers: BTreeMap<String, StoredLayer>,
}

/// A layer's metadata; codes, group indices and biases are tensors.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredLayer {
    weight: CodeFormat,
    activation: CodeFormat,
    groups: Vec<Group>,
    activation_range: ActivationRange,
}

/// The model file of `quantized`: `<node>.adder` of each adder layer is replaced by
/// `<node>.adder.codes` (U8, packed at their true width) and `<node>.adder.groups` (U8, O).
///
/// # Errors
/// If the metadata cannot be written as JSON.
pub fn to_file(quantized: &QuantizedModel) -> Result<ModelFile, QuantError> {
    let mut file = ModelFile::from(quantized.model().clone());
    let mut layers = BTreeMap::new();
    for (name, layer) in quantized.layers() {
        file.tensors.remove(&format!("{name}.adder"));
        let codes = format::pack(&layer.codes, layer.weight_format);
        let groups: Vec<u8> = layer.group_of.iter().map(|&group| group as u8).collect();
        file.insert(
            format!("{name}.adder.codes"),
            ndarray::Array1::from(codes).into_dyn(),
        );
        file.insert(
            format!("{name}.adder.groups"),
            ndarray::Array1::from(groups).into_dyn(),
        );
        layers.insert(
            name.clone(),
            StoredLayer {
                weight: layer.weight_format,
                activation: layer.activation_format,
                groups: layer.groups.clone(),
                activation_range: layer.range,
            },
        );
    }
    let provenance = quantized.provenance().clone();
    file.set_extension(EXTENSION, &StoredQuantization { provenance, layers })?;
    Ok(file)
}

/// The quantized model that `file` holds.
///
/// # Errors
/// If the file holds a float model, or codes, groups or biases do not fit the graph; the error
/// names file and layer.
pub fn from_file(mut file: ModelFile) -> Result<QuantizedModel, QuantError> {
    let Some(stored) = file.extension::<StoredQuantization>(EXTENSION)? else {
        return Err(QuantError::config(
            "model",
            "it is a float model: quantize it first",
        ));
    };
    let StoredQuantization {
        provenance,
        layers: mut stored,
    } = stored;
    let graph = file.graph.clone();
    let mut layers = BTreeMap::new();
    let mut weights = Vec::new();
    for (_, node, attributes) in graph.adder_nodes() {
        let name = node.name();
        let Some(meta) = stored.remove(name) else {
            return Err(file
                .node_error(name, "the metadata has no quantization of it")
                .into());
        };
        let layer = read_layer(&mut file, name, attributes, meta)?;
        weights.push((
            node.parameter("adder"),
            attributes.weight_shape(),
            layer.dequantized(),
        ));
        layers.insert(name.to_owned(), layer);
    }
    if let Some(name) = stored.keys().next() {
        let reason = "the metadata quantizes it, but it is not an adder layer of the graph";
        return Err(file.node_error(name, reason).into());
    }
    for (name, shape, values) in weights {
        let array = ArrayD::from_shape_vec(shape.to_vec(), values)
            .map_err(|e| QuantError::layer(&name, e.to_string()))?;
        file.insert(name, array);
    }
    file.extensions.remove(EXTENSION);
    let model: Model = file.into_model()?;
    QuantizedModel::from_layers(&model, layers, provenance)
}

fn read_layer(
    file: &mut ModelFile,
    name: &str,
    attributes: &addernet_graph::ConvAttributes,
    meta: StoredLayer,
) -> Result<QuantizedLayer, QuantError> {
    let kernels = attributes.out_channels;
    let count: usize = attributes.weight_shape().iter().product();
    for format in [meta.weight, meta.activation] {
        format
            .check()
            .map_err(|reason| file.node_error(name, reason))?;
    }
    let bytes = (count * usize::from(meta.weight.bits)).div_ceil(8);
    let codes = file.take::<u8>(name, &format!("{name}.adder.codes"), &[bytes])?;
    let groups = file.take::<u8>(name, &format!("{name}.adder.groups"), &[kernels])?;
    let bias_name = format!("{name}.bias");
    let bias = match attributes.bias {
        true => file.take::<f32>(name, &bias_name, &[kernels])?,
        false => {
            return Err(file
                .node_error(name, "a quantized adder layer needs a bias")
                .into());
        }
    };
    file.insert(bias_name, bias.clone());
    let codes: Vec<u8> = codes.into_iter().collect();
    let layer = QuantizedLayer {
        codes: format::unpack(&codes, count, meta.weight)
            .map_err(|reason| file.node_error(name, reason))?,
        weight_format: meta.weight,
        activation_format: meta.activation,
        groups: meta.groups,
        group_of: groups.into_iter().map(usize::from).collect(),
        bias: bias.into_iter().collect(),
        range: meta.activation_range,
    };
    layer
        .check(attributes)
        .map_err(|reason| file.node_error(name, reason))?;
    Ok(layer)
}

#[cfg(test)]
mod tests;
