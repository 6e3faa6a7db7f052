//! The binary version: fixed-size records of label bytes and 3,072 pixel bytes (R, G, B planes).

use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

use super::{CifarVariant, PIXELS, Samples};
use crate::error::DataError;
use crate::files;

/// Memory set aside at once on the word of a file's size alone.
const MAX_RESERVE: u64 = 1 << 28;

impl CifarVariant {
    fn label_bytes(self) -> usize {
        match self {
            CifarVariant::Cifar10 => 1,
            CifarVariant::Cifar100 => 2,
        }
    }

    fn record_bytes(self) -> usize {
        self.label_bytes() + PIXELS
    }
}

/// Reads one file of the binary version, to its end.
///
/// # Errors
/// [`DataError::Corrupt`] for an empty input, a partial record at the end (so a truncated file, or one of
/// the other CIFAR), and a label that is not below the number of classes; [`DataError::Io`] if reading
/// itself fails.
///
/// ```
/// use addernet_data::formats::{CifarVariant, read_cifar_binary};
/// use std::path::Path;
///
/// let mut record = vec![3]; // a cat
/// record.extend([200; 1024]); // red
/// record.extend([100; 1024]); // green
/// record.extend([0; 1024]); // blue
/// let samples = read_cifar_binary(&record[..], Path::new("one.bin"), CifarVariant::Cifar10).unwrap();
/// assert_eq!(samples.labels, [3]);
/// assert_eq!(samples.images[..6], [200, 100, 0, 200, 100, 0]);
/// ```
pub fn read_cifar_binary<R: Read>(
    reader: R,
    name: &Path,
    variant: CifarVariant,
) -> Result<Samples, DataError> {
    let mut samples = Samples::default();
    read_records(reader, name, variant, &mut samples)?;
    Ok(samples)
}

/// Appends the records of a file.
pub(super) fn read_file(
    path: &Path,
    variant: CifarVariant,
    samples: &mut Samples,
) -> Result<(), DataError> {
    let (file, size) = files::open(path)?;
    let record = variant.record_bytes() as u64;
    if !size.is_multiple_of(record) {
        return Err(partial_record(
            path,
            variant,
            size - size % record,
            size % record,
        ));
    }
    samples.images.reserve_exact(size.min(MAX_RESERVE) as usize);
    read_records(
        BufReader::with_capacity(1 << 16, file),
        path,
        variant,
        samples,
    )
}

fn read_records<R: Read>(
    mut reader: R,
    name: &Path,
    variant: CifarVariant,
    samples: &mut Samples,
) -> Result<(), DataError> {
    let mut record = vec![0; variant.record_bytes()];
    let label_at = variant.label_bytes() - 1;
    let mut offset = 0u64;
    loop {
        let mut got = 0;
        while got < record.len() {
            match reader.read(&mut record[got..]) {
                Ok(0) => break,
                Ok(n) => got += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(DataError::io(name, "read")(e)),
            }
        }
        if got == 0 && offset > 0 {
            return Ok(());
        }
        if got < record.len() {
            return Err(partial_record(name, variant, offset, got as u64));
        }
        let label = record[label_at];
        if usize::from(label) >= variant.classes() {
            let problem = format!(
                "label {label}, {} has classes 0 to {}",
                variant.kind(),
                variant.classes() - 1
            );
            return Err(DataError::corrupt(name, offset + label_at as u64, problem));
        }
        samples.push(&record[variant.label_bytes()..], label.into());
        offset += record.len() as u64;
    }
}

fn partial_record(name: &Path, variant: CifarVariant, offset: u64, got: u64) -> DataError {
    let problem = format!(
        "a record of {} has {} bytes, here are {got}: the file is truncated or of another kind",
        variant.kind(),
        variant.record_bytes()
    );
    DataError::corrupt(name, offset, problem)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(variant: CifarVariant, label: u8, pixels: impl Fn(usize) -> u8) -> Vec<u8> {
        let mut bytes = vec![7; variant.label_bytes() - 1];
        bytes.push(label);
        bytes.extend((0..PIXELS).map(pixels));
        bytes
    }

    fn read(bytes: &[u8], variant: CifarVariant) -> Result<Samples, DataError> {
        read_cifar_binary(bytes, Path::new("batch.bin"), variant)
    }

    #[test]
    fn planes_become_interleaved_pixels() {
        let bytes = record(CifarVariant::Cifar10, 9, |i| (i / 1024 * 50 + i % 7) as u8);
        let samples = read(&bytes, CifarVariant::Cifar10).unwrap();
        for (i, pixel) in samples.images.chunks_exact(3).enumerate() {
            let expected = [0, 1, 2].map(|c| (c * 50 + (c * 1024 + i) % 7) as u8);
            assert_eq!(pixel, expected);
        }
    }

    #[test]
    fn cifar100_gives_the_fine_label() {
        let bytes = record(CifarVariant::Cifar100, 99, |_| 0);
        assert_eq!(bytes[..2], [7, 99]);
        assert_eq!(read(&bytes, CifarVariant::Cifar100).unwrap().labels, [99]);
    }

    #[test]
    fn complaints_name_file_and_offset() {
        let good = record(CifarVariant::Cifar10, 1, |_| 0);
        let bad = record(CifarVariant::Cifar10, 10, |_| 0);
        for (bytes, message) in [
            (
                [&good[..], &bad].concat(),
                "batch.bin: byte 3073: label 10, cifar10 has classes 0 to 9",
            ),
            (
                good[..3000].to_vec(),
                "batch.bin: byte 0: a record of cifar10 has 3073 bytes, here are 3000",
            ),
            (
                [&good[..], &good[..1]].concat(),
                "batch.bin: byte 3073: a record of cifar10 has 3073 bytes",
            ),
            (
                vec![],
                "batch.bin: byte 0: a record of cifar10 has 3073 bytes, here are 0",
            ),
        ] {
            let error = read(&bytes, CifarVariant::Cifar10).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
        let bad = record(CifarVariant::Cifar100, 100, |_| 0);
        let error = read(&bad, CifarVariant::Cifar100).unwrap_err().to_string();
        assert!(error.starts_with("batch.bin: byte 1: label 100"), "{error}");
    }

    #[test]
    fn a_file_of_the_wrong_size_is_refused_before_it_is_read() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("sparse.bin");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len((1 << 40) + 5).unwrap();
        let error = read_file(&path, CifarVariant::Cifar10, &mut Samples::default()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("a record of cifar10 has 3073 bytes"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn round_trip(labels in prop::collection::vec(0u8..100, 1..4), seed: u8) {
            for variant in [CifarVariant::Cifar10, CifarVariant::Cifar100] {
                let labels: Vec<u8> = labels.iter().map(|l| l % variant.classes() as u8).collect();
                let bytes: Vec<u8> = labels
                    .iter()
                    .flat_map(|&l| record(variant, l, |i| (i as u8).wrapping_mul(seed).wrapping_add(l)))
                    .collect();
                let samples = read(&bytes, variant).unwrap();
                prop_assert_eq!(samples.labels, labels.iter().map(|&l| u32::from(l)).collect::<Vec<_>>());
                prop_assert_eq!(samples.images.len(), labels.len() * PIXELS);
                // Pixel (0, 1) of the last image: second byte of each plane.
                let last = &samples.images[(labels.len() - 1) * PIXELS..];
                let base = labels[labels.len() - 1];
                let plane = |c: usize| ((c * 1024 + 1) as u8).wrapping_mul(seed).wrapping_add(base);
                prop_assert_eq!(&last[3..6], &[plane(0), plane(1), plane(2)]);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..7000)) {
            for variant in [CifarVariant::Cifar10, CifarVariant::Cifar100] {
                if let Ok(samples) = read(&bytes, variant) {
                    prop_assert_eq!(samples.labels.len() * PIXELS, samples.images.len());
                }
            }
        }
    }
}
