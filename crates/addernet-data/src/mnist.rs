//! MNIST and Fashion-MNIST: two `idx` files per split.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use crate::error::DataError;
use crate::files;
use crate::idx::{IdxArray, read_idx};
use crate::kind::{DatasetKind, Split};
use crate::locate::{Arrangement, Located, locate};

/// Images and labels of one split, in memory.
#[derive(Debug)]
pub(crate) struct GreyImages {
    pub(crate) dir: PathBuf,
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// One byte per pixel, images one after another.
    pub(crate) images: Vec<u8>,
    pub(crate) labels: Vec<u32>,
}

const CLASSES: u8 = 10;

/// The names of MNIST's classes.
pub(crate) const MNIST_CLASSES: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// The names of Fashion-MNIST's classes, as its authors give them.
pub(crate) const FASHION_MNIST_CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

const MNIST_FOLDERS: &[&str] = &["", "mnist", "MNIST/raw", "MNIST", "raw"];
const FASHION_FOLDERS: &[&str] = &[
    "",
    "fashion-mnist",
    "FashionMNIST/raw",
    "FashionMNIST",
    "raw",
];

/// Images, then labels; some distributions write a dot for the first dash of "-idx".
const TRAIN_FILES: &[&[&str]] = &[
    &[
        "train-images-idx3-ubyte",
        "train-images-idx3-ubyte.gz",
        "train-images.idx3-ubyte",
    ],
    &[
        "train-labels-idx1-ubyte",
        "train-labels-idx1-ubyte.gz",
        "train-labels.idx1-ubyte",
    ],
];
const TEST_FILES: &[&[&str]] = &[
    &[
        "t10k-images-idx3-ubyte",
        "t10k-images-idx3-ubyte.gz",
        "t10k-images.idx3-ubyte",
    ],
    &[
        "t10k-labels-idx1-ubyte",
        "t10k-labels-idx1-ubyte.gz",
        "t10k-labels.idx1-ubyte",
    ],
];

/// Finds and reads a split of [`DatasetKind::Mnist`] or [`DatasetKind::FashionMnist`].
pub(crate) fn open(kind: DatasetKind, dir: &Path, split: Split) -> Result<GreyImages, DataError> {
    let folders = if kind == DatasetKind::Mnist {
        MNIST_FOLDERS
    } else {
        FASHION_FOLDERS
    };
    let files = if split == Split::Train {
        TRAIN_FILES
    } else {
        TEST_FILES
    };
    let arrangements: Vec<_> = folders
        .iter()
        .map(|folder| Arrangement { folder, files })
        .collect();
    let Located { dir, files, .. } = locate(kind, split, dir, &arrangements)?;
    let [images_path, labels_path] = [&files[0], &files[1]];

    let images = read(images_path)?;
    let &[count, height, width] = &images.dims[..] else {
        let problem = format!(
            "{} dimensions, images need 3: count, height, width",
            images.dims.len()
        );
        return Err(DataError::corrupt(images_path, 3, problem));
    };
    if count == 0 || height == 0 || width == 0 {
        let problem = format!("{count} images of {height}x{width}: there is nothing in it");
        return Err(DataError::corrupt(images_path, 4, problem));
    }
    let labels = read(labels_path)?;
    if labels.dims.len() != 1 {
        let problem = format!("{} dimensions, labels need 1", labels.dims.len());
        return Err(DataError::corrupt(labels_path, 3, problem));
    }
    if let Some(at) = labels.data.iter().position(|&label| label >= CLASSES) {
        let problem = format!(
            "label {} of image {at}, {kind} has classes 0 to {}",
            labels.data[at],
            CLASSES - 1
        );
        return Err(DataError::corrupt(
            labels_path,
            labels.header_len() + at as u64,
            problem,
        ));
    }
    if labels.data.len() != count {
        return Err(DataError::Mismatch {
            first: images_path.clone(),
            second: labels_path.clone(),
            problem: format!("{count} images, {} labels", labels.data.len()),
        });
    }
    let labels = labels.data.into_iter().map(u32::from).collect();
    Ok(GreyImages {
        dir,
        height,
        width,
        images: images.data,
        labels,
    })
}

fn read(path: &Path) -> Result<IdxArray, DataError> {
    let (file, _) = files::open(path)?;
    read_idx(BufReader::new(file), path)
}

#[cfg(test)]
mod tests;
