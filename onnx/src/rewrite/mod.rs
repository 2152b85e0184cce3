//! The reprogramming rewrite: conv → norm → activation becomes conv → CLR site → activation, with the norm folded away.
//!
//! A site operates on the convolution's bias-free output. A kernel site is a depthwise 3×3 convolution with a bias; a
//! scale site is a factor and an offset per channel. Frozen sites have their norm folded into the convolution's
//! constants. Convolutions and pools get explicit padding, because the input size is known.
//!
//! | function | kernels, scales, biases and head are |
//! |---|---|
//! | [`reprogram`] | graph inputs |
//! | [`export`] | initialisers that are graph inputs too, so the caller may override them |
//! | [`merge`] | constants; scales are folded into the convolutions |

mod check;
mod fold;
mod model;
mod parameter;
mod site;

pub use check::{absolute_sites, aligned_sites, check_adapter, with_all_sites};
pub(crate) use fold::{affine, convolution, gamma, scaled};
pub use fold::{compacted, folded_norms, identity_adapter};
pub use model::OnnxModel;
pub use parameter::{Parameter, ParameterSource};

use std::collections::HashMap;

use clr_adapters::{Adapter, Preprocessing, Recipe};

use crate::{
    Backbone, OnnxError, Origin, PreprocessingOrigins, Quantisation, Shape,
    graph::{Node, Op, Padding},
    write::{Builder, Dim, FEATURES, IMAGE, LOGITS, batch},
};

const HEAD_WEIGHT: &str = "head.weight";
const HEAD_BIAS: &str = "head.bias";

/// End of a reprogrammed graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadPart {
    /// The output is `features [N, F]`, and the caller computes the head.
    Features,
    /// Additional inputs `head.weight [K, F]` and `head.bias [K]`; the output is `logits [N, K]`.
    Logits {
        /// K.
        classes: usize,
    },
}

/// A backbone whose adapter is an input.
#[derive(Clone, Debug, PartialEq)]
pub struct Reprogrammed {
    /// The model. Its inputs are `image [N, 3, H, W]` and then [`Reprogrammed::parameters`], in order.
    pub model: OnnxModel,
    /// The adapter's inputs.
    pub parameters: Vec<Parameter>,
}

impl Reprogrammed {
    /// Renames the adapter's inputs. `name` returns the new name for an index into [`Reprogrammed::parameters`].
    pub fn rename_parameters(&mut self, name: impl Fn(usize) -> String) {
        let names: HashMap<String, String> = (self.parameters.iter_mut().enumerate())
            .map(|(index, parameter)| {
                let new = name(index);
                (std::mem::replace(&mut parameter.name, new.clone()), new)
            })
            .collect();
        self.model.rename_inputs(|old| names.get(old).cloned());
    }
}

/// Rewrites `backbone` for adapters of `recipe` and images of `size` (rows, columns). Every part of an adapter is a
/// graph input, so one optimised plan serves all tasks.
///
/// # Errors
/// [`OnnxError`] if the backbone does not fit that size.
pub fn reprogram(
    backbone: &Backbone,
    recipe: Recipe,
    head: HeadPart,
    size: [usize; 2],
) -> Result<Reprogrammed, OnnxError> {
    let mut rewrite = Rewrite::new(backbone, recipe, Mode::Inputs, size)?;
    rewrite.run(head);
    Ok(Reprogrammed {
        model: OnnxModel::new(rewrite.builder.finish(backbone.name())),
        parameters: rewrite.parameters,
    })
}

/// Returns the graph of [`reprogram`] with the output `logits` and with `adapter` as initialisers. Each initialiser is
/// also a graph input, so the caller can override it. Labels and the adapter's preprocessing are in the metadata.
///
/// # Errors
/// [`OnnxError`] if the adapter does not fit the backbone, or if the backbone does not fit `size` (rows, columns).
pub fn export(backbone: &Backbone, adapter: &Adapter, size: [usize; 2]) -> Result<OnnxModel, OnnxError> {
    check_adapter(backbone, adapter)?;
    let adapter = &with_all_sites(backbone, adapter);
    with_adapter(backbone, adapter, Mode::Overridable(adapter), size)
}

/// Returns a plain model of one task with the output `logits`. Scales are folded into the convolutions, kernels become
/// constant depthwise convolutions, and the head becomes a Gemm. Labels and the adapter's preprocessing are in the
/// metadata.
///
/// # Errors
/// [`OnnxError`] in the same cases as [`export`].
pub fn merge(backbone: &Backbone, adapter: &Adapter, size: [usize; 2]) -> Result<OnnxModel, OnnxError> {
    check_adapter(backbone, adapter)?;
    let adapter = &with_all_sites(backbone, adapter);
    with_adapter(backbone, adapter, Mode::Constants(adapter), size)
}

fn with_adapter(
    backbone: &Backbone,
    adapter: &Adapter,
    mode: Mode<'_>,
    size: [usize; 2],
) -> Result<OnnxModel, OnnxError> {
    let mut rewrite = Rewrite::new(backbone, adapter.header.recipe, mode, size)?;
    rewrite.run(HeadPart::Logits {
        classes: adapter.head.classes(),
    });
    let preprocessing = Preprocessing {
        height: size[0] as u32,
        width: size[1] as u32,
        ..adapter.header.preprocessing.clone()
    };
    let origins = if preprocessing == *backbone.preprocessing() {
        backbone.preprocessing_origins()
    } else {
        PreprocessingOrigins::all(Origin::Option)
    };
    let labels = Some(&adapter.header.labels[..]);
    rewrite.builder.metadata(&preprocessing, origins, labels, true, None);
    Ok(OnnxModel::new(rewrite.builder.finish(&adapter.header.task)))
}

/// Treatment of an adapter's parts.
#[derive(Clone, Copy)]
enum Mode<'a> {
    Inputs,
    Overridable(&'a Adapter),
    Constants(&'a Adapter),
}

struct Rewrite<'a> {
    backbone: &'a Backbone,
    recipe: Recipe,
    mode: Mode<'a>,
    size: [usize; 2],
    shapes: Vec<Shape>,
    /// The grid on which each value of the graph lies.
    grids: Vec<Option<Quantisation>>,
    builder: Builder,
    /// The name in the model of each value of the graph.
    values: Vec<String>,
    parameters: Vec<Parameter>,
}

impl<'a> Rewrite<'a> {
    fn new(backbone: &'a Backbone, recipe: Recipe, mode: Mode<'a>, size: [usize; 2]) -> Result<Self, OnnxError> {
        let shapes = backbone.shapes_for(size)?;
        let mut builder = Builder::new(backbone.graph());
        for name in [IMAGE, FEATURES, LOGITS, HEAD_WEIGHT, HEAD_BIAS] {
            builder.reserve_value(name);
        }
        backbone
            .graph()
            .nodes
            .iter()
            .for_each(|node| builder.reserve_node(&node.name));
        let values = vec![IMAGE.to_owned()];
        Ok(Self {
            backbone,
            recipe,
            mode,
            size,
            shapes,
            grids: backbone.graph().grids(),
            builder,
            values,
            parameters: Vec::new(),
        })
    }

    fn run(&mut self, head: HeadPart) {
        let graph = self.backbone.graph();
        self.builder.input(
            IMAGE,
            &[
                batch(self.backbone.graph()),
                Dim::Fixed(graph.input_channels),
                Dim::Fixed(self.size[0]),
                Dim::Fixed(self.size[1]),
            ],
        );
        self.declare_sites();
        let mut sites = vec![None; graph.nodes.len()];
        let mut folded = vec![None; graph.nodes.len()];
        for site in self.backbone.sites() {
            sites[site.conv] = Some(site);
            if let Some(norm) = site.norm {
                folded[norm] = Some(site.conv);
            }
        }
        let mut reprogrammed = 0;
        for (index, node) in graph.nodes.iter().enumerate() {
            let value = if let Some(conv) = folded[index] {
                self.values[conv + 1].clone()
            } else if let Some(site) = sites[index] {
                self.site(node, site, &mut reprogrammed)
            } else {
                let output = self.value_of(index, &node.name);
                let inputs: Vec<&str> = node.inputs.iter().map(|input| self.values[input.0].as_str()).collect();
                let node = self.padded(node);
                let grid = node.inputs.first().and_then(|input| self.grids[input.0]);
                self.builder
                    .graph_node(&node, &inputs, &output, self.shapes[index + 1], grid);
                output
            };
            self.values.push(value);
        }
        self.head(head);
    }

    /// Returns the name of the value of node `index`: `features` if it is the features, otherwise an unused name.
    fn value_of(&mut self, index: usize, wanted: &str) -> String {
        if self.backbone.graph().features.producer() == Some(index) {
            FEATURES.to_owned()
        } else {
            self.builder.value(wanted)
        }
    }

    /// Returns the node with explicit padding.
    fn padded(&self, node: &Node) -> Node {
        let size = node.inputs.first().and_then(|input| self.shapes[input.0].spatial());
        let mut node = node.clone();
        if let (Some(size), Op::MaxPool(pool) | Op::AveragePool(pool)) = (size, &mut node.op) {
            pool.padding = Padding::Explicit(pool.padding.resolve(size, pool.kernel, pool.stride, [1, 1]));
        }
        node
    }

    fn head(&mut self, part: HeadPart) {
        let features = self.backbone.feature_count();
        let HeadPart::Logits { classes } = part else {
            self.builder
                .output(FEATURES, &[batch(self.backbone.graph()), Dim::Fixed(features)]);
            return;
        };
        if let Mode::Constants(adapter) = self.mode {
            let name = self.builder.helper("classifier");
            self.builder.dense(
                &name,
                (&[classes, features], &adapter.head.weight),
                &adapter.head.bias,
                FEATURES,
                LOGITS,
            );
        } else {
            self.parameter(
                HEAD_WEIGHT.to_owned(),
                vec![classes, features],
                ParameterSource::HeadWeight,
            );
            self.parameter(HEAD_BIAS.to_owned(), vec![classes], ParameterSource::HeadBias);
            let name = self.builder.helper("classifier");
            let inputs = [FEATURES, HEAD_WEIGHT, HEAD_BIAS];
            self.builder
                .node(&name, "Gemm", &inputs, LOGITS, vec![crate::write::int("transB", 1)]);
        }
        self.builder
            .output(LOGITS, &[batch(self.backbone.graph()), Dim::Fixed(classes)]);
    }

    /// Adds a graph input. If there is an adapter, its values are the input's default.
    fn parameter(&mut self, name: String, shape: Vec<usize>, source: ParameterSource) {
        let dims: Vec<Dim> = shape.iter().map(|&dim| Dim::Fixed(dim)).collect();
        self.builder.input(&name, &dims);
        let parameter = Parameter { name, shape, source };
        if let Mode::Overridable(adapter) = self.mode
            && let Some(values) = parameter.values(adapter)
        {
            self.builder.initializer(&parameter.name, &parameter.shape, values);
        }
        self.parameters.push(parameter);
    }
}
