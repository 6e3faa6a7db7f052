//! Memory on hostile input stays in proportion to the file. A test of its own process: the peak of
//! a process is what can be measured.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]

mod common;

use std::path::Path;

use addernet_graph::import;
use common::{PickleWriter, one_tensor, torch_zip};

/// Peak of the process' resident memory, in MiB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024
}

#[test]
fn hostile_files_do_not_fill_the_memory() {
    let before = peak();
    let mut bombs: Vec<(&str, Vec<u8>)> = Vec::new();

    // Text of 1 MiB, memoized once and fetched a hundred thousand times.
    let text = "x".repeat(1 << 20);
    let fetches = b"h\x00".repeat(100_000);
    let fetched = |writer: PickleWriter| {
        torch_zip(&writer.raw(b"q\x00](").raw(&fetches).raw(b"e").stop(), &[])
    };
    bombs.push(("text", fetched(PickleWriter::new().str(&text))));
    bombs.push((
        "key",
        fetched(PickleWriter::new().raw(b"}").str(&text).raw(b"Ns")),
    ));

    // Each level a list that holds the previous one twice: 2^10000 leaves.
    let mut billion = PickleWriter::new().raw(b"]");
    for _ in 0..10_000 {
        billion = billion.raw(b"q\x00](h\x00h\x00e");
    }
    bombs.push(("billion laughs", torch_zip(&billion.stop(), &[])));

    // A list of a hundred thousand pairs made into a dictionary again and again.
    let pairs = b"NN\x86".repeat(100_000);
    let dicts = b"h\x01h\x00\x85R".repeat(10_000);
    let copies = PickleWriter::new().raw(b"](").raw(&pairs).raw(b"eq\x00");
    let copies = copies
        .global("collections", "OrderedDict")
        .raw(b"q\x01](")
        .raw(&dicts)
        .raw(b"e");
    bombs.push(("copies", torch_zip(&copies.stop(), &[])));

    // A tuple of a million extents for a tensor, and claims of terabytes.
    let extents = b"K\x01".repeat(1_000_000);
    let tensor = PickleWriter::new().raw(b"(").raw(&extents).raw(b"tq\x00](");
    let tensor = tensor
        .global("torch._utils", "_rebuild_tensor_v2")
        .raw(b"(")
        .storage("0", 1);
    bombs.push((
        "rank",
        torch_zip(&tensor.int(0).raw(b"h\x00h\x00tRe").stop(), &[]),
    ));
    bombs.push(("claim", one_tensor(1 << 40, 0, &[1 << 40], &[1], &[0.0])));
    bombs.push(("expand", one_tensor(1, 0, &[1 << 40], &[0], &[0.0])));

    // A safetensors header that claims 2^60 bytes.
    let mut header = (1u64 << 60).to_le_bytes().to_vec();
    header.extend(b"{}");
    bombs.push(("header", header));

    for (name, bytes) in &bombs {
        assert!(bytes.len() < 3 << 20, "{name}");
        assert!(
            import::state_dict_from_bytes(bytes, Path::new(name)).is_err(),
            "{name}"
        );
    }
    let grown = peak() - before;
    // The files themselves take some ten MiB, the pickled lists a few dozen.
    assert!(grown < 200, "the peak grew by {grown} MiB");
}
