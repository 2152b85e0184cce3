//! The frozen network on processors, picture by picture, over blocks of sixteen channels.
//!
//! With fixed statistics pictures do not see each other. So each one runs forward, through the head and back on one thread, with
//! values that stay in the cache and memory for one picture per thread instead of a whole batch; the pictures' gradients are summed
//! in the batch's order, whatever the number of threads.
//!
//! Networks with an operator that is not known here, batch statistics and other devices run in candle
//! ([`crate::network`]), operator by operator.

mod buffers;
mod compile;
mod cost;
mod parameters;
mod run;

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

use clr_kernels::{
    Arena, Bounds, ConvGradient, Form, Level, PackedConv, PoolShape, Post, Site as Fused, pack_parameters,
};
use clr_onnx::ValueId;

use crate::ops::FrozenConv;
use buffers::Buffers;
pub use cost::Footprint;
pub(crate) use parameters::SiteParameters;
pub use run::Start;

/// A network compiled for one input size.
pub(crate) struct Body {
    steps: Vec<Step>,
    /// Values of the picture, and of each value of the graph in blocks; 0 for those that no step provides.
    lengths: Vec<usize>,
    features: ValueId,
    feature_count: usize,
    channels: usize,
    level: Level,
    arena: Arc<Arena>,
    buffers: Buffers,
}

/// One step.
struct Step {
    work: Work,
    inputs: Vec<ValueId>,
    output: ValueId,
    /// Values that no later step reads.
    release: Vec<ValueId>,
    /// Of `release`, those that the way back reads.
    kept: Vec<ValueId>,
}

/// What a step computes.
enum Work {
    Site(Box<SiteWork>),
    /// Parameters `[scale 16, bias 16]` per block.
    Affine {
        parameters: Vec<f32>,
        plane: usize,
        bounds: Bounds,
    },
    Activation(Bounds),
    Add(Bounds),
    Pool(PoolShape),
    GlobalAverage {
        plane: usize,
    },
    /// From blocks of one pixel to blocks of one pixel: nothing happens.
    Flatten,
}

/// A convolution with what stands behind it.
struct SiteWork {
    index: usize,
    /// Rows, columns.
    input: [usize; 2],
    /// Rows, columns.
    output: [usize; 2],
    /// Top, left, bottom, right.
    pads: [usize; 4],
    form: Form,
    bounds: Bounds,
    /// Has the weights that everything is made of.
    frozen: FrozenConv,
    /// Made when the site is first computed: a network that is only asked what it would cost packs nothing.
    forms: OnceLock<Forms>,
    /// The way back, made when it is first gone: inference never needs it.
    gradient: OnceLock<Option<ConvGradient>>,
    level: Level,
    arena: Arc<Arena>,
}

/// The packed convolution, in the ways in which it is run.
struct Forms {
    /// The bare convolution, for learning.
    conv: Fused,
    /// Scale 1, bias 0: what makes it bare.
    plain: Vec<f32>,
    /// Convolution, scale, bias and activation at once, for inference.
    affine: Fused,
    /// Convolution, CLR layer and activation at once, for inference.
    kernel: Fused,
}

impl SiteWork {
    fn forms(&self) -> &Forms {
        self.forms.get_or_init(|| {
            let conv = self.frozen.weights();
            let bare = Fused {
                conv: Arc::new(PackedConv::new(conv, self.form)),
                input: self.input,
                output: self.output,
                pads: self.pads,
                post: Post::Affine,
                bounds: Bounds::NONE,
                smooth: None,
                level: self.level,
                threads: 1,
                arena: Arc::clone(&self.arena),
            };
            let fused = |post| Fused {
                conv: Arc::clone(&bare.conv),
                arena: Arc::clone(&self.arena),
                post,
                bounds: self.bounds,
                ..bare
            };
            Forms {
                affine: fused(Post::Affine),
                kernel: fused(Post::Kernel),
                plain: pack_parameters(&vec![1.0; conv.channels()], &vec![0.0; conv.channels()]),
                conv: bare,
            }
        })
    }

    /// The way back through the convolution. Nobody goes back into the picture, so the first one's is never made.
    fn gradient(&self, body: &Body) -> Option<&ConvGradient> {
        let make = || {
            ConvGradient::new(
                self.frozen.weights(),
                self.input,
                self.output,
                self.pads,
                body.level,
                &body.arena,
            )
        };
        self.gradient.get_or_init(make).as_ref()
    }
}

impl Body {
    /// Values of all sites' parameters in blocks, and each site's place among them.
    pub(crate) fn places(parameters: &[SiteParameters]) -> (Vec<Range<usize>>, usize) {
        let mut end = 0;
        let places = parameters.iter().map(|site| {
            let start = end;
            end += site.blocks.len();
            start..end
        });
        (places.collect(), end)
    }
}
