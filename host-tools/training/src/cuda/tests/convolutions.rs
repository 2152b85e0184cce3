//! Frozen convolutions, with the columns of all images at once and of a few images at a time.

use super::compare::{check, on_the_cpu, values};
use super::compiled::Compiled;
use crate::cuda::backend::Backend as _;
use crate::cuda::conv;
use crate::ops;
use crate::sizes;
use crate::sizes::Map;
use candle_core::{Device, Result};
use clr_onnx::{Conv, Padding};

pub(super) fn compare(compiled: &mut Compiled) -> Result<()> {
    let same = Padding::SameUpper;
    let pads = Padding::Explicit;
    for (map, outputs, groups, kernel, stride, dilation, padding) in [
        ([2, 5, 4, 3], 6, 1, [1, 1], [1, 1], [1, 1], pads([0; 4])),
        ([3, 4, 1, 1], 7, 1, [1, 1], [1, 1], [1, 1], pads([0; 4])),
        ([2, 5, 7, 4], 6, 1, [1, 1], [2, 2], [1, 1], pads([0; 4])),
        ([2, 3, 7, 6], 4, 1, [3, 3], [1, 1], [1, 1], pads([1; 4])),
        ([3, 3, 9, 11], 4, 1, [3, 3], [2, 2], [1, 1], same),
        ([3, 3, 8, 11], 4, 1, [3, 3], [2, 1], [1, 1], Padding::SameLower),
        ([1, 2, 19, 10], 3, 1, [7, 7], [2, 2], [1, 1], pads([3; 4])),
        ([2, 2, 8, 9], 3, 1, [3, 3], [1, 1], [2, 2], pads([2, 1, 0, 3])),
        ([2, 2, 7, 8], 3, 1, [1, 3], [1, 3], [1, 1], pads([0, 1, 0, 0])),
        ([2, 1, 6, 6], 1, 1, [5, 5], [1, 1], [1, 1], same),
        ([2, 6, 5, 4], 4, 2, [3, 3], [1, 1], [1, 1], pads([1; 4])),
        ([2, 8, 9, 7], 12, 4, [3, 3], [2, 2], [1, 1], same),
        ([2, 3, 7, 8], 3, 3, [3, 3], [1, 1], [1, 1], same),
        ([2, 3, 17, 18], 3, 3, [5, 5], [2, 2], [1, 1], same),
        ([1, 4, 13, 15], 4, 4, [5, 5], [1, 1], [2, 2], same),
        ([1, 2, 6, 5], 6, 2, [3, 3], [1, 1], [1, 1], pads([1; 4])),
    ] {
        let [n, c, h, w] = map;
        let from = Map { n, c, h, w };
        let weight = values(outputs * c / groups * kernel[0] * kernel[1], 2);
        let conv = Conv {
            weight: clr_onnx::Tensor::new([outputs, c / groups, kernel[0], kernel[1]], weight.clone()).into(),
            bias: None,
            stride,
            dilation,
            group: groups,
            padding,
        };
        let x = values(from.len(), 1);
        let frozen = ops::FrozenConv::new(&conv, &Device::Cpu)?;
        let expected = on_the_cpu(&[(&map, &x)], |v| frozen.forward(&v[0]))?;
        let window = sizes::Window {
            kernel,
            stride,
            dilation,
            pads: match padding {
                Padding::Explicit(pads) => pads,
                same => same.resolve([h, w], kernel, stride, dilation),
            },
        };
        let [oh, ow] = window.output([h, w]).expect("a window that fits");
        let to = Map {
            n,
            c: outputs,
            h: oh,
            w: ow,
        };
        let dy = values(to.len(), 99);
        // All images at once, two at a time, and one by one.
        let image = c * kernel[0] * kernel[1] * oh * ow;
        for max_columns in [conv::MAX_COLUMNS, 2 * image, 1] {
            let name = format!("{conv:?} of {map:?}, {max_columns} columns");
            let name = name.replace(&format!("{weight:?}"), "");
            let convolution = conv::Convolution {
                window,
                groups,
                from,
                to,
                max_columns,
            };
            let (x, dy, weight) = (Compiled::buffer(&x), Compiled::buffer(&dy), Compiled::buffer(&weight));
            check(&name, compiled, &expected, |on| {
                let y = conv::forward(on, on.view(&x), on.view(&weight), convolution)?;
                let dx = conv::backward(on, on.view(&dy), on.view(&weight), convolution)?;
                Ok(vec![y, dx])
            })?;
        }
    }
    Ok(())
}
