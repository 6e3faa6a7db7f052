//! The crate's error type.

use std::io;
use std::path::{Path, PathBuf};

use crate::kind::{DatasetKind, Split};

/// Everything that can go wrong with a data set. The text is one line: what, where, and how to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A data set's name that is none of [`DatasetKind::ALL`].
    #[error("unknown data set `{name}`: use one of {}", DatasetKind::names())]
    UnknownDataset {
        /// The name as given.
        name: String,
    },
    /// A split's name that is neither `train` nor `test`.
    #[error("unknown split `{name}`: use train or test")]
    UnknownSplit {
        /// The name as given.
        name: String,
    },
    /// The data set is read from files, and no folder was given.
    #[error(
        "{kind} needs --data-dir DIR, the folder with its files or the parent of that folder{}",
        download_hint(*kind, Path::new("DIR"))
    )]
    NoDataDir {
        /// The data set.
        kind: DatasetKind,
    },
    /// The folder holds no files of this data set.
    #[error(
        "the {split} split of {kind} was not found in {}: looked for {looked_for}{}",
        dir.display(),
        download_hint(*kind, dir)
    )]
    NotFound {
        /// The data set.
        kind: DatasetKind,
        /// The split that was asked for.
        split: Split,
        /// The folder that was searched.
        dir: PathBuf,
        /// The files or folders that would have done.
        looked_for: String,
    },
    /// The operating system refused to read or write a file.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as an infinitive.
        action: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A data file does not follow its format.
    #[error("{}: byte {offset}: {problem}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in the file (of a gzipped file: in the unpacked data).
        offset: u64,
        /// What is wrong there, and what was expected.
        problem: String,
    },
    /// Two files of a data set do not fit together.
    #[error("{} and {} do not belong together: {problem}", first.display(), second.display())]
    Mismatch {
        /// One file.
        first: PathBuf,
        /// The other file.
        second: PathBuf,
        /// The difference.
        problem: String,
    },
    /// An image file cannot be decoded, or is larger than the limits.
    #[error("{}: not a usable image: {problem}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// The decoder's reason.
        problem: String,
    },
    /// An image folder is not laid out as one sub-folder per class.
    #[error("{}: {problem}", path.display())]
    Layout {
        /// The folder or file that breaks the layout.
        path: PathBuf,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// An image was asked for that the data set does not have.
    #[error("image {index} does not exist: the {split} split of {kind} has {len} images")]
    IndexOutOfRange {
        /// The data set.
        kind: DatasetKind,
        /// The split.
        split: Split,
        /// The index asked for.
        index: usize,
        /// The number of images.
        len: usize,
    },
    /// More images were asked for than the data set has.
    #[error(
        "{requested} images were asked for, but the {split} split of {kind} has {available}: \
         ask for {available} or fewer"
    )]
    TooFewImages {
        /// The data set.
        kind: DatasetKind,
        /// The split.
        split: Split,
        /// The number asked for.
        requested: usize,
        /// The number of images.
        available: usize,
    },
    /// An option's value that makes no sense, or does not fit the images.
    #[error("{option}: {problem}")]
    InvalidOption {
        /// The option or field.
        option: &'static str,
        /// Why the value cannot be used, and which could.
        problem: String,
    },
    /// The data set has no published download.
    #[error("{kind} cannot be downloaded: {}", no_download_reason(*kind))]
    NotDownloadable {
        /// The data set.
        kind: DatasetKind,
    },
    /// No mirror delivered a file.
    #[error("cannot download {file}: {reason}")]
    Download {
        /// The file.
        file: String,
        /// What happened at each address.
        reason: String,
    },
    /// A file arrived complete but is not the published one; it was deleted.
    #[error(
        "{file} from {url} is not the published file: its {algorithm} sum is {found}, not {expected}; \
         it was deleted, try again or from another network"
    )]
    Checksum {
        /// The file.
        file: String,
        /// Where it came from.
        url: String,
        /// `MD5` or `SHA-256`.
        algorithm: &'static str,
        /// The published sum, in hexadecimal.
        expected: String,
        /// The sum of what arrived.
        found: String,
    },
}

impl DataError {
    /// For `map_err` on an I/O result: `action` is an infinitive such as "read".
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> DataError {
        let path = path.to_path_buf();
        move |source| DataError::Io {
            path,
            action,
            source,
        }
    }

    pub(crate) fn corrupt(path: &Path, offset: u64, problem: impl Into<String>) -> DataError {
        DataError::Corrupt {
            path: path.to_path_buf(),
            offset,
            problem: problem.into(),
        }
    }
}

fn download_hint(kind: DatasetKind, dir: &Path) -> String {
    if kind.downloadable() {
        format!(
            "; to fetch it: addernet download {kind} --data-dir {}",
            dir.display()
        )
    } else {
        String::new()
    }
}

fn no_download_reason(kind: DatasetKind) -> &'static str {
    match kind {
        DatasetKind::Shapes => "it is generated and needs no files",
        _ => "it is a folder of your own images, one sub-folder per class",
    }
}
