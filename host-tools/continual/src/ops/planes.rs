//! A value per plane of a map, added or multiplied. candle's own gradients of these are slow sums over several axes.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{
    slices::{contiguous, with_values},
    vectors::{dot, scale, shift, sum},
};

/// Adds a bias `[C]` to `x` `[N, C, H, W]`. Gradients: both.
///
/// # Errors
/// Returns candle's error if the sizes differ.
pub fn add_bias(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (_, channels, _, _) = x.dims4()?;
    if bias.dims() != [channels] {
        candle_core::bail!("bias: expected {channels} values, got {:?}", bias.dims());
    }
    if x.device().is_cpu() {
        return x.contiguous()?.apply_op2(&bias.contiguous()?, AddBias);
    }
    x.broadcast_add(&bias.reshape((1, channels, 1, 1))?)
}

/// Multiplies the planes of `x` `[N, C, H, W]` with `factor` `[N, C, 1, 1]`. Gradients: both.
///
/// # Errors
/// Returns candle's error if the sizes differ.
pub fn scale_planes(x: &Tensor, factor: &Tensor) -> Result<Tensor> {
    let (images, channels, _, _) = x.dims4()?;
    if factor.dims() != [images, channels, 1, 1] {
        candle_core::bail!(
            "factors: expected {:?}, got {:?}",
            [images, channels, 1, 1],
            factor.dims()
        );
    }
    if x.device().is_cpu() {
        return x.contiguous()?.apply_op2(&factor.contiguous()?, ScalePlanes);
    }
    x.broadcast_mul(factor)
}

/// Returns the values of a plane of `[N, C, H, W]`.
fn plane(shape: &Shape) -> Result<usize> {
    let (_, _, rows, columns) = shape.dims4()?;
    Ok((rows * columns).max(1))
}

struct AddBias;

impl CustomOp2 for AddBias {
    fn name(&self) -> &'static str {
        "bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let plane = plane(x_layout.shape())?;
        let mut y = contiguous(self.name(), x, x_layout)?.to_vec();
        let bias = contiguous(self.name(), bias, bias_layout)?;
        let planes = y.par_chunks_mut(plane).enumerate();
        planes.for_each(|(index, y)| shift(y, bias[index % bias.len()]));
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, bias: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (channels, plane) = (bias.elem_count(), plane(x.shape())?);
        let d_bias = with_values(self.name(), dy, |dy| {
            let sums = (0..channels).into_par_iter().map(|channel| {
                let planes = dy.chunks_exact(plane).skip(channel).step_by(channels);
                planes.map(|dy| f64::from(sum(dy))).sum::<f64>() as f32
            });
            Ok(sums.collect::<Vec<_>>())
        })?;
        Ok((
            x.track_op().then(|| dy.clone()),
            Some(Tensor::from_vec(d_bias, bias.shape(), bias.device())?),
        ))
    }
}

struct ScalePlanes;

impl ScalePlanes {
    /// Returns planes times factors.
    fn scaled(x: &[f32], factor: &[f32], plane: usize) -> Vec<f32> {
        let mut y = x.to_vec();
        let planes = y.par_chunks_mut(plane).zip(factor);
        planes.for_each(|(y, factor)| scale(y, *factor));
        y
    }
}

impl CustomOp2 for ScalePlanes {
    fn name(&self) -> &'static str {
        "factors of planes"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        factor: &CpuStorage,
        factor_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = contiguous(self.name(), x, x_layout)?;
        let factor = contiguous(self.name(), factor, factor_layout)?;
        let y = Self::scaled(x, factor, plane(x_layout.shape())?);
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, factor: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let plane = plane(x.shape())?;
        with_values(self.name(), dy, |dy| {
            let dx = with_values(self.name(), factor, |factor| Ok(Self::scaled(dy, factor, plane)))?;
            let d_factor = with_values(self.name(), x, |x| {
                let planes = x.par_chunks(plane).zip(dy.par_chunks(plane));
                Ok(planes.map(|(x, dy)| dot(x, dy)).collect::<Vec<_>>())
            })?;
            Ok((
                Some(Tensor::from_vec(dx, x.shape(), x.device())?),
                Some(Tensor::from_vec(d_factor, factor.shape(), factor.device())?),
            ))
        })
    }
}
