//! A convolution with its epilogue: the CLR layer or the frozen norm, the shortcut, the activation.

use std::sync::{Arc, OnceLock};

use clr_kernels::{
    Binary, Bounds, ConvGradient, Form, LANES, PackedConv, Post, Site as FusedConv, affine_forward, affine_gradient,
    binary, clr_forward, clr_gradient, pack_parameters,
};
use clr_onnx::{Conv, ConvStep};

use crate::{
    PackedWeights, SiteParameters,
    operators::{Context, activation::Activate},
};

/// One convolution, for one input size.
#[derive(Debug)]
pub(crate) struct Convolution {
    pub(crate) site: usize,
    pub(crate) shortcut: bool,
    conv: Conv,
    input: [usize; 2],
    output: [usize; 2],
    pads: [usize; 4],
    form: Form,
    activation: Activate,
    /// The backbone's own epilogue.
    pub(crate) frozen: SiteParameters,
    context: Context,
    weights: Arc<PackedWeights>,
    /// Packed when the convolution first runs: a memory estimate packs nothing.
    forms: OnceLock<Forms>,
    /// Made when the backward pass first needs it: inference never does.
    gradient: OnceLock<Option<ConvGradient>>,
}

/// The packed convolution, in the ways in which it is run.
#[derive(Debug)]
struct Forms {
    /// Convolution, scale, bias, shortcut and activation at once, for inference.
    affine: FusedConv,
    /// Convolution, CLR layer, shortcut and activation at once, for inference.
    kernel: FusedConv,
    /// The bare convolution, for training.
    bare: FusedConv,
    /// Scale 1, bias 0.
    identity: Vec<f32>,
}

/// The operands of a backward pass.
pub(crate) struct ConvBackward<'a> {
    pub(crate) parameters: &'a SiteParameters,
    /// The bare convolution's result.
    pub(crate) sum: &'a [f32],
    /// The shortcut, if there is one and the activation is smooth.
    pub(crate) shortcut: &'a [f32],
    /// The step's result, if there is a shortcut and a clamp.
    pub(crate) output: &'a [f32],
    /// The gradient of the result, overwritten with that of the sum.
    pub(crate) dy: &'a mut [f32],
    /// Receives the gradient of the parameters, in blocks, added to what it holds.
    pub(crate) parameters_gradient: Option<&'a mut [f32]>,
    /// Receives all of the shortcut's gradient.
    pub(crate) d_shortcut: Option<&'a mut [f32]>,
    /// Receives all of the input's gradient.
    pub(crate) dx: Option<&'a mut [f32]>,
}

impl Convolution {
    /// `step` on an input of `input` rows × columns; `from_image` if it reads the image's pixels.
    pub(crate) fn new(
        step: &ConvStep,
        input: [usize; 2],
        output: [usize; 2],
        from_image: bool,
        activation: Activate,
        weights: &Arc<PackedWeights>,
        context: &Context,
    ) -> Self {
        Self {
            site: step.site,
            shortcut: step.shortcut,
            form: Form::choose(&step.conv, from_image, output),
            conv: step.conv.clone(),
            input,
            output,
            pads: step.pads,
            activation,
            frozen: SiteParameters::scale(&step.scale, &step.bias),
            context: context.clone(),
            weights: Arc::clone(weights),
            forms: OnceLock::new(),
            gradient: OnceLock::new(),
        }
    }

    fn forms(&self) -> &Forms {
        self.forms.get_or_init(|| {
            let fused = |post, bounds, smooth| FusedConv {
                conv: self.weights.get(self.site, &self.conv, self.form),
                input: self.input,
                output: self.output,
                pads: self.pads,
                post,
                bounds,
                smooth,
                level: self.context.level,
                threads: self.context.threads,
                arena: Arc::clone(&self.context.arena),
            };
            let Activate { bounds, smooth } = self.activation;
            let channels = self.conv.channels();
            Forms {
                affine: fused(Post::Affine, bounds, smooth),
                kernel: fused(Post::Kernel, bounds, smooth),
                bare: fused(Post::Affine, Bounds::NONE, None),
                identity: pack_parameters(&vec![1.0; channels], &vec![0.0; channels]),
            }
        })
    }

    /// The backward pass through the convolution; none where the kernels have none.
    fn gradient(&self) -> Option<&ConvGradient> {
        let make = || {
            let Context { level, arena, .. } = &self.context;
            ConvGradient::new(&self.conv, self.input, self.output, self.pads, *level, arena)
        };
        self.gradient.get_or_init(make).as_ref()
    }

    /// Whether gradients pass through to the parameters and, unless it reads the image, to the input.
    pub(crate) fn is_differentiable(&self, from_image: bool) -> bool {
        self.activation.is_clamp()
            && (from_image || ConvGradient::exists(&self.conv, self.input, self.output, self.pads))
    }

    /// Inference, in one pass over the input.
    pub(crate) fn forward(&self, parameters: &SiteParameters, inputs: &[&[f32]], out: &mut [f32]) {
        let forms = self.forms();
        let fused = match parameters.post {
            Post::Kernel => &forms.kernel,
            Post::Affine => &forms.affine,
        };
        fused.run(inputs[0], &parameters.blocks, self.shortcut.then(|| inputs[1]), out);
    }

    /// The same in separate passes, with the bare convolution's result in `sum`.
    pub(crate) fn forward_taped(
        &self,
        parameters: &SiteParameters,
        inputs: &[&[f32]],
        sum: &mut [f32],
        out: &mut [f32],
    ) {
        let forms = self.forms();
        forms.bare.run(inputs[0], &forms.identity, None, sum);
        if self.shortcut {
            self.context.arena.lend(out.len(), |reprogrammed| {
                self.epilogue(parameters, sum, reprogrammed, Bounds::NONE);
                let (level, bounds) = (self.context.level, self.activation.bounds);
                binary(level, Binary::Add, reprogrammed, inputs[1], out.len(), out, bounds);
            });
        } else {
            self.epilogue(parameters, sum, out, self.activation.bounds);
        }
        self.activation.smooth(&self.context, out);
    }

    fn epilogue(&self, parameters: &SiteParameters, x: &[f32], out: &mut [f32], bounds: Bounds) {
        let Context { level, arena, .. } = &self.context;
        match parameters.post {
            Post::Kernel => clr_forward(*level, arena, x, &parameters.blocks, self.output, out, bounds),
            Post::Affine => affine_forward(*level, x, &parameters.blocks, self.plane(), out, bounds),
        }
    }

    fn plane(&self) -> usize {
        self.output[0] * self.output[1] * LANES
    }

    /// Whether the backward pass reads the step's result.
    pub(crate) fn reads_output(&self) -> bool {
        self.shortcut && self.activation.bounds != Bounds::NONE
    }

    /// From the gradient of the result to those of the parameters, the shortcut and the input.
    pub(crate) fn backward(&self, step: ConvBackward<'_>) {
        let mut bounds = self.activation.bounds;
        if self.shortcut {
            self.activation.clamp_backward(&self.context, step.output, step.dy);
            bounds = Bounds::NONE;
        }
        if let Some(d_shortcut) = step.d_shortcut {
            d_shortcut.copy_from_slice(step.dy);
        }
        let (parameters, wanted) = (step.parameters, step.dx.is_some());
        let Context { level, arena, .. } = &self.context;
        let (level, blocks, sums) = (*level, &parameters.blocks, step.parameters_gradient);
        match parameters.post {
            Post::Kernel => clr_gradient(
                level,
                arena,
                step.sum,
                blocks,
                self.output,
                step.dy,
                sums,
                bounds,
                wanted,
            ),
            Post::Affine => affine_gradient(level, step.sum, blocks, self.plane(), step.dy, sums, bounds),
        }
        if let (Some(dx), Some(gradient)) = (step.dx, self.gradient()) {
            gradient.run(step.dy, dx);
        }
    }

    /// Bytes of the forward weights, packed, with the identity epilogue of training.
    pub(crate) fn weight_bytes(&self) -> usize {
        let identity = 2 * self.conv.channels().next_multiple_of(LANES);
        PackedConv::bytes_of(&self.conv, self.form) + size_of::<f32>() * identity
    }

    /// Bytes of the weights of the backward pass, packed.
    pub(crate) fn gradient_bytes(&self) -> usize {
        ConvGradient::bytes_of(&self.conv, self.input)
    }

    /// Bytes packed so far: forward, backward.
    pub(crate) fn packed_bytes(&self) -> [usize; 2] {
        let forward = self.forms.get();
        let backward = self.gradient.get().and_then(Option::as_ref);
        [
            forward.map_or(0, |forms| {
                forms.bare.conv.bytes() + size_of::<f32>() * forms.identity.len()
            }),
            backward.map_or(0, ConvGradient::bytes),
        ]
    }
}
