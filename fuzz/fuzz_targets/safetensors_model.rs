//! Model files: whatever the bytes are, reading them returns, and what was read is written alike.
#![no_main]

use std::path::Path;

use addernet_graph::file::ModelFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("fuzz.safetensors");
    match ModelFile::from_bytes(bytes, path) {
        Ok(file) => {
            let written = file.to_bytes().unwrap();
            let again = ModelFile::from_bytes(&written, path).unwrap();
            assert_eq!(again.graph, file.graph);
            assert_eq!(again.info, file.info);
            assert_eq!(again.extensions, file.extensions);
            assert_eq!(again.to_bytes().unwrap(), written);
            let _ = file.into_model();
        }
        Err(error) => {
            let text = error.to_string();
            assert!(
                text.starts_with("fuzz.safetensors: ") && !text.contains('\n'),
                "{text}"
            );
        }
    }
});
