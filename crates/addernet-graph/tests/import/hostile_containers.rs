//! Archives and headers that are damaged or lie: an error in one line that names the file.

use std::path::Path;

use addernet_graph::file::ModelFile;
use addernet_graph::import;
use proptest::prelude::*;

use crate::common::{Entry, PickleWriter, fixture_folders, one_tensor, torch_zip, zip};
use crate::hostile_pickles::{NAME, archive_of, refused, refused_with};

#[test]
fn zip_bombs_are_refused_unopened() {
    use std::io::Write;
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..200 {
        encoder.write_all(&zeros).unwrap();
    }
    let (data, size) = (encoder.finish().unwrap(), 200 << 20);
    assert!(data.len() < 1 << 20);
    let bomb = |name| Entry {
        name,
        data: data.clone(),
        method: 8,
        size,
        crc: 0,
    };
    refused_with(&zip(&[bomb("m/data.pkl")]), "compressed");

    let pickle = PickleWriter::new()
        .raw(b"}")
        .str("a")
        .tensor("0", 50 << 20, 0, &[50 << 20], &[1]);
    let pickle = pickle.raw(b"s").stop();
    let archive = zip(&[Entry::stored("m/data.pkl", pickle), bomb("m/data/0")]);
    // Already the claimed size is out of proportion to the file.
    refused_with(&archive, "209715200 bytes, more than 8 times the file");

    let pickle = PickleWriter::new()
        .raw(b"}")
        .str("a")
        .tensor("0", 4, 0, &[4], &[1])
        .raw(b"s");
    let archive = zip(&[Entry::stored("m/data.pkl", pickle.stop()), bomb("m/data/0")]);
    refused_with(&archive, "entry `m/data/0` of its archive is compressed");
}

#[test]
fn lies_about_sizes_in_a_zip_are_found() {
    let good = one_tensor(2, 0, &[2], &[1], &[1.0, 2.0]);
    let parameters = import::state_dict_from_bytes(&good, Path::new(NAME)).unwrap();
    assert_eq!(parameters["a"].as_slice().unwrap(), [1.0, 2.0]);

    let mut entry = Entry::stored("m/data.pkl", b"}.".as_slice());
    entry.size = u32::MAX - 1;
    refused_with(&zip(&[entry]), "lies outside the file");
    let mut entry = Entry::stored("m/data.pkl", b"}.".as_slice());
    entry.crc ^= 1;
    refused_with(&zip(&[entry]), "wrong checksum");
    // A checksum of zero is none (torch.save can be told not to compute them).
    let mut entry = Entry::stored("m/data.pkl", b"}.".as_slice());
    entry.crc = 0;
    refused_with(&zip(&[entry]), "without a state dict");
    refused_with(
        &zip(&[Entry::stored("x", b"".as_slice())]),
        "without `data.pkl`",
    );
    refused_with(
        &torch_zip(
            &PickleWriter::new()
                .raw(b"}")
                .str("a")
                .tensor("9", 1, 0, &[1], &[1])
                .raw(b"s")
                .stop(),
            &[],
        ),
        "lacks the entry `m/data/9`",
    );
    let big = [
        Entry::stored("data.pkl", b"}.".as_slice()),
        Entry::stored("byteorder", b"big".as_slice()),
    ];
    refused_with(&zip(&big), "big-endian");
    // The archive has fewer entries than its end record says.
    let mut archive = zip(&[Entry::stored("m/data.pkl", b"}.".as_slice())]);
    let at = archive.len() - 14;
    archive[at..at + 4].copy_from_slice(&[0xff; 4]);
    refused(&archive);
}

/// A legacy file of the tensor `a` = [1, 2] on the storage `0`; the version, the keys of the
/// storages and what stands behind them may be wrong.
fn legacy(version: &[u8], keys: &[u8], storages: &[u8]) -> Vec<u8> {
    let magic = [
        0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19,
    ];
    let pickle = PickleWriter::new()
        .raw(b"}")
        .str("a")
        .tensor("0", 2, 0, &[2], &[1])
        .raw(b"s");
    [
        PickleWriter::new().raw(&magic).stop(),
        PickleWriter::new().raw(version).stop(),
        PickleWriter::new().raw(b"}").stop(),
        pickle.stop(),
        PickleWriter::new().raw(keys).stop(),
        storages.to_vec(),
    ]
    .concat()
}

#[test]
fn legacy_files_that_contradict_themselves_are_refused() {
    const VERSION: &[u8] = b"M\xe9\x03";
    const KEYS: &[u8] = b"](X\x01\0\0\x000e";
    const STORAGE: &[u8] = b"\x02\0\0\0\0\0\0\0\0\0\x80\x3f\0\0\0\x40";
    let good = legacy(VERSION, KEYS, STORAGE);
    let parameters = import::state_dict_from_bytes(&good, Path::new(NAME)).unwrap();
    assert_eq!(parameters["a"].as_slice().unwrap(), [1.0, 2.0]);

    refused_with(&legacy(b"M\xe8\x03", KEYS, STORAGE), "unknown version");
    refused_with(
        &legacy(VERSION, b"N", STORAGE),
        "list of storages is not a list",
    );
    refused_with(
        &legacy(VERSION, b"](Ne", STORAGE),
        "something else than names",
    );
    refused_with(
        &legacy(VERSION, b"](X\x01\0\0\x001e", STORAGE),
        "`1` has no description",
    );
    refused_with(
        &legacy(VERSION, b"]", STORAGE),
        "storage `0` is not in the file",
    );
    let twice = [STORAGE, STORAGE].concat();
    refused_with(
        &legacy(VERSION, b"](X\x01\0\0\x000X\x01\0\0\x000e", &twice),
        "listed twice",
    );
    refused_with(
        &legacy(VERSION, KEYS, &STORAGE[..15]),
        "ends before the end of storage `0`",
    );
    refused_with(
        &legacy(VERSION, KEYS, &STORAGE[..7]),
        "ends before the end of storage `0`",
    );
    refused_with(
        &legacy(VERSION, KEYS, &[0xff; 16]),
        "its description says 2",
    );
    refused_with(b"\x80\x02}.", "plain pickle");
}

/// A safetensors file with this header, and this much data.
fn safetensors_file(header: &str, data: usize) -> Vec<u8> {
    let length = u64::try_from(header.len()).unwrap();
    [&length.to_le_bytes(), header.as_bytes(), &vec![0; data]].concat()
}

#[test]
fn safetensors_headers_that_lie_are_refused() {
    let mut huge = safetensors_file("{}", 0);
    huge[..8].copy_from_slice(&(1u64 << 60).to_le_bytes());
    refused_with(&huge, "claims 1152921504606846976 bytes");
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    refused_with(&huge, "claims 18446744073709551615 bytes");
    huge[..8].copy_from_slice(&0u64.to_le_bytes());
    refused(&huge);

    let tensor = |shape: &str, offsets: &str| {
        format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    for (header, data, part) in [
        (
            tensor("[2]", "[0,8]"),
            4,
            "describes 8 bytes of tensors, the file holds 4",
        ),
        (
            tensor("[2]", "[0,8]"),
            12,
            "describes 8 bytes of tensors, the file holds 12",
        ),
        (tensor("[2]", "[4,12]"), 12, "invalid offset"),
        (tensor("[2]", "[8,0]"), 8, "invalid offset"),
        (tensor("[3]", "[0,8]"), 8, "invalid shape"),
        (tensor("[4294967296,4294967296]", "[0,8]"), 8, "overflow"),
        (tensor("[-1]", "[0,8]"), 8, "invalid value"),
        (
            tensor("[2]", "[0,18446744073709551615]"),
            8,
            "invalid shape",
        ),
        (
            format!(r#"{{"a":{}}}"#, "[".repeat(100_000)),
            0,
            "header is not valid",
        ),
        ("{".to_owned(), 0, "header is not valid"),
        (r#"{"a":1}"#.to_owned(), 0, "header is not valid"),
        ("{}".to_owned(), 0, "holds no parameters"),
        (
            r#"{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#.to_owned(),
            8,
            "element type I64",
        ),
    ] {
        refused_with(&safetensors_file(&header, data), part);
    }
    // Overlapping: the second tensor begins within the first.
    let overlapping = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
        "b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
    refused_with(&safetensors_file(overlapping, 12), "invalid offset");
    // Nine tensors whose sizes add up to 2^64: more than an addition can hold.
    let part = u64::MAX / 9;
    let nine: Vec<String> = (0..9)
        .map(|i| {
            let (start, end) = (i * part, (i + 1) * part);
            format!(r#""{i}":{{"dtype":"U8","shape":[{part}],"data_offsets":[{start},{end}]}}"#)
        })
        .collect();
    refused_with(
        &safetensors_file(&format!("{{{}}}", nine.join(",")), 0),
        "describes",
    );
    refused_with(
        &safetensors_file(&format!("{{{}}}", " ".repeat(17 << 20)), 0),
        "accepted",
    );
}

#[test]
fn two_hundred_thousand_tensors_are_refused_quickly() {
    let tensors: Vec<String> = (0..200_000)
        .map(|i| format!(r#""{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#))
        .collect();
    let file = safetensors_file(&format!("{{{}}}", tensors.join(",")), 0);
    refused_with(&file, "and 199992 more");
}

#[test]
fn files_truncated_anywhere_are_refused() {
    for folder in fixture_folders() {
        for name in ["state_dict_zip.pth", "state_dict_legacy.pth", "half.pth"] {
            let good = std::fs::read(folder.join(name)).unwrap();
            for length in 0..good.len() {
                let error = import::state_dict_from_bytes(&good[..length], Path::new(NAME));
                assert!(
                    error.is_err(),
                    "{name}: {length} of {} bytes were enough",
                    good.len()
                );
                refused(&good[..length]);
            }
        }
    }
}

#[test]
fn files_damaged_anywhere_do_not_panic() {
    for folder in fixture_folders() {
        for name in [
            "state_dict_zip.pth",
            "checkpoint_legacy.pth",
            "views_legacy.pth",
        ] {
            let good = std::fs::read(folder.join(name)).unwrap();
            for position in 0..good.len() {
                for flip in [0x01, 0x80, 0xff] {
                    let mut damaged = good.clone();
                    damaged[position] ^= flip;
                    // A flipped bit in a legacy file's data cannot be noticed.
                    let _ = import::state_dict_from_bytes(&damaged, Path::new(NAME));
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(
        start in 0usize..4,
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let start = [b"".as_slice(), b"\x80\x02", b"PK\x03\x04", b"\x40\0\0\0\0\0\0\0{\""][start];
        let bytes = [start, &bytes].concat();
        let path = Path::new(NAME);
        prop_assert!(import::state_dict_from_bytes(&bytes, path).is_err());
        prop_assert!(ModelFile::from_bytes(&bytes, path).is_err());
    }

    #[test]
    fn arbitrary_opcodes_do_not_panic(
        opcodes in prop::collection::vec(prop::sample::select(
            b"N)]}(tleaus0125Rb\x81\x85\x86\x87\x89\x8f\x90\x91\x94h\x00q\x01KQ.".to_vec()
        ), 0..200),
    ) {
        let archive = archive_of(&opcodes);
        prop_assert!(import::state_dict_from_bytes(&archive, Path::new(NAME)).is_err());
    }
}
