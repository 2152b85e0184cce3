//! Pools, and special values in pools and activations.

use super::compare::{MAPS, check, on_the_cpu, shape, values};
use super::compiled::Compiled;
use crate::cuda::arguments::Act;
use crate::cuda::backend::Backend as _;
use crate::cuda::{elementwise, pool};
use crate::ops;
use crate::sizes::Map;
use crate::sizes::PoolWindow;
use candle_core::Result;
use clr_onnx::{Activation, Padding, Pool};

pub(super) fn compare(compiled: &mut Compiled) -> Result<()> {
    for (map, kernel, stride, pads, ceil) in [
        ([2, 3, 7, 9], [3, 3], [2, 2], [1, 1, 1, 1], false),
        ([2, 3, 8, 6], [2, 2], [2, 2], [0, 0, 0, 0], false),
        ([1, 2, 8, 9], [3, 3], [2, 2], [0, 0, 0, 0], true),
        ([3, 2, 15, 14], [3, 2], [1, 3], [1, 0, 0, 1], false),
        ([1, 2, 6, 6], [2, 2], [3, 3], [1, 1, 1, 1], true),
    ] {
        let [n, c, h, w] = map;
        let from = Map { n, c, h, w };
        let x = values(from.len(), 1);
        for count_pad in [false, true] {
            let name = format!("{map:?} {kernel:?} / {stride:?} pads {pads:?} ceil {ceil} count {count_pad}");
            let window = PoolWindow {
                kernel,
                stride,
                pads,
                ceil,
                count_pad,
            };
            let given = Pool {
                kernel,
                stride,
                padding: Padding::Explicit(pads),
                ceil,
                count_include_pad: count_pad,
            };
            let [oh, ow] = window.output([h, w]).expect("a window that fits");
            let to = Map { h: oh, w: ow, ..from };
            let (vx, vdy) = (Compiled::buffer(&x), Compiled::buffer(&values(to.len(), 99)));
            let expected = on_the_cpu(&[(&map, &x)], |v| ops::max_pool(&v[0], &given))?;
            check(&format!("max {name}"), compiled, &expected, |on| {
                let (y, _) = pool::max(on, on.view(&vx), from, window, to)?;
                Ok(vec![
                    y,
                    pool::max_input(on, on.view(&vx), on.view(&vdy), from, window, to)?,
                ])
            })?;
            let expected = on_the_cpu(&[(&map, &x)], |v| ops::average_pool(&v[0], &given))?;
            check(&format!("average {name}"), compiled, &expected, |on| {
                let y = pool::average(on, on.view(&vx), from, window, to)?;
                Ok(vec![y, pool::average_input(on, on.view(&vdy), from, window, to)?])
            })?;
        }
    }
    for map in MAPS {
        let x = values(map.len(), 1);
        let (vx, vdy) = (Compiled::buffer(&x), Compiled::buffer(&values(map.n * map.c, 99)));
        let expected = on_the_cpu(&[(&shape(map), &x)], |v| ops::global_average_pool(&v[0]))?;
        check(&format!("global {map:?}"), compiled, &expected, |on| {
            let y = pool::global(on, on.view(&vx), map)?;
            Ok(vec![y, pool::global_input(on, on.view(&vdy), map)?])
        })?;
    }
    Ok(())
}

/// Checks that NaN is propagated, and that a window of −∞ has the maximum −∞.
pub(super) fn special_values(compiled: &mut Compiled) -> Result<()> {
    let map = Map { n: 1, c: 1, h: 4, w: 5 };
    let mut x = values(map.len(), 1);
    x[7] = f32::NAN;
    for i in [12, 13, 14, 17, 18, 19] {
        x[i] = f32::NEG_INFINITY;
    }
    let vx = Compiled::buffer(&x);
    let act = Act::new(Some(Activation::Relu)).expect("a known activation");
    // Candle's own maximum drops a NaN. The kernels keep it, so that a broken input is noticed.
    let rectified = x.iter().map(|&x| if x < 0.0 { 0.0 } else { x }).collect();
    check("special activation", compiled, &[rectified], |on| {
        Ok(vec![elementwise::activate(on, on.view(&vx), act, map.len())?])
    })?;
    let window = PoolWindow {
        kernel: [2; 2],
        stride: [1; 2],
        pads: [0; 4],
        ceil: false,
        count_pad: false,
    };
    let to = Map { h: 3, w: 4, ..map };
    let dy = values(to.len(), 99);
    let (mut largest, mut dx) = (Vec::new(), vec![0.0; map.len()]);
    for (at, dy) in dy.iter().enumerate() {
        let first = at / to.w * map.w + at % to.w;
        // Of equal values, the first one is the maximum. NaN is always the maximum.
        let wins = |best: usize, place: usize| {
            let better = x[place] > x[best] || x[place].is_nan() && !x[best].is_nan();
            if better { place } else { best }
        };
        let winner = [first, first + 1, first + map.w, first + map.w + 1]
            .into_iter()
            .reduce(wins)
            .expect("four places");
        largest.push(x[winner]);
        dx[winner] += dy;
    }
    let expected = [largest, dx];
    let vdy = Compiled::buffer(&dy);
    check("special maximum", compiled, &expected, |on| {
        let (y, _) = pool::max(on, on.view(&vx), map, window, to)?;
        Ok(vec![
            y,
            pool::max_input(on, on.view(&vx), on.view(&vdy), map, window, to)?,
        ])
    })
}
