//! Input gradient of a frozen convolution.
//!
//! For each residue of the input position modulo the stride, the gradient is a stride-1 convolution of the output's
//! gradient. Its weights are transposed, rotated by 180°, and reduced to the taps that meet that residue.

use std::{ops::Range, sync::Arc};

use clr_onnx::{Conv, Padding, Tensor};

use crate::{
    arena::Arena,
    fused::{ConvImage, Epilogue, FusedConv},
    pack::{Form, PackedConv, packed_bytes},
    parameters::pack_parameters,
    rows::{AFFINE_PARAMETERS, Bounds},
    simd::{Isa, LANES},
};

/// The backward pass of a convolution, for one input size.
#[derive(Debug)]
pub struct ConvGradient {
    parts: Vec<Part>,
    stride: [usize; 2],
    /// Rows, columns of the convolution's input.
    input: [usize; 2],
    /// Rows, columns of its result.
    output: [usize; 2],
    /// Number of values of the convolution's input, in blocks.
    length: usize,
    /// Scale 1, bias 0.
    plain: Vec<f32>,
    arena: Arc<Arena>,
}

/// The input positions with one residue.
#[derive(Debug)]
struct Part {
    origin: [usize; 2],
    /// `None` if no tap meets the residue, so that the gradient is zero there.
    fused: Option<FusedConv>,
    /// The rows and columns of the output's gradient that are read.
    reads: [Range<usize>; 2],
    size: [usize; 2],
}

/// The taps along one axis that meet a residue.
struct Axis {
    /// Kernel positions, in the order in which the output's gradient is read.
    taps: Vec<usize>,
    /// The outputs whose gradient is read.
    reads: Range<usize>,
    /// Zeros before and after them.
    pads: [usize; 2],
    /// Distance between the positions that adjacent taps read.
    dilation: usize,
    /// Number of input positions.
    length: usize,
}

impl Axis {
    /// Creates the taps of `conv` for one residue along one axis (0: rows, 1: columns).
    fn of(conv: &Conv, axis: usize, residue: usize, input: [usize; 2], output: [usize; 2], pads: [usize; 4]) -> Self {
        let (kernel, stride, dilation) = (conv.kernel()[axis], conv.stride[axis], conv.dilation[axis]);
        let (input, output, pad) = (input[axis], output[axis] as isize, pads[axis]);
        let length = input.saturating_sub(residue).div_ceil(stride);
        // Output `q + place` read the input position `stride · q + residue` at kernel position `tap`.
        let mut places: Vec<(isize, usize)> = (0..kernel)
            .filter_map(|tap| {
                let distance = (residue + pad) as isize - (tap * dilation) as isize;
                (distance.rem_euclid(stride as isize) == 0).then(|| (distance.div_euclid(stride as isize), tap))
            })
            .collect();
        places.sort_unstable();
        let nothing = Self {
            taps: Vec::new(),
            reads: 0..0,
            pads: [0; 2],
            dilation: 1,
            length,
        };
        let (Some(&(first, _)), Some(&(last, _))) = (places.first(), places.last()) else {
            return nothing;
        };
        // The outputs that are needed, and those of them that exist. If the padding is wider than the kernel's reach,
        // the first or last outputs only read padding.
        let asked = first..length as isize + last;
        let (from, to) = (asked.start.max(0), asked.end.min(output));
        if length == 0 || from >= to {
            return nothing;
        }
        let dilation = places.get(1).map_or(1, |&(second, _)| (second - first) as usize);
        Self {
            taps: places.into_iter().map(|(_, tap)| tap).collect(),
            reads: from as usize..to as usize,
            pads: [(from - asked.start) as usize, (asked.end - to) as usize],
            dilation,
            length,
        }
    }
}

impl ConvGradient {
    /// Creates the backward pass of `conv` for an input of `input` (rows, columns), the resolved `pads` (top, left,
    /// bottom, right) and a result of `output` (rows, columns).
    pub fn new(
        conv: &Conv,
        input: [usize; 2],
        output: [usize; 2],
        pads: [usize; 4],
        isa: Isa,
        arena: &Arc<Arena>,
    ) -> Self {
        let channels = conv.weight.shape()[1] * conv.group;
        let axis = |axis, residue| Axis::of(conv, axis, residue, input, output, pads);
        let mut parts = Vec::new();
        for row in 0..conv.stride[0] {
            for column in 0..conv.stride[1] {
                let (down, across) = (axis(0, row), axis(1, column));
                let size = [down.length, across.length];
                if size.contains(&0) {
                    continue;
                }
                let reads = [down.reads.clone(), across.reads.clone()];
                let fused = (!down.taps.is_empty() && !across.taps.is_empty()).then(|| {
                    let part = transposed(conv, &down, &across);
                    let form = Form::choose(&part, false, size);
                    FusedConv {
                        conv: Arc::new(PackedConv::new(&part, form)),
                        input: [reads[0].len(), reads[1].len()],
                        output: size,
                        pads: [down.pads[0], across.pads[0], down.pads[1], across.pads[1]],
                        epilogue: Epilogue::Affine,
                        bounds: Bounds::NONE,
                        smooth: None,
                        isa,
                        threads: 1,
                        arena: Arc::clone(arena),
                    }
                });
                parts.push(Part {
                    origin: [row, column],
                    fused,
                    reads,
                    size,
                });
            }
        }
        let blocks = channels.div_ceil(LANES);
        Self {
            parts,
            stride: conv.stride,
            input,
            output,
            length: blocks * input[0] * input[1] * LANES,
            plain: pack_parameters(&vec![1.0; channels], &vec![0.0; channels]),
            arena: Arc::clone(arena),
        }
    }

    /// Returns the form in which the backward pass of `conv` is computed, for an input of `input` (rows, columns). For
    /// stride 1 it is the form of the transposed convolution.
    pub fn form(conv: &Conv, input: [usize; 2]) -> Form {
        Form::from_blocks(conv, conv.channels(), input)
    }

    /// Returns the bytes of the weights for the backward pass of `conv`, for an input of `input` (rows, columns),
    /// without creating the weights.
    pub fn bytes_of(conv: &Conv, input: [usize; 2]) -> usize {
        let (outputs, per_group) = (conv.channels(), conv.weight.shape()[1]);
        let form = Self::form(conv, input);
        packed_bytes(
            per_group * conv.group,
            outputs / conv.group,
            conv.group,
            conv.kernel(),
            form,
        )
    }

    /// Returns the number of values of the convolution's input, in blocks.
    pub fn input_len(&self) -> usize {
        self.length
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        self.parts
            .iter()
            .filter_map(|part| part.fused.as_ref())
            .map(|fused| fused.conv.bytes())
            .sum()
    }

    /// Computes `dx`, all of it, from `dy`, both in blocks.
    pub fn run(&self, dy: &[f32], dx: &mut [f32]) {
        self.run_images(&mut [(dy, dx)]);
    }

    /// Computes `dx` from `dy` for several images, as [`FusedConv::run_images`] does.
    pub fn run_images(&self, images: &mut [(&[f32], &mut [f32])]) {
        assert!(images.iter().all(|(_, dx)| dx.len() == self.length));
        if let ([part], [1, 1]) = (&self.parts[..], self.stride)
            && part.fused.is_some()
        {
            let (dys, dxs): (Vec<&[f32]>, Vec<&mut [f32]>) = images.iter_mut().map(|(dy, dx)| (*dy, &mut **dx)).unzip();
            return self.convolve(part, &dys, dxs);
        }
        let blocks = self.plain.len() / AFFINE_PARAMETERS;
        let dys: Vec<&[f32]> = images.iter().map(|(dy, _)| *dy).collect();
        for part in &self.parts {
            let length = blocks * part.size[0] * part.size[1] * LANES;
            self.arena.lend(images.len() * length, |results| {
                self.convolve(part, &dys, results.chunks_exact_mut(length).collect());
                for (result, (_, dx)) in results.chunks_exact(length).zip(&mut *images) {
                    self.scatter(part, result, dx);
                }
            });
        }
    }

    /// Computes the gradients at the positions of `part`.
    fn convolve(&self, part: &Part, dys: &[&[f32]], mut results: Vec<&mut [f32]>) {
        let Some(fused) = &part.fused else {
            return results.iter_mut().for_each(|result| result.fill(0.0));
        };
        let [rows, columns] = &part.reads;
        let run = |dys: &[&[f32]]| {
            let images = dys
                .iter()
                .zip(results)
                .map(|(x, out)| ConvImage { x, residual: None, out });
            fused.run_images(&mut images.collect::<Vec<_>>(), &self.plain);
        };
        if [rows.len(), columns.len()] == self.output {
            return run(dys);
        }
        // Odd paddings: some of `dy` is never read.
        let planes = self.output[0] * self.output[1] * LANES;
        let length = dys.first().map_or(0, |dy| dy.len() / planes) * rows.len() * columns.len() * LANES;
        self.arena.lend(dys.len() * length, |cuts| {
            for (dy, cut) in dys.iter().zip(cuts.chunks_exact_mut(length)) {
                self.cut(part, dy, cut);
            }
            run(&cuts.chunks_exact(length).collect::<Vec<_>>());
        });
    }

    /// Copies the rows and columns of `dy` that `part` reads.
    fn cut(&self, part: &Part, dy: &[f32], cut: &mut [f32]) {
        let [rows, columns] = &part.reads;
        let row = self.output[1] * LANES;
        let mut lines = cut.chunks_exact_mut(columns.len() * LANES);
        for plane in dy.chunks_exact(self.output[0] * row) {
            for (y, line) in rows.clone().zip(&mut lines) {
                line.copy_from_slice(&plane[y * row + columns.start * LANES..][..columns.len() * LANES]);
            }
        }
    }

    fn scatter(&self, part: &Part, result: &[f32], dx: &mut [f32]) {
        let row = self.input[1] * LANES;
        let [rows, columns] = part.size;
        let planes = result.chunks_exact(rows * columns * LANES);
        for (from, to) in planes.zip(dx.chunks_exact_mut(self.input[0] * row)) {
            for (y, from) in from.chunks_exact(columns * LANES).enumerate() {
                let to = &mut to[(part.origin[0] + y * self.stride[0]) * row..][..row];
                for (x, from) in from.chunks_exact(LANES).enumerate() {
                    to[(part.origin[1] + x * self.stride[1]) * LANES..][..LANES].copy_from_slice(from);
                }
            }
        }
    }
}

/// Returns the stride-1 convolution for one residue: `[I, O / group, rows, columns]`.
fn transposed(conv: &Conv, down: &Axis, across: &Axis) -> Conv {
    let (outputs, per_group, group) = (conv.channels(), conv.weight.shape()[1], conv.group);
    let (inputs, out_group) = (per_group * group, outputs / group);
    let [kh, kw] = conv.kernel();
    let weight = conv.weight.values();
    let mut data = Vec::with_capacity(inputs * out_group * down.taps.len() * across.taps.len());
    for input in 0..inputs {
        let (g, within) = (input / per_group, input % per_group);
        for out in g * out_group..(g + 1) * out_group {
            for ky in &down.taps {
                for kx in &across.taps {
                    data.push(weight[((out * per_group + within) * kh + ky) * kw + kx]);
                }
            }
        }
    }
    Conv {
        weight: Tensor::new(vec![inputs, out_group, down.taps.len(), across.taps.len()], data).into(),
        bias: None,
        stride: [1; 2],
        dilation: [down.dilation, across.dilation],
        group,
        padding: Padding::Explicit([down.pads[0], across.pads[0], down.pads[1], across.pads[1]]),
    }
}
