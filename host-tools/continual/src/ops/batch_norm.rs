//! Batch normalisation.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use clr_learning::ChannelStatistics;
use rayon::prelude::*;

use super::{
    slices::{contiguous, with_values},
    vectors::{centred_dot, norm_gradient, normalise, sum, sum_of_squares},
};

/// Computes `gamma · (x − μ) / √(σ² + epsilon) + beta` (ONNX `BatchNormalization`): x `[N, C, H, W]`, gamma and beta
/// `[C]`. The statistics are `fixed` ones, or without them those of this batch, which are returned. Gradients: all
/// three, through the batch's statistics.
///
/// # Errors
/// Returns candle's error if the sizes differ, or if statistics of a batch are those of one value.
pub fn batch_norm(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    epsilon: f32,
    fixed: Option<&ChannelStatistics>,
) -> Result<(Tensor, ChannelStatistics)> {
    let (images, channels, rows, columns) = x.dims4()?;
    for vector in [gamma, beta] {
        if vector.dims() != [channels] {
            candle_core::bail!(
                "batch norm: expected vectors of {channels} channels, got {:?}",
                vector.dims()
            );
        }
    }
    let count = images * rows * columns;
    if fixed.is_none() && count < 2 {
        candle_core::bail!("batch norm: the statistics of a batch need at least two values per channel, got {count}");
    }
    if !x.device().is_cpu() {
        return on_gpu(x, [gamma, beta], epsilon, fixed);
    }
    let used = Arc::new(OnceLock::new());
    let op = BatchNorm {
        epsilon,
        fixed: fixed.cloned(),
        used: Arc::clone(&used),
    };
    let y = x
        .contiguous()?
        .apply_op3(&gamma.contiguous()?, &beta.contiguous()?, op)?;
    match used.get() {
        Some(statistics) => Ok((y, statistics.clone())),
        None => candle_core::bail!("batch norm: the forward pass gave no statistics"),
    }
}

/// The same on a GPU.
fn on_gpu(
    x: &Tensor,
    [gamma, beta]: [&Tensor; 2],
    epsilon: f32,
    fixed: Option<&ChannelStatistics>,
) -> Result<(Tensor, ChannelStatistics)> {
    let Some(fixed) = fixed else {
        return clr_training::ops::batch_norm(x, gamma, beta, epsilon, None);
    };
    let channels = fixed.mean.len();
    let vector = |values: &[f32]| Tensor::from_slice(values, (1, channels, 1, 1), x.device());
    let per_channel = |vector: &Tensor| vector.reshape((1, channels, 1, 1));
    let normal = x
        .broadcast_sub(&vector(&fixed.mean)?)?
        .broadcast_div(&(vector(&fixed.variance)? + f64::from(epsilon))?.sqrt()?)?;
    let y = normal
        .broadcast_mul(&per_channel(gamma)?)?
        .broadcast_add(&per_channel(beta)?)?;
    Ok((y, fixed.clone()))
}

/// A norm on the CPU, as an operator of candle's graph.
struct BatchNorm {
    epsilon: f32,
    fixed: Option<ChannelStatistics>,
    /// Set by the forward pass.
    used: Arc<OnceLock<ChannelStatistics>>,
}

/// The planes of one channel in all images.
struct Planes<'a> {
    values: &'a [f32],
    channels: usize,
    plane: usize,
}

impl<'a> Planes<'a> {
    fn new(values: &'a [f32], (_, channels, rows, columns): (usize, usize, usize, usize)) -> Self {
        Self {
            values,
            channels,
            plane: rows * columns,
        }
    }

    fn of(&self, channel: usize) -> impl Iterator<Item = &'a [f32]> {
        let planes = self.values.chunks_exact(self.plane);
        planes.skip(channel).step_by(self.channels)
    }
}

impl BatchNorm {
    /// Computes mean and biased variance.
    fn statistics(x: &Planes<'_>, count: usize) -> ChannelStatistics {
        let moments = (0..x.channels).into_par_iter().map(|channel| {
            let all: f64 = x.of(channel).map(|x| f64::from(sum(x))).sum();
            let mean = (all / count as f64) as f32;
            let squares: f64 = x.of(channel).map(|x| f64::from(sum_of_squares(x, mean))).sum();
            (mean, (squares / count as f64) as f32)
        });
        let (mean, variance) = moments.unzip();
        ChannelStatistics { mean, variance, count }
    }

    /// Returns `1 / √(σ² + ε)` of a channel.
    fn inverse(&self, statistics: &ChannelStatistics, channel: usize) -> f32 {
        1.0 / (statistics.variance[channel] + self.epsilon).sqrt()
    }

    fn forward(
        &self,
        x: &[f32],
        gamma: &[f32],
        beta: &[f32],
        plane: usize,
        statistics: &ChannelStatistics,
    ) -> Vec<f32> {
        let channels = gamma.len();
        let mut y = vec![0.0; x.len()];
        let planes = y.par_chunks_mut(plane).zip(x.par_chunks(plane));
        planes.enumerate().for_each(|(index, (y, x))| {
            let channel = index % channels;
            let scale = gamma[channel] * self.inverse(statistics, channel);
            normalise(y, x, statistics.mean[channel], scale, beta[channel]);
        });
        y
    }

    /// Returns the gradients of x, gamma and beta.
    fn backward(
        &self,
        x: &Planes<'_>,
        dy: &Planes<'_>,
        gamma: &[f32],
        statistics: &ChannelStatistics,
    ) -> [Vec<f32>; 3] {
        let sums = (0..x.channels).into_par_iter().map(|channel| {
            let mean = statistics.mean[channel];
            let inverse = f64::from(self.inverse(statistics, channel));
            let beta: f64 = dy.of(channel).map(|dy| f64::from(sum(dy))).sum();
            let pairs = x.of(channel).zip(dy.of(channel));
            let gamma: f64 = pairs.map(|(x, dy)| f64::from(centred_dot(x, mean, dy))).sum();
            ((gamma * inverse) as f32, beta as f32)
        });
        let (d_gamma, d_beta): (Vec<f32>, Vec<f32>) = sums.unzip();
        let mut dx = vec![0.0; x.values.len()];
        let planes = dx.par_chunks_mut(x.plane).zip(x.values.par_chunks(x.plane));
        let planes = planes.zip(dy.values.par_chunks(x.plane));
        planes.enumerate().for_each(|(index, ((dx, x_plane), dy))| {
            let channel = index % x.channels;
            let inverse = self.inverse(statistics, channel);
            let (mean, scale) = (statistics.mean[channel], gamma[channel] * inverse);
            // Of fixed statistics nothing depends on x.
            let per_value = if self.fixed.is_some() {
                0.0
            } else {
                1.0 / statistics.count as f32
            };
            let (offset, slope) = (d_beta[channel] * per_value, d_gamma[channel] * per_value * inverse);
            norm_gradient(dx, x_plane, dy, mean, scale, offset, slope);
        });
        [dx, d_gamma, d_beta]
    }
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        "batch norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        gamma: &CpuStorage,
        gamma_layout: &Layout,
        beta: &CpuStorage,
        beta_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let dims = x_layout.shape().dims4()?;
        let (_, channels, rows, columns) = dims;
        let values = contiguous(self.name(), x, x_layout)?;
        let gamma = contiguous(self.name(), gamma, gamma_layout)?;
        let beta = contiguous(self.name(), beta, beta_layout)?;
        let plane = rows * columns;
        let statistics = self.used.get_or_init(|| match &self.fixed {
            Some(fixed) => fixed.clone(),
            None => Self::statistics(&Planes::new(values, dims), values.len() / channels.max(1)),
        });
        let y = self.forward(values, gamma, beta, plane.max(1), statistics);
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dims = x.dims4()?;
        let Some(statistics) = self.used.get() else {
            candle_core::bail!("batch norm: the backward pass came before the forward pass");
        };
        let [dx, d_gamma, d_beta] = with_values(self.name(), x, |x| {
            with_values(self.name(), dy, |dy| {
                with_values(self.name(), gamma, |gamma| {
                    Ok(self.backward(&Planes::new(x, dims), &Planes::new(dy, dims), gamma, statistics))
                })
            })
        })?;
        let of = |values: Vec<f32>, like: &Tensor| {
            let tensor = like
                .track_op()
                .then(|| Tensor::from_vec(values, like.shape(), like.device()));
            tensor.transpose()
        };
        Ok((of(dx, x)?, of(d_gamma, gamma)?, of(d_beta, beta)?))
    }
}
