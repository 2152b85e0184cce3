//! From the backbone's graph to a plan of fused steps.

use std::sync::{Arc, OnceLock};

use clr_adapters::SiteKind;
use clr_kernels::{Arena, Bounds, Form, LANES, Level, PackedConv, Post, Site, split};
use clr_onnx::{Activation, Backbone, Conv, Op, Shape, ValueId};
use tract_onnx::prelude::{
    DatumType, DatumTypeExt as _, OutletId, RunOptions, SpecialOps as _, TypedModel, TypedSimplePlan,
};

use super::{
    Layout, Plan,
    frozen::frozen,
    groups::{Group, Role, group},
    layout::post,
    step::{Parameters, Step, StepBody, Work},
};
use crate::EngineError;

/// The packed weights of every convolution, made when the first plan needs them and shared by all plans.
#[derive(Debug, Default)]
pub(crate) struct PackedConvs(Vec<[OnceLock<Arc<PackedConv>>; 2]>);

impl PackedConvs {
    /// Room for `sites` convolutions.
    pub(crate) fn new(sites: usize) -> Self {
        Self((0..sites).map(|_| Default::default()).collect())
    }

    fn get(&self, site: usize, conv: &Conv, form: Form) -> Arc<PackedConv> {
        let slot = &self.0[site][usize::from(form == Form::Winograd)];
        Arc::clone(slot.get_or_init(|| Arc::new(PackedConv::new(conv, form))))
    }

    /// Bytes of packed weights so far.
    pub(crate) fn bytes(&self) -> usize {
        self.0
            .iter()
            .flatten()
            .filter_map(OnceLock::get)
            .map(|packed| packed.bytes())
            .sum()
    }
}

/// Why there is no fused plan.
#[derive(Debug)]
pub(crate) enum Obstacle {
    /// The kernels do not know a node.
    Unsupported {
        /// The node.
        node: String,
        /// What about it is not supported.
        reason: String,
    },
    /// Something went wrong.
    Failed(EngineError),
}

impl<E: Into<EngineError>> From<E> for Obstacle {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
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
) -> Result<Plan, Obstacle> {
    let shapes = backbone.value_shapes(size[0], size[1])?;
    let channels = backbone.graph().input_channels;
    let mut model = TypedModel::default();
    let image = model
        .add_source("image", DatumType::F32.fact([1, size[0], size[1], channels]))
        .map_err(EngineError::plan)?;
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
    Ok(Plan {
        runnable: Arc::new(runnable),
        interleaved: true,
        input: [channels, size[0], size[1]],
    })
}

pub(super) struct Compiler<'a> {
    backbone: &'a Backbone,
    layout: &'a Layout,
    places: &'a [std::ops::Range<usize>],
    pub(super) shapes: &'a [Shape],
    target: &'a Target<'a>,
    model: TypedModel,
    adapter: Option<OutletId>,
    /// `[1, H, W, C]`.
    image: OutletId,
    /// The steps' outputs, in blocks; the picture's is made when something other than a convolution reads it.
    pub(super) values: Vec<Option<OutletId>>,
}

impl Compiler<'_> {
    pub(super) fn push(
        &mut self,
        name: &str,
        work: Work,
        output: Vec<usize>,
        inputs: &[OutletId],
    ) -> Result<OutletId, Obstacle> {
        let body = StepBody {
            work,
            output,
            level: self.target.level,
            threads: self.target.threads,
        };
        let outlets = self
            .model
            .wire_node(name, Step(Arc::new(body)), inputs)
            .map_err(EngineError::plan)?;
        Ok(outlets[0])
    }

    /// A value in blocks.
    pub(super) fn value(&mut self, id: ValueId) -> Result<OutletId, Obstacle> {
        if let Some(outlet) = self.values[id.0] {
            return Ok(outlet);
        }
        if id != ValueId::IMAGE {
            return Err(Obstacle::Unsupported {
                node: format!("value {}", id.0),
                reason: "read before it is computed".into(),
            });
        }
        let channels = self.backbone.graph().input_channels;
        let image = self.image;
        let outlet = self.push(
            "image.blocks",
            Work::Block { channels },
            blocked(self.shapes[0]),
            &[image],
        )?;
        self.values[0] = Some(outlet);
        Ok(outlet)
    }

    /// Rows and columns of a feature map.
    pub(super) fn map(&self, id: ValueId, node: &str) -> Result<[usize; 2], Obstacle> {
        self.shapes[id.0].spatial().ok_or_else(|| Obstacle::Unsupported {
            node: node.to_owned(),
            reason: format!("expected a feature map, got {}", self.shapes[id.0]),
        })
    }

    fn site(&mut self, end: usize, group: &Group) -> Result<(), Obstacle> {
        let backbone = self.backbone;
        let info = &backbone.sites()[group.site];
        let node = &backbone.graph().nodes[info.conv];
        let Op::Conv(conv) = &node.op else {
            return Err(Obstacle::Unsupported {
                node: info.name.clone(),
                reason: "a site that is no convolution".into(),
            });
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
        let output = self.map(ValueId::of_node(info.conv), &info.name)?;
        let pads = conv.padding.resolve(input, conv.kernel(), conv.stride, conv.dilation);
        let site = Site {
            conv: self
                .target
                .convs
                .get(group.site, conv, Form::choose(conv, picture, output)),
            input,
            output,
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
        let shape = blocked(self.shapes[end + 1]);
        let work = Work::Site {
            site,
            parameters,
            residual: group.residual.is_some(),
        };
        let outlet = self.push(&info.name, work, shape, &inputs)?;
        self.values[end + 1] = Some(outlet);
        Ok(())
    }
}

/// The tensor shape of a value in blocks.
pub(super) fn blocked(shape: Shape) -> Vec<usize> {
    match shape {
        Shape::Map([channels, height, width]) => vec![channels.div_ceil(LANES), height, width, LANES],
        Shape::Vector(length) => vec![length],
    }
}

pub(super) fn activation(
    activation: Option<Activation>,
    node: &str,
) -> Result<(Bounds, Option<clr_kernels::Smooth>), Obstacle> {
    let Some(activation) = activation else {
        return Ok((Bounds::NONE, None));
    };
    split(activation).ok_or_else(|| Obstacle::Unsupported {
        node: node.to_owned(),
        reason: format!("the engine has no {}", activation.name()),
    })
}
