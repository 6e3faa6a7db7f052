//! A restricted reader of Python pickles.
//!
//! A pickle is a program for a stack machine that may call any Python function. [`Reader`] runs the
//! opcodes that protocols 2 to 5 use for numbers, text, bytes, containers and objects, and builds
//! plain values. Functions and classes are accepted only if the caller's list has them; calling one
//! and setting an object's state is recorded as a value and never executed. What the calls mean is
//! for the caller to say.
//!
//! Memory and time are proportional to the pickle's length, whatever it says: values live in a
//! [`Heap`] and refer to each other by number ([`Id`]), so that fetching one from the memo copies
//! nothing, nesting of any depth needs no recursion, a container may hold itself, and text and bytes
//! stay slices of the input. The caller bounds the number of operations; each takes at most some
//! hundred bytes.
//!
//! Existing readers were considered first. `pytorch-reader` (0.22.1) executes nothing either, but its
//! memo copies values: a file of 1 MiB that names one global with a long name and fetches it 2,000
//! times takes 2 GiB there. It also accepts any global as an opaque value, where a file that names
//! `os.system` should be refused aloud. `serde-pickle` knows no persistent identifiers, which are
//! how PyTorch's tensors refer to their data, and replaces an object by its state: what was called,
//! a tensor's or an array's constructor, is lost.
//!
//! Opcodes: CPython's `Lib/pickletools.py`.
//!
//! ```
//! use addernet_pickle::{Problem, Reader, Value};
//!
//! #[derive(Clone, Copy, Debug, PartialEq)]
//! struct Complex;
//! fn known(module: &str, name: &str) -> Option<Complex> {
//!     ((module, name) == ("builtins", "complex")).then_some(Complex)
//! }
//!
//! // [1, complex(2, 3)], in protocol 2.
//! let bytes = b"\x80\x02]q\x00(K\x01cbuiltins\ncomplex\nK\x02K\x03\x86Re.";
//! let mut reader = Reader::new(bytes, 1000, known);
//! let root = reader.read()?;
//! let heap = reader.heap();
//! let Some(&[one, complex]) = heap.items(root) else { panic!() };
//! assert!(matches!(heap.value(one), Value::Int(1)));
//! let (Complex, &[_, imaginary]) = heap.call(complex).unwrap() else { panic!() };
//! assert!(matches!(heap.value(imaginary), Value::Int(3)));
//!
//! let attack = b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R.";
//! let error = Reader::<()>::new(attack, 1000, |_, _| None).read().unwrap_err();
//! assert!(matches!(error.problem, Problem::Forbidden(global) if global == "os.system"));
//! # Ok::<(), addernet_pickle::PickleError>(())
//! ```

mod error;
mod heap;
mod reader;
mod stack;

pub use error::{PickleError, Problem};
pub use heap::{Heap, Id, Object, Value};
pub use reader::Reader;
