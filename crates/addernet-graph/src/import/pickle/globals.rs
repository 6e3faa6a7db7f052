//! The Python objects that a checkpoint may name.

/// What a pickle's global stands for. Everything else is refused by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::import) enum Global {
    /// `collections.OrderedDict`.
    OrderedDict,
    /// `torch._utils._rebuild_tensor`: storage, offset, size, stride.
    RebuildTensor,
    /// `torch._utils._rebuild_tensor_v2`: the same, then gradient flag and hooks.
    RebuildTensorV2,
    /// `torch._utils._rebuild_parameter`: tensor, gradient flag, hooks.
    RebuildParameter,
    /// `torch._tensor._rebuild_from_type_v2`: function, type, arguments, state.
    RebuildFromType,
    /// `torch.Size`: a tuple of extents.
    Size,
    /// `torch.FloatStorage` and the like.
    Storage(Dtype),
    /// A harmless value that this reader does not interpret, by its Python name.
    Opaque(&'static str),
}

/// Element type of a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::import) enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    /// Any type that holds no parameters: its name and the size of an element in bytes.
    Other(&'static str, usize),
}

impl Dtype {
    /// Bytes of one element.
    pub(in crate::import) fn size(self) -> usize {
        match self {
            Dtype::F64 => 8,
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::Other(_, size) => size,
        }
    }

    /// The storage's name in PyTorch.
    pub(in crate::import) fn name(self) -> &'static str {
        match self {
            Dtype::F64 => "DoubleStorage",
            Dtype::F32 => "FloatStorage",
            Dtype::F16 => "HalfStorage",
            Dtype::Bf16 => "BFloat16Storage",
            Dtype::Other(name, _) => name,
        }
    }
}

/// Storages that hold no parameters: counters, masks.
const OTHER_STORAGES: [(&str, usize); 9] = [
    ("LongStorage", 8),
    ("IntStorage", 4),
    ("ShortStorage", 2),
    ("CharStorage", 1),
    ("ByteStorage", 1),
    ("BoolStorage", 1),
    ("ComplexFloatStorage", 8),
    ("ComplexDoubleStorage", 16),
    ("UntypedStorage", 1),
];

/// Values often saved beside a state dict (the best accuracy as a numpy scalar, the command line,
/// the optimizer's devices and types). None of them is constructed.
const OPAQUE: [&str; 46] = [
    "_codecs.encode",
    "argparse.Namespace",
    "builtins.bool",
    "builtins.bytearray",
    "builtins.bytes",
    "builtins.complex",
    "builtins.dict",
    "builtins.float",
    "builtins.frozenset",
    "builtins.int",
    "builtins.list",
    "builtins.object",
    "builtins.set",
    "builtins.slice",
    "builtins.str",
    "builtins.tuple",
    "collections.Counter",
    "collections.defaultdict",
    "copyreg._reconstructor",
    "datetime.datetime",
    "datetime.timedelta",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "numpy.ndarray",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "torch.Tensor",
    "torch.bfloat16",
    "torch.bool",
    "torch.device",
    "torch.float",
    "torch.float16",
    "torch.float32",
    "torch.float64",
    "torch.int16",
    "torch.int32",
    "torch.int64",
    "torch.int8",
    "torch.nn.parameter.Buffer",
    "torch.nn.parameter.Parameter",
    "torch.strided",
    "torch.uint8",
];

/// Modules whose functions run code, read files or open connections: a checkpoint that names one
/// is an attack, not an oversight.
const DANGEROUS: [&str; 24] = [
    "__builtin__",
    "asyncio",
    "builtins",
    "code",
    "commands",
    "ctypes",
    "eval",
    "ftplib",
    "http",
    "importlib",
    "marshal",
    "nt",
    "operator",
    "os",
    "pdb",
    "pickle",
    "posix",
    "pty",
    "runpy",
    "shutil",
    "socket",
    "subprocess",
    "sys",
    "webbrowser",
];

impl Global {
    /// The object's meaning, if a checkpoint may name it.
    pub(super) fn find(module: &str, name: &str) -> Option<Self> {
        // Python 2 wrote other names for two modules.
        let module = match module {
            "__builtin__" => "builtins",
            "copy_reg" => "copyreg",
            module => module,
        };
        match (module, name) {
            ("collections", "OrderedDict") => Some(Global::OrderedDict),
            ("torch._utils", "_rebuild_tensor") => Some(Global::RebuildTensor),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Global::RebuildTensorV2),
            ("torch._utils", "_rebuild_parameter") => Some(Global::RebuildParameter),
            ("torch._tensor", "_rebuild_from_type_v2") => Some(Global::RebuildFromType),
            ("torch", "Size") => Some(Global::Size),
            ("torch", "DoubleStorage") => Some(Global::Storage(Dtype::F64)),
            ("torch", "FloatStorage") => Some(Global::Storage(Dtype::F32)),
            ("torch", "HalfStorage") => Some(Global::Storage(Dtype::F16)),
            ("torch", "BFloat16Storage") => Some(Global::Storage(Dtype::Bf16)),
            ("torch" | "torch.storage", _) if other_storage(name).is_some() => {
                other_storage(name).map(Global::Storage)
            }
            _ => OPAQUE
                .into_iter()
                .find(|known| known.rsplit_once('.') == Some((module, name)))
                .map(Global::Opaque),
        }
    }

    /// The Python type of what calling it gives.
    pub(super) fn makes(self) -> &'static str {
        match self {
            Global::OrderedDict => "dict",
            Global::RebuildTensor
            | Global::RebuildTensorV2
            | Global::RebuildParameter
            | Global::RebuildFromType => "tensor",
            Global::Size => "torch.Size",
            Global::Storage(dtype) => dtype.name(),
            Global::Opaque(name) => name,
        }
    }
}

fn other_storage(name: &str) -> Option<Dtype> {
    let found = OTHER_STORAGES.iter().find(|(known, _)| *known == name);
    found.map(|&(name, size)| Dtype::Other(name, size))
}

/// What to do about a pickle that names the forbidden object `global`.
pub(super) fn advice(global: &str, pickle: &[u8]) -> String {
    let holds = |text: &[u8]| pickle.windows(text.len()).any(|window| window == text);
    let root = global.split('.').next().unwrap_or(global);
    if DANGEROUS.contains(&root) {
        "that is code, not weights: do not open this file in Python either".into()
    } else if holds(b"_parameters") && holds(b"_modules") {
        "it is a whole pickled model and not a state dict: in Python, load it and save its weights \
         with torch.save(model.state_dict(), \"model.pth\")"
            .into()
    } else {
        "a state dict needs no such object: in Python, save the weights alone with \
         torch.save(model.state_dict(), \"model.pth\")"
            .into()
    }
}
