//! CLR layer as a separate operation (depthwise 3×3, stride 1, zero padding 1, with bias and clamp), and its gradients.

use crate::{
    arena::Arena,
    depthwise::{Depthwise, depthwise},
    rows::{Bounds, CLR_PARAMETERS},
    simd::{Isa, Kernel, LANES, Simd, Vector, dispatch, vectors, vectors_mut},
};

/// Returns the number of values of a plane with a border of one pixel.
fn bordered([height, width]: [usize; 2]) -> usize {
    (height + 2) * (width + 2) * LANES
}

/// Copies a plane `[H, W, 16]` into one with a zero border.
fn fill(plane: &[f32], [height, width]: [usize; 2], to: &mut [f32]) {
    let row = (width + 2) * LANES;
    to[..row].fill(0.0);
    to[(height + 1) * row..].fill(0.0);
    let rows = to[row..].chunks_exact_mut(row);
    for (from, to) in plane.chunks_exact(width * LANES).zip(rows) {
        to[..LANES].fill(0.0);
        to[LANES..row - LANES].copy_from_slice(from);
        to[row - LANES..].fill(0.0);
    }
}

/// Computes `out = clamp(depthwise(x) + bias)`. `parameters` are `[9 taps][16]` and bias `[16]` per block; `size` is
/// rows, columns.
pub fn clr_forward(
    isa: Isa,
    arena: &Arena,
    x: &[f32],
    parameters: &[f32],
    size: [usize; 2],
    out: &mut [f32],
    bounds: Bounds,
) {
    let [height, width] = size;
    let plane = height * width * LANES;
    let length = bordered(size);
    assert!(x.len() == out.len() && x.len() / plane * CLR_PARAMETERS == parameters.len());
    arena.lend(length, |input| {
        let blocks = x.chunks_exact(plane).zip(parameters.chunks_exact(CLR_PARAMETERS));
        for ((x, parameters), out) in blocks.zip(out.chunks_exact_mut(plane)) {
            fill(x, size, input);
            let (taps, bias) = parameters.split_at(9 * LANES);
            depthwise(isa, Depthwise::bordered(input, taps, Some(bias), size, out, bounds));
        }
    });
}

/// Replaces `dy`, the gradient of [`clr_forward`]'s result, by the gradient of `x`. If `want_x` is false, the content
/// of `dy` is undefined afterwards. If `sums` is given, adds the gradients of the parameters to it, in the layout of
/// `parameters`. The pre-activation is recomputed.
pub fn clr_gradient(
    isa: Isa,
    arena: &Arena,
    x: &[f32],
    parameters: &[f32],
    size: [usize; 2],
    dy: &mut [f32],
    mut sums: Option<&mut [f32]>,
    bounds: Bounds,
    want_x: bool,
) {
    let plane = size[0] * size[1] * LANES;
    let length = bordered(size);
    assert!(x.len() == dy.len() && x.len() / plane * CLR_PARAMETERS == parameters.len());
    assert!(sums.as_ref().is_none_or(|sums| sums.len() == parameters.len()));
    arena.lend(2 * length, |buffer| {
        let (input, gradient) = buffer.split_at_mut(length);
        for (block, (x, dy)) in x.chunks_exact(plane).zip(dy.chunks_exact_mut(plane)).enumerate() {
            let place = block * CLR_PARAMETERS..(block + 1) * CLR_PARAMETERS;
            let parameters = &parameters[place.clone()];
            fill(x, size, input);
            fill(dy, size, gradient);
            let sums = sums.as_deref_mut().map(|sums| &mut sums[place]);
            dispatch(
                isa,
                ClrGradient {
                    input,
                    gradient,
                    parameters,
                    size,
                    sums,
                    bounds,
                },
            );
            if want_x {
                let mut taps = [0.0; 9 * LANES];
                for (to, from) in taps
                    .chunks_exact_mut(LANES)
                    .zip(parameters[..9 * LANES].rchunks_exact(LANES))
                {
                    to.copy_from_slice(from);
                }
                depthwise(isa, Depthwise::bordered(gradient, &taps, None, size, dy, Bounds::NONE));
            }
        }
    });
}

/// Multiplies the gradient by the clamp's derivative in place, and sums up the parameters' gradients.
struct ClrGradient<'a> {
    /// Plane with a border.
    input: &'a [f32],
    /// Plane with a border.
    gradient: &'a mut [f32],
    parameters: &'a [f32],
    size: [usize; 2],
    sums: Option<&'a mut [f32]>,
    bounds: Bounds,
}

impl Kernel for ClrGradient<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let [height, width] = self.size;
        let parameters = vectors(self.parameters);
        let mut taps = [s.zero(); 9];
        for tap in 0..9 {
            taps[tap] = s.load(&parameters[tap]);
        }
        let bias = s.load(&parameters[9]);
        let (low, high) = (s.splat(self.bounds.low), s.splat(self.bounds.high));
        let mut total = [s.zero(); 10];
        // With the border.
        let pitch = width + 2;
        let input = vectors(self.input);
        let gradients = vectors_mut(self.gradient)[pitch..].chunks_exact_mut(pitch);
        for (y, gradients) in gradients.take(height).enumerate() {
            let lines: [&[[f32; LANES]]; 3] =
                std::array::from_fn(|row| &input[(y + row) * pitch..(y + row + 1) * pitch]);
            // Sums per row, and then a sum of these, keep rounding errors small.
            let mut sums = [s.zero(); 10];
            for (x, gradient) in gradients[1..=width].iter_mut().enumerate() {
                let mut window = [s.zero(); 9];
                for row in 0..3 {
                    let line = &lines[row][x..x + 3];
                    for column in 0..3 {
                        window[row * 3 + column] = s.load(&line[column]);
                    }
                }
                let (mut even, mut odd) = (bias, s.zero());
                for tap in 0..9 {
                    if tap % 2 == 0 {
                        even = even.fma(window[tap], taps[tap]);
                    } else {
                        odd = odd.fma(window[tap], taps[tap]);
                    }
                }
                let g = even.add(odd).between(low, high, s.load(gradient));
                g.store(gradient);
                for tap in 0..9 {
                    sums[tap] = sums[tap].fma(g, window[tap]);
                }
                sums[9] = sums[9].add(g);
            }
            for index in 0..10 {
                total[index] = total[index].add(sums[index]);
            }
        }
        if let Some(sums) = self.sums {
            for (sum, more) in vectors_mut(sums).iter_mut().zip(total) {
                s.load(sum).add(more).store(sum);
            }
        }
    }
}
