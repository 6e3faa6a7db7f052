//! The python version: a pickled dictionary with `data`, an n x 3072 array of bytes, and a list of
//! labels, `labels` (CIFAR-10) or `fine_labels` (CIFAR-100).

use std::borrow::Cow;
use std::io::Read;
use std::path::Path;

use super::{CifarVariant, PIXELS, Samples};
use crate::error::DataError;
use crate::files;
use crate::pickle::{Global, NodeId, Pickle, PickleError, Value};

/// Largest file read; CIFAR-100's training file has 155 MB.
const MAX_FILE: u64 = 1 << 29;

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

fn append(bytes: &[u8], variant: CifarVariant, samples: &mut Samples) -> Result<(), PickleError> {
    let pickle = Pickle::parse(bytes)?;
    let root = pickle.root();
    let Value::Dict(dict) = pickle.value(root) else {
        return fail(&pickle, root, "the file holds no dictionary at its top");
    };
    let labels_key = match variant {
        CifarVariant::Cifar10 => "labels",
        CifarVariant::Cifar100 => "fine_labels",
    };
    let entry = |key: &str| {
        pickle.get(dict, key).ok_or_else(|| PickleError {
            offset: pickle.offset(root),
            problem: format!(
                "the dictionary has no `{key}`: this is no {} batch",
                variant.kind()
            ),
        })
    };
    let data = entry("data")?;
    let labels = entry(labels_key)?;

    let (shape, pixels) = byte_array(&pickle, data)?;
    let count = match shape[..] {
        [count, PIXELS] => count,
        _ => {
            let problem = format!("`data` has shape {shape:?}, expected n x {PIXELS}");
            return fail(&pickle, data, problem);
        }
    };
    let Value::List(label_ids) = pickle.value(labels) else {
        return fail(&pickle, labels, format!("`{labels_key}` is no list"));
    };
    if label_ids.len() != count || count == 0 {
        let problem = format!("{count} images, but {} labels", label_ids.len());
        return fail(&pickle, labels, problem);
    }
    samples.images.reserve_exact(pixels.len());
    for (planes, &id) in pixels.chunks_exact(PIXELS).zip(label_ids) {
        match *pickle.value(id) {
            Value::Int(label) if (0..variant.classes() as i64).contains(&label) => {
                samples.push(planes, label as u32);
            }
            Value::Int(label) => {
                let (kind, last) = (variant.kind(), variant.classes() - 1);
                return fail(
                    &pickle,
                    id,
                    format!("label {label}, {kind} has classes 0 to {last}"),
                );
            }
            _ => return fail(&pickle, id, "a label is no integer"),
        }
    }
    Ok(())
}

fn fail<T>(pickle: &Pickle<'_>, id: NodeId, problem: impl Into<String>) -> Result<T, PickleError> {
    Err(PickleError {
        offset: pickle.offset(id),
        problem: problem.into(),
    })
}

/// Shape and elements of a numpy array of unsigned bytes in C order.
fn byte_array<'a>(
    pickle: &Pickle<'a>,
    id: NodeId,
) -> Result<(Vec<usize>, Cow<'a, [u8]>), PickleError> {
    let &Value::Object {
        callable,
        arguments,
        state,
    } = pickle.value(id)
    else {
        return fail(pickle, id, "`data` is no numpy array");
    };
    // Both calls: (bytes, dtype, shape, order), and _reconstruct(..) with the state (version, shape,
    // dtype, in Fortran order, bytes).
    let (bytes, dtype, shape) = match (callable, state) {
        (Global::FromBuffer, None) => match *tuple(pickle, arguments) {
            [bytes, dtype, shape, order] if pickle.string(order) == Some(b"C") => {
                (bytes, dtype, shape)
            }
            _ => return fail(pickle, id, "`data` is no array in C order"),
        },
        (Global::Reconstruct, Some(state)) => match *tuple(pickle, state) {
            [_, shape, dtype, fortran, bytes]
                if matches!(pickle.value(fortran), Value::Bool(false) | Value::Int(0)) =>
            {
                (bytes, dtype, shape)
            }
            _ => return fail(pickle, state, "`data` is no array in C order"),
        },
        _ => return fail(pickle, id, "`data` is no numpy array"),
    };

    let is_u8 = match *pickle.value(dtype) {
        Value::Object {
            callable: Global::DType,
            arguments,
            ..
        } => {
            let name = tuple(pickle, arguments)
                .first()
                .and_then(|&name| pickle.string(name));
            matches!(name, Some(b"u1" | b"|u1"))
        }
        _ => false,
    };
    if !is_u8 {
        return fail(pickle, dtype, "`data` is not made of unsigned bytes (u1)");
    }

    let dim = |&id: &NodeId| match *pickle.value(id) {
        Value::Int(dim) => usize::try_from(dim).ok(),
        _ => None,
    };
    let dims: Option<Vec<usize>> = match pickle.value(shape) {
        Value::Tuple(dims) if dims.len() <= 4 => dims.iter().map(dim).collect(),
        _ => None,
    };
    let Some(dims) = dims else {
        return fail(pickle, shape, "the shape of `data` is no tuple of sizes");
    };
    let content = raw_bytes(pickle, bytes)?;
    let expected = dims
        .iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim));
    if expected != Some(content.len()) {
        let problem = format!("`data` has shape {dims:?}, but {} bytes", content.len());
        return fail(pickle, bytes, problem);
    }
    Ok((dims, content))
}

/// A tuple's members; of anything else, none.
fn tuple<'p>(pickle: &'p Pickle<'_>, id: NodeId) -> &'p [NodeId] {
    match pickle.value(id) {
        Value::Tuple(items) => items,
        _ => &[],
    }
}

/// Bytes as such, or as python 3 writes them in protocol 2: `_codecs.encode(text, "latin1")`.
fn raw_bytes<'a>(pickle: &Pickle<'a>, id: NodeId) -> Result<Cow<'a, [u8]>, PickleError> {
    match *pickle.value(id) {
        Value::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
        Value::Object {
            callable: Global::Encode,
            arguments,
            state: None,
        } => {
            let text = match *tuple(pickle, arguments) {
                [text, encoding] if pickle.string(encoding) == Some(b"latin1") => {
                    pickle.value(text)
                }
                _ => return fail(pickle, arguments, "an encoding other than latin1"),
            };
            let Value::Text(text) = *text else {
                return fail(pickle, arguments, "what is encoded as latin1 is no text");
            };
            let bytes: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
            match bytes {
                Ok(bytes) => Ok(Cow::Owned(bytes)),
                Err(_) => fail(pickle, arguments, "a character that is not in latin1"),
            }
        }
        _ => fail(pickle, id, "the elements of `data` are no bytes"),
    }
}

#[cfg(test)]
mod tests;
