use proptest::prelude::*;

use super::*;

/// A batch in the form of the published files: python 2's cPickle, protocol 2.
struct Batch {
    shape: [u32; 2],
    dtype: &'static str,
    fortran: bool,
    data: Vec<u8>,
    labels_key: &'static str,
    labels: Vec<u8>,
}

impl Batch {
    fn new(labels: &[u8]) -> Self {
        let data = (0..labels.len() * PIXELS)
            .map(|i| (i * 7 % 251) as u8)
            .collect();
        Self {
            shape: [labels.len() as u32, 3072],
            dtype: "u1",
            fortran: false,
            data,
            labels_key: "labels",
            labels: labels.to_vec(),
        }
    }

    fn pickle(&self) -> Vec<u8> {
        fn string(out: &mut Vec<u8>, text: &[u8]) {
            out.extend([b'U', text.len() as u8]);
            out.extend(text);
        }
        fn int(out: &mut Vec<u8>, value: u32) {
            out.push(b'J');
            out.extend(value.to_le_bytes());
        }
        let mut out = b"\x80\x02}q\x01(".to_vec();
        string(&mut out, b"batch_label");
        string(&mut out, b"testing batch 1 of 1");
        string(&mut out, self.labels_key.as_bytes());
        out.extend(b"]q\x05(");
        for &label in &self.labels {
            out.extend([b'K', label]);
        }
        out.push(b'e');
        string(&mut out, b"data");
        out.extend(b"cnumpy.core.multiarray\n_reconstruct\nq\x06cnumpy\nndarray\nq\x07K\x00\x85");
        string(&mut out, b"b");
        out.extend(b"\x87R(K\x01");
        int(&mut out, self.shape[0]);
        int(&mut out, self.shape[1]);
        out.extend(b"\x86cnumpy\ndtype\n");
        string(&mut out, self.dtype.as_bytes());
        out.extend(b"K\x00K\x01\x87R(K\x03");
        string(&mut out, b"|");
        out.extend(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb");
        out.push(if self.fortran { 0x88 } else { 0x89 });
        out.push(b'T');
        out.extend((self.data.len() as u32).to_le_bytes());
        out.extend(&self.data);
        out.extend(b"tb");
        string(&mut out, b"filenames");
        out.extend(b"]");
        out.extend(b"u.");
        out
    }
}

fn read(bytes: &[u8], variant: CifarVariant) -> Result<Samples, DataError> {
    read_cifar_pickle(bytes, Path::new("test_batch"), variant)
}

fn complaint(batch: &Batch) -> String {
    read(&batch.pickle(), CifarVariant::Cifar10)
        .unwrap_err()
        .to_string()
}

fn interleaved(planes: &[u8]) -> Vec<u8> {
    (0..PIXELS).map(|i| planes[i % 3 * 1024 + i / 3]).collect()
}

#[test]
fn published_form() {
    let mut batch = Batch::new(&[3, 0, 9]);
    let samples = read(&batch.pickle(), CifarVariant::Cifar10).unwrap();
    assert_eq!(samples.labels, [3, 0, 9]);
    assert_eq!(
        samples.images[2 * PIXELS..],
        interleaved(&batch.data[2 * PIXELS..])
    );
    batch.labels_key = "fine_labels";
    batch.labels = vec![99, 98, 0];
    let samples = read(&batch.pickle(), CifarVariant::Cifar100).unwrap();
    assert_eq!(samples.labels, [99, 98, 0]);
}

/// Made by `tests/fixtures/make_pickles.py`.
#[test]
fn forms_that_python_3_writes() {
    let planes: Vec<u8> = (0..PIXELS).map(|i| (i * 7 % 251) as u8).collect();
    for (protocol, bytes) in [
        (
            2,
            &include_bytes!("../../../tests/fixtures/cifar-protocol2.pickle")[..],
        ),
        (
            3,
            include_bytes!("../../../tests/fixtures/cifar-protocol3.pickle"),
        ),
        (
            4,
            include_bytes!("../../../tests/fixtures/cifar-protocol4.pickle"),
        ),
        (
            5,
            include_bytes!("../../../tests/fixtures/cifar-protocol5.pickle"),
        ),
    ] {
        let samples = read(bytes, CifarVariant::Cifar10).unwrap();
        assert_eq!(samples.labels, [6], "protocol {protocol}");
        assert_eq!(samples.images, interleaved(&planes), "protocol {protocol}");
        assert_eq!(
            read(bytes, CifarVariant::Cifar100).unwrap().labels,
            [98],
            "protocol {protocol}"
        );
        for cut in (0..bytes.len()).step_by(97) {
            assert!(
                read(&bytes[..cut], CifarVariant::Cifar10).is_err(),
                "protocol {protocol}, {cut}"
            );
        }
    }
}

#[test]
fn complaints_name_file_and_offset() {
    let mut batch = Batch::new(&[1, 2, 10]);
    let error = complaint(&batch);
    let at = batch
        .pickle()
        .windows(2)
        .position(|w| w == [b'K', 10])
        .unwrap();
    assert_eq!(
        error,
        format!("test_batch: byte {at}: label 10, cifar10 has classes 0 to 9")
    );

    batch = Batch::new(&[1, 2]);
    batch.labels.push(3);
    assert!(
        complaint(&batch).contains("2 images, but 3 labels"),
        "{}",
        complaint(&batch)
    );

    batch = Batch::new(&[1, 2]);
    batch.data.truncate(6000);
    let error = complaint(&batch);
    assert!(
        error.contains("`data` has shape [2, 3072], but 6000 bytes"),
        "{error}"
    );

    batch = Batch::new(&[1, 2]);
    batch.shape = [6, 1024];
    let error = complaint(&batch);
    assert!(
        error.contains("`data` has shape [6, 1024], expected n x 3072"),
        "{error}"
    );

    batch = Batch::new(&[1, 2]);
    batch.shape = [u32::MAX >> 1, u32::MAX >> 1];
    assert!(
        complaint(&batch).contains("but 6144 bytes"),
        "{}",
        complaint(&batch)
    );

    batch = Batch::new(&[1, 2]);
    batch.shape = [u32::MAX, 3072];
    assert!(
        complaint(&batch).contains("no tuple of sizes"),
        "{}",
        complaint(&batch)
    );

    batch = Batch::new(&[1, 2]);
    batch.dtype = "f4";
    assert!(
        complaint(&batch).contains("not made of unsigned bytes"),
        "{}",
        complaint(&batch)
    );

    batch = Batch::new(&[1, 2]);
    batch.fortran = true;
    assert!(
        complaint(&batch).contains("no array in C order"),
        "{}",
        complaint(&batch)
    );

    batch = Batch::new(&[1, 2]);
    batch.labels_key = "fine_labels";
    let error = complaint(&batch);
    assert!(
        error.contains("has no `labels`: this is no cifar10 batch"),
        "{error}"
    );

    assert!(
        complaint(&Batch::new(&[])).contains("0 images"),
        "{}",
        complaint(&Batch::new(&[]))
    );
}

#[test]
fn other_contents_are_refused() {
    for (bytes, text) in [
        (&b"\x80\x02]."[..], "no dictionary at its top"),
        (
            b"\x80\x02}(U\x06labels]U\x04dataNu.",
            "`data` is no numpy array",
        ),
        (
            b"\x80\x02}(U\x06labelsNU\x04datacnumpy\ndtype\n)Ru.",
            "`data` is no numpy array",
        ),
        (
            b"\x80\x02}(U\x06labelsNU\x04datacnumpy.core.multiarray\n_reconstruct\n)R)bu.",
            "C order",
        ),
        (
            b"\x80\x02}(U\x06labelsNU\x04datacnumpy.core.numeric\n_frombuffer\n)Ru.",
            "C order",
        ),
        (
            b"\x80\x02}U\x04datacos\nsystem\nU\x02id\x85Rs.",
            "`os.system`",
        ),
    ] {
        let error = read(bytes, CifarVariant::Cifar10).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn encodings_other_than_latin1_are_refused() {
    let with = |text: &str, encoding: &str| {
        let mut bytes =
            b"\x80\x02}(U\x06labels]K\x01aU\x04datacnumpy.core.numeric\n_frombuffer\n(".to_vec();
        bytes.extend(b"c_codecs\nencode\nX");
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes.extend([b'U', encoding.len() as u8]);
        bytes.extend(encoding.as_bytes());
        bytes.extend(b"\x86Rcnumpy\ndtype\nU\x02u1\x85RK\x01M\x00\x0c\x86U\x01CtRu.");
        read(&bytes, CifarVariant::Cifar10)
    };
    let text: String = (0..PIXELS).map(|i| char::from((i % 256) as u8)).collect();
    let planes: Vec<u8> = (0..PIXELS).map(|i| (i % 256) as u8).collect();
    assert_eq!(with(&text, "latin1").unwrap().images, interleaved(&planes));
    let error = with(&text, "rot13").unwrap_err().to_string();
    assert!(error.contains("other than latin1"), "{error}");
    let error = with(&text.replace('a', "€"), "latin1")
        .unwrap_err()
        .to_string();
    assert!(error.contains("not in latin1"), "{error}");
}

#[test]
fn a_huge_file_is_refused_before_it_is_read() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("test_batch");
    std::fs::File::create(&path)
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let error = read_file(&path, CifarVariant::Cifar10, &mut Samples::default()).unwrap_err();
    assert!(
        error.to_string().contains("has 1099511627776 bytes"),
        "{error}"
    );
}

proptest! {
    #[test]
    fn a_damaged_file_never_panics(
        damage in prop::collection::vec((0usize..400, any::<u8>()), 1..4),
        tail in prop::collection::vec((0usize..40, any::<u8>()), 0..2),
    ) {
        let mut bytes = Batch::new(&[5]).pickle();
        let len = bytes.len();
        for (at, byte) in damage {
            bytes[at] = byte;
        }
        for (at, byte) in tail {
            bytes[len - 1 - at] = byte;
        }
        if let Ok(samples) = read(&bytes, CifarVariant::Cifar10) {
            prop_assert_eq!(samples.images.len(), samples.labels.len() * PIXELS);
            prop_assert!(samples.labels.iter().all(|&label| label < 10));
        }
    }
}
