//! Convolution with its epilogue: the CLR layer or the frozen norm, the shortcut, and the activation.

use std::sync::{Arc, OnceLock};

use clr_kernels::{
    Binary, Bounds, ConvGradient, ConvImage, Epilogue, Form, FusedConv, Int8Conv, LANES, PackedConv, accumulate,
    affine_forward, affine_gradient, binary, clr_forward, clr_gradient, pack_parameters, winograd_scratch,
};
use clr_onnx::{Conv, ConvStep, Quantisation};

use crate::{
    PackedWeights, SiteParameters,
    integer::{IntegerConv, Result},
    operators::{
        Context, Reads,
        activation::{Activate, round},
    },
};

/// Bytes of the part of a feature map to which all kernels of an epilogue are applied before the next part, so that the
/// part stays in the cache.
const PART_BYTES: usize = 64 << 10;

/// A convolution for one input size.
#[derive(Debug)]
pub(crate) struct Convolution {
    pub(crate) site: usize,
    pub(crate) shortcut: bool,
    conv: Conv,
    input: [usize; 2],
    output: [usize; 2],
    pads: [usize; 4],
    form: Form,
    /// The rounding of the epilogue's result before the shortcut is added.
    inner: Option<Quantisation>,
    activation: Activate,
    /// The backbone's own epilogue.
    pub(crate) frozen: SiteParameters,
    /// The computation on bytes in place of the one on real values.
    integer: Option<IntegerConv>,
    context: Context,
    weights: Arc<PackedWeights>,
    /// Packed when the convolution runs first, so that a memory estimate does not pack anything.
    forms: OnceLock<Forms>,
    /// Created when the backward pass first needs it, so that inference never creates it.
    gradient: OnceLock<ConvGradient>,
}

/// The packed convolution, in the forms in which it is executed.
#[derive(Debug)]
struct Forms {
    /// Convolution, scale, bias, shortcut and activation in one pass, for inference.
    affine: FusedConv,
    /// Convolution, CLR layer, shortcut and activation in one pass, for inference.
    kernel: FusedConv,
    /// The bare convolution, for training.
    bare: FusedConv,
    /// Scale 1, bias 0.
    identity: Vec<f32>,
}

/// Operands of the backward pass of a convolution's epilogue.
pub(crate) struct EpilogueBackward<'a> {
    /// The epilogue and its parameters in blocks.
    pub(crate) epilogue: (Epilogue, &'a [f32]),
    /// The epilogue's operand: the result of the bare convolution.
    pub(crate) z: &'a [f32],
    /// The shortcut, if there is one and the activation is smooth.
    pub(crate) shortcut: &'a [f32],
    /// The step's result, if there are a shortcut and a clamp.
    pub(crate) output: &'a [f32],
    /// The gradient of the result, which is replaced by the gradient of `z`.
    pub(crate) dy: &'a mut [f32],
    /// The gradient of the parameters, in blocks, is added to this.
    pub(crate) parameters: Option<&'a mut [f32]>,
    /// Receives all of the shortcut's gradient.
    pub(crate) d_shortcut: Option<&'a mut [f32]>,
    /// Whether the gradient of `z` is needed. If not, the content of `dy` is undefined afterwards.
    pub(crate) wanted: bool,
}

impl Convolution {
    /// Creates the convolution of `step` for these sizes of its input and output (rows, columns). `from_image` states that it reads the
    /// image's pixels.
    ///
    /// # Errors
    /// As [`Convolution::scaled`].
    pub(crate) fn new(
        step: &ConvStep,
        [input, output]: [[usize; 2]; 2],
        from_image: bool,
        activation: Activate,
        integer: Option<IntegerConv>,
        weights: &Arc<PackedWeights>,
        context: &Context,
    ) -> std::result::Result<Self, usize> {
        let mut conv = Self {
            site: step.site,
            shortcut: step.shortcut,
            form: Form::choose(&step.conv, from_image, output),
            conv: step.conv.clone(),
            input,
            output,
            pads: step.pads,
            inner: step.inner,
            activation,
            frozen: SiteParameters::scale(&step.scale, &step.bias),
            context: context.clone(),
            weights: Arc::clone(weights),
            integer,
            forms: OnceLock::new(),
            gradient: OnceLock::new(),
        };
        conv.frozen = conv.scaled(&conv.frozen)?;
        Ok(conv)
    }

    /// Returns the parameters in the units in which this convolution takes them. On real values, they stay the same.
    ///
    /// # Errors
    /// The first channel whose results could leave the range of f32.
    pub(crate) fn scaled(&self, parameters: &SiteParameters) -> std::result::Result<SiteParameters, usize> {
        match (&self.integer, self.conv.weight.int8()) {
            (Some(integer), Some(weight)) => integer.scaled(weight, parameters),
            _ => Ok(parameters.clone()),
        }
    }

    /// Returns the convolution of bytes, with a scale and a bias, and with a CLR layer.
    fn integer_forms(&self, integer: &IntegerConv) -> [Int8Conv; 2] {
        [Epilogue::Affine, Epilogue::Kernel].map(|epilogue| Int8Conv {
            weights: match self.conv.weight.int8() {
                Some(weight) => self.weights.int8(self.site, &self.conv, weight, integer.form),
                None => unreachable!("only integer weights are computed on bytes"),
            },
            input: self.input,
            output: self.output,
            pads: self.pads,
            epilogue,
            isa: self.context.isa,
            threads: self.context.threads,
            arena: Arc::clone(&self.context.arena),
        })
    }

    fn forms(&self) -> &Forms {
        self.forms.get_or_init(|| {
            let fused = |epilogue, bounds, smooth| FusedConv {
                conv: self.weights.get(self.site, &self.conv, self.form),
                input: self.input,
                output: self.output,
                pads: self.pads,
                epilogue,
                bounds,
                smooth,
                isa: self.context.isa,
                threads: self.context.threads,
                arena: Arc::clone(&self.context.arena),
            };
            // A sum of rounded values is computed after the fused pass.
            let Activate { bounds, smooth, .. } = self.inner.map_or(self.activation, |_| Activate::NONE);
            let channels = self.conv.channels();
            Forms {
                affine: fused(Epilogue::Affine, bounds, smooth),
                kernel: fused(Epilogue::Kernel, bounds, smooth),
                bare: fused(Epilogue::Affine, Bounds::NONE, None),
                identity: pack_parameters(&vec![1.0; channels], &vec![0.0; channels]),
            }
        })
    }

    /// Packs the weights, if they are not yet.
    pub(crate) fn pack(&self) {
        match &self.integer {
            Some(integer) => {
                integer.forms(|| self.integer_forms(integer));
            }
            None => {
                self.forms();
            }
        }
    }

    /// The backward pass through the convolution.
    fn gradient(&self) -> &ConvGradient {
        self.gradient.get_or_init(|| {
            let Context { isa, arena, .. } = &self.context;
            ConvGradient::new(&self.conv, self.input, self.output, self.pads, *isa, arena)
        })
    }

    /// Computes inference in one pass over the input.
    pub(crate) fn forward(&self, parameters: &SiteParameters, inputs: &[&[f32]], out: &mut [f32]) {
        if let Some(integer) = &self.integer {
            let forms = integer.forms(|| self.integer_forms(integer));
            let real = (self.shortcut && self.inner.is_none()).then(|| inputs[1]);
            integer.run(forms, parameters, inputs, real, out);
            return match integer.result {
                Result::Bytes { .. } => {}
                Result::Real { .. } if self.inner.is_some() => self.add_shortcut(inputs[1], out),
                Result::Real { .. } => self.activation.finish(&self.context, out),
            };
        }
        let forms = self.forms();
        let fused = match parameters.epilogue {
            Epilogue::Kernel => &forms.kernel,
            Epilogue::Affine => &forms.affine,
        };
        if self.inner.is_some() {
            fused.run(inputs[0], &parameters.blocks, None, out);
            return self.add_shortcut(inputs[1], out);
        }
        fused.run(inputs[0], &parameters.blocks, self.shortcut.then(|| inputs[1]), out);
        round(&self.context, self.activation.grid, out);
    }

    /// Replaces the epilogue's result by the step's: rounds it, adds the shortcut, and applies the activation.
    fn add_shortcut(&self, shortcut: &[f32], out: &mut [f32]) {
        let Context { isa, arena, .. } = &self.context;
        let (part, bounds) = (self.part_blocks() * self.plane(), self.activation.bounds);
        for (out, shortcut) in out.chunks_mut(part).zip(shortcut.chunks(part)) {
            arena.lend(out.len(), |before| {
                before.copy_from_slice(out);
                round(&self.context, self.inner, before);
                binary(*isa, Binary::Add, before, shortcut, out.len(), out, bounds);
            });
            self.activation.finish(&self.context, out);
        }
    }

    /// Applies only the epilogue and the clamp.
    pub(crate) fn apply(&self, epilogue: Epilogue, blocks: &[f32], x: &[f32], out: &mut [f32], bounds: Bounds) {
        let Context { isa, arena, .. } = &self.context;
        match epilogue {
            Epilogue::Kernel => clr_forward(*isa, arena, x, blocks, self.output, out, bounds),
            Epilogue::Affine => affine_forward(*isa, x, blocks, self.plane(), out, bounds),
        }
    }

    fn plane(&self) -> usize {
        self.output[0] * self.output[1] * LANES
    }

    /// Returns the operands that the backward pass reads, in addition to the result of the bare convolution.
    pub(crate) fn reads(&self) -> Reads {
        if self.shortcut {
            self.activation.reads()
        } else {
            Reads::NOTHING
        }
    }

    /// Returns the number of channel blocks in a part of the feature map.
    fn part_blocks(&self) -> usize {
        (PART_BYTES / (size_of::<f32>() * self.plane().max(1))).max(1)
    }

    /// Computes the gradients of the epilogue's operand, its parameters and the shortcut from the gradient of the
    /// result.
    pub(crate) fn backward_epilogue(&self, mut step: EpilogueBackward<'_>) {
        let (epilogue, blocks) = step.epilogue;
        let part = self.part_blocks();
        let (length, parameters) = (part * self.plane(), part * epilogue.parameters());
        let parts = step.dy.chunks_mut(length).zip(blocks.chunks(parameters));
        for (index, (dy, blocks)) in parts.enumerate() {
            let place = index * length..index * length + dy.len();
            // Operands that the activation does not read are empty.
            let [z, shortcut, output] =
                [step.z, step.shortcut, step.output].map(|all| all.get(place.clone()).unwrap_or_default());
            let bounds = self.backward_activation(epilogue, blocks, z, shortcut, output, dy);
            if let Some(d_shortcut) = &mut step.d_shortcut {
                d_shortcut[place].copy_from_slice(dy);
            }
            let sums = step.parameters.as_deref_mut();
            let sums = sums.map(|sums| &mut sums[index * parameters..][..blocks.len()]);
            self.backward_affine(epilogue, blocks, z, dy, sums, bounds, step.wanted);
        }
    }

    /// Computes the gradient of the epilogue's result from the gradient of the activation's result. Returns the clamp
    /// that remains for the epilogue's own kernel.
    fn backward_activation(
        &self,
        epilogue: Epilogue,
        blocks: &[f32],
        x: &[f32],
        shortcut: &[f32],
        output: &[f32],
        dy: &mut [f32],
    ) -> Bounds {
        let Context { isa, arena, .. } = &self.context;
        if self.activation.smooth.is_some() {
            arena.lend(dy.len(), |before| {
                self.apply(epilogue, blocks, x, before, Bounds::NONE);
                round(&self.context, self.inner, before);
                if self.shortcut {
                    accumulate(*isa, before, shortcut);
                }
                self.activation.smooth_backward(&self.context, before, dy);
            });
        } else if self.shortcut {
            self.activation.clamp_backward(&self.context, output, dy);
            return Bounds::NONE;
        }
        self.activation.bounds
    }

    fn backward_affine(
        &self,
        epilogue: Epilogue,
        blocks: &[f32],
        x: &[f32],
        dy: &mut [f32],
        sums: Option<&mut [f32]>,
        bounds: Bounds,
        wanted: bool,
    ) {
        let Context { isa, arena, .. } = &self.context;
        match epilogue {
            Epilogue::Kernel => clr_gradient(*isa, arena, x, blocks, self.output, dy, sums, bounds, wanted),
            Epilogue::Affine => affine_gradient(*isa, x, blocks, self.plane(), dy, sums, bounds),
        }
    }

    /// Computes the bare convolution of several images, without an epilogue, into their sums.
    pub(crate) fn forward_bare<'a>(&self, images: impl IntoIterator<Item = (&'a [f32], &'a mut [f32])>) {
        let forms = self.forms();
        let images = images.into_iter().map(|(x, out)| ConvImage { x, residual: None, out });
        forms.bare.run_images(&mut images.collect::<Vec<_>>(), &forms.identity);
    }

    /// Computes the gradient `dx` of the bare convolution's input from `dy`, for several images.
    pub(crate) fn backward_bare(&self, images: &mut [(&[f32], &mut [f32])]) {
        self.gradient().run_images(images);
    }

    /// Computes the result from the epilogue's operand `z`.
    pub(crate) fn finish(&self, epilogue: Epilogue, blocks: &[f32], z: &[f32], inputs: &[&[f32]], out: &mut [f32]) {
        let part = self.part_blocks();
        let length = part * self.plane();
        let parts = z.chunks(length).zip(out.chunks_mut(length));
        let parts = parts.zip(blocks.chunks(part * epilogue.parameters()));
        for (index, ((z, out), blocks)) in parts.enumerate() {
            if self.shortcut {
                let shortcut = &inputs[1][index * length..][..out.len()];
                self.context.arena.lend(out.len(), |reprogrammed| {
                    self.apply(epilogue, blocks, z, reprogrammed, Bounds::NONE);
                    round(&self.context, self.inner, reprogrammed);
                    let (isa, bounds) = (self.context.isa, self.activation.bounds);
                    binary(isa, Binary::Add, reprogrammed, shortcut, out.len(), out, bounds);
                });
            } else {
                self.apply(epilogue, blocks, z, out, self.activation.bounds);
            }
            self.activation.finish(&self.context, out);
        }
    }

    /// Replaces the gradient of `multiplier`'s result by the gradient of the sum, in place, and adds the gradient of
    /// its parameters to `sums`.
    pub(crate) fn backward_multiplier(
        &self,
        multiplier: &SiteParameters,
        sum: &[f32],
        dz: &mut [f32],
        sums: &mut [f32],
    ) {
        self.backward_affine(
            multiplier.epilogue,
            &multiplier.blocks,
            sum,
            dz,
            Some(sums),
            Bounds::NONE,
            true,
        );
    }

    /// Pixels of the result.
    pub(crate) fn pixels(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Returns the sum and the sum of squares of each channel's values.
    pub(crate) fn moments(&self, values: &[f32]) -> Vec<[f64; 2]> {
        let mut moments = Vec::with_capacity(values.len() / self.plane().max(1) * LANES);
        for block in values.chunks_exact(self.plane()) {
            let mut sums = [[0.0_f64; 2]; LANES];
            for pixel in block.chunks_exact(LANES) {
                for (sums, value) in sums.iter_mut().zip(pixel) {
                    let value = f64::from(*value);
                    sums[0] += value;
                    sums[1] += value * value;
                }
            }
            moments.extend(sums);
        }
        moments.truncate(self.conv.channels());
        moments
    }

    /// Returns the bytes of the packed forward weights, with the identity epilogue of training.
    pub(crate) fn weight_bytes(&self) -> usize {
        let identity = 2 * self.conv.channels().next_multiple_of(LANES);
        PackedConv::bytes_of(&self.conv, self.form) + size_of::<f32>() * identity
    }

    /// Returns the maximum number of workspace values for `images` that run together: padded copies of the larger map
    /// and of its gradient, and a part of a map before its activation.
    pub(crate) fn scratch_len(&self, from: usize, to: usize, images: usize) -> usize {
        let reach = |axis: usize| 2 + (self.conv.kernel()[axis] - 1) * self.conv.dilation[axis];
        let padded = |length: usize, [height, width]: [usize; 2]| {
            length / (height * width).max(1) * (height + reach(0)) * (width + reach(1))
        };
        let direct = 2 * padded(from, self.input).max(padded(to, self.output));
        let (inputs, outputs) = (self.conv.weight.shape()[1] * self.conv.group, self.conv.channels());
        let isa = self.context.isa;
        let forward = winograd_scratch(self.form, [inputs, outputs], self.output, isa);
        let backward = winograd_scratch(
            ConvGradient::form(&self.conv, self.input),
            [outputs, inputs],
            self.input,
            isa,
        );
        images * (direct + forward.max(backward)) + to.min(self.part_blocks() * self.plane())
    }

    /// Returns the bytes of the packed weights for the backward pass.
    pub(crate) fn gradient_bytes(&self) -> usize {
        ConvGradient::bytes_of(&self.conv, self.input)
    }

    /// Returns the bytes packed so far, for the forward and the backward pass.
    pub(crate) fn packed_bytes(&self) -> [usize; 2] {
        let forward = self.forms.get();
        let backward = self.gradient.get();
        let integer = self.integer.as_ref().map_or(0, IntegerConv::packed_bytes);
        [
            forward.map_or(integer, |forms| {
                forms.bare.conv.bytes() + size_of::<f32>() * forms.identity.len()
            }),
            backward.map_or(0, ConvGradient::bytes),
        ]
    }
}
