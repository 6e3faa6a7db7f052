//! CIFAR-10 and CIFAR-100 (A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009).

mod binary;
mod names;
mod python;

use std::path::{Path, PathBuf};

pub use binary::read_cifar_binary;
pub(crate) use names::{CIFAR10_CLASSES, CIFAR100_CLASSES};
pub use python::read_cifar_pickle;

use crate::error::DataError;
use crate::kind::{DatasetKind, Split};
use crate::locate::{Arrangement, Located, locate};

/// Height and width of every image.
pub(crate) const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const PIXELS: usize = 3 * PLANE;

/// Which of the two CIFAR data sets a file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CifarVariant {
    /// One label byte per record, 10 classes.
    Cifar10,
    /// A coarse and a fine label byte per record, 100 fine classes; the fine label is read.
    Cifar100,
}

impl CifarVariant {
    /// The number of classes.
    pub fn classes(self) -> usize {
        match self {
            CifarVariant::Cifar10 => 10,
            CifarVariant::Cifar100 => 100,
        }
    }

    fn kind(self) -> DatasetKind {
        match self {
            CifarVariant::Cifar10 => DatasetKind::Cifar10,
            CifarVariant::Cifar100 => DatasetKind::Cifar100,
        }
    }
}

/// Labelled 32x32 RGB images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Samples {
    /// Pixels in HWC order, 3,072 bytes per image, one image after another.
    pub images: Vec<u8>,
    /// One label per image, below the number of classes.
    pub labels: Vec<u32>,
}

impl Samples {
    /// Appends an image given as CIFAR stores it: a red, a green and a blue plane.
    fn push(&mut self, planes: &[u8], label: u32) {
        let (red, rest) = planes.split_at(PLANE);
        let (green, blue) = rest.split_at(PLANE);
        let pixels = red.iter().zip(green).zip(blue);
        self.images
            .extend(pixels.flat_map(|((&r, &g), &b)| [r, g, b]));
        self.labels.push(label);
    }
}

type Reader = fn(&Path, CifarVariant, &mut Samples) -> Result<(), DataError>;

/// The published layouts: folder, training files, test file, and how to read them.
fn layouts(
    variant: CifarVariant,
) -> [(
    &'static str,
    &'static [&'static [&'static str]],
    &'static str,
    Reader,
); 2] {
    match variant {
        CifarVariant::Cifar10 => [
            (
                "cifar-10-batches-bin",
                &[
                    &["data_batch_1.bin"],
                    &["data_batch_2.bin"],
                    &["data_batch_3.bin"],
                    &["data_batch_4.bin"],
                    &["data_batch_5.bin"],
                ],
                "test_batch.bin",
                binary::read_file,
            ),
            (
                "cifar-10-batches-py",
                &[
                    &["data_batch_1"],
                    &["data_batch_2"],
                    &["data_batch_3"],
                    &["data_batch_4"],
                    &["data_batch_5"],
                ],
                "test_batch",
                python::read_file,
            ),
        ],
        CifarVariant::Cifar100 => [
            (
                "cifar-100-binary",
                &[&["train.bin"]],
                "test.bin",
                binary::read_file,
            ),
            ("cifar-100-python", &[&["train"]], "test", python::read_file),
        ],
    }
}

/// Finds and reads a split, from the binary version if both are there.
pub(crate) fn open(
    variant: CifarVariant,
    dir: &Path,
    split: Split,
) -> Result<(PathBuf, Samples), DataError> {
    let layouts = layouts(variant);
    let test_files = layouts.map(|(_, _, test, _)| [test]);
    let test_files = test_files.each_ref().map(|names| [names.as_slice()]);
    let mut arrangements = Vec::new();
    for ((folder, train, _, _), test) in layouts.iter().zip(&test_files) {
        let files: &[&[&str]] = if split == Split::Train { train } else { test };
        arrangements.push(Arrangement { folder: "", files });
        arrangements.push(Arrangement { folder, files });
    }
    let Located {
        arrangement,
        dir,
        files,
    } = locate(variant.kind(), split, dir, &arrangements)?;
    let (.., read) = layouts[arrangement / 2];
    let mut samples = Samples::default();
    for file in &files {
        read(file, variant, &mut samples)?;
    }
    Ok((dir, samples))
}
