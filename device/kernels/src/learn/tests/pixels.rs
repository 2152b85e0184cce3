//! Cropping, padding and resizing.

use clr_onnx::{Coordinates, PadMode, Resize, ResizeMode, ResizeTarget, Rounding};

use crate::{LANES, PixelMap, proof::prove};

/// Tests `map` against `source`, which returns, for an output row or column (`axis` 0 or 1), the weighted input
/// positions that it averages, or none if the output is `constant`.
fn prove_map(
    what: &str,
    map: &PixelMap,
    input: [usize; 2],
    source: &dyn Fn(usize, usize) -> Vec<(usize, f64)>,
    constant: f64,
) {
    let [height, width] = map.output();
    for channels in [5_usize, 20] {
        let lanes = channels.div_ceil(LANES) * LANES;
        // Beyond the channels, only the constant is written.
        let clear = |mut blocks: Vec<f32>, pixels: usize| {
            let last = blocks.len() - pixels * LANES;
            for pixel in blocks[last..].chunks_exact_mut(LANES) {
                pixel[channels % LANES..].fill(0.0);
            }
            blocks
        };
        prove(
            what,
            [[channels, input[0], input[1]], [channels, height, width]],
            &|x| {
                let value = |at: usize| {
                    let (c, y, column) = (at / (height * width), at / width % height, at % width);
                    let (rows, columns) = (source(0, y), source(1, column));
                    if rows.is_empty() || columns.is_empty() {
                        return constant;
                    }
                    let places = rows
                        .iter()
                        .flat_map(|row| columns.iter().map(move |column| (row, column)));
                    places
                        .map(|((y, down), (x_, across))| down * across * x[(c * input[0] + y) * input[1] + x_])
                        .sum()
                };
                (0..channels * height * width).map(value).collect()
            },
            &|isa, x| {
                let mut y = vec![f32::NAN; lanes * height * width];
                map.run(isa, x, &mut y);
                clear(y, height * width)
            },
            &|isa, x, dy| {
                let mut dx = vec![f32::NAN; x.len()];
                map.gradient(isa, dy, &mut dx);
                clear(dx, input[0] * input[1])
            },
        );
    }
}

#[test]
fn cropping_and_its_gradient_equal_their_definition() {
    for (start, size, step) in [
        ([1, 0], [2, 4], [1, 1]),
        ([0, 1], [3, 2], [2, 2]),
        ([4, 3], [1, 1], [1, 1]),
    ] {
        let map = PixelMap::crop([5, 4], start, size, step);
        assert_eq!(map.output(), size);
        let source = |axis: usize, at: usize| vec![(start[axis] + at * step[axis], 1.0)];
        prove_map("crop", &map, [5, 4], &source, 0.0);
    }
}

#[test]
fn padding_and_its_gradient_equal_their_definition_in_every_mode() {
    // A row 0 1 2 3 with two elements of padding before and three after it.
    let expected: [(PadMode, [Option<usize>; 9]); 4] = [
        (
            PadMode::Constant(0.5),
            [None, None, Some(0), Some(1), Some(2), Some(3), None, None, None],
        ),
        (PadMode::Edge, [0, 0, 0, 1, 2, 3, 3, 3, 3].map(Some)),
        (PadMode::Reflect, [2, 1, 0, 1, 2, 3, 2, 1, 0].map(Some)),
        (PadMode::Wrap, [2, 3, 0, 1, 2, 3, 0, 1, 2].map(Some)),
    ];
    for (mode, columns) in expected {
        let map = PixelMap::pad([3, 4], [0, 2, 1, 3], mode);
        assert_eq!(map.output(), [4, 9]);
        let below = [
            Some(0),
            Some(1),
            Some(2),
            match mode {
                PadMode::Constant(_) => None,
                PadMode::Edge => Some(2),
                PadMode::Reflect => Some(1),
                PadMode::Wrap => Some(0),
            },
        ];
        let source = |axis: usize, at: usize| {
            let place = if axis == 0 { below[at] } else { columns[at] };
            place.map(|place| (place, 1.0)).into_iter().collect()
        };
        prove_map(&format!("pad {mode:?}"), &map, [3, 4], &source, 0.5);
    }
    // A single pixel has only itself to show.
    for mode in [PadMode::Edge, PadMode::Reflect, PadMode::Wrap] {
        let map = PixelMap::pad([1, 1], [2, 1, 0, 1], mode);
        prove_map(&format!("pad {mode:?}"), &map, [1, 1], &|_, _| vec![(0, 1.0)], 0.0);
    }
}

#[test]
fn resizing_and_its_gradient_equal_their_definition() {
    let modes = [
        ResizeMode::Bilinear,
        ResizeMode::Nearest(Rounding::Floor),
        ResizeMode::Nearest(Rounding::PreferFloor),
    ];
    for coordinates in [
        Coordinates::HalfPixel,
        Coordinates::AlignCorners,
        Coordinates::Asymmetric,
    ] {
        for mode in modes {
            for (input, output) in [([3, 4], [6, 8]), ([5, 3], [2, 7]), ([1, 1], [3, 2]), ([4, 4], [1, 1])] {
                let resize = Resize {
                    target: ResizeTarget::Size(output),
                    mode,
                    coordinates,
                };
                let map = PixelMap::resize(input, &resize);
                assert_eq!(map.output(), output);
                let source = |axis: usize, at: usize| {
                    let taps = resize.taps(axis, input[axis])[at];
                    let weight = f64::from(taps.weight);
                    vec![(taps.low, 1.0 - weight), (taps.high, weight)]
                };
                prove_map(&format!("{mode:?} {coordinates:?}"), &map, input, &source, 0.0);
            }
        }
    }
}
