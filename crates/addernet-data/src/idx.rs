//! The `idx` format of MNIST and its relatives, plain or gzipped.
//!
//! Two zero bytes, a type byte (8 is `u8`, the only one read here), the number of dimensions, each
//! dimension as a big-endian `u32`, then the elements in row-major order
//! (Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits").

use std::io::{Cursor, ErrorKind, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::error::DataError;

/// Elements a file may declare. The largest set of this family, EMNIST, has 547 million.
const MAX_ELEMENTS: u64 = 1 << 30;
const MAX_DIMENSIONS: u8 = 4;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The contents of an `idx` file of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdxArray {
    /// Size of each dimension, outermost first: `[n]` for labels, `[n, h, w]` for images.
    pub dims: Vec<usize>,
    /// The elements, row-major; as many as the product of `dims`.
    pub data: Vec<u8>,
}

impl IdxArray {
    /// Bytes before the first element.
    pub(crate) fn header_len(&self) -> u64 {
        4 + 4 * self.dims.len() as u64
    }
}

/// Reads one `idx` file of bytes; gzip is recognised by its first two bytes.
///
/// No more is unpacked than the header declares (plus one byte, to see that nothing follows), and no
/// more memory is taken than a small multiple of what really arrives.
///
/// # Errors
/// [`DataError::Corrupt`], with offsets in the unpacked data, for a wrong magic number, element type or
/// number of dimensions, more than 2³⁰ elements, missing or surplus elements, and damaged gzip data;
/// [`DataError::Io`] if reading itself fails.
///
/// ```
/// use std::path::Path;
///
/// let labels = [0, 0, 8, 1, 0, 0, 0, 2, 7, 9];
/// let array = addernet_data::formats::read_idx(&labels[..], Path::new("labels")).unwrap();
/// assert_eq!((array.dims, array.data), (vec![2], vec![7, 9]));
/// ```
pub fn read_idx<R: Read>(mut reader: R, name: &Path) -> Result<IdxArray, DataError> {
    let mut magic = [0; 2];
    let got = fill(&mut reader, &mut magic, name, 0)?;
    let reader = Cursor::new(magic).take(got as u64).chain(reader);
    if magic == GZIP_MAGIC {
        read_plain(MultiGzDecoder::new(reader), name)
    } else {
        read_plain(reader, name)
    }
}

fn read_plain<R: Read>(mut reader: R, name: &Path) -> Result<IdxArray, DataError> {
    let mut head = [0; 4];
    if fill(&mut reader, &mut head, name, 0)? < head.len() {
        return Err(DataError::corrupt(
            name,
            0,
            "the file ends within the 4-byte magic number",
        ));
    }
    let [zero0, zero1, element, rank] = head;
    if (zero0, zero1) != (0, 0) {
        let problem = "not an idx file: it must begin with two zero bytes";
        return Err(DataError::corrupt(name, 0, problem));
    }
    if element != 8 {
        let problem =
            format!("element type 0x{element:02x}, only 0x08 (unsigned bytes) can be read");
        return Err(DataError::corrupt(name, 2, problem));
    }
    if rank == 0 || rank > MAX_DIMENSIONS {
        let problem = format!("{rank} dimensions, expected 1 to {MAX_DIMENSIONS}");
        return Err(DataError::corrupt(name, 3, problem));
    }

    let mut dims = Vec::with_capacity(rank.into());
    let mut elements = 1u64;
    for i in 0..u64::from(rank) {
        let offset = 4 + 4 * i;
        let mut bytes = [0; 4];
        if fill(&mut reader, &mut bytes, name, offset)? < bytes.len() {
            return Err(DataError::corrupt(
                name,
                offset,
                "the file ends within its dimensions",
            ));
        }
        let dim = u32::from_be_bytes(bytes);
        elements = elements.saturating_mul(dim.into());
        if elements > MAX_ELEMENTS {
            let problem = format!("more than {MAX_ELEMENTS} elements declared");
            return Err(DataError::corrupt(name, offset, problem));
        }
        dims.push(dim as usize);
    }

    let start = 4 + 4 * u64::from(rank);
    let mut data = Vec::new();
    let got = reader.by_ref().take(elements).read_to_end(&mut data);
    let end = start + data.len() as u64;
    got.map_err(|e| read_error(e, name, end))?;
    if (data.len() as u64) < elements {
        let problem = format!(
            "the file ends here, but its header promises {elements} bytes of data from byte {start}"
        );
        return Err(DataError::corrupt(name, end, problem));
    }
    if fill(&mut reader, &mut [0], name, end)? > 0 {
        let problem = format!("surplus data after the {elements} bytes that the header promises");
        return Err(DataError::corrupt(name, end, problem));
    }
    Ok(IdxArray { dims, data })
}

/// Reads until `buffer` is full or the input ends; gives the number of bytes read.
fn fill<R: Read>(
    reader: &mut R,
    buffer: &mut [u8],
    name: &Path,
    offset: u64,
) -> Result<usize, DataError> {
    let mut got = 0;
    while got < buffer.len() {
        match reader.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(read_error(e, name, offset + got as u64)),
        }
    }
    Ok(got)
}

/// Damaged gzip data arrives as an I/O error of one of three kinds.
fn read_error(error: std::io::Error, name: &Path, offset: u64) -> DataError {
    match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
            DataError::corrupt(name, offset, format!("damaged gzip data: {error}"))
        }
        _ => DataError::io(name, "read")(error),
    }
}

#[cfg(test)]
mod tests;
