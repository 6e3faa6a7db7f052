use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::*;

fn name() -> &'static Path {
    Path::new("train-images")
}

fn encode(dims: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dims.len() as u8];
    for dim in dims {
        bytes.extend(dim.to_be_bytes());
    }
    bytes.extend(data);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn complaint(bytes: &[u8]) -> (u64, String) {
    match read_idx(bytes, name()).unwrap_err() {
        DataError::Corrupt {
            path,
            offset,
            problem,
        } => {
            assert_eq!(path, name());
            (offset, problem)
        }
        other => panic!("unexpected error: {other}"),
    }
}

#[test]
fn headers_are_checked_in_order() {
    for (bytes, at, text) in [
        (&[][..], 0, "magic number"),
        (&[0, 0, 8], 0, "magic number"),
        (&[1, 0, 8, 1], 0, "two zero bytes"),
        (&[0, 0, 13, 1], 2, "0x0d"),
        (&[0, 0, 8, 0], 3, "0 dimensions"),
        (&[0, 0, 8, 5], 3, "5 dimensions"),
        (&[0, 0, 8, 2, 0, 0, 0, 1, 0, 0], 8, "within its dimensions"),
    ] {
        let (offset, problem) = complaint(bytes);
        assert_eq!(offset, at, "{problem}");
        assert!(problem.contains(text), "{problem}");
    }
}

#[test]
fn a_truncated_file_names_where_it_ends() {
    let (offset, problem) = complaint(&encode(&[10, 28, 28], &[1; 100]));
    assert_eq!(offset, 116);
    assert!(
        problem.contains("promises 7840 bytes of data from byte 16"),
        "{problem}"
    );
}

#[test]
fn surplus_data_is_an_error() {
    let (offset, problem) = complaint(&encode(&[2], &[1, 2, 3]));
    assert_eq!(offset, 10);
    assert!(problem.contains("surplus"), "{problem}");
}

#[test]
fn impossible_sizes_are_refused_before_any_data_is_read() {
    let (offset, problem) = complaint(&encode(&[u32::MAX, u32::MAX, u32::MAX], &[]));
    assert_eq!(offset, 4);
    assert!(problem.contains("more than 1073741824"), "{problem}");
    // The product overflows nothing on its way, and a zero dimension does not hide a huge one.
    let (offset, _) = complaint(&encode(&[1 << 30, 2, 0], &[]));
    assert_eq!(offset, 8);
}

#[test]
fn a_large_promise_with_no_data_allocates_next_to_nothing() {
    let (offset, _) = complaint(&encode(&[1 << 30], &[]));
    assert_eq!(offset, 8);
}

#[test]
fn a_gzip_bomb_is_unpacked_only_as_far_as_it_declares() {
    let mut bomb = encode(&[16], &[]);
    bomb.extend(vec![0; 64 << 20]);
    let packed = gzip(&bomb);
    assert!(packed.len() < 128 << 10);
    let (offset, problem) = complaint(&packed);
    assert_eq!(offset, 8 + 16);
    assert!(problem.contains("surplus"), "{problem}");
}

#[test]
fn damaged_gzip_data_is_reported_as_such() {
    let data: Vec<u8> = (0..2000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let packed = gzip(&encode(&[2000], &data));
    let (_, problem) = complaint(&packed[..packed.len() / 2]);
    assert!(problem.contains("damaged gzip"), "{problem}");
    let mut wrong_sum = packed.clone();
    let crc = wrong_sum.len() - 8;
    wrong_sum[crc] ^= 1;
    let (_, problem) = complaint(&wrong_sum);
    assert!(problem.contains("damaged gzip"), "{problem}");
}

#[test]
fn an_interrupted_reader_is_read_on() {
    struct Stutter<'a>(&'a [u8], bool);
    impl Read for Stutter<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(ErrorKind::Interrupted.into());
            }
            let n = buffer.len().min(1);
            self.0.read(&mut buffer[..n])
        }
    }
    let bytes = encode(&[3], &[4, 5, 6]);
    assert_eq!(
        read_idx(Stutter(&bytes, false), name()).unwrap().data,
        [4, 5, 6]
    );
}

proptest! {
    #[test]
    fn round_trip(dims in prop::collection::vec(0u32..12, 1..=4), seed: u8, packed: bool) {
        let len = dims.iter().product::<u32>();
        let data: Vec<u8> = (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect();
        let mut bytes = encode(&dims, &data);
        if packed {
            bytes = gzip(&bytes);
        }
        let array = read_idx(&bytes[..], name()).unwrap();
        prop_assert_eq!(array.dims, dims.iter().map(|&d| d as usize).collect::<Vec<_>>());
        prop_assert_eq!(array.data, data);
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..300),
        prefix in prop::sample::select(vec![&[][..], &[0, 0, 8, 1], &[0, 0, 8, 3, 0, 0, 0], &GZIP_MAGIC]),
    ) {
        let mut input = prefix.to_vec();
        input.append(&mut bytes);
        if let Ok(array) = read_idx(&input[..], name()) {
            prop_assert_eq!(array.data.len(), array.dims.iter().product::<usize>());
        }
    }

    #[test]
    fn every_truncation_is_an_error(cut in 0usize..20) {
        let bytes = encode(&[2, 2, 2], &[1; 8]);
        prop_assert_eq!(bytes.len(), 24);
        prop_assert!(read_idx(&bytes[..cut + 4], name()).is_err());
    }
}
