//! What the known functions and classes give when a pickle calls them.

use super::globals::Global;
use super::machine::{Pickle, unexpected};
use super::value::Value;
use super::{Result, tensor};

impl<'a> Pickle<'a> {
    /// What calling `callable` gives, for the few functions that are known. `nested` allows for
    /// `_rebuild_from_type_v2`, whose first argument is the function that does the work.
    pub(super) fn call(
        &mut self,
        callable: Value<'a>,
        arguments: Value<'a>,
        nested: bool,
    ) -> Result<Value<'a>> {
        let Value::Sequence(index) = arguments else {
            return Err(unexpected("calls a function with", arguments));
        };
        let global = match callable {
            Value::Global(global) => global,
            // What an opaque value's method returns is opaque as well.
            Value::Opaque(name) => return Ok(Value::Opaque(name)),
            other => return Err(unexpected("calls", other)),
        };
        match global {
            Global::OrderedDict => self.ordered_dict(index),
            Global::RebuildTensor | Global::RebuildTensorV2 => {
                tensor::rebuild(&mut self.heap, index)
            }
            Global::RebuildParameter => match self.heap.sequences[index].first() {
                Some(&tensor @ Value::Tensor(_)) => Ok(tensor),
                _ => Err("its pickle builds a parameter from something that is no tensor".into()),
            },
            Global::RebuildFromType => match *self.heap.sequences[index] {
                [function, _, arguments, ..] if nested => self.call(function, arguments, false),
                _ => Err("its pickle builds a tensor of a type that is not supported".into()),
            },
            Global::Size => match *self.heap.sequences[index] {
                [sizes @ Value::Sequence(_)] => Ok(sizes),
                _ => Err("its pickle holds a torch.Size without extents".into()),
            },
            Global::Storage(dtype) => Ok(Value::Opaque(dtype.name())),
            Global::Opaque(name) => Ok(Value::Opaque(name)),
        }
    }

    /// `OrderedDict()` or, from Python 2, `OrderedDict([[key, value], …])`.
    fn ordered_dict(&mut self, arguments: usize) -> Result<Value<'a>> {
        let list = match *self.heap.sequences[arguments] {
            [] => return Ok(self.heap.dict(Vec::new())),
            [Value::Sequence(list)] => list,
            _ => {
                return Err(
                    "its pickle makes an OrderedDict from something that is no list".into(),
                );
            }
        };
        // The one place that copies content: a list could be named again and again.
        self.copied = self.copied.saturating_add(self.heap.sequences[list].len());
        if self.copied > self.bytes.len() {
            return Err("its pickle copies more values than it holds".into());
        }
        let items = self.heap.sequences[list]
            .iter()
            .map(|&pair| match pair {
                Value::Sequence(pair) => match *self.heap.sequences[pair] {
                    [key, value] => Ok((key, value)),
                    _ => {
                        Err("its pickle makes an OrderedDict from something else than pairs".into())
                    }
                },
                other => Err(unexpected("makes an OrderedDict with", other)),
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(self.heap.dict(items))
    }
}
