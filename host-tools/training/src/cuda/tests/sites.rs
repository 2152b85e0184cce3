//! The CLR layer and the norms.

use super::compare::{ACTIVATIONS, MAPS, check, on_the_cpu, shape, values};
use super::compiled::Compiled;
use crate::cuda::arguments::Act;
use crate::cuda::backend::Backend as _;
use crate::cuda::site::Wanted;
use crate::cuda::{norm, site};
use crate::ops;
use candle_core::Result;

pub(super) fn compare(compiled: &mut Compiled) -> Result<()> {
    const EPSILON: f32 = 1e-3;
    let wanted = Wanted { x: true, weights: true };
    for map in MAPS {
        let c = map.c;
        let (flat, taps) = (shape(map), [c, 1, 3, 3]);
        let (x, kernel, gamma, beta) = (values(map.len(), 1), values(9 * c, 2), values(c, 3), values(c, 4));
        let [vx, vdy, vkernel, vgamma, vbeta] =
            [&x, &values(map.len(), 99), &kernel, &gamma, &beta].map(|values| Compiled::buffer(values));
        let arguments: [(&[usize], &[f32]); 2] = [(&flat, &x), (&taps, &kernel)];
        let expected = on_the_cpu(&arguments, |v| ops::clr_depthwise(&v[0], &v[1]))?;
        check(&format!("depthwise {map:?}"), compiled, &expected, |on| {
            let (x, dy, kernel) = (on.view(&vx), on.view(&vdy), on.view(&vkernel));
            let y = site::forward(on, x, kernel, None, Act::default(), map)?;
            let gradients = site::backward(on, x, kernel, None, Act::default(), dy, map, wanted)?;
            let [dk, _] = gradients.weights.expect("weights");
            Ok(vec![y, gradients.x.expect("x"), dk])
        })?;
        for activation in ACTIVATIONS {
            let act = Act::new(activation).expect("a known activation");
            let name = format!("{map:?} {activation:?}");
            let arguments: [(&[usize], &[f32]); 3] = [(&flat, &x), (&taps, &kernel), (&[c], &beta)];
            let expected = on_the_cpu(&arguments, |v| ops::clr_site(&v[0], &v[1], &v[2], activation))?;
            check(&format!("site {name}"), compiled, &expected, |on| {
                let [x, dy, kernel, bias] = [&vx, &vdy, &vkernel, &vbeta].map(|buffer| on.view(buffer));
                let y = site::forward(on, x, kernel, Some(bias), act, map)?;
                let gradients = site::backward(on, x, kernel, Some(bias), act, dy, map, wanted)?;
                let [dk, db] = gradients.weights.expect("weights");
                Ok(vec![y, gradients.x.expect("x"), dk, db])
            })?;

            let arguments: [(&[usize], &[f32]); 3] = [(&flat, &x), (&[c], &gamma), (&[c], &beta)];
            let mut statistics = None;
            let mut expected = on_the_cpu(&arguments, |v| {
                let (y, batch) = ops::batch_norm(&v[0], &v[1], &v[2], EPSILON, activation)?;
                statistics = Some(batch);
                Ok(y)
            })?;
            joined(&mut expected, statistics);
            check(&format!("norm {name}"), compiled, &expected, |on| {
                let [x, dy, gamma, beta] = [&vx, &vdy, &vgamma, &vbeta].map(|buffer| on.view(buffer));
                let normal = norm::forward(on, x, [gamma, beta], EPSILON, act, map)?;
                let statistics = [on.view(&normal.mean), on.view(&normal.variance)];
                let (dx, sums) = norm::backward(on, x, dy, [gamma, beta], statistics, EPSILON, act, map)?;
                Ok(vec![normal.y, dx, sums, normal.mean, normal.variance])
            })?;

            let arguments: [(&[usize], &[f32]); 4] = [(&flat, &x), (&taps, &kernel), (&[c], &gamma), (&[c], &beta)];
            let mut statistics = None;
            let mut expected = on_the_cpu(&arguments, |v| {
                let (y, batch) = ops::clr_batch_norm(&v[0], &v[1], &v[2], &v[3], EPSILON, activation)?;
                statistics = Some(batch);
                Ok(y)
            })?;
            joined(&mut expected, statistics);
            check(&format!("site norm {name}"), compiled, &expected, |on| {
                let [x, dy, kernel, gamma, beta] = [&vx, &vdy, &vkernel, &vgamma, &vbeta].map(|buffer| on.view(buffer));
                let normal = site::norm_forward(on, x, kernel, [gamma, beta], EPSILON, act, map)?;
                let statistics = [on.view(&normal.mean), on.view(&normal.variance)];
                let affine = [gamma, beta];
                let (gradients, sums) =
                    site::norm_backward(on, x, dy, kernel, affine, statistics, EPSILON, act, map, wanted)?;
                let [dk, _] = gradients.weights.expect("weights");
                let dx = gradients.x.expect("x");
                Ok(vec![normal.y, dx, dk, sums, normal.mean, normal.variance])
            })?;
        }
    }
    Ok(())
}

/// Joins the gradients of gamma and beta as one table, and appends the statistics.
fn joined(expected: &mut Vec<Vec<f32>>, statistics: Option<clr_learning::ChannelStatistics>) {
    let beta = expected.pop().expect("a gradient of beta");
    expected.last_mut().expect("a gradient of gamma").extend(beta);
    let statistics = statistics.expect("statistics");
    expected.extend([statistics.mean, statistics.variance]);
}
