//! The two containers of `torch.save`: a zip archive, and the older stream of pickles.

use std::collections::HashMap;
use std::io::Cursor;

use addernet_pickle::{Id, Value};
use zip::{CompressionMethod, ZipArchive};

use super::checkpoint;
use super::decode;
use super::pickle::{Dtype, Objects, Reader, Refusal, Result};
use crate::model::Parameters;

/// The number that opens a legacy file, as a pickled integer.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// The legacy format's version.
const LEGACY_PROTOCOL: i64 = 1001;

/// Whether the bytes begin as a zip archive does.
pub(super) fn looks_like_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06")
}

/// Whether the bytes begin as a pickle of protocol 2 to 5 does, or as an older one that names a
/// Python object: `cos\nsystem\n`.
pub(super) fn looks_like_pickle(bytes: &[u8]) -> bool {
    let is_name = |line: &[u8]| {
        !line.is_empty()
            && line
                .iter()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.'))
    };
    match bytes {
        [0x80, 2..=5, ..] => true,
        [b'c', rest @ ..] => {
            let mut lines = rest.splitn(3, |&c| c == b'\n');
            let names = [lines.next(), lines.next()];
            names.into_iter().all(|line| line.is_some_and(is_name)) && lines.next().is_some()
        }
        _ => false,
    }
}

/// Whether the bytes begin as a tar archive does.
pub(super) fn looks_like_tar(bytes: &[u8]) -> bool {
    bytes.get(257..262) == Some(b"ustar".as_slice())
}

/// The state dict in a zip archive (PyTorch 1.6 and later).
///
/// `torch.save` stores the archive's entries uncompressed. Only such entries are read, straight
/// from the file's bytes: nothing can unpack to more than the file holds.
pub(super) fn read_zip(bytes: &[u8]) -> Result<Parameters> {
    let damaged = |error: zip::result::ZipError| format!("is not a valid zip archive: {error}");
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
    let root = root(&archive)?;
    if archive
        .index_for_name(&format!("{root}constants.pkl"))
        .is_some()
    {
        return Err(
            "is a TorchScript archive; in Python, load it with torch.jit.load and save its \
                    state_dict() with torch.save"
                .into(),
        );
    }
    let byte_order = format!("{root}byteorder");
    if archive.index_for_name(&byte_order).is_some()
        && entry(&mut archive, bytes, &byte_order)? != b"little"
    {
        return Err("was saved on a big-endian machine; save it on a little-endian one".into());
    }
    let mut reader = Reader::new(entry(&mut archive, bytes, &format!("{root}data.pkl"))?);
    let value = reader.read()?;
    let entries = checkpoint::tensors(&reader.objects()?, value)?;
    decode::parameters(&entries, bytes.len(), |key| {
        entry(&mut archive, bytes, &format!("{root}data/{key}"))
    })
}

/// The folder in the archive that holds `data.pkl`: named after the file, with its slash.
fn root(archive: &ZipArchive<Cursor<&[u8]>>) -> Result<String> {
    let raw = archive
        .file_names_raw()
        .filter_map(|name| name.strip_suffix(b"data.pkl"))
        .filter(|root| root.is_empty() || root.ends_with(b"/"))
        .min_by_key(|root| root.len())
        .ok_or("is a zip archive without `data.pkl`: torch.save did not write it")?;
    let root = std::str::from_utf8(raw)
        .map_err(|_| "is a zip archive whose names are not UTF-8: torch.save did not write it")?;
    Ok(root.to_owned())
}

/// Content of the entry `name`, where it stands in the file.
fn entry<'a>(
    archive: &mut ZipArchive<Cursor<&'a [u8]>>,
    bytes: &'a [u8],
    name: &str,
) -> Result<&'a [u8]> {
    let shown = crate::error::one_line(name);
    let index = archive
        .index_for_name(name)
        .ok_or_else(|| format!("its archive lacks the entry `{shown}`: it is damaged"))?;
    let file = archive
        .by_index_raw(index)
        .map_err(|error| format!("entry `{shown}` of its archive: {error}"))?;
    if file.encrypted() || file.compression() != CompressionMethod::Stored {
        return Err(format!(
            "entry `{shown}` of its archive is compressed or encrypted, which torch.save never does; \
             in Python, torch.load it and torch.save it again"
        )
        .into());
    }
    let range = file
        .data_start()
        .zip(Some(file.size()))
        .and_then(|(start, size)| {
            let start = usize::try_from(start).ok()?;
            Some(start..start.checked_add(usize::try_from(size).ok()?)?)
        });
    let content = range.filter(|_| file.size() == file.compressed_size());
    let content = content.and_then(|range| bytes.get(range)).ok_or_else(|| {
        format!("entry `{shown}` of its archive lies outside the file: it is truncated or damaged")
    })?;
    // Zero is what torch.save writes when it was told not to compute checksums.
    if file.crc32() != 0 && file.crc32() != crc32fast::hash(content) {
        return Err(format!(
            "entry `{shown}` of its archive has a wrong checksum: it is damaged; copy it again"
        )
        .into());
    }
    Ok(content)
}

/// The state dict in a legacy file (before PyTorch 1.6): pickles of the magic number, the format
/// version, the machine, the saved object and the storages' names, then the storages.
pub(super) fn read_legacy(bytes: &[u8]) -> Result<Parameters> {
    let mut reader = Reader::new(bytes);
    let magic = reader.read()?;
    if !matches!(reader.heap().value(magic), Value::BigInt(number) if *number == LEGACY_MAGIC) {
        return Err(
            "is a plain pickle and not a file of torch.save; in Python, save the model with \
                    torch.save(model.state_dict(), \"model.pth\")"
                .into(),
        );
    }
    let version = reader.read()?;
    if !matches!(reader.heap().value(version), Value::Int(LEGACY_PROTOCOL)) {
        return Err("has an unknown version of the legacy format".into());
    }
    // Describes the machine. Storages are little-endian whatever it was.
    reader.read()?;
    let value = reader.read()?;
    let keys = reader.read()?;
    let objects = reader.objects()?;
    let storages = legacy_storages(&objects, keys, &bytes[reader.position()..])?;
    let entries = checkpoint::tensors(&objects, value)?;
    decode::parameters(&entries, bytes.len(), |key| {
        storages.get(key).copied().ok_or_else(|| {
            let key = crate::error::one_line(key);
            Refusal::from(format!("storage `{key}` is not in the file: it is damaged"))
        })
    })
}

/// Finds the storages in what stands behind the pickles: each a 64-bit element count and the
/// elements.
fn legacy_storages<'a>(
    objects: &Objects<'_, 'a>,
    keys: Id,
    mut rest: &'a [u8],
) -> Result<HashMap<&'a str, &'a [u8]>> {
    let heap = objects.heap();
    let keys = heap.items(keys);
    let mut storages = HashMap::new();
    for &key in keys.ok_or("its list of storages is not a list: it is damaged")? {
        let key = heap
            .text(key)
            .ok_or("its list of storages holds something else than names: it is damaged")?;
        let shown = || crate::error::one_line(key);
        let (dtype, elements) = objects
            .declared(key)
            .ok_or_else(|| format!("storage `{}` has no description: it is damaged", shown()))?;
        let truncated = || {
            format!(
                "ends before the end of storage `{}`: it is truncated or damaged",
                shown()
            )
        };
        let (count, behind) = rest.split_first_chunk::<8>().ok_or_else(truncated)?;
        if u64::try_from(elements) != Ok(u64::from_le_bytes(*count)) {
            return Err(format!(
                "storage `{}` has {} elements, its description says {elements}: it is damaged",
                shown(),
                u64::from_le_bytes(*count)
            )
            .into());
        }
        let length = elements
            .checked_mul(Dtype::size(dtype))
            .ok_or_else(truncated)?;
        let (content, behind) = behind.split_at_checked(length).ok_or_else(truncated)?;
        if storages.insert(key, content).is_some() {
            return Err(format!("storage `{}` is listed twice: it is damaged", shown()).into());
        }
        rest = behind;
    }
    Ok(storages)
}
