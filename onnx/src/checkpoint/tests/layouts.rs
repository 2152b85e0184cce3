//! Places of weights: they are found under any keys and prefixes, and a note states which of several sets was selected.

use std::collections::BTreeMap;

use super::super::{Architecture, ImportOptions, import_bytes, seeded_backbone};
use super::states::{imported, safetensors, state_dict};
use super::torch_save::{Py, dict, legacy, state, text, zip};
use crate::{Backbone, Tensor};

fn network(seed: u64) -> (Backbone, BTreeMap<String, Tensor>) {
    let backbone = seeded_backbone(Architecture::MobileNetV2, seed, 3);
    let tensors = state_dict(Architecture::MobileNetV2, &backbone);
    (backbone, tensors)
}

fn assert_reads(file: &[u8], backbone: &Backbone, what: &str) -> Vec<String> {
    let got = imported(file).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(got.digest(), backbone.digest(), "{what}");
    assert_eq!(got.classifier(), backbone.classifier(), "{what}");
    got.notes().to_vec()
}

#[test]
fn weights_are_found_under_any_key_and_prefix() {
    let (backbone, tensors) = network(1);
    let scalar = || Py::Tensor(Tensor::new([], vec![69.76]));
    for prefix in [
        "",
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "model.backbone.",
        "encoder.",
    ] {
        let weights = || state(prefix, &tensors);
        for (what, root) in [
            ("root", weights()),
            (
                "next to a tensor",
                dict([("best_acc1", scalar()), ("state_dict", weights())]),
            ),
            ("unknown key", dict([("epoch", Py::Int(3)), ("params_ema", weights())])),
            ("two keys", dict([("checkpoint", dict([("net", weights())]))])),
            ("in a list", Py::List(vec![Py::None, weights()])),
        ] {
            let notes = assert_reads(&zip(&root), &backbone, &format!("{prefix} {what}"));
            let named = notes.iter().any(|note| note.contains("`best_acc1`"));
            assert_eq!(named, what == "next to a tensor", "{notes:?}");
        }
    }
    assert_reads(
        &legacy(&dict([("net", state("module.", &tensors))])),
        &backbone,
        "legacy",
    );
}

#[test]
fn a_prefix_in_safetensors_is_recognised() {
    let (backbone, tensors) = network(1);
    let prefixed = tensors
        .into_iter()
        .map(|(name, tensor)| (format!("model.{name}"), tensor));
    assert_reads(&safetensors(&prefixed.collect()), &backbone, "safetensors");
}

#[test]
fn the_selection_of_model_or_average_is_noted_and_can_be_changed() {
    let ((model, model_tensors), (ema, ema_tensors)) = (network(1), network(2));
    let read = |file: &[u8], weights: Option<&str>| {
        let options = ImportOptions {
            weights: weights.map(str::to_owned),
            ..ImportOptions::default()
        };
        import_bytes(file, "net.pth", &options)
    };
    for (ema_key, model_key) in [
        ("ema", "model"),
        ("state_dict_ema", "state_dict"),
        ("model_ema", "model"),
        ("teacher", "student"),
    ] {
        let file = zip(&dict([
            (ema_key, state("module.", &ema_tensors)),
            (model_key, state("module.", &model_tensors)),
        ]));
        let chosen = read(&file, None).expect("it is imported");
        assert_eq!(chosen.digest(), model.digest(), "{ema_key}");
        let note = &chosen.notes()[0];
        assert!(
            note.contains(model_key) && note.contains(ema_key) && note.contains("--weights"),
            "{note}"
        );
        for wanted in [ema_key, "ema", &format!("{ema_key}.module")] {
            assert_eq!(
                read(&file, Some(wanted)).expect(wanted).digest(),
                ema.digest(),
                "{wanted}"
            );
        }
        for wanted in [model_key, "model"] {
            assert_eq!(
                read(&file, Some(wanted)).expect(wanted).digest(),
                model.digest(),
                "{wanted}"
            );
        }
        let message = read(&file, Some("nothing"))
            .expect_err("there is no such set")
            .to_string();
        assert!(
            message.contains("`nothing`\nhint: there are") && message.contains(ema_key),
            "{message}"
        );
    }
}

#[test]
fn a_set_is_chosen_because_it_fits_and_not_for_its_name() {
    let (backbone, tensors) = network(1);
    let mut other = tensors.clone();
    other.remove("features.5.conv.0.0.weight");
    let file = zip(&dict([("model", state("", &other)), ("ema", state("", &tensors))]));
    assert_reads(&file, &backbone, "the model lacks a tensor");
}

#[test]
fn a_pickled_module_gives_the_names_of_its_state_dict() {
    let (backbone, tensors) = network(1);
    let module = module(&tensors);
    assert_reads(&zip(&module), &backbone, "zip");
    assert_reads(&legacy(&module), &backbone, "legacy");
    let parallel = Py::Object(
        "torch.nn.parallel",
        "DataParallel",
        vec![(text("_modules"), dict([("module", module)]))],
    );
    assert_reads(
        &zip(&dict([("model", parallel), ("epoch", Py::Int(1))])),
        &backbone,
        "under a key, in DataParallel",
    );
}

#[test]
fn a_pickled_module_with_other_settings_is_refused_and_other_layers_are_noted() {
    let (backbone, tensors) = network(1);
    let with = |child: &str, attributes: &[(&str, Py)], class: &'static str| {
        let mut root = module(&tensors);
        let Py::Object(_, _, parts) = &mut root else {
            panic!("it is a module")
        };
        let (_, Py::Dict(children)) = &mut parts[3] else {
            panic!("it has children")
        };
        let empty = || dict([]);
        let mut all: Vec<_> = ["_parameters", "_buffers", "_modules"]
            .map(|part| (text(part), empty()))
            .into();
        all.extend(attributes.iter().map(|(key, value)| (text(key), value.clone())));
        children.push((text(child), Py::Object("mylib", class, all)));
        zip(&root)
    };
    let notes = assert_reads(&with("metric", &[], "Accuracy"), &backbone, "another layer");
    assert_eq!(
        notes,
        ["layers of the pickled module are not read: `metric` (Accuracy)"]
    );
    let file = with("pool", &[], "GeM");
    let message = imported(&file).expect_err("its pooling differs").to_string();
    assert!(
        message.contains("`pool` (GeM)") && message.contains("--architecture mobilenet-v2"),
        "{message}"
    );
    let options = ImportOptions {
        architecture: Some(Architecture::MobileNetV2),
        ..ImportOptions::default()
    };
    let got = import_bytes(&file, "x", &options).expect("the hint works");
    assert_eq!((got.digest(), got.notes().len()), (backbone.digest(), 1));
    assert!(assert_reads(&with("relu", &[], "ReLU"), &backbone, "a known layer").is_empty());
    // Settings of a layer, stored under its name.
    let mut root = module(&tensors);
    set(
        &mut root,
        &["features", "0", "0"],
        ("stride", Py::Tuple(vec![Py::Int(1), Py::Int(1)])),
    );
    let message = imported(&zip(&root)).expect_err("its step differs").to_string();
    assert!(
        message.contains("`features.0.0.stride`: expected 2, got [1.0, 1.0]"),
        "{message}"
    );
    let mut root = module(&tensors);
    set(
        &mut root,
        &["features", "0", "1"],
        ("eps", Py::Raw(b"G\x3f\x50\x62\x4d\xd2\xf1\xa9\xfc".to_vec())),
    );
    let message = imported(&zip(&root)).expect_err("its epsilon differs").to_string();
    assert!(
        message.contains("`features.0.1.eps`: expected 0.00001, got [0.001]"),
        "{message}"
    );
}

/// Sets an attribute of the module at `path`.
fn set(root: &mut Py, path: &[&str], (key, value): (&str, Py)) {
    let Py::Object(_, _, parts) = root else {
        panic!("it is a module")
    };
    let Some((first, rest)) = path.split_first() else {
        parts.push((text(key), value));
        return;
    };
    let (_, Py::Dict(children)) = &mut parts[3] else {
        panic!("it has children")
    };
    let child = children
        .iter_mut()
        .find(|(name, _)| matches!(name, Py::Text(name) if name == first));
    set(&mut child.expect("it is there").1, rest, (key, value));
}

/// Returns a module with the state dict `tensors`, which holds parameters and buffers in its submodules.
fn module(tensors: &BTreeMap<String, Tensor>) -> Py {
    let mut children: BTreeMap<&str, BTreeMap<String, Tensor>> = BTreeMap::new();
    let (mut parameters, mut buffers) = (Vec::new(), Vec::new());
    for (name, tensor) in tensors {
        match name.split_once('.') {
            Some((child, rest)) => {
                children
                    .entry(child)
                    .or_default()
                    .insert(rest.to_owned(), tensor.clone());
            }
            None if name.starts_with("running") => buffers.push((text(name), Py::Tensor(tensor.clone()))),
            None => parameters.push((text(name), Py::Parameter(tensor.clone()))),
        }
    }
    let children = children
        .into_iter()
        .map(|(name, tensors)| (text(name), module(&tensors)));
    Py::Object(
        "torch.nn.modules.container",
        "Sequential",
        vec![
            (text("training"), Py::Raw(vec![0x89])),
            (text("_parameters"), Py::Dict(parameters)),
            (text("_buffers"), Py::Dict(buffers)),
            (text("_modules"), Py::Dict(children.collect())),
        ],
    )
}
