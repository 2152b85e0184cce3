//! State dicts of seeded backbones.

use std::collections::BTreeMap;

use ::safetensors::tensor::{Dtype, TensorView, serialize};

use super::super::architecture_spec::Wanted;
use super::super::spelling::Spelling;
use super::super::{Architecture, ImportError, ImportOptions, import_bytes};
use crate::{Backbone, Op, Tensor};

/// Returns the backbone of a file.
pub(super) fn imported(bytes: &[u8]) -> Result<Backbone, ImportError> {
    import_bytes(bytes, "net.pth", &ImportOptions::default())
}

/// Returns the state dict of `backbone`, with the names of `architecture`.
pub(super) fn state_dict(architecture: Architecture, backbone: &Backbone) -> BTreeMap<String, Tensor> {
    spelled(architecture, architecture.spellings()[0], backbone)
}

/// Returns the state dict with the tensors named as in `spelling`.
pub(super) fn spelled(architecture: Architecture, spelling: Spelling, backbone: &Backbone) -> BTreeMap<String, Tensor> {
    let spec = architecture.spec(spelling);
    let mut state = BTreeMap::new();
    spec.graph(|index, wanted| {
        let tensors = match (&backbone.graph().nodes[index].op, &wanted) {
            (Op::Conv(conv), Wanted::Conv(_)) => vec![conv.weight.tensor()],
            (Op::BatchNorm(norm), Wanted::Norm(_)) => [&norm.scale, &norm.bias, &norm.mean, &norm.variance]
                .map(Tensor::clone)
                .into(),
            (op, _) => panic!("node {index} is {op:?}"),
        };
        let names: Vec<_> = match wanted {
            Wanted::Conv(parameter) => vec![parameter.name.clone()],
            Wanted::Norm(parameters) => parameters.iter().map(|parameter| parameter.name.clone()).collect(),
        };
        state.extend(names.into_iter().zip(tensors.iter().cloned()));
        tensors
    });
    if let Some(head) = backbone.classifier() {
        let weight = Tensor::new([head.classes(), head.features], head.weight.clone());
        state.insert(format!("{}.weight", spec.classifier), weight);
        state.insert(
            format!("{}.bias", spec.classifier),
            Tensor::new([head.classes()], head.bias.clone()),
        );
    }
    state
}

/// Returns a `.safetensors` file of `state`.
pub(super) fn safetensors(state: &BTreeMap<String, Tensor>) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> = state
        .values()
        .map(|tensor| tensor.data().iter().flat_map(|value| value.to_le_bytes()).collect())
        .collect();
    let views = state.iter().zip(&bytes).map(|((name, tensor), bytes)| {
        (
            name,
            TensorView::new(Dtype::F32, tensor.shape().to_vec(), bytes).expect("the bytes fill the shape"),
        )
    });
    serialize(views, None).expect("it serialises")
}
