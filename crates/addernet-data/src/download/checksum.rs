//! Published sums.

use std::fmt::Write;
use std::io::Read;
use std::path::Path;

use md5::Md5;
use sha2::{Digest, Sha256};

use crate::error::DataError;
use crate::files;

/// The sums of a file, in lower-case hexadecimal. The publishers give MD5 sums, if any; SHA-256 is what
/// protects against a forged file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Digests {
    pub(super) md5: Option<String>,
    pub(super) sha256: String,
}

/// A sum that is not as published.
pub(super) struct Mismatch {
    pub(super) algorithm: &'static str,
    pub(super) expected: String,
    pub(super) found: String,
}

impl Digests {
    /// The first of `published`'s sums that differs.
    pub(super) fn mismatch(&self, published: &Digests) -> Option<Mismatch> {
        let md5 = match (&published.md5, &self.md5) {
            (Some(expected), Some(found)) => Some(("MD5", expected, found)),
            _ => None,
        };
        let sums = [md5, Some(("SHA-256", &published.sha256, &self.sha256))];
        let wrong = sums
            .into_iter()
            .flatten()
            .find(|(_, expected, found)| expected != found);
        wrong.map(|(algorithm, expected, found)| Mismatch {
            algorithm,
            expected: expected.clone(),
            found: found.clone(),
        })
    }
}

/// Takes both sums of what passes through.
#[derive(Default)]
pub(super) struct Hasher {
    md5: Md5,
    sha256: Sha256,
}

impl Hasher {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.sha256.update(bytes);
    }

    pub(super) fn finish(self) -> Digests {
        Digests {
            md5: Some(hex(&self.md5.finalize())),
            sha256: hex(&self.sha256.finalize()),
        }
    }
}

/// The sums of a file.
pub(super) fn digests(path: &Path) -> Result<Digests, DataError> {
    let (mut file, _) = files::open(path)?;
    digests_of(&mut file, path)
}

/// The sums of what is left to read.
pub(super) fn digests_of(reader: &mut impl Read, name: &Path) -> Result<Digests, DataError> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match reader
            .read(&mut buffer)
            .map_err(DataError::io(name, "read"))?
        {
            0 => return Ok(hasher.finish()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
