//! The idx parser, plain and gzipped: an array is as long as its dimensions say, or there is an error.
#![no_main]

use std::path::Path;

use addernet_data::formats::read_idx;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(array) = read_idx(bytes, Path::new("fuzz")) {
        assert_eq!(array.data.len(), array.dims.iter().product::<usize>());
    }
});
