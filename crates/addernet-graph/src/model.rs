//! A graph with its parameters.

use std::collections::BTreeMap;

use ndarray::ArrayD;
use serde::{Deserialize, Serialize};

use crate::error::{GraphError, ParameterMismatch};
use crate::graph::{Graph, Node};

/// Parameters by full name (`layer1.0.conv1.adder`), in PyTorch's layouts.
pub type Parameters = BTreeMap<String, ArrayD<f32>>;

/// How pixels become the network's input: `(pixel/255 − mean)/std`, per channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Mean of each channel, on the scale 0..1.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, on the scale 0..1; positive.
    pub std: Vec<f32>,
}

/// What a model file says besides graph and parameters; all of it optional.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelInfo {
    /// The normalisation the network was trained with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocessing: Option<Preprocessing>,
    /// Names of the classes, in the order of the logits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_names: Vec<String>,
}

/// A network that can run: a graph and parameters that fit it, all of them finite.
#[derive(Clone, Debug)]
pub struct Model {
    graph: Graph,
    parameters: Parameters,
    info: ModelInfo,
}

impl Model {
    /// Joins a graph and its parameters.
    ///
    /// # Errors
    /// If a parameter is missing, unexpected, of another shape, or holds NaN or an infinity, or a
    /// BN variance is negative.
    pub fn new(graph: Graph, parameters: Parameters) -> Result<Self, GraphError> {
        let model = Self {
            graph,
            parameters,
            info: ModelInfo::default(),
        };
        model.check()?;
        Ok(model)
    }

    /// The same model with other accompanying information.
    ///
    /// # Errors
    /// If the information does not fit the graph: channels of the normalisation, number of classes.
    pub fn with_info(mut self, info: ModelInfo) -> Result<Self, GraphError> {
        let invalid = |reason| GraphError::InvalidGraph {
            graph: self.graph.name().to_owned(),
            reason,
        };
        if let Some(Preprocessing { mean, std }) = &info.preprocessing {
            let channels = self.graph.input_shape().channels;
            if mean.len() != channels || std.len() != channels {
                return Err(invalid(format!(
                    "preprocessing gives {} means and {} standard deviations for {channels} channels",
                    mean.len(),
                    std.len()
                )));
            }
            if !mean.iter().all(|m| m.is_finite()) || !std.iter().all(|s| s.is_finite() && *s > 0.0)
            {
                return Err(invalid(
                    "preprocessing needs finite means and positive standard deviations".into(),
                ));
            }
        }
        let (classes, names) = (self.graph.classes(), info.class_names.len());
        if names != 0 && names != classes {
            return Err(invalid(format!(
                "it has {classes} classes, but {names} class names"
            )));
        }
        self.info = info;
        Ok(self)
    }

    /// The network's structure.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// All parameters by full name.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// What accompanies the network.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Parameter `suffix` of `node`.
    ///
    /// # Errors
    /// If the node has no such parameter.
    pub fn parameter(&self, node: &Node, suffix: &str) -> Result<&ArrayD<f32>, GraphError> {
        let name = node.parameter(suffix);
        self.parameters
            .get(&name)
            .ok_or_else(|| GraphError::Parameters {
                graph: self.graph.name().to_owned(),
                mismatch: ParameterMismatch {
                    missing: vec![name],
                    ..Default::default()
                },
            })
    }

    /// Values of parameter `suffix` of `node`, row-major.
    ///
    /// # Errors
    /// If the node has no such parameter.
    pub fn values(&self, node: &Node, suffix: &str) -> Result<&[f32], GraphError> {
        self.parameter(node, suffix)?
            .as_slice()
            .ok_or_else(|| GraphError::InvalidNode {
                node: node.name().to_owned(),
                reason: format!("parameter `{suffix}` is not stored contiguously"),
            })
    }

    /// The same model with some parameters replaced, added or (by a changed graph) dropped.
    ///
    /// # Errors
    /// As [`Model::new`].
    pub fn with_parts(self, graph: Graph, parameters: Parameters) -> Result<Self, GraphError> {
        Model::new(graph, parameters)?.with_info(self.info)
    }

    /// Takes the model apart.
    pub fn into_parts(self) -> (Graph, Parameters, ModelInfo) {
        (self.graph, self.parameters, self.info)
    }

    fn check(&self) -> Result<(), GraphError> {
        let mut mismatch = ParameterMismatch::default();
        let mut expected = std::collections::HashSet::new();
        for (name, shape) in self.graph.parameters() {
            match self.parameters.get(&name) {
                None => mismatch.missing.push(name.clone()),
                Some(found) if found.shape() != shape => {
                    mismatch
                        .misshapen
                        .push((name.clone(), shape, found.shape().to_vec()));
                }
                Some(_) => {}
            }
            expected.insert(name);
        }
        mismatch.unexpected.extend(
            self.parameters
                .keys()
                .filter(|key| !expected.contains(*key))
                .cloned(),
        );
        if !mismatch.is_empty() {
            return Err(GraphError::Parameters {
                graph: self.graph.name().to_owned(),
                mismatch,
            });
        }
        for node in self.graph.nodes() {
            for (parameter, _) in node.parameters() {
                check_values(node, &parameter, &self.parameters[&parameter])?;
            }
        }
        Ok(())
    }
}

fn check_values(node: &Node, parameter: &str, values: &ArrayD<f32>) -> Result<(), GraphError> {
    if !values.is_standard_layout() {
        return Err(GraphError::InvalidNode {
            node: node.name().to_owned(),
            reason: format!("parameter `{parameter}` is not in row-major layout"),
        });
    }
    let count = values.iter().filter(|v| !v.is_finite()).count();
    if count > 0 {
        let index = values.iter().position(|v| !v.is_finite()).unwrap_or(0);
        return Err(GraphError::NonFinite {
            node: node.name().to_owned(),
            parameter: parameter.to_owned(),
            count,
            index,
        });
    }
    if parameter.ends_with(".running_var") && values.iter().any(|v| *v < 0.0) {
        return Err(GraphError::InvalidNode {
            node: node.name().to_owned(),
            reason: format!("parameter `{parameter}` holds a negative variance"),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
