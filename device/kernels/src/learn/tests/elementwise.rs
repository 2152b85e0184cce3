//! Sums, products and `PReLU`.

use crate::{
    Binary, Bounds, Broadcast, Isa, LANES, accumulate, binary_gradient, block_channels, broadcast_binary, prelu,
    prelu_gradient,
    proof::{planes, poisoned, slopes},
    tests::{Random, close, largest},
};

/// Returns the blocks with zeros in the lanes beyond the channels, which element-wise kernels carry along.
fn cleared(mut blocks: Vec<f32>, channels: usize, pixels: usize) -> Vec<f32> {
    if !channels.is_multiple_of(LANES) {
        let last = blocks.len() - pixels * LANES;
        for pixel in blocks[last..].chunks_exact_mut(LANES) {
            pixel[channels % LANES..].fill(0.0);
        }
    }
    blocks
}

#[test]
fn sums_and_products_and_their_gradients_equal_their_definition_in_every_broadcast() {
    let mut random = Random(41);
    for shape in [[5, 2, 3], [16, 1, 1], [33, 3, 3]] {
        let [channels, height, width] = shape;
        let pixels = height * width;
        for op in [Binary::Add, Binary::Mul] {
            for broadcast in [Broadcast::None, Broadcast::Channels, Broadcast::Pixels] {
                let right_shape = match broadcast {
                    Broadcast::None => shape,
                    Broadcast::Channels => [channels, 1, 1],
                    Broadcast::Pixels => [1, height, width],
                };
                let from = |at: usize| match broadcast {
                    Broadcast::None => at,
                    Broadcast::Channels => at / pixels,
                    Broadcast::Pixels => at % pixels,
                };
                let left = random.vector(channels * pixels);
                let right = random.vector(right_shape.iter().product());
                let dy = random.vector(channels * pixels);
                let split = left.len();
                // Both operands in sequence.
                let definition = |both: &[f64]| -> Vec<f64> {
                    let (left, right) = both.split_at(split);
                    let value = |(at, left): (usize, &f64)| match op {
                        Binary::Add => left + right[from(at)],
                        Binary::Mul => left * right[from(at)],
                    };
                    left.iter().enumerate().map(value).collect()
                };
                let both = [&left[..], &right].concat();
                let exact: Vec<f64> = both.iter().map(|value| f64::from(*value)).collect();
                let want: Vec<f32> = definition(&exact).into_iter().map(|y| y as f32).collect();
                let want_gradient = slopes(&definition, &both, &dy);
                let blocks = [poisoned(&left, shape), poisoned(&right, right_shape)];
                for isa in Isa::available() {
                    let what = format!("{op:?} {broadcast:?} of {shape:?}, {isa:?}");
                    let plane = pixels * LANES;
                    let mut y = vec![f32::NAN; blocks[0].len()];
                    let [x, z] = blocks.each_ref().map(Vec::as_slice);
                    broadcast_binary(isa, op, broadcast, x, z, plane, &mut y, Bounds::NONE);
                    close(
                        &planes(&cleared(y, channels, pixels), shape, &what),
                        &want,
                        largest(&want),
                        &what,
                    );
                    let mut gradients = blocks.each_ref().map(|operand| vec![f32::NAN; operand.len()]);
                    let wanted = gradients.each_mut().map(|gradient| Some(&mut gradient[..]));
                    let dy = poisoned(&dy, shape);
                    binary_gradient(isa, op, broadcast, [x, z], channels, plane, &dy, wanted);
                    let [d_left, d_right] = gradients;
                    let right_pixels = right_shape[1] * right_shape[2];
                    let got = [
                        planes(&cleared(d_left, channels, pixels), shape, &what),
                        planes(&cleared(d_right, right_shape[0], right_pixels), right_shape, &what),
                    ];
                    close(
                        &got.concat(),
                        &want_gradient,
                        largest(&want_gradient),
                        &format!("gradient of {what}"),
                    );
                }
            }
        }
    }
}

#[test]
fn the_parametric_relu_and_its_gradient_equal_their_definition() {
    let mut random = Random(42);
    for shape in [[5, 2, 3], [33, 1, 1]] {
        let [channels, height, width] = shape;
        let plane = height * width * LANES;
        let (x, dy, slope) = (
            random.vector(channels * height * width),
            random.vector(channels * height * width),
            random.vector(channels),
        );
        let definition = |x: &[f64]| -> Vec<f64> {
            let value = |(at, x): (usize, &f64)| x.max(0.0) + x.min(0.0) * f64::from(slope[at / (height * width)]);
            x.iter().enumerate().map(value).collect()
        };
        let exact: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let want: Vec<f32> = definition(&exact).into_iter().map(|y| y as f32).collect();
        let want_gradient = slopes(&definition, &x, &dy);
        let slope = block_channels(&slope, 0.0);
        for isa in Isa::available() {
            let blocks = poisoned(&x, shape);
            let mut y = vec![f32::NAN; blocks.len()];
            prelu(isa, &blocks, &slope, plane, &mut y);
            let y = cleared(y, channels, height * width);
            close(&planes(&y, shape, "prelu"), &want, 1.0, "prelu");
            let mut dx = poisoned(&dy, shape);
            prelu_gradient(isa, &blocks, &slope, plane, &mut dx);
            let dx = cleared(dx, channels, height * width);
            close(&planes(&dx, shape, "prelu"), &want_gradient, 1.0, "prelu's gradient");
            let mut sum = y.clone();
            accumulate(isa, &mut sum, &dx);
            assert!(sum.iter().zip(y.iter().zip(&dx)).all(|(sum, (y, dx))| *sum == y + dx));
        }
    }
}
