//! Opening data files.

use std::fs::File;
use std::path::Path;

use crate::error::DataError;

/// Opens a regular file; gives its size in bytes too.
pub(crate) fn open(path: &Path) -> Result<(File, u64), DataError> {
    let file = File::open(path).map_err(DataError::io(path, "open"))?;
    let metadata = file
        .metadata()
        .map_err(DataError::io(path, "read the size of"))?;
    if !metadata.is_file() {
        let source = std::io::Error::other("it is not a regular file");
        return Err(DataError::Io {
            path: path.to_path_buf(),
            action: "read",
            source,
        });
    }
    Ok((file, metadata.len()))
}
