//! Pickles that are damaged or made to do harm: an error in one line that names the file.

use std::path::Path;

use addernet_graph::GraphError;
use addernet_graph::import::{self, ImportOptions};

use crate::common::{PickleWriter, one_tensor, torch_zip};

/// The name that errors must carry.
pub(crate) const NAME: &str = "some/model.pth";

/// Loads the bytes and returns the error, which must be one line that names the file.
#[track_caller]
pub(crate) fn refused(bytes: &[u8]) -> String {
    let options = ImportOptions::default();
    let error = import::load_any_from_bytes(bytes, Path::new(NAME), &options).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(NAME), "{text}");
    assert!(
        !text.contains('\n') && text.chars().count() < 2000,
        "{text}"
    );
    text
}

#[track_caller]
pub(crate) fn refused_with(bytes: &[u8], part: &str) {
    let error = refused(bytes);
    assert!(error.contains(part), "`{part}` is not in: {error}");
}

pub(crate) fn archive_of(opcodes: &[u8]) -> Vec<u8> {
    torch_zip(&PickleWriter::new().raw(opcodes).stop(), &[])
}

#[test]
fn code_in_a_pickle_is_named_and_not_run() {
    let marker = tempfile::tempdir().unwrap();
    let command = format!("touch {}/ran", marker.path().display());
    let call = |module: &str, name: &str| {
        PickleWriter::new()
            .global(module, name)
            .raw(b"(")
            .str(&command)
            .raw(b"tR")
            .stop()
    };
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("nt", "system"),
        ("subprocess", "Popen"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("__builtin__", "exec"),
        ("runpy", "_run_code"),
        ("torch", "load"),
        ("torch.hub", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("collections", "OrderedDict.__init__"),
        ("numpy.core.multiarray", "fromstring"),
    ] {
        let pickle = call(module, name);
        let said = format!("refuses to load: the pickle calls `{module}.{name}`");
        refused_with(&pickle, &said);
        refused_with(&torch_zip(&pickle, &[]), &said);
        let bytes = torch_zip(&pickle, &[]);
        let error = import::state_dict_from_bytes(&bytes, Path::new(NAME)).unwrap_err();
        assert!(
            matches!(error, GraphError::ForbiddenGlobal { .. }),
            "{error}"
        );
    }
    // The other ways to name an object.
    let stack_global = PickleWriter::new()
        .str("os")
        .str("system")
        .raw(b"\x93(")
        .str(&command)
        .raw(b"tR")
        .stop();
    refused_with(&stack_global, "`os.system`");
    let short = [b"\x80\x04\x8c\x02os\x8c\x06system\x93".as_slice(), b"."].concat();
    refused_with(&short, "`os.system`");
    refused_with(b"\x80\x02ios\nsystem\n.", "`os.system`");
    refused_with(b"cos\nsystem\n(S'id'\ntR.", "`os.system`");
    // Behind a state dict that is complete.
    let hidden = PickleWriter::new()
        .raw(b"}")
        .global("os", "system")
        .raw(b"0")
        .stop();
    refused_with(&torch_zip(&hidden, &[]), "do not open this file in Python");
    // The extension registry hides names altogether.
    refused_with(&archive_of(b"\x82\x01"), "0x82");
    assert!(!marker.path().join("ran").exists());
}

#[test]
fn names_with_control_characters_do_not_reach_the_terminal() {
    let pickle = PickleWriter::new()
        .str("\u{1b}[2Jos\n")
        .str("sys\rtem")
        .raw(b"\x93")
        .stop();
    let error = refused(&pickle);
    assert!(!error.chars().any(char::is_control), "{error}");
}

#[test]
fn tensors_outside_of_their_storage_are_refused() {
    let data = [1.0, 2.0, 3.0, 4.0];
    let check = |elements, offset, shape: &[i64], stride: &[i64], part: &str| {
        refused_with(&one_tensor(elements, offset, shape, stride, &data), part);
    };
    check(4, 0, &[5], &[1], "reaches outside");
    check(4, 1, &[4], &[1], "reaches outside");
    check(4, 0, &[2, 2], &[4, 1], "reaches outside");
    check(4, i64::MAX, &[1], &[1], "reaches outside");
    check(4, i64::MAX, &[2], &[i64::MAX], "reaches outside");
    check(4, i64::MAX, &[4], &[i64::MAX], "overflows");
    check(4, -1, &[1], &[1], "offset is -1");
    check(4, 0, &[-1], &[1], "extent is -1");
    check(4, 0, &[1 << 40, 1 << 40], &[1, 1], "overflows");
    check(4, 0, &[i64::MAX], &[i64::MAX], "overflows");
    check(4, 0, &[1 << 40], &[0], "repeats its elements");
    check(4, 0, &[2], &[1, 1], "no valid stride");
    check(4, 0, &[1; 9], &[1; 9], "9 dimensions");
    // The storage is shorter than the pickle says: the tensor would reach behind it.
    check(8, 0, &[8], &[1], "reaches outside of its storage");
    check(i64::MAX, 0, &[i64::MAX], &[1], "more than 8 times the file");
    check(-5, 0, &[1], &[1], "length is -5");
    // An extent of zero makes any other extent harmless.
    let bytes = one_tensor(4, 0, &[0, 1 << 40], &[1, 1], &data);
    let error = import::load_any_from_bytes(&bytes, Path::new(NAME), &ImportOptions::default());
    assert!(error.is_err());
}

#[test]
fn one_storage_under_thousands_of_names_does_not_fill_the_memory() {
    let mut writer = PickleWriter::new().raw(b"}(");
    for i in 0..2000 {
        writer = writer
            .str(&format!("a{i}"))
            .tensor("0", 10_000, 0, &[10_000], &[1]);
    }
    let pickle = writer.raw(b"u").stop();
    let archive = torch_zip(&pickle, &[("m/data/0", vec![0; 40_000])]);
    refused_with(&archive, "more than 8 times the file");
}

#[test]
fn names_of_great_length_are_refused() {
    let long = "x".repeat(5000);
    let storage = PickleWriter::new().raw(b"}").str("a");
    let storage = storage.tensor(&long, 1, 0, &[1], &[1]).raw(b"s").stop();
    refused_with(&torch_zip(&storage, &[]), "a name of 5000 bytes");
    let data = [("m/data/0", vec![0; 4])];
    let tensor = PickleWriter::new().raw(b"}").str(&long);
    let tensor = tensor.tensor("0", 1, 0, &[1], &[1]).raw(b"s").stop();
    refused_with(&torch_zip(&tensor, &data), "a name of 5000 bytes");
}

#[test]
fn contradicting_descriptions_of_a_storage_are_refused() {
    let pickle = PickleWriter::new()
        .raw(b"}(")
        .str("a")
        .tensor("0", 1, 0, &[1], &[1])
        .str("b")
        .tensor("0", 2, 0, &[2], &[1])
        .raw(b"u")
        .stop();
    refused_with(
        &torch_zip(&pickle, &[("m/data/0", vec![0; 8])]),
        "two different ways",
    );
}

#[test]
fn malformed_pickles_are_refused() {
    for (opcodes, part) in [
        (b"0".as_slice(), "takes more values"),
        (b"(0", "takes more values"),
        (b"t", "takes more values"),
        (b"(R", "takes more values"),
        (b"}(Nu", "key without a value"),
        (b"NNs", "takes more values"),
        (b"NNNs", "sets items of a value of type"),
        (b"NNa", "appends to a value of type"),
        (b"h\x07", "refers to value 7"),
        (b"j\xff\xff\xff\xff", "refers to value 4294967295"),
        (b"N)R", "calls a value of type"),
        (b"NNR", "calls a function with"),
        (b"NQ", "describes a storage in an unknown way"),
        (b")Q", "describes a storage in an unknown way"),
        (b"NNb", "sets the state of"),
        (b"NN\x93", "not text"),
        (b"X\xff\xff\xff\xffab", "truncated"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffab", "truncated"),
        (b"\x8b\xff\xff\xff\xffab", "truncated"),
        (b"ctorch\nfoo", "truncated"),
        (b"c\xff\xff\n\xff\n", "broken text"),
        (
            b"ctorch._utils\n_rebuild_tensor_v2\n)R",
            "describes a tensor in an unknown way",
        ),
        (b"ctorch._utils\n_rebuild_parameter\n)R", "no tensor"),
        (
            b"ctorch._tensor\n_rebuild_from_type_v2\n)R",
            "not supported",
        ),
        (b"ctorch\nSize\n)R", "without extents"),
        (b"ccollections\nOrderedDict\n(NtR", "no list"),
        (b"ccollections\nOrderedDict\n((NttR", "OrderedDict"),
        (b"I1\n", "default pickle protocol"),
        (b"\xff", "0xff"),
        (b"N", "holds no state dict"),
        (b"}", "without a state dict"),
    ] {
        refused_with(&archive_of(opcodes), part);
    }
    refused_with(&torch_zip(b"\x80\x02", &[]), "truncated");
    refused_with(&torch_zip(b"", &[]), "truncated");
}

#[test]
fn deep_and_cyclic_pickles_are_refused() {
    // A million nested lists, a million nested tuples.
    let (open, close) = (vec![b']'; 1 << 20], vec![b'a'; (1 << 20) - 1]);
    let lists = [b"\x80\x02".as_slice(), &open, &close, b"."].concat();
    refused_with(&torch_zip(&lists, &[]), "holds no state dict");
    let tuples = [b"\x80\x02)".as_slice(), &vec![0x85; 1 << 20], b"."].concat();
    refused_with(&torch_zip(&tuples, &[]), "holds no state dict");
    let marks = [b"\x80\x02".as_slice(), &vec![b'('; 1 << 20], b"."].concat();
    refused_with(&torch_zip(&marks, &[]), "nested too deeply");
    // A list that holds itself, a state dict that is its own value.
    refused_with(&archive_of(b"]q\x00h\x00a"), "holds no state dict");
    let cyclic = PickleWriter::new()
        .raw(b"}q\x00")
        .str("state_dict")
        .raw(b"h\x00s")
        .stop();
    refused_with(&torch_zip(&cyclic, &[]), "no tensor");
    // Five million operations.
    let long = [b"\x80\x02".as_slice(), &b"N0".repeat(2_500_000), b"N."].concat();
    refused_with(&torch_zip(&long, &[]), "more than 4000000 operations");
}
