use proptest::prelude::*;

use super::*;

const MAX_OPERATIONS: usize = 1 << 20;

fn reader(bytes: &[u8]) -> Reader<'_, ()> {
    Reader::new(bytes, MAX_OPERATIONS, |module, name| {
        (module == "module" && name == "class").then_some(())
    })
}

fn read(bytes: &[u8]) -> (Id, Reader<'_, ()>) {
    let mut reader = reader(bytes);
    let root = reader.read().unwrap();
    (root, reader)
}

fn complaint(bytes: &[u8]) -> (usize, String) {
    let error = reader(bytes).read().unwrap_err();
    (error.offset, error.problem.to_string())
}

#[test]
fn reads_plain_values() {
    // What Python 3.11 writes, protocol 2: [None, True, False, 7, 300, -5, 2**40, -2**40, 1.5, 2**80].
    let (root, reader) = read(
        b"\x80\x02]q\x00(N\x88\x89K\x07M\x2c\x01J\xfb\xff\xff\xff\x8a\x06\x00\x00\x00\x00\x00\x01\
          \x8a\x06\x00\x00\x00\x00\x00\xffG?\xf8\x00\x00\x00\x00\x00\x00\
          \x8a\x0b\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01e.",
    );
    let heap = reader.heap();
    let items = heap.items(root).unwrap().iter();
    let items: Vec<String> = items.map(|&id| format!("{:?}", heap.value(id))).collect();
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
            "Int(-1099511627776)",
            "Float(1.5)",
            "BigInt([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])",
        ]
    );
    for (bytes, is_text) in [
        (&b"\x80\x02U\x02hi."[..], true),
        (b"\x80\x02T\x02\x00\x00\x00hi.", true),
        (b"\x80\x04\x8c\x02hi.", true),
        (b"\x80\x02X\x02\x00\x00\x00hi.", true),
        (b"\x80\x04\x8d\x02\x00\x00\x00\x00\x00\x00\x00hi.", true),
        (b"\x80\x03C\x02hi.", false),
        (b"\x80\x03B\x02\x00\x00\x00hi.", false),
        (b"\x80\x04\x8e\x02\x00\x00\x00\x00\x00\x00\x00hi.", false),
        (b"\x80\x05\x96\x02\x00\x00\x00\x00\x00\x00\x00hi.", false),
    ] {
        let (root, reader) = read(bytes);
        assert_eq!(reader.heap().bytes(root), Some(&b"hi"[..]));
        assert_eq!(reader.heap().text(root), is_text.then_some("hi"));
    }
    // A lone surrogate, and a byte of an image in Python 2.
    for bytes in [
        &b"\x80\x02X\x03\x00\x00\x00\xed\xb3\xbf."[..],
        b"\x80\x02U\x01\xff.",
    ] {
        let (root, reader) = read(bytes);
        assert_eq!(reader.heap().text(root), None);
        assert!(reader.heap().bytes(root).is_some());
    }
}

#[test]
fn later_keys_win_and_offsets_point_at_values() {
    // {'a': 1, 'a': 2}
    let bytes = b"\x80\x02}(U\x01aK\x01U\x01aK\x02u.";
    let (root, reader) = read(bytes);
    let heap = reader.heap();
    let entries = heap.entries(root).unwrap();
    let a = heap.get(entries, "a").unwrap();
    assert!(matches!(heap.value(a), Value::Int(2)));
    assert_eq!(bytes[heap.offset(a)..][..2], *b"K\x02");
    assert!(heap.get(entries, "b").is_none());
}

#[test]
fn calls_are_recorded_with_what_fills_their_results() {
    // c = class(1); c.append(2); c.extend([3]); c[4] = 5; c[6] = 7; its state: 8
    let (root, reader) =
        read(b"\x80\x02cmodule\nclass\nK\x01\x85RK\x02a(K\x03eK\x04K\x05s(K\x06K\x07uK\x08b.");
    let heap = reader.heap();
    let int = |id: &Id| match *heap.value(*id) {
        Value::Int(value) => value,
        _ => panic!("{:?}", heap.value(*id)),
    };
    let ints = |ids: &[Id]| ids.iter().map(int).collect::<Vec<_>>();
    let ((), arguments) = heap.call(root).unwrap();
    assert_eq!(ints(arguments), [1]);
    assert_eq!(ints(heap.items(root).unwrap()), [2, 3]);
    let entries = heap.entries(root).unwrap().iter();
    let entries: Vec<_> = entries.map(|(key, value)| (int(key), int(value))).collect();
    assert_eq!(entries, [(4, 5), (6, 7)]);
    assert_eq!(int(&heap.state(root).unwrap()), 8);
    // NEWOBJ and NEWOBJ_EX; a method of the result is called, which is no call of a known object.
    for bytes in [
        &b"\x80\x02cmodule\nclass\n)\x81."[..],
        b"\x80\x04\x8c\x06module\x8c\x05class\x93)}\x92.",
    ] {
        let (root, reader) = read(bytes);
        assert_eq!(reader.heap().call(root), Some(((), &[][..])));
    }
    let (root, reader) = read(b"\x80\x02cmodule\nclass\n)R)R.");
    assert!(matches!(reader.heap().value(root), Value::Object(_)));
    assert_eq!(reader.heap().call(root), None);
}

#[test]
fn pickles_in_a_row_share_a_heap() {
    let bytes = b"\x80\x02K\x01q\x00.\x80\x02K\x02Q.rest";
    let mut reader = reader(bytes);
    let first = reader.read().unwrap();
    let second = reader.read().unwrap();
    assert_eq!(&bytes[reader.position()..], b"rest");
    let heap = reader.heap();
    assert!(matches!(heap.value(first), Value::Int(1)));
    let [(id, name)] = heap.persistent().collect::<Vec<_>>()[..] else {
        panic!()
    };
    assert_eq!(id, second);
    assert!(matches!(heap.value(name), Value::Int(2)));
    // The memo is not shared.
    let mut reader = self::reader(b"\x80\x02K\x01q\x00.\x80\x02h\x00.");
    reader.read().unwrap();
    assert!(reader.read().is_err());
}

#[test]
fn calls_of_the_system_are_refused_by_name() {
    for (bytes, at) in [
        (&b"\x80\x02cos\nsystem\nU\x02id\x85R."[..], 2),
        (b"\x80\x02ios\nsystem\n.", 2),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.", 14),
    ] {
        let (offset, problem) = complaint(bytes);
        assert_eq!(offset, at);
        assert!(
            problem.contains("`os.system`") && problem.contains("nothing was executed"),
            "{problem}"
        );
    }
    // Allowed modules do not open a way to their other members.
    let (_, problem) = complaint(b"\x80\x02cmodule\nload\n.");
    assert!(problem.contains("`module.load`"), "{problem}");
    // Nor can control characters of a name reach a terminal, or a long one fill it.
    let (_, problem) = complaint(b"\x80\x02cos\x1b[2J\nx\n.");
    assert!(problem.contains(r"`os\u{1b}[2J.x`"), "{problem}");
    let long = [b"\x80\x02cos\n", &[b'x'; 100_000][..], b"\n."].concat();
    let (_, problem) = complaint(&long);
    assert!(
        problem.contains("xxx…`") && problem.len() < 400,
        "{problem}"
    );
}

#[test]
fn operations_that_build_other_objects_are_refused() {
    for opcode in *b"oIFSVLPgp\x82\x83\x84\x97\x98\xff" {
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
        (b"\x80\x02\x8b\xff\xff\xff\xff", "4294967295 bytes"),
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
        (&b"\x80\x02."[..], "takes more values"),
        (b"\x80\x02(.", "takes more values"),
        (b"\x80\x02K\x01(\x85.", "takes more values"),
        (b"\x80\x02N(\x86.", "takes more values"),
        (b"\x80\x02K\x01(0000.", "takes more values"),
        (b"\x80\x02t.", "takes more values"),
        (b"\x80\x021.", "takes more values"),
        (b"\x80\x022.", "takes more values"),
        (b"\x80\x02K\x01K\x02a.", "appends to a value of type `int`"),
        (
            b"\x80\x02]K\x01K\x02s.",
            "sets items of a value of type `list`",
        ),
        (b"\x80\x02}(K\x01u.", "key without a value"),
        (b"\x80\x02(K\x01d.", "key without a value"),
        (b"\x80\x02h\x05.", "refers to value 5"),
        (b"\x80\x02q\x05.", "takes more values"),
        (b"\x80\x02K\x01)R.", "calls a value of type `int`"),
        (
            b"\x80\x02cmodule\nclass\n]R.",
            "with a value of type `list`",
        ),
        (
            b"\x80\x02K\x01Nb.",
            "sets the state of a value of type `int`",
        ),
        (
            b"\x80\x02cmodule\nclass\n)RNbNb.",
            "sets the state of an object again",
        ),
        (b"\x80\x07.", "protocol 7"),
        (b"\x80\x00.", "protocol 0"),
        (b"\x80\x02cmodule\nclass", "truncated"),
        (b"\x80\x02c\xff\n\xff\n", "broken text"),
        (b"\x80\x04K\x01K\x02\x93.", "not text"),
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
    let (root, _) = read(&bytes);
    assert_eq!(root.index(), 1000);
}

/// Nesting to this depth would overflow the stack of a reader, or of a destructor, that recurses.
#[test]
fn depth_costs_no_stack() {
    let mut bytes = b"\x80\x02N".to_vec();
    bytes.extend(vec![0x85; 400_000]);
    bytes.push(b'.');
    drop(read(&bytes));
    // Marks are what Python's writer nests; more than a recursive writer can make are refused.
    let (_, problem) = complaint(&[b'('; 10_001]);
    assert!(problem.contains("nested too deeply"), "{problem}");
}

#[test]
fn a_list_may_contain_itself() {
    let (root, reader) = read(b"\x80\x02]q\x00h\x00a.");
    assert_eq!(reader.heap().items(root), Some(&[root][..]));
}

#[test]
fn the_number_of_operations_is_bounded() {
    let bytes = b"\x80\x02NN\x86.";
    let mut reader = Reader::<()>::new(bytes, 5, |_, _| None);
    assert!(reader.read().is_ok());
    let mut reader = Reader::<()>::new(bytes, 4, |_, _| None);
    let error = reader.read().unwrap_err().to_string();
    assert_eq!(error, "byte 5: it has more than 4 operations");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = reader(&bytes).read();
    }

    /// Opcodes that are known, in any order: reaches much deeper than arbitrary bytes.
    #[test]
    fn arbitrary_programs_never_panic(
        ops in prop::collection::vec(
            prop::sample::select(vec![
                &b"N"[..], b"\x88", b"K\x03", b"U\x01a", b"X\x01\x00\x00\x00a", b"C\x01b", b"]", b")", b"}",
                b"\x8f", b"(", b"t", b"l", b"d", b"\x91", b"\x85", b"\x86", b"\x87", b"a", b"e", b"\x90",
                b"s", b"u", b"q\x00", b"q\x01", b"\x94", b"h\x00", b"h\x01", b"0", b"1", b"2",
                b"cmodule\nclass\n", b"cmodule\nclass\n)R", b"R", b"\x81", b"\x92", b"b", b"\x93", b"Q",
            ]),
            0..60,
        ),
    ) {
        let mut bytes = b"\x80\x02".to_vec();
        bytes.extend(ops.concat());
        bytes.push(b'.');
        let mut reader = reader(&bytes);
        if let Ok(root) = reader.read() {
            let heap = reader.heap();
            prop_assert!(heap.offset(root) < bytes.len());
            // What interpreters rely on to come to an end.
            if let Some((_, arguments)) = heap.call(root) {
                prop_assert!(arguments.iter().all(|argument| *argument < root));
            }
        }
    }
}
