//! Image folders in the layout of torchvision's `ImageFolder`: one sub-folder per class.

mod decode;
mod fit;

use std::path::{Path, PathBuf};

pub use decode::load_image;
pub use fit::{default_resize, load_image_for};
use walkdir::WalkDir;

use crate::augmentation::Window;
use crate::error::DataError;
use crate::kind::{DatasetKind, Split};
use crate::locate::absence;

/// Files with these endings are images, in either case.
const EXTENSIONS: [&str; 7] = ["jpg", "jpeg", "png", "bmp", "ppm", "pgm", "webp"];
/// torchvision counts these among the images, but they cannot be read here.
const UNSUPPORTED: [&str; 2] = ["tif", "tiff"];

/// The files of a folder, and how to bring them to one size.
#[derive(Debug)]
pub(crate) struct ImageFolder {
    dir: PathBuf,
    files: Vec<PathBuf>,
    resize: u32,
    crop: u32,
}

impl ImageFolder {
    /// Finds the images of a split; gives the class names and the label of every image too.
    pub(crate) fn open(
        data_dir: &Path,
        split: Split,
        resize: u32,
        crop: u32,
    ) -> Result<(Self, Vec<String>, Vec<u32>), DataError> {
        decode::check_sizes(resize, crop)?;
        let dir = split_folder(data_dir, split)?;
        let classes = sub_folders(&dir)?;
        let mut files = Vec::new();
        let mut labels = Vec::new();
        for (class, label) in classes.iter().zip(0..) {
            let folder = dir.join(class);
            let before = files.len();
            files.extend(images_below(&folder)?);
            if files.len() == before {
                let problem = format!(
                    "the class has no images: expected files ending in .{}",
                    EXTENSIONS.join(", .")
                );
                return Err(DataError::Layout {
                    path: folder,
                    problem,
                });
            }
            labels.resize(files.len(), label);
        }
        let names = classes
            .iter()
            .map(|class| class.to_string_lossy().into_owned())
            .collect();
        Ok((
            Self {
                dir,
                files,
                resize,
                crop,
            },
            names,
            labels,
        ))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn file(&self, index: usize) -> Option<&Path> {
        self.files.get(index).map(PathBuf::as_path)
    }

    /// The image with a window of it in the place of its middle.
    pub(crate) fn window(
        &self,
        index: usize,
        choose: impl FnOnce([u32; 2]) -> Window,
    ) -> Result<Vec<u8>, DataError> {
        decode::load_window(&self.files[index], self.crop, choose)
    }

    pub(crate) fn image(&self, index: usize) -> Result<Vec<u8>, DataError> {
        load_image(&self.files[index], self.resize, self.crop)
    }
}

/// The folder whose sub-folders are the classes: `train`, `val` or `test` if there is one with
/// sub-folders, else the folder itself.
fn split_folder(data_dir: &Path, split: Split) -> Result<PathBuf, DataError> {
    let not_found = |looked_for: String| DataError::NotFound {
        kind: DatasetKind::ImageFolder,
        split,
        dir: data_dir.to_path_buf(),
        looked_for,
    };
    if !data_dir.is_dir() {
        return Err(not_found(format!(
            "the folder itself, which {}",
            absence(data_dir)
        )));
    }
    let is_split = |name: &&str| -> Result<bool, DataError> {
        let folder = data_dir.join(name);
        Ok(folder.is_dir() && !sub_folders(&folder)?.is_empty())
    };
    let wanted: &[&str] = if split == Split::Train {
        &["train"]
    } else {
        &["val", "test"]
    };
    for name in wanted {
        if is_split(name)? {
            return Ok(data_dir.join(name));
        }
    }
    for name in ["train", "val", "test"] {
        if is_split(&name)? {
            let wanted = wanted.join("/ or ");
            let problem =
                format!("{wanted}/ with one sub-folder per class (beside {name}/, which is there)");
            return Err(not_found(problem));
        }
    }
    if sub_folders(data_dir)?.is_empty() {
        let wanted = wanted.join("/ or ");
        return Err(not_found(format!(
            "one sub-folder per class in it, or in {wanted}/"
        )));
    }
    Ok(data_dir.to_path_buf())
}

/// The names of the sub-folders in sorted order, without hidden ones.
fn sub_folders(dir: &Path) -> Result<Vec<std::ffi::OsString>, DataError> {
    let mut names = Vec::new();
    for entry in dir.read_dir().map_err(DataError::io(dir, "list"))? {
        let entry = entry.map_err(DataError::io(dir, "list"))?;
        let name = entry.file_name();
        if !name.as_encoded_bytes().starts_with(b".") && entry.path().is_dir() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The images of a class: those of [`image_files`], which must all be readable.
fn images_below(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let files = image_files(folder)?;
    let is_unsupported = |path: &&PathBuf| UNSUPPORTED.contains(&&*extension(path));
    match files.iter().find(is_unsupported) {
        Some(path) => Err(DataError::Layout {
            path: path.clone(),
            problem: "TIFF images cannot be read, convert it to PNG".to_owned(),
        }),
        None => Ok(files),
    }
}

/// The files anywhere below a folder that are images by their ending (JPEG, PNG, BMP, PNM, WebP, and TIFF,
/// which [`load_image`] refuses), sorted by folder and then by name, as torchvision does.
///
/// # Errors
/// [`DataError::Io`] if a folder cannot be listed.
pub fn image_files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    for entry in WalkDir::new(folder).follow_links(true) {
        let entry = entry.map_err(|e| {
            let path = e.path().unwrap_or(folder).to_path_buf();
            let source = e
                .into_io_error()
                .unwrap_or_else(|| std::io::Error::other("a link leads back to a folder above it"));
            DataError::Io {
                path,
                action: "list",
                source,
            }
        })?;
        let extension = extension(entry.path());
        let is_image = EXTENSIONS
            .iter()
            .chain(&UNSUPPORTED)
            .any(|e| *e == extension);
        if is_image && entry.file_type().is_file() {
            files.push(entry.into_path());
        }
    }
    files.sort_by(|a, b| (a.parent(), a.file_name()).cmp(&(b.parent(), b.file_name())));
    Ok(files)
}

/// A file name's ending in lower case, without the dot.
fn extension(path: &Path) -> String {
    path.extension()
        .map(|e| e.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
