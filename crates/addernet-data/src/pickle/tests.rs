use proptest::prelude::*;

use super::machine::MAX_OPCODES;
use super::*;

fn parse(bytes: &[u8]) -> Pickle<'_> {
    Pickle::parse(bytes).unwrap()
}

fn complaint(bytes: &[u8]) -> (usize, String) {
    let error = Pickle::parse(bytes).unwrap_err();
    (error.offset, error.problem)
}

#[test]
fn reads_numbers_and_strings() {
    // What python 3.11 writes, protocol 2: [None, True, False, 7, 300, -5, 2**40, -2**40].
    let list = b"\x80\x02]q\x00(N\x88\x89K\x07M\x2c\x01J\xfb\xff\xff\xff\x8a\x06\x00\x00\x00\x00\x00\x01\x8a\x06\x00\x00\x00\x00\x00\xffe.";
    let pickle = parse(list);
    let Value::List(items) = pickle.value(pickle.root()) else {
        panic!()
    };
    let items: Vec<String> = items
        .iter()
        .map(|&id| format!("{:?}", pickle.value(id)))
        .collect();
    assert_eq!(
        items,
        [
            "None",
            "Bool(true)",
            "Bool(false)",
            "Int(7)",
            "Int(300)",
            "Int(-5)",
            "Int(1099511627776)",
            "Int(-1099511627776)"
        ]
    );
    for text in [
        &b"\x80\x02U\x02hi."[..],
        b"\x80\x04\x8c\x02hi.",
        b"\x80\x03C\x02hi.",
    ] {
        let pickle = parse(text);
        assert_eq!(pickle.string(pickle.root()), Some(&b"hi"[..]));
    }
}

#[test]
fn later_keys_win_and_offsets_point_at_values() {
    // {'a': 1, 'a': 2}
    let bytes = b"\x80\x02}(U\x01aK\x01U\x01aK\x02u.";
    let pickle = parse(bytes);
    let Value::Dict(dict) = pickle.value(pickle.root()) else {
        panic!()
    };
    let a = pickle.get(dict, "a").unwrap();
    assert!(matches!(pickle.value(a), Value::Int(2)));
    assert_eq!(bytes[pickle.offset(a)..][..2], *b"K\x02");
    assert!(pickle.get(dict, "b").is_none());
}

#[test]
fn calls_of_the_system_are_refused_by_name() {
    // cos\nsystem\n(S'id'\ntR. in protocol 2, and its protocol 4 form.
    for (bytes, at) in [
        (&b"\x80\x02cos\nsystem\nU\x02id\x85R."[..], 2),
        (
            b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.",
            17,
        ),
    ] {
        let (offset, problem) = complaint(bytes);
        assert_eq!(offset, at);
        assert!(
            problem.contains("system`, which no CIFAR file does; nothing was executed"),
            "{problem}"
        );
    }
    // Allowed modules do not open a way to their other members.
    let (_, problem) = complaint(b"\x80\x02cnumpy\nload\n.");
    assert!(problem.contains("`numpy.load`"), "{problem}");
    // Nor can control characters of a name reach a terminal.
    let (_, problem) = complaint(b"\x80\x02cos\x1b[2J\nx\n.");
    assert!(problem.contains(r"`os\x1b[2J.x`"), "{problem}");
}

#[test]
fn opcodes_that_build_other_objects_are_refused() {
    for opcode in *b"ioIFSVdlp0122PQG\x81\x82\x83\x84\x8b\x8f\x90\x91\x92\x97\x98" {
        let (offset, problem) = complaint(&[0x80, 2, opcode, b'.']);
        assert_eq!(offset, 2);
        assert!(problem.contains(&format!("0x{opcode:02x}")), "{problem}");
    }
}

#[test]
fn impossible_lengths_are_refused() {
    for (bytes, announced) in [
        (&b"\x80\x02T\xff\xff\xff\x7f"[..], "2147483647 bytes"),
        (b"\x80\x02X\xff\xff\xff\xff", "4294967295 bytes"),
        (
            b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xff",
            "18446744073709551615 bytes",
        ),
        (
            b"\x80\x05\x96\x00\x00\x00\x00\x00\x00\x00\x80",
            "9223372036854775808 bytes",
        ),
    ] {
        let (offset, problem) = complaint(bytes);
        assert_eq!(offset, 2);
        assert!(
            problem.contains(announced) && problem.contains("only 0 follow"),
            "{problem}"
        );
    }
}

#[test]
fn broken_stacks_are_refused() {
    for (bytes, text) in [
        (&b"\x80\x02."[..], "empty stack"),
        (b"\x80\x02(.", "empty stack"),
        (b"\x80\x02K\x01(\x85.", "empty stack"),
        (b"\x80\x02N(\x86.", "empty stack"),
        (b"\x80\x02t.", "never began"),
        (b"\x80\x02K\x01K\x02a.", "what is no list"),
        (b"\x80\x02]K\x01K\x02s.", "what is no dictionary"),
        (b"\x80\x02}(K\x01u.", "a key without a value"),
        (b"\x80\x02h\x05.", "value 5 is recalled"),
        (b"\x80\x02q\x05.", "empty stack"),
        (b"\x80\x02K\x01)R.", "what is no function"),
        (b"\x80\x02cnumpy\ndtype\nK\x01R.", "no tuple"),
        (b"\x80\x02K\x01Nb.", "cannot have one"),
        (b"\x80\x02cnumpy\ndtype\n)RNbNb.", "cannot have one"),
        (
            b"\x80\x02\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x00.",
            "integer of 9 bytes",
        ),
        (b"\x80\x02X\x01\x00\x00\x00\xff.", "not UTF-8"),
        (b"\x80\x07.", "protocol 7"),
        (b"\x80\x00.", "protocol 0"),
        (b"\x80\x02cnumpy\ndtype", "does not end"),
        (b"\x80\x04K\x01K\x02\x93.", "not a string"),
        (b"\x80\x02N", "only 0 follow"),
        (b"", "only 0 follow"),
    ] {
        let (_, problem) = complaint(bytes);
        assert!(
            problem.contains(text),
            "{}: {problem}",
            bytes.escape_ascii()
        );
    }
}

/// Each step makes a tuple of the previous tuple twice: 2^n values to whoever copies them.
#[test]
fn doubling_costs_nothing() {
    let mut bytes = b"\x80\x02N".to_vec();
    for _ in 0..1000 {
        bytes.extend(b"q\x00h\x00\x86");
    }
    bytes.push(b'.');
    let pickle = parse(&bytes);
    assert_eq!(pickle.nodes.len(), 1001);
}

/// Nesting to this depth would overflow the stack of a reader, or of a destructor, that recurses.
#[test]
fn depth_costs_no_stack() {
    let mut bytes = b"\x80\x02N".to_vec();
    bytes.extend(vec![0x85; 400_000]);
    bytes.push(b'.');
    drop(parse(&bytes));
}

#[test]
fn a_list_may_contain_itself() {
    let pickle = parse(b"\x80\x02]q\x00h\x00a.");
    let Value::List(items) = pickle.value(pickle.root()) else {
        panic!()
    };
    assert_eq!(items[..], [pickle.root()]);
}

#[test]
fn the_number_of_opcodes_is_bounded() {
    let mut bytes = b"\x80\x02".to_vec();
    bytes.extend(vec![b'N'; MAX_OPCODES]);
    bytes.push(b'.');
    let (_, problem) = complaint(&bytes);
    assert!(problem.contains("more than 524288 opcodes"), "{problem}");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Pickle::parse(&bytes);
    }

    /// Opcodes that are known, in any order: reaches much deeper than arbitrary bytes.
    #[test]
    fn arbitrary_programs_never_panic(
        ops in prop::collection::vec(
            prop::sample::select(vec![
                &b"N"[..], b"\x88", b"K\x03", b"U\x01a", b"X\x01\x00\x00\x00a", b"C\x01b", b"]", b")", b"}",
                b"(", b"t", b"\x85", b"\x86", b"\x87", b"a", b"e", b"s", b"u", b"q\x00", b"q\x01", b"\x94",
                b"h\x00", b"h\x01", b"cnumpy\ndtype\n", b"c_codecs\nencode\n", b"R", b"b", b"\x93",
            ]),
            0..60,
        ),
    ) {
        let mut bytes = b"\x80\x02".to_vec();
        bytes.extend(ops.concat());
        bytes.push(b'.');
        if let Ok(pickle) = Pickle::parse(&bytes) {
            prop_assert!(pickle.offset(pickle.root()) < bytes.len());
        }
    }
}
