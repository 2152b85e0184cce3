//! Frozen convolutions: launches of the kernels.
//!
//! A dense convolution is a matrix product of columns (`im2col`) and weights. Grouped and depthwise convolutions are
//! sums over the window. The weights have no gradient.

use super::arguments::Parameters;
use super::backend::{Backend, Gemm, View, blocks};
use crate::sizes::Map;
use crate::sizes::Window;
use candle_core::Result;

/// Default of [`Convolution::max_columns`]: 256 MiB.
pub(crate) const MAX_COLUMNS: usize = 1 << 26;

/// A convolution between two maps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Convolution {
    pub(crate) window: Window,
    pub(crate) groups: usize,
    pub(crate) from: Map,
    pub(crate) to: Map,
    /// Maximum number of values of the columns that are in memory at once, but at least those of one image.
    pub(crate) max_columns: usize,
}

impl Convolution {
    fn parameters(&self) -> Parameters {
        Parameters {
            from: self.from.into(),
            to: self.to.into(),
            window: self.window.into(),
            groups: self.groups as i32,
            ..Parameters::default()
        }
    }

    /// Returns whether the input is identical to its columns: 1×1, stride 1, no padding.
    fn flat(&self) -> bool {
        self.window.kernel == [1, 1] && self.window.stride == [1, 1] && self.window.pads == [0; 4]
    }

    /// Returns the number of rows of the columns.
    fn depth(&self) -> usize {
        self.from.c * self.window.kernel[0] * self.window.kernel[1]
    }

    /// Returns the groups of images whose columns are in memory together, each as its first image and convolution.
    fn chunks(&self) -> impl Iterator<Item = (usize, Self)> {
        let whole = *self;
        let image = self.depth() * self.to.plane();
        let step = if self.flat() {
            self.from.n
        } else {
            self.max_columns / image.max(1)
        };
        let step = step.clamp(1, self.from.n.max(1));
        (0..self.from.n).step_by(step).map(move |first| {
            let n = step.min(whole.from.n - first);
            let (from, to) = (Map { n, ..whole.from }, Map { n, ..whole.to });
            (first, Self { from, to, ..whole })
        })
    }
}

/// Computes the convolution: x `[N, I, H, W]`, weight `[O, I / groups, kh, kw]`.
pub(crate) fn forward<B: Backend>(on: &B, x: View<'_, B>, weight: View<'_, B>, conv: Convolution) -> Result<B::Buffer> {
    let to = conv.to;
    if conv.groups > 1 {
        let inputs = [Some(x), Some(weight)];
        return on.map("grouped_forward", to.len(), &inputs, conv.parameters());
    }
    let mut y = on.allocate(to.len())?;
    let image = conv.from.c * conv.from.plane();
    for (first, part) in conv.chunks() {
        let x = x.part(first * image, part.from.len());
        let gemm = Gemm::with_shared(part.to.n, to.c, to.plane(), conv.depth(), false);
        let start = first * to.c * to.plane();
        if conv.flat() {
            on.multiply(gemm, x, weight, &mut y, start)?;
        } else {
            let count = part.to.n * conv.depth() * to.plane();
            let columns = on.map("columns_forward", count, &[Some(x)], part.parameters())?;
            on.multiply(gemm, on.view(&columns), weight, &mut y, start)?;
        }
    }
    Ok(y)
}

/// Computes the input gradient of [`forward`].
pub(crate) fn backward<B: Backend>(
    on: &B,
    dy: View<'_, B>,
    weight: View<'_, B>,
    conv: Convolution,
) -> Result<B::Buffer> {
    let (from, to) = (conv.from, conv.to);
    if conv.groups > 1 {
        let inputs = [Some(dy), Some(weight)];
        return on.map("grouped_input", from.len(), &inputs, conv.parameters());
    }
    let mut dx = on.allocate(from.len())?;
    let image = from.c * from.plane();
    for (first, part) in conv.chunks() {
        let dy = dy.part(first * to.c * to.plane(), part.to.len());
        let gemm = Gemm::with_shared(part.to.n, conv.depth(), to.plane(), to.c, true);
        if conv.flat() {
            on.multiply(gemm, dy, weight, &mut dx, first * image)?;
        } else {
            let mut columns = on.allocate(part.to.n * conv.depth() * to.plane())?;
            on.multiply(gemm, dy, weight, &mut columns, 0)?;
            let parameters = Parameters {
                count: (first * image) as i64,
                ..part.parameters()
            };
            let inputs = [Some(on.view(&columns))];
            on.launch(
                "columns_input",
                blocks(part.from.len()),
                &inputs,
                &mut [&mut dx],
                parameters,
            )?;
        }
    }
    Ok(dx)
}
