//! Quantized model files: whatever the bytes are, reading them returns.
#![no_main]

use std::path::Path;

use addernet_graph::file::ModelFile;
use addernet_quant::store;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = ModelFile::from_bytes(bytes, Path::new("fuzz.safetensors"))
        && let Ok(quantized) = store::from_file(file)
    {
        // What was accepted can be written, and is accepted again.
        let written = store::to_file(&quantized).unwrap();
        assert!(store::from_file(written).is_ok());
    }
});
