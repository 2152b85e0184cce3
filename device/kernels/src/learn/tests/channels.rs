//! Tests of operations that move or mix channels, and of layouts.

use crate::{
    ChannelMap, Isa, LANES, block_planes, channel_conv, channel_conv_gradient, channel_conv_outputs, dense,
    dense_gradient,
    proof::{planes, poisoned, prove},
    softmax_groups, softmax_groups_gradient,
    tests::Random,
    unblock,
};

#[test]
fn gathered_channels_and_their_gradient_equal_their_definition() {
    let shuffle: Vec<u32> = (0..40).map(|c| c % 4 * 10 + c / 4).collect();
    let cases: [(usize, Vec<u32>); 6] = [
        (40, shuffle),
        (40, (16..40).collect()),
        (40, (0..5).collect()),
        (40, (7..39).collect()),
        (5, vec![4, 4, 0, 4]),
        (33, (0..33).rev().collect()),
    ];
    for (channels, index) in cases {
        for [height, width] in [[1, 1], [2, 3]] {
            let pixels = height * width;
            let map = ChannelMap::new(&[channels], &index, pixels);
            prove(
                &format!("gathering {index:?}"),
                [[channels, height, width], [index.len(), height, width]],
                &|x| {
                    let plane = |c: &u32| x[*c as usize * pixels..(*c as usize + 1) * pixels].to_vec();
                    index.iter().flat_map(plane).collect()
                },
                &|_, x| {
                    let mut y = vec![f32::NAN; index.len().div_ceil(LANES) * pixels * LANES];
                    map.run(&[x], &mut y);
                    y
                },
                &|_, x, dy| {
                    let mut dx = vec![f32::NAN; x.len()];
                    map.gradient(dy, &mut [Some(&mut dx)]);
                    dx
                },
            );
        }
    }
}

#[test]
fn a_concatenations_gradient_is_cut_where_its_parts_meet() {
    let mut random = Random(31);
    for counts in [vec![16, 16], vec![24, 5, 16, 40], vec![3, 1], vec![15, 33, 17]] {
        let pixels = 3;
        let total: usize = counts.iter().sum();
        let dy = random.vector(total * pixels);
        let mut gradients: Vec<Vec<f32>> = counts
            .iter()
            .map(|count| vec![f32::NAN; count.div_ceil(LANES) * pixels * LANES])
            .collect();
        let mut dx: Vec<Option<&mut [f32]>> = gradients.iter_mut().map(|part| Some(&mut part[..])).collect();
        let index: Vec<u32> = (0..total as u32).collect();
        ChannelMap::new(&counts, &index, pixels).gradient(&poisoned(&dy, [total, 1, pixels]), &mut dx);
        let got: Vec<f32> = gradients
            .iter()
            .zip(&counts)
            .flat_map(|(part, count)| planes(part, [*count, 1, pixels], "part"))
            .collect();
        assert_eq!(got, dy, "{counts:?}");
    }
}

#[test]
fn unflattening_restores_a_flattened_map() {
    let mut random = Random(32);
    for shape in [[16, 2, 2], [5, 1, 1], [33, 3, 2]] {
        let values = random.vector(shape.iter().product());
        let blocks = poisoned(&values, shape);
        let mut flat = vec![f32::NAN; values.len()];
        unblock(&blocks, shape[0], &mut flat);
        assert_eq!(flat, values);
        let mut back = vec![f32::NAN; blocks.len()];
        block_planes(&flat, shape[0], &mut back);
        assert_eq!(planes(&back, shape, "flattened"), values);
    }
}

#[test]
fn a_convolution_along_the_channels_and_its_gradient_equal_their_definition() {
    let mut random = Random(33);
    for (channels, taps, pads) in [
        (40, 3, [1, 1]),
        (17, 5, [2, 2]),
        (3, 7, [3, 3]),
        (16, 1, [0, 0]),
        (20, 4, [0, 5]),
    ] {
        let kernel = random.vector(taps);
        let outputs = channel_conv_outputs(channels, taps, pads);
        prove(
            &format!("{taps} taps along the channels"),
            [[channels, 1, 1], [outputs, 1, 1]],
            &|x| {
                let value = |c: usize| {
                    let read = |k: usize| (c + k).checked_sub(pads[0]).and_then(|at| x.get(at)).unwrap_or(&0.0);
                    0.25 + (0..taps).map(|k| f64::from(kernel[k]) * read(k)).sum::<f64>()
                };
                (0..outputs).map(value).collect()
            },
            &|_, x| {
                let mut y = vec![f32::NAN; outputs.div_ceil(LANES) * LANES];
                channel_conv(x, channels, &kernel, 0.25, pads, &mut y);
                y
            },
            &|_, x, dy| {
                let mut dx = vec![f32::NAN; x.len()];
                channel_conv_gradient(dy, channels, &kernel, pads, &mut dx);
                dx
            },
        );
    }
}

#[test]
fn softmax_over_groups_and_its_gradient_equal_their_definition() {
    for (channels, groups) in [(40, 2), (33, 3), (6, 6), (16, 1)] {
        let each = channels / groups;
        let softmax = |isa, x: &[f32]| {
            let mut y = x.to_vec();
            softmax_groups(isa, &mut y, channels, groups);
            y[channels..].fill(0.0);
            y
        };
        prove(
            &format!("softmax over {groups}"),
            [[channels, 1, 1]; 2],
            &|x| {
                let sum = |c: usize| (0..groups).map(|g| x[g * each + c].exp()).sum::<f64>();
                (0..channels).map(|at| x[at].exp() / sum(at % each)).collect()
            },
            &softmax,
            &|isa, x, dy| {
                let mut dx = dy.to_vec();
                softmax_groups_gradient(&softmax(isa, x), channels, groups, &mut dx);
                dx[channels..].fill(0.0);
                dx
            },
        );
    }
    let mut large = [90.0, -200.0, 3000.0, f32::NAN, 3001.0, 1.0];
    softmax_groups(Isa::detect(), &mut large, 6, 2);
    assert!(large[0].is_nan() && large[3].is_nan());
    assert!(large[1] < 1e-37 && large[4] == 1.0 && large[2] == 1.0 && large[5] < 1e-37);
}

#[test]
fn the_dense_layers_gradient_is_its_transpose() {
    let mut random = Random(34);
    for (inputs, outputs) in [(70, 5), (16, 16), (5, 1), (1, 33)] {
        let (weight, bias) = (random.vector(inputs * outputs), random.vector(outputs));
        // A dense layer reads and writes vectors without lanes beyond their values.
        let cut = |values: Vec<f32>, length: usize| {
            let mut values = values;
            values.resize(length.div_ceil(LANES) * LANES, 0.0);
            values
        };
        prove(
            "dense",
            [[inputs, 1, 1], [outputs, 1, 1]],
            &|x| {
                let rows = weight.chunks_exact(inputs).zip(&bias);
                let value = |(row, bias): (&[f32], &f32)| {
                    f64::from(*bias) + row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum::<f64>()
                };
                rows.map(value).collect()
            },
            &|isa, x| {
                let mut y = vec![f32::NAN; outputs];
                dense(isa, &weight, &bias, &x[..inputs], &mut y);
                cut(y, outputs)
            },
            &|isa, _, dy| {
                let mut dx = vec![f32::NAN; inputs];
                dense_gradient(isa, &weight, &dy[..outputs], &mut dx);
                cut(dx, inputs)
            },
        );
    }
}
