//! A file that is not complete yet.

use std::fs::{self, File, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::checksum::{Digests, digests_of};
use crate::error::DataError;

/// `NAME.part`, open and locked: everything that happens to it goes through one handle.
pub(super) struct Part {
    file: File,
    path: PathBuf,
}

impl Part {
    /// Opens `path`, creating it if need be, and keeps other downloads of the same file away.
    pub(super) fn open(path: PathBuf, name: &str) -> Result<Self, DataError> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(DataError::io(&path, "create"))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(DataError::Download {
                file: name.to_owned(),
                reason: format!(
                    "another download is writing {}, wait for it to end",
                    path.display()
                ),
            }),
            // Some network file systems know no locks; one download at a time still works there.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Self { file, path }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// From its beginning.
    pub(super) fn reader(&mut self) -> Result<&mut File, DataError> {
        self.file
            .rewind()
            .map_err(DataError::io(&self.path, "read"))?;
        Ok(&mut self.file)
    }

    /// Bytes that are there.
    pub(super) fn len(&self) -> Result<u64, DataError> {
        let metadata = self
            .file
            .metadata()
            .map_err(DataError::io(&self.path, "read the size of"))?;
        Ok(metadata.len())
    }

    pub(super) fn digests(&mut self) -> Result<Digests, DataError> {
        let path = self.path.clone();
        digests_of(self.reader()?, &path)
    }

    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), DataError> {
        let file = &mut self.file;
        file.seek(SeekFrom::Start(at))
            .and_then(|_| file.write_all(bytes))
            .map_err(DataError::io(&self.path, "write"))
    }

    pub(super) fn sync(&self) -> Result<(), DataError> {
        self.file
            .sync_all()
            .map_err(DataError::io(&self.path, "write"))
    }

    pub(super) fn clear(&mut self) -> Result<(), DataError> {
        self.file
            .set_len(0)
            .map_err(DataError::io(&self.path, "empty"))
    }

    /// Gives the complete file its final name.
    pub(super) fn rename(self, target: &Path) -> Result<(), DataError> {
        fs::rename(&self.path, target).map_err(DataError::io(target, "create"))
    }

    pub(super) fn remove(self) -> Result<(), DataError> {
        fs::remove_file(&self.path).map_err(DataError::io(&self.path, "remove"))
    }
}
