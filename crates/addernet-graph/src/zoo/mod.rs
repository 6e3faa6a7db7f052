//! The model zoo: each architecture is one function from a configuration to a graph.
//!
//! Node names are the module paths of the PyTorch models, so that a checkpoint's keys name the
//! graph's parameters directly. Every convolution but the first, and none of the classifiers, is an
//! adder layer (Chen et al., CVPR 2020, section 4).

mod blocks;
mod lenet;
mod resnet_cifar;
mod resnet_imagenet;
mod vgg;

use std::str::FromStr;

use crate::error::GraphError;
use crate::graph::Graph;
use crate::shape::FeatureShape;

/// A network of the zoo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// LeNet-5 with batch normalisation, for 32x32 images (28x28 padded by 2).
    LeNet5Bn,
    /// VGG-small: six 3x3 convolutions of 128 to 512 channels, for 32x32 images.
    VggSmall,
    /// ResNet-20 for 32x32 images (He et al. 2016, section 4.2), adder shortcuts.
    ResNet20,
    /// ResNet-32 for 32x32 images.
    ResNet32,
    /// ResNet-18 for 224x224 images, adder shortcuts.
    ResNet18,
    /// ResNet-50 for 224x224 images, adder shortcuts.
    ResNet50,
}

impl Architecture {
    /// All architectures.
    pub const ALL: [Architecture; 6] = [
        Architecture::LeNet5Bn,
        Architecture::VggSmall,
        Architecture::ResNet20,
        Architecture::ResNet32,
        Architecture::ResNet18,
        Architecture::ResNet50,
    ];

    /// The name used in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::LeNet5Bn => "lenet5-bn",
            Architecture::VggSmall => "vgg-small",
            Architecture::ResNet20 => "resnet20",
            Architecture::ResNet32 => "resnet32",
            Architecture::ResNet18 => "resnet18",
            Architecture::ResNet50 => "resnet50",
        }
    }

    /// The image shape that the architecture was published for.
    pub fn default_input(self) -> FeatureShape {
        match self {
            Architecture::LeNet5Bn => FeatureShape::new(1, 32, 32),
            Architecture::VggSmall | Architecture::ResNet20 | Architecture::ResNet32 => {
                FeatureShape::new(3, 32, 32)
            }
            Architecture::ResNet18 | Architecture::ResNet50 => FeatureShape::new(3, 224, 224),
        }
    }

    /// The number of classes that the architecture was published for.
    pub fn default_classes(self) -> usize {
        match self {
            Architecture::ResNet18 | Architecture::ResNet50 => 1000,
            _ => 10,
        }
    }

    /// The graph for images of shape `input` and this many classes.
    ///
    /// # Errors
    /// If a layer's window does not fit its feature map, or an extent is out of range.
    ///
    /// ```
    /// use addernet_graph::{zoo::Architecture, FeatureShape};
    /// let graph = Architecture::ResNet20.graph(FeatureShape::new(3, 32, 32), 10)?;
    /// assert_eq!(graph.adder_nodes().count(), 20);
    /// # Ok::<(), addernet_graph::GraphError>(())
    /// ```
    pub fn graph(self, input: FeatureShape, classes: usize) -> Result<Graph, GraphError> {
        match self {
            Architecture::LeNet5Bn => lenet::lenet5_bn(input, classes),
            Architecture::VggSmall => vgg::vgg_small(input, classes),
            Architecture::ResNet20 => resnet_cifar::resnet(self.name(), 3, input, classes),
            Architecture::ResNet32 => resnet_cifar::resnet(self.name(), 5, input, classes),
            Architecture::ResNet18 => resnet_imagenet::resnet18(input, classes),
            Architecture::ResNet50 => resnet_imagenet::resnet50(input, classes),
        }
    }
}

impl std::fmt::Display for Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Architecture {
    type Err = GraphError;

    fn from_str(name: &str) -> Result<Self, GraphError> {
        Architecture::ALL
            .into_iter()
            .find(|a| a.name() == name)
            .ok_or_else(|| GraphError::UnknownArchitecture {
                name: name.to_owned(),
                known: Architecture::ALL.map(Architecture::name).join(", "),
            })
    }
}

#[cfg(test)]
mod tests;
