//! The architectures whose state dicts can be imported.

use clr_adapters::{Head, Preprocessing};

use super::plan::{Parameter, Plan, Wanted};
use super::state::StateDict;
use super::{ImportError, TensorProblem, efficientnet_lite, mobilenet, resnet};
use crate::{Graph, Tensor, efficientnet_lite_preprocessing, imagenet_preprocessing};

/// An architecture whose state dicts can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Architecture {
    /// EfficientNet-Lite0, 224 px.
    EfficientNetLite0,
    /// EfficientNet-Lite1, 240 px.
    EfficientNetLite1,
    /// EfficientNet-Lite2, 260 px.
    EfficientNetLite2,
    /// ResNet-18 on torchvision's names, 224 px.
    ResNet18,
    /// ResNet-34 on torchvision's names, 224 px.
    ResNet34,
    /// ResNet-50 on torchvision's names, 224 px.
    ResNet50,
    /// MobileNetV2 of width 1 on torchvision's names, 224 px.
    MobileNetV2,
}

/// The known names, for messages.
pub(super) fn names() -> String {
    Architecture::ALL.map(Architecture::name).join(", ")
}

impl Architecture {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::EfficientNetLite0,
        Self::EfficientNetLite1,
        Self::EfficientNetLite2,
        Self::ResNet18,
        Self::ResNet34,
        Self::ResNet50,
        Self::MobileNetV2,
    ];

    /// The name used on the command line, e.g. `efficientnet-lite0`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EfficientNetLite0 => "efficientnet-lite0",
            Self::EfficientNetLite1 => "efficientnet-lite1",
            Self::EfficientNetLite2 => "efficientnet-lite2",
            Self::ResNet18 => "resnet18",
            Self::ResNet34 => "resnet34",
            Self::ResNet50 => "resnet50",
            Self::MobileNetV2 => "mobilenet-v2",
        }
    }

    /// The architecture with this command-line name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|architecture| architecture.name() == name)
    }

    /// How its published weights expect a picture.
    #[must_use]
    pub fn preprocessing(self) -> Preprocessing {
        match self {
            Self::EfficientNetLite0 => efficientnet_lite_preprocessing(224),
            Self::EfficientNetLite1 => efficientnet_lite_preprocessing(240),
            Self::EfficientNetLite2 => efficientnet_lite_preprocessing(260),
            Self::ResNet18 | Self::ResNet34 | Self::ResNet50 | Self::MobileNetV2 => imagenet_preprocessing(),
        }
    }

    pub(super) fn plan(self) -> Plan {
        match self {
            Self::EfficientNetLite0 => efficientnet_lite::plan(10, 10),
            Self::EfficientNetLite1 => efficientnet_lite::plan(10, 11),
            Self::EfficientNetLite2 => efficientnet_lite::plan(11, 12),
            Self::ResNet18 => resnet::plan([2, 2, 2, 2], false),
            Self::ResNet34 => resnet::plan([3, 4, 6, 3], false),
            Self::ResNet50 => resnet::plan([3, 4, 6, 3], true),
            Self::MobileNetV2 => mobilenet::plan(),
        }
    }
}

impl std::fmt::Display for Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The architecture with the fewest tensors that do not fit, if at least half of its own are there in their shapes.
pub(super) fn guess(state: &StateDict) -> Option<Architecture> {
    let fit = |architecture: Architecture| {
        let plan = architecture.plan();
        let parameters = plan.parameters();
        let fitting = parameters
            .iter()
            .filter(|parameter| shape(state, &parameter.name) == Some(&parameter.shape))
            .count();
        (2 * fitting >= parameters.len()).then(|| (problems(&plan, state).len(), architecture))
    };
    Architecture::ALL
        .into_iter()
        .filter_map(fit)
        .min_by_key(|&(problems, _)| problems)
        .map(|(_, architecture)| architecture)
}

/// The graph and the classifier of `architecture` with the weights of `state`. A state dict without a classifier is accepted.
pub(super) fn build(
    architecture: Architecture,
    mut state: StateDict,
    origin: &str,
) -> Result<(Graph, Option<Head>), ImportError> {
    let plan = architecture.plan();
    let problems = problems(&plan, &state);
    if !problems.is_empty() {
        return Err(ImportError::Mismatch {
            origin: origin.to_owned(),
            architecture,
            problems,
        });
    }
    // Nothing is missing any more, so every name is found.
    let mut take = |name: &str| state.tensors.remove(name).unwrap_or_else(|| Tensor::new([0], []));
    let graph = plan.graph(|_, wanted| match wanted {
        Wanted::Conv(parameter) => vec![take(&parameter.name)],
        Wanted::Norm(parameters) => parameters.iter().map(|parameter| take(&parameter.name)).collect(),
    });
    let [weight, bias] = classifier_names(&plan).map(|name| take(&name));
    let head = (!bias.data().is_empty()).then(|| Head {
        features: plan.features,
        weight: weight.data().to_vec(),
        bias: bias.data().to_vec(),
    });
    Ok((graph, head))
}

fn classifier_names(plan: &Plan) -> [String; 2] {
    ["weight", "bias"].map(|part| format!("{}.{part}", plan.classifier))
}

fn shape<'a>(state: &'a StateDict, name: &str) -> Option<&'a [usize]> {
    state.tensors.get(name).map(Tensor::shape)
}

/// Everything that does not fit: first in the architecture's order, then what is too many. The classifier may have any number
/// of classes or be absent.
fn problems(plan: &Plan, state: &StateDict) -> Vec<TensorProblem> {
    let mut expected = plan.parameters();
    let [weight, bias] = classifier_names(plan);
    let classes = [&weight, &bias]
        .into_iter()
        .find_map(|name| shape(state, name)?.first().copied());
    if let Some(classes) = classes {
        expected.push(Parameter {
            name: weight,
            shape: vec![classes, plan.features],
        });
        expected.push(Parameter {
            name: bias,
            shape: vec![classes],
        });
    }
    let mismatch = |parameter: &Parameter| match shape(state, &parameter.name) {
        Some(got) if got == parameter.shape => None,
        Some(got) => Some(TensorProblem::Shape {
            name: parameter.name.clone(),
            expected: parameter.shape.clone(),
            got: got.to_vec(),
        }),
        None => Some(TensorProblem::Missing {
            name: parameter.name.clone(),
            expected: parameter.shape.clone(),
        }),
    };
    let mut problems: Vec<_> = expected.iter().filter_map(mismatch).collect();
    let known: std::collections::HashSet<_> = expected.iter().map(|parameter| parameter.name.as_str()).collect();
    let unexpected = state.tensors.iter().filter(|(name, _)| {
        // A counter that training keeps and inference never reads.
        !known.contains(name.as_str()) && !name.ends_with(".num_batches_tracked")
    });
    problems.extend(unexpected.map(|(name, tensor)| TensorProblem::Unexpected {
        name: name.clone(),
        got: tensor.shape().to_vec(),
    }));
    problems
}
