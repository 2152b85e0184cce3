//! Objects next to the weights: harmless ones are skipped, whatever their class, and the weights are read.

use super::super::{Architecture, seeded_backbone};
use super::states::{imported, state_dict};
use super::torch_save::{Py, dict, legacy, state, text, zip};
use crate::Tensor;

fn harmless() -> Vec<(&'static str, Py)> {
    let bytes = || Py::Raw(b"U\x02\xff\xfe".to_vec());
    let dtype = || Py::Call("numpy", "dtype", vec![text("f8"), Py::Int(0), Py::Int(1)]);
    vec![
        (
            "numpy scalar",
            Py::Call("numpy._core.multiarray", "scalar", vec![dtype(), bytes()]),
        ),
        (
            "numpy array",
            Py::Call(
                "numpy.core.multiarray",
                "_reconstruct",
                vec![Py::Global("numpy", "ndarray"), Py::Tuple(vec![Py::Int(0)]), bytes()],
            ),
        ),
        ("device", Py::Call("torch", "device", vec![text("cuda"), Py::Int(0)])),
        ("dtype", Py::Global("torch", "float16")),
        ("size", Py::Call("torch", "Size", vec![Py::Tuple(vec![Py::Int(1)])])),
        (
            "args",
            Py::Object(
                "argparse",
                "Namespace",
                vec![
                    (text("lr"), Py::Int(1)),
                    (text("path"), Py::Call("pathlib", "PosixPath", vec![text("data")])),
                ],
            ),
        ),
        ("windows", Py::Call("pathlib._local", "WindowsPath", vec![text("C:\\")])),
        ("when", Py::Call("datetime", "datetime", vec![bytes()])),
        (
            "defaultdict",
            Py::Call("collections", "defaultdict", vec![Py::Global("__builtin__", "list")]),
        ),
        (
            "subclass",
            Py::Items("mylib.config", "Config", vec![(text("a"), Py::Int(1))]),
        ),
        (
            "omegaconf",
            Py::Object(
                "omegaconf.dictconfig",
                "DictConfig",
                vec![(text("_content"), dict([("a", Py::None)]))],
            ),
        ),
        ("enum", Py::Call("mylib", "Colour", vec![Py::Int(1)])),
        ("class", Py::Global("torch.nn.modules.linear", "Linear")),
        ("function", Py::Global("torch.nn.functional", "relu")),
        ("set", Py::Call("__builtin__", "set", vec![Py::List(vec![Py::Int(1)])])),
        (
            "complex",
            Py::Call("__builtin__", "complex", vec![Py::Int(1), Py::Int(2)]),
        ),
        (
            "result of a result",
            Py::Raw(b"c__builtin__\ngetattr\ncmylib\nColour\nX\x03\0\0\0RED\x86R)R".to_vec()),
        ),
        ("long", Py::Raw([&[0x8a, 40][..], &[7; 40]].concat())),
        (
            "quantised",
            Py::Call("torch._utils", "_rebuild_qtensor", vec![Py::None]),
        ),
        (
            "a dictionary with numbers as keys",
            Py::Dict(vec![(
                Py::Int(0),
                dict([("exp_avg", Py::Tensor(Tensor::new([2], vec![0.0, 1.0])))]),
            )]),
        ),
    ]
}

#[test]
fn harmless_objects_are_skipped_in_both_formats() {
    let architecture = Architecture::MobileNetV2;
    let backbone = seeded_backbone(architecture, 3, 2);
    let tensors = state_dict(architecture, &backbone);
    for (what, object) in harmless() {
        for before in [true, false] {
            let (object, weights) = (("object", object.clone()), ("model", state("", &tensors)));
            let root = dict(if before { [object, weights] } else { [weights, object] });
            let got = imported(&zip(&root)).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(
                (got.digest(), got.classifier()),
                (backbone.digest(), backbone.classifier()),
                "{what}"
            );
        }
    }
    let all = harmless().into_iter().chain([("net", state("module.", &tensors))]);
    assert_eq!(
        imported(&legacy(&dict(all))).expect("it is imported").digest(),
        backbone.digest()
    );
}

#[test]
fn a_state_dict_of_another_class_is_read() {
    let architecture = Architecture::MobileNetV2;
    let backbone = seeded_backbone(architecture, 3, 2);
    let Py::Dict(entries) = state("", &state_dict(architecture, &backbone)) else {
        panic!("a state dict is a dictionary")
    };
    let got = imported(&zip(&Py::Items("mylib", "StateDict", entries))).expect("it is imported");
    assert_eq!(got.digest(), backbone.digest());
}

#[test]
fn unsupported_kinds_of_weights_are_reported_with_a_hint() {
    for (call, part) in [
        (("torch._utils", "_rebuild_qtensor"), "quantised network"),
        (("numpy._core.multiarray", "_reconstruct"), "torch.from_numpy"),
    ] {
        let tensor = || Py::Call(call.0, call.1, vec![Py::None]);
        let file = zip(&dict([("conv1.weight", tensor()), ("bn1.weight", tensor())]));
        let message = imported(&file).expect_err("it cannot be read").to_string();
        assert!(
            message.starts_with("net.pth: tensor `bn1.weight`") && message.contains(part),
            "{message}"
        );
    }
    let prepared = dict([("conv1.weight_fake_quant.scale", Py::Tensor(Tensor::new([1], vec![1.0])))]);
    let message = imported(&zip(&prepared))
        .expect_err("it is prepared for quantisation")
        .to_string();
    assert!(message.contains("prepared for quantisation\nhint:"), "{message}");
    let message = imported(&zip(&dict([("epoch", Py::Int(3))])))
        .expect_err("nothing is in it")
        .to_string();
    assert!(message.contains("no tensors") && message.contains("hint:"), "{message}");
}
