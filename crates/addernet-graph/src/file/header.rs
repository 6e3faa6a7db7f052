//! The safetensors container: header and raw tensors.

use std::collections::HashMap;
use std::num::NonZeroU64;

use safetensors::Dtype;
use safetensors::tensor::Metadata;

/// Largest header that is parsed (16 MiB). Ten thousand tensors and their graph need three; the
/// parsed form takes up to some thirty times the header's size.
const MAX_HEADER_BYTES: usize = 16 << 20;
/// Bytes of the header's length.
const LENGTH_BYTES: usize = 8;

/// A tensor as the file holds it.
pub(crate) struct RawTensor<'a> {
    /// Its name.
    pub(crate) name: String,
    /// Element type.
    pub(crate) dtype: Dtype,
    /// Extents, outermost first.
    pub(crate) shape: Vec<usize>,
    /// Little-endian elements, row-major; as many as shape and element type say.
    pub(crate) data: &'a [u8],
}

/// A parsed container.
pub(crate) struct Container<'a> {
    /// Tensors in the order of their data.
    pub(crate) tensors: Vec<RawTensor<'a>>,
    /// The free-form text metadata.
    pub(crate) metadata: HashMap<String, String>,
}

/// Whether the bytes begin as a safetensors file does: a length, then the JSON's `{`.
pub(crate) fn looks_like_safetensors(bytes: &[u8]) -> bool {
    bytes.get(LENGTH_BYTES) == Some(&b'{')
}

/// Splits a safetensors file into its tensors, without copying them.
///
/// The header is checked here and not by `SafeTensors::deserialize`, which adds the end of the data
/// to the header's length unchecked: nine tensors that claim 2^64 bytes together overflow there.
///
/// # Errors
/// What is wrong with the file, in one line.
pub(crate) fn parse(bytes: &[u8]) -> Result<Container<'_>, String> {
    let length = bytes
        .first_chunk::<LENGTH_BYTES>()
        .map(|length| u64::from_le_bytes(*length))
        .and_then(NonZeroU64::new)
        .ok_or("is too short for a safetensors file, or its header is empty: it is damaged")?;
    let end = usize::try_from(length.get())
        .ok()
        .and_then(|length| length.checked_add(LENGTH_BYTES))
        .filter(|&end| end <= bytes.len())
        .ok_or_else(|| {
            format!(
                "its header claims {length} bytes, the whole file has {}: it is truncated or damaged",
                bytes.len()
            )
        })?;
    if end - LENGTH_BYTES > MAX_HEADER_BYTES {
        return Err(format!(
            "its header has {length} bytes, more than the {MAX_HEADER_BYTES} that are accepted"
        ));
    }
    let (header, data) = bytes.split_at(end);
    let metadata: Metadata = serde_json::from_slice(&header[LENGTH_BYTES..])
        .map_err(|error| format!("its safetensors header is not valid: {error}"))?;
    // The offsets are contiguous and fit shapes and element types: `Metadata` checked that.
    if metadata.data_len() != data.len() {
        return Err(format!(
            "its header describes {} bytes of tensors, the file holds {}: it is truncated or damaged",
            metadata.data_len(),
            data.len()
        ));
    }
    let tensors = metadata
        .offset_keys()
        .into_iter()
        .map(|name| {
            let info = metadata
                .info(&name)
                .ok_or("its safetensors header is not consistent")?;
            let (start, end) = info.data_offsets;
            let data = data
                .get(start..end)
                .ok_or("a tensor lies outside the file")?;
            Ok(RawTensor {
                dtype: info.dtype,
                shape: info.shape.clone(),
                data,
                name,
            })
        })
        .collect::<Result<_, &str>>()?;
    Ok(Container {
        tensors,
        metadata: metadata.metadata().clone().unwrap_or_default(),
    })
}
