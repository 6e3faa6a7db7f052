//! What several test files share: places of files, and hand-made archives and pickles.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::{Path, PathBuf};

use ndarray::{ArrayD, IxDyn};

/// Says on standard error that a test is skipped. `eprintln!` would be hidden: the test passes.
pub(crate) fn skipped(reason: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
}

/// The folders of fixtures, one per version of PyTorch that wrote them.
pub(crate) fn fixture_folders() -> Vec<PathBuf> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut folders: Vec<PathBuf> = std::fs::read_dir(fixtures)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    assert!(!folders.is_empty());
    folders
}

/// A file of the folder beside the workspace, if it is there.
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared")
        .join(name);
    if path.exists() {
        return Some(path);
    }
    skipped(format_args!("{} is not there", path.display()));
    None
}

/// `numbers` of make_fixtures.py.
pub(crate) fn numbers(shape: &[usize]) -> ArrayD<f32> {
    let count: u16 = shape.iter().product::<usize>().try_into().unwrap();
    let values = (0..count).map(|i| f32::from(i) / 4.0).collect();
    ArrayD::from_shape_vec(IxDyn(shape), values).unwrap()
}

/// One entry of a hand-made zip archive. Sizes may lie.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) data: Vec<u8>,
    /// 0: stored, 8: deflated.
    pub(crate) method: u16,
    /// The uncompressed size that the headers claim.
    pub(crate) size: u32,
    pub(crate) crc: u32,
}

impl Entry {
    pub(crate) fn stored(name: &'static str, data: impl Into<Vec<u8>>) -> Self {
        let data = data.into();
        let (size, crc) = (data.len().try_into().unwrap(), crc32fast::hash(&data));
        Self {
            name,
            data,
            method: 0,
            size,
            crc,
        }
    }
}

/// A zip archive of `entries`.
pub(crate) fn zip(entries: &[Entry]) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let offset = u32::try_from(archive.len()).unwrap();
        let compressed = u32::try_from(entry.data.len()).unwrap();
        let mut common = Vec::new();
        for value in [20, 0, entry.method, 0, 0] {
            common.extend(u16::to_le_bytes(value));
        }
        for value in [entry.crc, compressed, entry.size] {
            common.extend(value.to_le_bytes());
        }
        common.extend(u16::try_from(entry.name.len()).unwrap().to_le_bytes());
        common.extend(0u16.to_le_bytes());

        archive.extend(b"PK\x03\x04");
        archive.extend(&common);
        archive.extend(entry.name.as_bytes());
        archive.extend(&entry.data);

        directory.extend(b"PK\x01\x02");
        directory.extend(20u16.to_le_bytes());
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(entry.name.as_bytes());
    }
    let (start, count) = (archive.len(), u16::try_from(entries.len()).unwrap());
    archive.extend(&directory);
    archive.extend(b"PK\x05\x06\0\0\0\0");
    archive.extend(count.to_le_bytes());
    archive.extend(count.to_le_bytes());
    archive.extend(u32::try_from(directory.len()).unwrap().to_le_bytes());
    archive.extend(u32::try_from(start).unwrap().to_le_bytes());
    archive.extend([0; 2]);
    archive
}

/// A `torch.save` archive with this pickle and these storages (entry name, bytes).
pub(crate) fn torch_zip(pickle: &[u8], storages: &[(&'static str, Vec<u8>)]) -> Vec<u8> {
    let mut entries = vec![Entry::stored("m/data.pkl", pickle)];
    entries.extend(
        storages
            .iter()
            .map(|(name, data)| Entry::stored(name, data.clone())),
    );
    zip(&entries)
}

/// A pickle, opcode by opcode.
#[derive(Clone)]
pub(crate) struct PickleWriter(pub(crate) Vec<u8>);

impl PickleWriter {
    pub(crate) fn new() -> Self {
        Self(vec![0x80, 2])
    }

    pub(crate) fn raw(mut self, opcodes: &[u8]) -> Self {
        self.0.extend(opcodes);
        self
    }

    pub(crate) fn str(mut self, text: &str) -> Self {
        self.0.push(b'X');
        self.0
            .extend(u32::try_from(text.len()).unwrap().to_le_bytes());
        self.0.extend(text.as_bytes());
        self
    }

    pub(crate) fn int(mut self, value: i64) -> Self {
        self.0.extend([0x8a, 8]);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    pub(crate) fn ints(self, values: &[i64]) -> Self {
        values
            .iter()
            .fold(self.raw(b"("), |writer, &value| writer.int(value))
            .raw(b"t")
    }

    /// The storage `key` of `elements` floats.
    pub(crate) fn storage(self, key: &str, elements: i64) -> Self {
        self.raw(b"(")
            .str("storage")
            .global("torch", "FloatStorage")
            .str(key)
            .str("cpu")
            .int(elements)
            .raw(b"tQ")
    }

    /// A tensor on the storage `key` of `elements` floats.
    pub(crate) fn tensor(
        self,
        key: &str,
        elements: i64,
        offset: i64,
        shape: &[i64],
        stride: &[i64],
    ) -> Self {
        self.global("torch._utils", "_rebuild_tensor_v2")
            .raw(b"(")
            .storage(key, elements)
            .int(offset)
            .ints(shape)
            .ints(stride)
            .raw(b"\x89Nt")
            .raw(b"R")
    }

    pub(crate) fn stop(self) -> Vec<u8> {
        self.raw(b".").0
    }
}

/// `{"a": tensor}` in a zip archive, the tensor as given, its storage of `data` floats.
pub(crate) fn one_tensor(
    elements: i64,
    offset: i64,
    shape: &[i64],
    stride: &[i64],
    data: &[f32],
) -> Vec<u8> {
    let pickle = PickleWriter::new()
        .raw(b"}")
        .str("a")
        .tensor("0", elements, offset, shape, stride)
        .raw(b"s")
        .stop();
    let bytes = data.iter().flat_map(|v| v.to_le_bytes()).collect();
    torch_zip(&pickle, &[("m/data/0", bytes)])
}
