//! The python version: a pickled dictionary with `data`, an n x 3072 array of bytes, and a list of
//! labels, `labels` (CIFAR-10) or `fine_labels` (CIFAR-100).

use std::borrow::Cow;
use std::io::Read;
use std::path::Path;

use addernet_pickle::{Id, PickleError, Reader, Value};

use super::{CifarVariant, PIXELS, Samples};
use crate::error::DataError;
use crate::files;

type Heap<'a> = addernet_pickle::Heap<'a, Global>;

/// Largest file read; CIFAR-100's training file has 155 MB.
const MAX_FILE: u64 = 1 << 29;

/// Operations per pickle; CIFAR-100's training file has about 200,000. A hostile file of any size costs
/// less than 100 MiB beyond its own bytes.
const MAX_OPERATIONS: usize = 1 << 19;

/// The functions and classes that may occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Global {
    /// `numpy.core.multiarray._reconstruct`: an empty array, filled by its state.
    Reconstruct,
    /// `numpy.core.numeric._frombuffer`: an array around bytes (protocol 5).
    FromBuffer,
    /// `numpy.ndarray`, the class.
    NdArray,
    /// `numpy.dtype`.
    DType,
    /// `_codecs.encode`: how python 3 writes bytes in protocol 2.
    Encode,
}

impl Global {
    fn find(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => {
                Some(Global::Reconstruct)
            }
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => {
                Some(Global::FromBuffer)
            }
            ("numpy", "ndarray") => Some(Global::NdArray),
            ("numpy", "dtype") => Some(Global::DType),
            ("_codecs", "encode") => Some(Global::Encode),
            _ => None,
        }
    }
}

/// What is wrong with a file, and where.
struct Complaint {
    offset: usize,
    problem: String,
}

impl From<PickleError> for Complaint {
    fn from(error: PickleError) -> Self {
        Complaint {
            offset: error.offset,
            problem: error.problem.to_string(),
        }
    }
}

/// Reads one file of the python version from memory. Nothing in it is executed: see the errors.
///
/// Files as published (python 2, protocol 2) and as python 3 with numpy writes them (protocols 2 to 5).
///
/// # Errors
/// [`DataError::Corrupt`] for anything but plain data and byte arrays (any other global, such as
/// `os.system`, is named), for sizes beyond the end of the file, for a missing key, an array that is not
/// n x 3072 unsigned bytes in C order, a number of labels that differs from the number of images, and
/// a label that is not below the number of classes.
pub fn read_cifar_pickle(
    bytes: &[u8],
    name: &Path,
    variant: CifarVariant,
) -> Result<Samples, DataError> {
    let mut samples = Samples::default();
    append(bytes, variant, &mut samples)
        .map_err(|e| DataError::corrupt(name, e.offset as u64, e.problem))?;
    Ok(samples)
}

/// Appends the images of a file.
pub(super) fn read_file(
    path: &Path,
    variant: CifarVariant,
    samples: &mut Samples,
) -> Result<(), DataError> {
    let (file, size) = files::open(path)?;
    if size > MAX_FILE {
        let problem = format!("the file has {size} bytes, no CIFAR file has more than {MAX_FILE}");
        return Err(DataError::corrupt(path, MAX_FILE, problem));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    // A file that grows meanwhile is cut off, and then found to be incomplete.
    file.take(size)
        .read_to_end(&mut bytes)
        .map_err(DataError::io(path, "read"))?;
    append(&bytes, variant, samples)
        .map_err(|e| DataError::corrupt(path, e.offset as u64, e.problem))
}

fn append(bytes: &[u8], variant: CifarVariant, samples: &mut Samples) -> Result<(), Complaint> {
    let mut reader = Reader::new(bytes, MAX_OPERATIONS, Global::find);
    let root = reader.read()?;
    let heap = reader.heap();
    let Value::Dict(dict) = heap.value(root) else {
        return fail(heap, root, "the file holds no dictionary at its top");
    };
    let labels_key = match variant {
        CifarVariant::Cifar10 => "labels",
        CifarVariant::Cifar100 => "fine_labels",
    };
    let entry = |key: &str| {
        heap.get(dict, key).ok_or_else(|| Complaint {
            offset: heap.offset(root),
            problem: format!(
                "the dictionary has no `{key}`: this is no {} batch",
                variant.kind()
            ),
        })
    };
    let data = entry("data")?;
    let labels = entry(labels_key)?;

    let (shape, pixels) = byte_array(heap, data)?;
    let count = match shape[..] {
        [count, PIXELS] => count,
        _ => {
            let problem = format!("`data` has shape {shape:?}, expected n x {PIXELS}");
            return fail(heap, data, problem);
        }
    };
    let Value::List(label_ids) = heap.value(labels) else {
        return fail(heap, labels, format!("`{labels_key}` is no list"));
    };
    if label_ids.len() != count || count == 0 {
        let problem = format!("{count} images, but {} labels", label_ids.len());
        return fail(heap, labels, problem);
    }
    samples.images.reserve_exact(pixels.len());
    for (planes, &id) in pixels.chunks_exact(PIXELS).zip(label_ids) {
        match *heap.value(id) {
            Value::Int(label) if (0..variant.classes() as i64).contains(&label) => {
                samples.push(planes, label as u32);
            }
            Value::Int(label) => {
                let (kind, last) = (variant.kind(), variant.classes() - 1);
                return fail(
                    heap,
                    id,
                    format!("label {label}, {kind} has classes 0 to {last}"),
                );
            }
            _ => return fail(heap, id, "a label is no integer"),
        }
    }
    Ok(())
}

fn fail<T>(heap: &Heap<'_>, id: Id, problem: impl Into<String>) -> Result<T, Complaint> {
    Err(Complaint {
        offset: heap.offset(id),
        problem: problem.into(),
    })
}

/// Shape and elements of a numpy array of unsigned bytes in C order.
fn byte_array<'a>(heap: &Heap<'a>, id: Id) -> Result<(Vec<usize>, Cow<'a, [u8]>), Complaint> {
    // Both calls: (bytes, dtype, shape, order), and _reconstruct(..) with the state (version, shape,
    // dtype, in Fortran order, bytes).
    let (bytes, dtype, shape) = match (heap.call(id), heap.state(id)) {
        (Some((Global::FromBuffer, arguments)), None) => match *arguments {
            [bytes, dtype, shape, order] if heap.bytes(order) == Some(b"C") => {
                (bytes, dtype, shape)
            }
            _ => return fail(heap, id, "`data` is no array in C order"),
        },
        (Some((Global::Reconstruct, _)), Some(state)) => match heap.items(state) {
            Some(&[_, shape, dtype, fortran, bytes])
                if matches!(heap.value(fortran), Value::Bool(false) | Value::Int(0)) =>
            {
                (bytes, dtype, shape)
            }
            _ => return fail(heap, state, "`data` is no array in C order"),
        },
        _ => return fail(heap, id, "`data` is no numpy array"),
    };

    let name = match heap.call(dtype) {
        Some((Global::DType, [name, ..])) => heap.bytes(*name),
        _ => None,
    };
    if !matches!(name, Some(b"u1" | b"|u1")) {
        return fail(heap, dtype, "`data` is not made of unsigned bytes (u1)");
    }

    let dim = |&id: &Id| match *heap.value(id) {
        Value::Int(dim) => usize::try_from(dim).ok(),
        _ => None,
    };
    let dims: Option<Vec<usize>> = match heap.value(shape) {
        Value::Tuple(dims) if dims.len() <= 4 => dims.iter().map(dim).collect(),
        _ => None,
    };
    let Some(dims) = dims else {
        return fail(heap, shape, "the shape of `data` is no tuple of sizes");
    };
    let content = raw_bytes(heap, bytes)?;
    let expected = dims
        .iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim));
    if expected != Some(content.len()) {
        let problem = format!("`data` has shape {dims:?}, but {} bytes", content.len());
        return fail(heap, bytes, problem);
    }
    Ok((dims, content))
}

/// Bytes as such, or as python 3 writes them in protocol 2: `_codecs.encode(text, "latin1")`.
fn raw_bytes<'a>(heap: &Heap<'a>, id: Id) -> Result<Cow<'a, [u8]>, Complaint> {
    if let Some(bytes) = heap.bytes(id) {
        return Ok(Cow::Borrowed(bytes));
    }
    let (Some((Global::Encode, arguments)), None) = (heap.call(id), heap.state(id)) else {
        return fail(heap, id, "the elements of `data` are no bytes");
    };
    let text = match *arguments {
        [text, encoding] if heap.bytes(encoding) == Some(b"latin1") => text,
        _ => return fail(heap, id, "an encoding other than latin1"),
    };
    let Some(text) = heap.text(text) else {
        return fail(heap, id, "what is encoded as latin1 is no text");
    };
    let bytes: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
    match bytes {
        Ok(bytes) => Ok(Cow::Owned(bytes)),
        Err(_) => fail(heap, id, "a character that is not in latin1"),
    }
}

#[cfg(test)]
mod tests;
