//! Unpacking the published archives.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use super::checksum::Hasher;
use super::manifest::Member;
use crate::error::DataError;

/// Room for what an archive holds besides its members: headers, padding, a read-me.
const MAX_OVERHEAD: u64 = 1 << 24;

/// Writes the members of a gzipped tar archive into `dir`, all of them or none. `archive` is its name in
/// messages.
///
/// Only regular files with exactly the expected paths are looked at, and written under names of ours, so
/// no path in the archive can lead anywhere; everything else in it is skipped. No more is unpacked than
/// the members' sizes and some overhead.
pub(super) fn tar_gz(
    reader: &mut impl Read,
    archive: &Path,
    members: &[Member],
    dir: &Path,
) -> Result<(), DataError> {
    let mut written = Temporary(Vec::new());
    unpack(reader, archive, members, dir, &mut written)?;
    for (part, target) in &written.0 {
        fs::rename(part, target).map_err(DataError::io(target, "create"))?;
    }
    written.0.clear();
    Ok(())
}

/// Files under way, with their final names; what is left when dropped is deleted.
struct Temporary(Vec<(PathBuf, PathBuf)>);

impl Drop for Temporary {
    fn drop(&mut self) {
        for (part, _) in &self.0 {
            let _ = fs::remove_file(part);
        }
    }
}

fn unpack(
    reader: &mut impl Read,
    archive: &Path,
    members: &[Member],
    dir: &Path,
    written: &mut Temporary,
) -> Result<(), DataError> {
    let bound = members.iter().map(|m| m.size).sum::<u64>() + MAX_OVERHEAD;
    let unpacked = GzDecoder::new(BufReader::new(reader)).take(bound);
    let damaged =
        |e: std::io::Error| DataError::corrupt(archive, 0, format!("damaged archive: {e}"));
    let mut tar = tar::Archive::new(unpacked);
    let mut found = HashSet::new();
    for entry in tar.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let path = entry.path_bytes().into_owned();
        let Some(member) = members.iter().find(|m| m.path.as_bytes() == path) else {
            continue;
        };
        let offset = entry.raw_header_position();
        let wrong = |problem: String| {
            DataError::corrupt(archive, offset, format!("{}: {problem}", member.path))
        };
        if !entry.header().entry_type().is_file() || entry.size() != member.size {
            return Err(wrong(format!(
                "expected a regular file of {} bytes, found {:?} of {}",
                member.size,
                entry.header().entry_type(),
                entry.size()
            )));
        }
        if !found.insert(&member.path) {
            return Err(wrong("the archive holds it twice".to_owned()));
        }
        let target = dir.join(member.name());
        let part = dir.join(format!("{}.part", member.name()));
        let mut out = File::create(&part).map_err(DataError::io(&part, "create"))?;
        written.0.push((part.clone(), target));
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match entry.read(&mut buffer).map_err(damaged)? {
                0 => break,
                n => {
                    hasher.update(&buffer[..n]);
                    out.write_all(&buffer[..n])
                        .map_err(DataError::io(&part, "write"))?;
                }
            }
        }
        out.sync_all().map_err(DataError::io(&part, "write"))?;
        if let Some(mismatch) = hasher.finish().mismatch(&member.digests) {
            return Err(wrong(format!(
                "its {} sum is {}, not {}",
                mismatch.algorithm, mismatch.found, mismatch.expected
            )));
        }
    }
    match members.iter().find(|m| !found.contains(&m.path)) {
        Some(missing) => Err(DataError::corrupt(
            archive,
            0,
            format!("the archive lacks {}", missing.path),
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
