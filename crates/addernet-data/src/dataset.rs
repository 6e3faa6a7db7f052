//! A data set, opened.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::augmentation::Augmentation;
use crate::cifar::{self, CifarVariant};
use crate::error::DataError;
use crate::imagefolder::ImageFolder;
use crate::kind::{DatasetKind, Split};
use crate::mnist;
use crate::shapes::Shapes;

/// How to open a data set; the defaults are the published evaluation settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// Image folders: the shorter side after resizing, in pixels (256).
    pub resize: u32,
    /// Image folders: side of the square cut from the centre, in pixels (224); at most `resize`.
    pub crop: u32,
    /// Shapes: which of the infinitely many sets (0).
    pub shapes_seed: u64,
    /// Shapes: number of images; `None` for 10,000 training or 2,000 test images. A shorter set is a
    /// prefix of a longer one.
    pub shapes_len: Option<usize>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            resize: 256,
            crop: 224,
            shapes_seed: 0,
            shapes_len: None,
        }
    }
}

/// Labelled images of one size.
///
/// CIFAR and MNIST-style sets are held in memory as bytes; image folders are decoded, and shapes drawn,
/// whenever an image is asked for.
#[derive(Debug)]
pub struct Dataset {
    kind: DatasetKind,
    split: Split,
    dir: Option<PathBuf>,
    image_shape: [usize; 3],
    class_names: Vec<String>,
    labels: Vec<u32>,
    images: Images,
}

#[derive(Debug)]
enum Images {
    Memory(Vec<u8>),
    Folder(ImageFolder),
    Shapes(Shapes),
}

impl Dataset {
    /// Opens a split of a data set.
    ///
    /// `data_dir` is the folder that holds the files, or the parent of the folder with the published name:
    ///
    /// | data set | folders searched in `data_dir` (besides itself) |
    /// |---|---|
    /// | CIFAR-10 | `cifar-10-batches-bin`, `cifar-10-batches-py` |
    /// | CIFAR-100 | `cifar-100-binary`, `cifar-100-python` |
    /// | MNIST | `mnist`, `MNIST/raw`, `MNIST`, `raw` |
    /// | Fashion-MNIST | `fashion-mnist`, `FashionMNIST/raw`, `FashionMNIST`, `raw` |
    /// | image folder | `train`; `val` or `test` |
    ///
    /// Files of the MNIST family may be gzipped. An image folder without `train`, `val` and `test`
    /// sub-folders is taken as it is for either split. Shapes need no folder.
    ///
    /// # Errors
    /// [`DataError::NoDataDir`] and [`DataError::NotFound`] if there is nothing to open,
    /// [`DataError::Corrupt`], [`DataError::Mismatch`], [`DataError::Layout`] and [`DataError::Io`] if
    /// the files are not what they should be, [`DataError::InvalidOption`] for impossible options.
    pub fn open(
        kind: DatasetKind,
        data_dir: Option<&Path>,
        split: Split,
        options: &OpenOptions,
    ) -> Result<Dataset, DataError> {
        if kind == DatasetKind::Shapes {
            return Self::shapes(split, options);
        }
        let data_dir = data_dir.ok_or(DataError::NoDataDir { kind })?;
        match kind {
            DatasetKind::Cifar10 | DatasetKind::Cifar100 => Self::cifar(kind, data_dir, split),
            DatasetKind::Mnist | DatasetKind::FashionMnist => Self::mnist(kind, data_dir, split),
            _ => Self::image_folder(data_dir, split, options),
        }
    }

    fn cifar(kind: DatasetKind, data_dir: &Path, split: Split) -> Result<Dataset, DataError> {
        let variant = match kind {
            DatasetKind::Cifar10 => CifarVariant::Cifar10,
            _ => CifarVariant::Cifar100,
        };
        let (dir, samples) = cifar::open(variant, data_dir, split)?;
        Ok(Dataset {
            kind,
            split,
            dir: Some(dir),
            image_shape: [cifar::SIDE, cifar::SIDE, 3],
            class_names: owned(kind.class_names()),
            labels: samples.labels,
            images: Images::Memory(samples.images),
        })
    }

    fn mnist(kind: DatasetKind, data_dir: &Path, split: Split) -> Result<Dataset, DataError> {
        let grey = mnist::open(kind, data_dir, split)?;
        Ok(Dataset {
            kind,
            split,
            dir: Some(grey.dir),
            image_shape: [grey.height, grey.width, 1],
            class_names: owned(kind.class_names()),
            labels: grey.labels,
            images: Images::Memory(grey.images),
        })
    }

    fn image_folder(
        data_dir: &Path,
        split: Split,
        options: &OpenOptions,
    ) -> Result<Dataset, DataError> {
        let (folder, class_names, labels) =
            ImageFolder::open(data_dir, split, options.resize, options.crop)?;
        let side = options.crop as usize;
        Ok(Dataset {
            kind: DatasetKind::ImageFolder,
            split,
            dir: Some(folder.dir().to_path_buf()),
            image_shape: [side, side, 3],
            class_names,
            labels,
            images: Images::Folder(folder),
        })
    }

    fn shapes(split: Split, options: &OpenOptions) -> Result<Dataset, DataError> {
        let len = options.shapes_len.unwrap_or(match split {
            Split::Train => 10_000,
            Split::Test => 2_000,
        });
        if len == 0 {
            let problem = "a set of 0 images cannot be opened, ask for at least 1".to_owned();
            return Err(DataError::InvalidOption {
                option: "shapes_len",
                problem,
            });
        }
        let (shapes, labels) = Shapes::new(options.shapes_seed, split, len);
        Ok(Dataset {
            kind: DatasetKind::Shapes,
            split,
            dir: None,
            image_shape: shapes.image_shape(),
            class_names: owned(DatasetKind::Shapes.class_names()),
            labels,
            images: Images::Shapes(shapes),
        })
    }

    /// Which data set this is.
    pub fn kind(&self) -> DatasetKind {
        self.kind
    }

    /// Which split this is.
    pub fn split(&self) -> Split {
        self.split
    }

    /// The folder in which the files were found; none for shapes.
    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// The number of images, at least 1.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Always false: an empty data set cannot be opened.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// `[height, width, channels]` of every image.
    pub fn image_shape(&self) -> [usize; 3] {
        self.image_shape
    }

    /// The names of the classes, in label order.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// The number of classes; labels are below it.
    pub fn num_classes(&self) -> usize {
        self.class_names.len()
    }

    /// The label of every image.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The pixels of an image, 0 to 255, in HWC order ([`image_shape`](Self::image_shape) gives the sizes).
    ///
    /// # Errors
    /// [`DataError::IndexOutOfRange`]; for image folders also [`DataError::Io`] and [`DataError::Image`].
    pub fn image(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError> {
        self.check_index(index)?;
        match &self.images {
            Images::Memory(pixels) => {
                let size = self.image_shape.iter().product::<usize>();
                Ok(Cow::Borrowed(&pixels[index * size..][..size]))
            }
            Images::Folder(folder) => folder.image(index).map(Cow::Owned),
            Images::Shapes(shapes) => Ok(Cow::Owned(shapes.image(index, self.labels[index]))),
        }
    }

    /// The pixels of an image as `augmentation` wants them: of the window that it chooses, or as [`image`](Self::image)
    /// gives them.
    pub(crate) fn augmented_image(
        &self,
        index: usize,
        augmentation: Option<&Augmentation>,
    ) -> Result<Cow<'_, [u8]>, DataError> {
        match (&self.images, augmentation) {
            (Images::Folder(folder), Some(augmentation)) if augmentation.resized_crop.is_some() => {
                self.check_index(index)?;
                let whole = |[width, height]: [u32; 2]| [0, 0, width, height];
                let choose = |size| {
                    augmentation
                        .window(index, size)
                        .unwrap_or_else(|| whole(size))
                };
                folder.window(index, choose).map(Cow::Owned)
            }
            _ => self.image(index),
        }
    }

    /// Whether windows of an image can be resized: only image folders have more of them than they give.
    pub(crate) fn has_windows(&self) -> bool {
        matches!(self.images, Images::Folder(_))
    }

    /// The file of an image; only image folders have one per image.
    pub fn file_name(&self, index: usize) -> Option<&Path> {
        match &self.images {
            Images::Folder(folder) => folder.file(index),
            _ => None,
        }
    }

    /// Whether preparing an image takes long enough to give each its own task.
    pub(crate) fn is_lazy(&self) -> bool {
        !matches!(self.images, Images::Memory(_))
    }

    pub(crate) fn check_index(&self, index: usize) -> Result<(), DataError> {
        if index < self.len() {
            return Ok(());
        }
        Err(DataError::IndexOutOfRange {
            kind: self.kind,
            split: self.split,
            index,
            len: self.len(),
        })
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
