//! From the backbone's graph to a plan of fused steps.

use std::sync::{Arc, OnceLock};

use clr_adapters::SiteKind;
use clr_onnx::{Activation, Backbone, BatchNorm, Conv, Node, Op, Padding, Pool, Shape, SiteInfo, ValueId};
use tract_onnx::prelude::{
    DatumType, DatumTypeExt as _, OutletId, RunOptions, SpecialOps as _, TypedModel, TypedSimplePlan,
};

use super::{
    Layout, Plan,
    groups::{Group, Role, group},
    layout::{post, put_affine},
    step::{Parameters, Step, StepBody, Work},
};
use crate::{
    EngineError,
    kernels::{
        AFFINE_PARAMETERS, Arena, Binary, Bounds, LANES, Level, PackedConv, PoolKind, PoolShape, Post, Site,
        block_channels, split,
    },
};

/// The packed weights of every convolution, made when the first plan needs them and shared by all plans.
#[derive(Debug, Default)]
pub(crate) struct PackedConvs(Vec<OnceLock<Arc<PackedConv>>>);

impl PackedConvs {
    /// Room for `sites` convolutions.
    pub(crate) fn new(sites: usize) -> Self {
        Self((0..sites).map(|_| OnceLock::new()).collect())
    }

    fn get(&self, site: usize, conv: &Conv, picture: bool) -> Arc<PackedConv> {
        Arc::clone(self.0[site].get_or_init(|| Arc::new(PackedConv::new(conv, picture))))
    }

    /// Bytes of packed weights so far.
    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().filter_map(OnceLock::get).map(|packed| packed.bytes()).sum()
    }
}

/// What a plan is compiled for.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub level: Level,
    pub threads: usize,
    pub convs: &'a PackedConvs,
    pub arena: &'a Arc<Arena>,
}

/// Compiles `layout` for pictures of `size` (rows, columns).
pub(crate) fn compile(
    backbone: &Backbone,
    layout: &Layout,
    size: [usize; 2],
    target: &Target<'_>,
) -> Result<Plan, EngineError> {
    let shapes = backbone.value_shapes(size[0], size[1])?;
    let channels = backbone.graph().input_channels;
    let mut model = TypedModel::default();
    let image = model.add_source("image", DatumType::F32.fact([1, size[0], size[1], channels])).map_err(EngineError::plan)?;
    let (places, length) = layout.places(backbone);
    let adapter = (length > 0)
        .then(|| model.add_source("adapter", DatumType::F32.fact([length])))
        .transpose()
        .map_err(EngineError::plan)?;
    let mut compiler = Compiler {
        backbone,
        layout,
        places: &places,
        shapes: &shapes,
        target,
        model,
        adapter,
        image,
        values: vec![None; shapes.len()],
    };
    let roles = group(backbone, &shapes);
    for (index, node) in backbone.graph().nodes.iter().enumerate() {
        match roles[index] {
            Role::Inside => {}
            Role::Ends(group) => compiler.site(index, &group)?,
            Role::Alone => compiler.node(index, node)?,
        }
    }
    let features = compiler.value(backbone.graph().features)?;
    let mut model = compiler.model;
    model.select_output_outlets(&[features]).map_err(EngineError::plan)?;
    let runnable = TypedSimplePlan::build(model, &RunOptions::default()).map_err(EngineError::plan)?;
    Ok(Plan { runnable: Arc::new(runnable), interleaved: true, input: [channels, size[0], size[1]] })
}

struct Compiler<'a> {
    backbone: &'a Backbone,
    layout: &'a Layout,
    places: &'a [std::ops::Range<usize>],
    shapes: &'a [Shape],
    target: &'a Target<'a>,
    model: TypedModel,
    adapter: Option<OutletId>,
    /// `[1, H, W, C]`.
    image: OutletId,
    /// The steps' outputs, in blocks; the picture's is made when something other than a convolution reads it.
    values: Vec<Option<OutletId>>,
}

impl Compiler<'_> {
    fn push(&mut self, name: &str, work: Work, output: Vec<usize>, inputs: &[OutletId]) -> Result<OutletId, EngineError> {
        let body = StepBody { work, output, level: self.target.level, threads: self.target.threads };
        let outlets = self.model.wire_node(name, Step(Arc::new(body)), inputs).map_err(EngineError::plan)?;
        Ok(outlets[0])
    }

    /// A value in blocks.
    fn value(&mut self, id: ValueId) -> Result<OutletId, EngineError> {
        if let Some(outlet) = self.values[id.0] {
            return Ok(outlet);
        }
        if id != ValueId::IMAGE {
            return Err(EngineError::Unsupported { node: format!("value {}", id.0), reason: "read before it is computed".into() });
        }
        let channels = self.backbone.graph().input_channels;
        let image = self.image;
        let outlet = self.push("image.blocks", Work::Block { channels }, blocked(self.shapes[0]), &[image])?;
        self.values[0] = Some(outlet);
        Ok(outlet)
    }

    /// Rows and columns of a feature map.
    fn map(&self, id: ValueId, node: &str) -> Result<[usize; 2], EngineError> {
        self.shapes[id.0].spatial().ok_or_else(|| EngineError::Unsupported {
            node: node.to_owned(),
            reason: format!("expected a feature map, got {}", self.shapes[id.0]),
        })
    }

    fn site(&mut self, end: usize, group: &Group) -> Result<(), EngineError> {
        let backbone = self.backbone;
        let info = &backbone.sites()[group.site];
        let node = &backbone.graph().nodes[info.conv];
        let Op::Conv(conv) = &node.op else {
            return Err(EngineError::Unsupported { node: info.name.clone(), reason: "a site that is no convolution".into() });
        };
        let source = node.inputs[0];
        // The picture has so few channels that a block of sixteen would be mostly padding.
        let picture = source == ValueId::IMAGE && backbone.graph().input_channels < LANES / 2;
        let kind = self.layout.kinds()[group.site];
        let (post, parameters) = match post(kind) {
            Some(post) => (post, Parameters::Adapter(self.places[group.site].clone())),
            None => (Post::Affine, Parameters::Frozen(frozen(backbone, info, conv).into())),
        };
        let (bounds, smooth) = activation(group.activation, &info.name)?;
        let input = self.map(source, &info.name)?;
        let pads = conv.padding.resolve(input, conv.kernel(), conv.stride, conv.dilation);
        let site = Site {
            conv: self.target.convs.get(group.site, conv, picture),
            input,
            output: self.map(ValueId::of_node(info.conv), &info.name)?,
            pads,
            post,
            bounds,
            smooth,
            level: self.target.level,
            threads: self.target.threads,
            arena: Arc::clone(self.target.arena),
        };
        let mut inputs = vec![if picture { self.image } else { self.value(source)? }];
        if let Some(residual) = group.residual {
            inputs.push(self.value(residual)?);
        }
        if kind != SiteKind::Frozen {
            inputs.extend(self.adapter);
        }
        let output = blocked(self.shapes[end + 1]);
        let work = Work::Site { site, parameters, residual: group.residual.is_some() };
        let outlet = self.push(&info.name, work, output, &inputs)?;
        self.values[end + 1] = Some(outlet);
        Ok(())
    }

    fn node(&mut self, index: usize, node: &Node) -> Result<(), EngineError> {
        let shape = self.shapes[index + 1];
        let inputs = node.inputs.iter().map(|&id| self.value(id)).collect::<Result<Vec<_>, _>>()?;
        let plane = |shape: Shape| shape.spatial().map_or(LANES, |[h, w]| h * w * LANES);
        let unsupported = |reason: String| EngineError::Unsupported { node: node.name.clone(), reason };
        let flat = |shape: Shape| shape.spatial().is_none();
        // Per-channel operations on a vector would need a second form of every kernel; graphs have them on maps.
        let on_map = || {
            if flat(shape) { Err(unsupported(format!("{} on a vector", node.op.name()))) } else { Ok(()) }
        };
        let work = match &node.op {
            Op::Conv(_) => return Err(unsupported("a convolution that is no site".into())),
            Op::BatchNorm(norm) => {
                on_map()?;
                let (scale, bias) = norm_affine(norm);
                Work::Affine { parameters: affine_blocks(&scale, &bias).into(), plane: plane(shape), bounds: Bounds::NONE }
            }
            Op::ChannelAffine { scale, bias } => {
                on_map()?;
                let parameters = affine_blocks(scale.data(), bias.data()).into();
                Work::Affine { parameters, plane: plane(shape), bounds: Bounds::NONE }
            }
            Op::PRelu { slope } => {
                on_map()?;
                Work::PRelu { slope: block_channels(slope.data(), 0.0).into(), plane: plane(shape) }
            }
            &Op::Activation(kind) => {
                let (bounds, smooth) = activation(Some(kind), &node.name)?;
                Work::Activation { bounds, smooth }
            }
            Op::Add | Op::Mul => {
                let op = if matches!(node.op, Op::Add) { Binary::Add } else { Binary::Mul };
                let [left, right] = [self.shapes[node.inputs[0].0], self.shapes[node.inputs[1].0]];
                let swap = left.elements() < right.elements();
                Work::Binary { op, plane: plane(shape), swap, bounds: Bounds::NONE }
            }
            Op::Concat => {
                on_map()?;
                let channels = node.inputs.iter().map(|id| self.shapes[id.0].channels()).collect();
                Work::Concat { channels, pixels: plane(shape) / LANES }
            }
            Op::MaxPool(window) => self.pool(node, index, window, PoolKind::Max)?,
            Op::AveragePool(window) => {
                self.pool(node, index, window, PoolKind::Average { include_pad: window.count_include_pad })?
            }
            Op::GlobalAveragePool => Work::GlobalAverage { plane: plane(self.shapes[node.inputs[0].0]) },
            &Op::Pad { pads, value } => Work::Pad { size: self.map(node.inputs[0], &node.name)?, pads, value },
            Op::Flatten => {
                let from = self.shapes[node.inputs[0].0];
                if flat(from) {
                    self.values[index + 1] = Some(inputs[0]);
                    return Ok(());
                }
                Work::Flatten { channels: from.channels() }
            }
            Op::Unflatten => Work::Unflatten,
            Op::Dense { weight, bias } => Work::Dense { weight: weight.shared(), bias: bias.shared() },
            other => return Err(unsupported(format!("the engine has no {}", other.name()))),
        };
        let outlet = self.push(&node.name, work, blocked(shape), &inputs)?;
        self.values[index + 1] = Some(outlet);
        Ok(())
    }

    fn pool(&self, node: &Node, index: usize, window: &Pool, kind: PoolKind) -> Result<Work, EngineError> {
        let input = self.map(node.inputs[0], &node.name)?;
        Ok(Work::Pool(PoolShape {
            kind,
            input,
            output: self.map(ValueId::of_node(index), &node.name)?,
            kernel: window.kernel,
            stride: window.stride,
            pads: Padding::resolve(window.padding, input, window.kernel, window.stride, [1, 1]),
        }))
    }
}

/// The tensor shape of a value in blocks.
fn blocked(shape: Shape) -> Vec<usize> {
    match shape {
        Shape::Map([channels, height, width]) => vec![channels.div_ceil(LANES), height, width, LANES],
        Shape::Vector(length) => vec![length],
    }
}

fn activation(activation: Option<Activation>, node: &str) -> Result<(Bounds, Option<crate::kernels::Smooth>), EngineError> {
    let Some(activation) = activation else { return Ok((Bounds::NONE, None)) };
    split(activation).ok_or_else(|| EngineError::Unsupported {
        node: node.to_owned(),
        reason: format!("the engine has no {}", activation.name()),
    })
}

/// A norm as scale and bias, in double precision inside.
fn norm_affine(norm: &BatchNorm) -> (Vec<f32>, Vec<f32>) {
    let channels = 0..norm.scale.data().len();
    channels
        .map(|c| {
            let scale = f64::from(norm.scale.data()[c])
                / (f64::from(norm.variance.data()[c]) + f64::from(norm.epsilon)).sqrt();
            let bias = f64::from(norm.bias.data()[c]) - f64::from(norm.mean.data()[c]) * scale;
            (scale as f32, bias as f32)
        })
        .unzip()
}

/// `[scale 16, bias 16]` per block.
fn affine_blocks(scale: &[f32], bias: &[f32]) -> Vec<f32> {
    let mut blocks = vec![0.0; scale.len().div_ceil(LANES) * AFFINE_PARAMETERS];
    for (channel, (&scale, &bias)) in scale.iter().zip(bias).enumerate() {
        put_affine(&mut blocks, channel, scale, bias);
    }
    blocks
}

/// What a frozen site puts behind its bias-free convolution: its own bias, then its own norm.
fn frozen(backbone: &Backbone, info: &SiteInfo, conv: &Conv) -> Vec<f32> {
    let own = |c: usize| conv.bias.as_ref().map_or(0.0, |bias| f64::from(bias.data()[c]));
    let norm = info.norm.map(|norm| &backbone.graph().nodes[norm].op);
    let (scale, bias): (Vec<f32>, Vec<f32>) = match norm {
        Some(Op::BatchNorm(norm)) => (0..info.channels)
            .map(|c| {
                let scale = f64::from(norm.scale.data()[c])
                    / (f64::from(norm.variance.data()[c]) + f64::from(norm.epsilon)).sqrt();
                let bias = f64::from(norm.bias.data()[c]) + (own(c) - f64::from(norm.mean.data()[c])) * scale;
                (scale as f32, bias as f32)
            })
            .unzip(),
        _ => (0..info.channels).map(|c| (1.0, own(c) as f32)).unzip(),
    };
    affine_blocks(&scale, &bias)
}
