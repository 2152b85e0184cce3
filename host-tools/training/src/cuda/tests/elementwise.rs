//! Scale and shift, activations, the sum and `PRelu`.

use super::compare::{ACTIVATIONS, MAPS, check, on_the_cpu, values};
use super::compiled::Compiled;
use crate::cuda::arguments::Act;
use crate::cuda::backend::Backend as _;
use crate::cuda::elementwise;
use crate::ops;
use candle_core::Result;

pub(super) fn compare(compiled: &mut Compiled) -> Result<()> {
    for map in MAPS {
        let (c, count) = (map.c, map.len());
        let flat = [map.n, c, map.h, map.w];
        let (x, dy) = (values(count, 1), values(count, 99));
        let (scale, shift) = (values(c, 3), values(c, 4));
        let [vx, vdy, vscale, vshift] = [&x, &dy, &scale, &shift].map(|values| Compiled::buffer(values));
        for activation in ACTIVATIONS {
            let act = Act::new(activation).expect("a known activation");
            let name = format!("{map:?} {activation:?}");
            let arguments: [(&[usize], &[f32]); 3] = [(&flat, &x), (&[c], &scale), (&[c], &shift)];
            let expected = on_the_cpu(&arguments, |v| ops::scale_shift(&v[0], &v[1], &v[2], activation))?;
            check(&format!("affine {name}"), compiled, &expected, |on| {
                let [x, dy, scale, shift] = [&vx, &vdy, &vscale, &vshift].map(|buffer| on.view(buffer));
                let y = elementwise::affine(on, x, scale, shift, act, map)?;
                let dx = elementwise::affine_input(on, x, dy, scale, shift, act, map)?;
                let [ds, db] = elementwise::affine_sums(on, x, dy, scale, shift, act, map)?;
                Ok(vec![y, dx, ds, db])
            })?;
            let other = values(count, 5);
            let arguments: [(&[usize], &[f32]); 2] = [(&flat, &x), (&flat, &other)];
            let expected = on_the_cpu(&arguments, |v| ops::add_activation(&v[0], &v[1], activation))?;
            let vother = Compiled::buffer(&other);
            check(&format!("add {name}"), compiled, &expected[..2], |on| {
                let [a, b, dy] = [&vx, &vother, &vdy].map(|buffer| on.view(buffer));
                let y = elementwise::add(on, a, b, act, count)?;
                Ok(vec![y, elementwise::add_input(on, a, b, dy, act, count)?])
            })?;
            let Some(activation) = activation else { continue };
            let expected = on_the_cpu(&[(&flat, &x)], |v| ops::activation(&v[0], activation))?;
            check(&format!("activation {name}"), compiled, &expected, |on| {
                let (x, dy) = (on.view(&vx), on.view(&vdy));
                let y = elementwise::activate(on, x, act, count)?;
                Ok(vec![y, elementwise::activate_input(on, x, dy, act, count)?])
            })?;
        }
        let arguments: [(&[usize], &[f32]); 2] = [(&flat, &x), (&[c], &scale)];
        let expected = on_the_cpu(&arguments, |v| ops::prelu(&v[0], &v[1]))?;
        check(&format!("prelu {map:?}"), compiled, &expected, |on| {
            let (x, slope, dy) = (on.view(&vx), on.view(&vscale), on.view(&vdy));
            let y = elementwise::prelu(on, x, slope, map)?;
            let dx = elementwise::prelu_input(on, x, slope, dy, map)?;
            Ok(vec![y, dx, elementwise::prelu_sums(on, x, dy, map)?])
        })?;
    }
    Ok(())
}
