//! Checkpoints: whatever the bytes are, loading them returns.
#![no_main]

use std::path::Path;

use addernet_graph::import::{self, ImportOptions};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("fuzz.pth");
    if let Ok(parameters) = import::state_dict_from_bytes(bytes, path) {
        // Memory in proportion to the file, and a name for every tensor.
        let values: usize = parameters.values().map(|values| values.len()).sum();
        assert!(4 * values <= 8 * bytes.len());
        let _ = import::detect(&parameters);
    }
    if let Err(error) = import::load_any_from_bytes(bytes, path, &ImportOptions::default()) {
        let text = error.to_string();
        assert!(
            text.starts_with("fuzz.pth: ") && !text.contains('\n'),
            "{text}"
        );
    }
});
