//! Writing a file so that it is there whole or not at all.

use std::io::Write;
use std::path::Path;

use crate::error::GraphError;

/// Writes `bytes` to a temporary file beside `path`, brings it to the disk and renames it.
///
/// # Errors
/// If `path` is a folder, its folder does not exist or cannot be written to, or the disk is full.
/// A file that was there before is then unchanged, and the temporary file is gone.
pub fn atomically(path: &Path, bytes: &[u8]) -> Result<(), GraphError> {
    let invalid = |reason: String| GraphError::invalid_file(path, reason);
    let failed =
        |what: &str, error: std::io::Error| invalid(format!("cannot be written: {what}: {error}"));
    if path.file_name().is_none() || path.is_dir() {
        return Err(invalid(
            "is a folder, not the name of a file to write".into(),
        ));
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        let folder = folder.display();
        return Err(invalid(format!(
            "cannot be written: there is no folder `{folder}`; create it first"
        )));
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(".addernet-").suffix(".tmp");
    // A temporary file is private by default; a model file has the user's ordinary permissions.
    #[cfg(unix)]
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    #[cfg(unix)]
    builder.permissions(permissions);
    let mut temporary = builder
        .tempfile_in(folder)
        .map_err(|error| failed("no file can be created there", error))?;
    temporary
        .write_all(bytes)
        .and_then(|()| temporary.as_file().sync_all())
        .map_err(|error| failed("writing failed", error))?;
    temporary
        .persist(path)
        .map_err(|error| failed("renaming failed", error.error))?;
    // The name itself is on the disk only once the folder is.
    #[cfg(unix)]
    std::fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| failed("bringing the folder to the disk failed", error))?;
    Ok(())
}
