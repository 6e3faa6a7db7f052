//! Real files of `torch.save`.

use std::path::Path;

use addernet_graph::Parameters;
use addernet_graph::import;
use ndarray::{ArrayD, IxDyn};

use crate::common::{PickleWriter, fixture_folders, numbers, torch_zip};

/// The state dict of make_fixtures.py's `Net`.
fn net() -> Parameters {
    let bn = numbers(&[2]);
    [
        ("conv1.weight", numbers(&[2, 1, 3, 3])),
        ("bn1.weight", bn.clone()),
        ("bn1.bias", -&bn),
        ("bn1.running_mean", 2.0 * &bn),
        ("bn1.running_var", 1.0 + &bn),
    ]
    .map(|(name, values)| (name.to_owned(), values))
    .into()
}

#[track_caller]
fn check_error(path: &Path, parts: &[&str]) {
    let error = import::state_dict(path).unwrap_err().to_string();
    assert!(error.starts_with(&path.display().to_string()), "{error}");
    assert!(!error.contains('\n'), "{error}");
    for part in parts {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}

#[test]
fn state_dicts_and_checkpoints_load() {
    for folder in fixture_folders() {
        for name in [
            "state_dict_zip.pth",
            "state_dict_legacy.pth",
            "state_dict_protocol4.pth",
            "checkpoint_zip.pth",
            "checkpoint_legacy.pth",
            "checkpoint_net.pth",
        ] {
            let path = folder.join(name);
            assert_eq!(
                import::state_dict(&path).unwrap(),
                net(),
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn tensors_beside_the_state_dict_are_skipped() {
    let pickle = PickleWriter::new()
        .raw(b"}(")
        .str("rng_state")
        .tensor("0", 2, 0, &[2], &[1])
        .str("net")
        .raw(b"}")
        .str("a")
        .tensor("0", 2, 1, &[1], &[1])
        .raw(b"su")
        .stop();
    let data = [1.5f32, 2.5].iter().flat_map(|v| v.to_le_bytes()).collect();
    let archive = torch_zip(&pickle, &[("m/data/0", data)]);
    let parameters = import::state_dict_from_bytes(&archive, Path::new("x")).unwrap();
    assert_eq!(
        parameters,
        [("a".to_owned(), ArrayD::from_elem(IxDyn(&[1]), 2.5))].into()
    );
}

#[test]
fn forms_of_other_pytorch_versions_are_read() {
    let new = PickleWriter::new;
    // The arguments of a tensor of two floats, its shape a torch.Size.
    let arguments = |writer: PickleWriter| {
        let writer = writer
            .raw(b"(")
            .storage("0", 4)
            .int(1)
            .global("torch", "Size");
        writer
            .raw(b"(")
            .ints(&[2])
            .raw(b"tR")
            .ints(&[2])
            .raw(b"\x89Nt")
    };
    let rebuild = |writer: PickleWriter| writer.global("torch._utils", "_rebuild_tensor_v2");
    // Python 2: OrderedDict([["a", tensor]]).
    let pairs = new()
        .global("collections", "OrderedDict")
        .raw(b"(](](")
        .str("a");
    let pairs = arguments(rebuild(pairs)).raw(b"ReetR");
    // A subclass of Tensor: function, class, arguments and state.
    let subclass = new()
        .raw(b"}")
        .str("a")
        .global("torch._tensor", "_rebuild_from_type_v2");
    let subclass = rebuild(subclass.raw(b"(")).global("torch.nn.parameter", "Parameter");
    let subclass = arguments(subclass).raw(b"}tRs");
    // Before 0.4: no gradient flag, and storages that are part of another.
    let view = new()
        .raw(b"}")
        .str("a")
        .global("torch._utils", "_rebuild_tensor")
        .raw(b"((");
    let view = view
        .str("storage")
        .global("torch", "FloatStorage")
        .str("0")
        .str("cpu")
        .int(4);
    let view = view
        .raw(b"(")
        .str("1")
        .int(1)
        .int(3)
        .raw(b"ttQ")
        .int(0)
        .ints(&[2])
        .ints(&[2]);
    let view = view.raw(b"tRs");
    for (name, writer) in [("pairs", pairs), ("subclass", subclass), ("view", view)] {
        let data = [1.0f32, 2.0, 3.0, 4.0]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let archive = torch_zip(&writer.stop(), &[("m/data/0", data)]);
        let parameters = import::state_dict_from_bytes(&archive, Path::new(name)).unwrap();
        assert_eq!(parameters["a"].as_slice().unwrap(), [2.0, 4.0], "{name}");
    }
}

#[test]
fn other_precisions_become_f32() {
    for folder in fixture_folders() {
        for name in ["half.pth", "bfloat16.pth", "double.pth"] {
            let parameters = import::state_dict(folder.join(name)).unwrap();
            assert_eq!(parameters["a"], numbers(&[2, 3]), "{name}");
        }
    }
}

#[test]
fn views_are_read_in_logical_order() {
    let base = numbers(&[4, 6]);
    let row = |i: usize| base.index_axis(ndarray::Axis(0), i).to_owned();
    let expected = [
        ("contiguous", base.clone()),
        ("transposed", base.t().to_owned()),
        (
            "strided",
            base.slice(ndarray::s![1..;2, ..;3]).to_owned().into_dyn(),
        ),
        (
            "column",
            base.slice(ndarray::s![.., 4]).to_owned().into_dyn(),
        ),
        (
            "offset",
            ndarray::stack![ndarray::Axis(0), row(2), row(3)].into_dyn(),
        ),
        (
            "permuted",
            numbers(&[2, 3, 4]).permuted_axes(IxDyn(&[2, 0, 1])),
        ),
        ("channels_last", numbers(&[2, 3, 2, 2])),
        ("scalar", ArrayD::from_elem(IxDyn(&[]), 1.5)),
        ("empty", ArrayD::zeros(IxDyn(&[0, 3]))),
        ("parameter", numbers(&[3])),
        ("tied", base),
    ];
    for folder in fixture_folders() {
        for name in ["views_zip.pth", "views_legacy.pth"] {
            let parameters = import::state_dict(folder.join(name)).unwrap();
            assert_eq!(parameters.len(), expected.len());
            for (key, values) in &expected {
                assert_eq!(&parameters[*key], values, "{key} of {name}");
                assert!(parameters[*key].is_standard_layout(), "{key} of {name}");
            }
        }
    }
}

#[test]
fn what_is_no_state_dict_is_refused_with_a_way_out() {
    const SAVE: &str = "torch.save(model.state_dict()";
    for folder in fixture_folders() {
        let check = |name: &str, parts: &[&str]| check_error(&folder.join(name), parts);
        check(
            "module.pth",
            &["`__main__.Net`", "whole pickled model", SAVE],
        );
        check(
            "sequential.pth",
            &[
                "torch.nn.modules.container.Sequential",
                "whole pickled",
                SAVE,
            ],
        );
        check("script.pt", &["TorchScript", "torch.jit.load"]);
        check(
            "sparse.pth",
            &["`torch._utils._rebuild_sparse_tensor`", SAVE],
        );
        check("tensor.pth", &["holds no state dict", SAVE]);
        check(
            "no_state_dict.pth",
            &["[epoch, weights]", "model_state_dict"],
        );
        check("number.pth", &["entry `b`", "no tensor"]);
        check(
            "integers.pth",
            &["tensor `a`", "LongStorage", "floating-point"],
        );
        check(
            "expanded.pth",
            &["[1000, 1000]", "repeats its elements", "contiguous()"],
        );
    }
}

#[test]
fn what_is_no_model_at_all_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    check_error(folder.path(), &["is a folder"]);
    check_error(&folder.path().join("missing.pth"), &["No such file"]);
    check_error(&write("empty.pth", b""), &["is empty"]);
    check_error(
        &write("text.pth", b"checkpoint\nof the model"),
        &["neither a file of torch.save"],
    );
    check_error(
        &write("byte.pth", b"\x80"),
        &["neither a file of torch.save"],
    );
    let mut tar = vec![b'x'; 512];
    tar[257..262].copy_from_slice(b"ustar");
    check_error(&write("old.pth", &tar), &["tar archive", "0.1.10"]);
    check_error(
        &write(
            "empty.zip",
            b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ),
        &["data.pkl"],
    );
    #[cfg(unix)]
    check_error(Path::new("/dev/zero"), &["not an ordinary file"]);
}
