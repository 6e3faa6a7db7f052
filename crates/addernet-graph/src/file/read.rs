//! Reading a whole file, within bounds.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::GraphError;

/// Largest model file or checkpoint that is read (4 GiB): forty ResNet-50s.
const MAX_FILE_BYTES: u64 = 4 << 30;

/// The file's content.
///
/// # Errors
/// If it does not exist, is not an ordinary file, is empty, or is larger than 4 GiB.
pub(crate) fn whole(path: &Path) -> Result<Vec<u8>, GraphError> {
    let io = |source| GraphError::Io {
        path: path.to_owned(),
        source,
    };
    let invalid = |reason: String| Err(GraphError::invalid_file(path, reason));
    // The type is asked for before opening: opening a pipe without a writer would wait for one.
    let metadata = std::fs::metadata(path).map_err(io)?;
    if metadata.is_dir() {
        return invalid("is a folder; name the model file in it".into());
    }
    if !metadata.is_file() {
        return invalid("is not an ordinary file; copy the model to a file first".into());
    }
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    if length == 0 {
        return invalid("is empty; copy or download it again".into());
    }
    if length > MAX_FILE_BYTES {
        return invalid(format!(
            "is larger than {} GiB; keep only the state dict in it",
            MAX_FILE_BYTES >> 30
        ));
    }
    let mut bytes = Vec::new();
    let capacity = usize::try_from(length).unwrap_or(usize::MAX);
    bytes
        .try_reserve_exact(capacity)
        .map_err(|error| io(std::io::Error::other(error)))?;
    // `take`: a file that grows meanwhile must not be read without end.
    file.take(length).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}
