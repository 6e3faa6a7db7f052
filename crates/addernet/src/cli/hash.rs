//! What tells one file from another.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use sha2::{Digest, Sha256};

/// The SHA-256 sum of the file at `path`, in lower-case hexadecimal.
pub(crate) fn sha256(path: &Path) -> anyhow::Result<String> {
    let failed = || format!("{}: cannot be read", path.display());
    let mut file = std::fs::File::open(path).with_context(failed)?;
    let mut hasher = HashWriter(Sha256::new());
    std::io::copy(&mut file, &mut hasher).with_context(failed)?;
    let mut text = String::new();
    for byte in hasher.0.finalize() {
        write!(text, "{byte:02x}")?;
    }
    Ok(text)
}

struct HashWriter(Sha256);

impl std::io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
