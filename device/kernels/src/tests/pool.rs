//! Tests of pools.

use super::*;

/// Returns pools of every kind with windows that overlap, leave gaps, are dilated, extend beyond the padded plane (ceil
/// mode) or contain only padding, for planes of `input` (rows, columns).
pub(crate) fn pool_shapes(input: [usize; 2]) -> Vec<PoolShape> {
    let windows = [
        ([3, 3], [2, 2], [1, 1], [1; 4]),
        ([2, 2], [2, 2], [1, 1], [0; 4]),
        ([3, 2], [1, 3], [1, 1], [0, 1, 2, 1]),
        ([3, 3], [2, 1], [2, 3], [2, 3, 2, 3]),
        ([2, 2], [1, 1], [3, 2], [4, 0, 0, 1]),
        ([1, 1], [2, 2], [1, 1], [0; 4]),
    ];
    let kinds = [
        PoolKind::Max,
        PoolKind::Average { include_pad: true },
        PoolKind::Average { include_pad: false },
    ];
    let mut shapes = Vec::new();
    for (kernel, stride, dilation, pads) in windows {
        for ceil in [false, true] {
            let size = |axis: usize| {
                let reach = (kernel[axis] - 1) * dilation[axis] + 1;
                let room = (input[axis] + pads[axis] + pads[axis + 2]).checked_sub(reach)?;
                Some(
                    if ceil {
                        room.div_ceil(stride[axis])
                    } else {
                        room / stride[axis]
                    } + 1,
                )
            };
            if let (Some(rows), Some(columns)) = (size(0), size(1)) {
                shapes.extend(kinds.map(|kind| PoolShape {
                    kind,
                    input,
                    output: [rows, columns],
                    kernel,
                    stride,
                    dilation,
                    pads,
                }));
            }
        }
    }
    shapes
}

/// Returns, for an output of the pool on one block `[H, W, 16]`, the values that it reads and the divisor of a mean,
/// according to the definition.
pub(crate) fn pool_reads(shape: &PoolShape, output: [usize; 2]) -> (Vec<usize>, f64) {
    let (mut reads, mut counted) = (Vec::new(), 0_usize);
    for ky in 0..shape.kernel[0] {
        for kx in 0..shape.kernel[1] {
            // In the padded plane.
            let place = [ky, kx];
            let at: [usize; 2] =
                std::array::from_fn(|axis| output[axis] * shape.stride[axis] + place[axis] * shape.dilation[axis]);
            let padded = |axis: usize| at[axis] < shape.input[axis] + shape.pads[axis] + shape.pads[axis + 2];
            let inside = |axis: usize| at[axis] >= shape.pads[axis] && at[axis] - shape.pads[axis] < shape.input[axis];
            if inside(0) && inside(1) {
                reads.push((at[0] - shape.pads[0]) * shape.input[1] + at[1] - shape.pads[1]);
            }
            counted += usize::from(padded(0) && padded(1));
        }
    }
    let count = match shape.kind {
        PoolKind::Average { include_pad: true } => counted,
        _ => reads.len(),
    };
    (reads, count.max(1) as f64)
}

#[test]
fn pooling_equals_its_definition() {
    let mut random = Random(2);
    for input in if cfg!(miri) {
        vec![[4, 5]]
    } else {
        vec![[11, 13], [1, 1], [2, 7]]
    } {
        let x = random.vector(input[0] * input[1] * LANES);
        for shape in pool_shapes(input) {
            let mut want = Vec::new();
            for at in 0..shape.output[0] * shape.output[1] {
                let (reads, count) = pool_reads(&shape, [at / shape.output[1], at % shape.output[1]]);
                for lane in 0..LANES {
                    let values = reads.iter().map(|place| f64::from(x[place * LANES + lane]));
                    want.push(match shape.kind {
                        PoolKind::Max => values.fold(f64::NEG_INFINITY, f64::max) as f32,
                        PoolKind::Average { .. } => (values.sum::<f64>() / count) as f32,
                    });
                }
            }
            for isa in Isa::available() {
                let mut got = vec![f32::NAN; want.len()];
                pool(isa, &shape, &x, &mut got);
                for (got, want) in got.iter().zip(&want) {
                    assert!(
                        got == want || (got - want).abs() < 1e-5,
                        "{shape:?} {isa:?}: expected {want}, got {got}"
                    );
                }
            }
        }
    }
}
