//! Calibrating CNNs for lifelong learning (Singh et al. 2020): a spatial and a channel-wise calibration after every
//! convolution of a network that the first task has trained.
//!
//! The group sizes are not given in the sources that were available. Both calibrations are depthwise here, twelve values per
//! channel.

use std::cell::RefCell;

use candle_core::{Device, Tensor, Var};
use clr_learning::ChannelStatistics;
use clr_onnx::Padding;
use clr_training::ops::ConvOptions;

use super::{Batch, Method, Task, Trained, eval_features, sgd::everything, train_features};
use crate::{
    error::Result,
    gradients::{set_values, values},
    learner::Cost,
    loss::cross_entropy,
    model::Model,
    network::{Mode, RunningStatistics, Transform},
    ops::{batch_norm, conv, scale_planes},
    optimiser::OptimiserKind,
    saved::{Kept, check},
};

/// ε of the norm in the channel-wise calibration (PyTorch's default).
const EPSILON: f32 = 1e-5;

/// Learning rates of tasks after the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LaterRates {
    /// Of kernels, factors, and scales and biases of gates.
    pub calibrations: f32,
    /// Of the network's norms.
    pub norms: f32,
    /// Of the head.
    pub head: f32,
}

/// Forward pass: `F¹ = F + conv3×3(F)`, then `a = 2 · sigmoid(norm(w · mean(F¹)))` and `F² = a · F¹`, between each convolution and
/// its norm. It starts as the identity: kernel 0, and scale and bias of the norm 0.
pub struct Ccll {
    /// Learning rate of the network in the first task.
    pub first_rate: f32,
    /// Learning rates of later tasks, by Adam.
    pub later: LaterRates,
    tasks: Vec<Calibrations>,
}

impl Ccll {
    /// Creates the method with the learning rates of the first task and of later ones.
    pub fn new(first_rate: f32, later: LaterRates) -> Self {
        Self {
            first_rate,
            later,
            tasks: Vec::new(),
        }
    }
}

/// The calibration after a convolution.
struct Calibration {
    /// `[C, 1, 3, 3]`.
    kernel: Var,
    /// w, `[C]`.
    factor: Var,
    /// Scale and bias of the norm, `[C]`.
    affine: [Var; 2],
    running: RunningStatistics,
}

impl Calibration {
    fn identity(channels: usize, device: &Device) -> Result<Self> {
        let vector = |value: f32| Var::from_vec(vec![value; channels], channels, device);
        Ok(Self {
            kernel: Var::zeros((channels, 1, 3, 3), candle_core::DType::F32, device)?,
            factor: vector(1.0)?,
            affine: [vector(0.0)?, vector(0.0)?],
            running: RunningStatistics {
                mean: vec![0.0; channels],
                variance: vec![1.0; channels],
            },
        })
    }

    fn apply(&self, y: &Tensor, mode: Mode) -> candle_core::Result<(Tensor, ChannelStatistics)> {
        let options = ConvOptions {
            stride: [1; 2],
            dilation: [1; 2],
            groups: y.dim(1)?,
            padding: Padding::Explicit([1; 4]),
        };
        let spatial = (y + conv(y, &self.kernel, options)?)?;
        let means = spatial.mean_keepdim((2, 3))?;
        let weighted = means.broadcast_mul(&self.factor.reshape((1, (), 1, 1))?)?;
        let fixed = (mode != Mode::Train).then(|| ChannelStatistics {
            mean: self.running.mean.clone(),
            variance: self.running.variance.clone(),
            count: 0,
        });
        let [scale, bias] = &self.affine;
        let (normal, statistics) = batch_norm(&weighted, scale, bias, EPSILON, fixed.as_ref())?;
        let gate = ((normal.neg()?.exp()? + 1.0)?.recip()? * 2.0)?;
        Ok((scale_planes(&spatial, &gate)?, statistics))
    }
}

/// The calibrations of a task.
struct Calibrations {
    each: Vec<Calibration>,
    /// Whether the network's weights do not change.
    frozen: bool,
    /// Statistics of the current batch.
    collected: RefCell<Vec<(usize, ChannelStatistics)>>,
}

impl Calibrations {
    fn identity(model: &Model, frozen: bool) -> Result<Self> {
        let convs = model.structure.convs().iter();
        let each = convs.map(|layer| Calibration::identity(layer.shape[0], &model.device));
        Ok(Self {
            each: each.collect::<Result<_>>()?,
            frozen,
            collected: RefCell::default(),
        })
    }

    fn variables(&self) -> impl Iterator<Item = Var> {
        self.each.iter().flat_map(|calibration| {
            let [scale, bias] = calibration.affine.clone();
            [calibration.kernel.clone(), calibration.factor.clone(), scale, bias]
        })
    }

    /// Moves the running statistics towards those of the batch.
    fn update(&mut self) {
        for (conv, statistics) in self.collected.take() {
            self.each[conv].running.update(&statistics, 0.1);
        }
    }
}

impl Transform for Calibrations {
    fn weight(&self, _: usize, weight: &Tensor) -> candle_core::Result<Tensor> {
        Ok(if self.frozen { weight.detach() } else { weight.clone() })
    }

    fn output(&self, conv: usize, y: Tensor, mode: Mode) -> candle_core::Result<Tensor> {
        let (y, statistics) = self.each[conv].apply(&y, mode)?;
        if mode == Mode::Train {
            self.collected.borrow_mut().push((conv, statistics));
        }
        Ok(y)
    }
}

impl Method for Ccll {
    fn name(&self) -> &'static str {
        "ccll"
    }

    fn begin(&mut self, model: &mut Model, task: &Task<'_>) -> Result<()> {
        super::push_head(model, task)?;
        if task.index > 0 {
            // Norms start as those of the network that the first task has trained.
            model.norms.push(model.norms[0].copied()?);
        }
        self.tasks.push(Calibrations::identity(model, task.index > 0)?);
        Ok(())
    }

    fn trained(&self, model: &Model, task: &Task<'_>, _: usize, _: usize) -> Trained {
        let own = self.tasks[task.index].variables();
        if task.index == 0 {
            return everything(model, 0, self.first_rate).and(own, self.first_rate);
        }
        Trained::all(
            model.norms[task.index].variables(),
            OptimiserKind::Adam,
            self.later.norms,
        )
        .and(model.heads[task.index].variables(), self.later.head)
        .and(own, self.later.calibrations)
    }

    fn loss(&mut self, model: &mut Model, task: &Task<'_>, batch: &Batch<'_>) -> Result<Tensor> {
        let own = &mut self.tasks[task.index];
        let features = train_features(model, task.index, own, &batch.x)?;
        own.update();
        cross_entropy(&model.heads[task.index].logits(&features)?, &batch.labels)
    }

    #[cfg(test)]
    fn step_state(&self) -> Result<crate::Vectors> {
        let Some(own) = self.tasks.last() else {
            return Ok(Vec::new());
        };
        let mut vectors = values(&own.variables().collect::<Vec<_>>())?;
        for RunningStatistics { mean, variance } in own.each.iter().map(|calibration| &calibration.running) {
            vectors.extend([mean.clone(), variance.clone()]);
        }
        Ok(vectors)
    }

    fn norms(&self, task: usize) -> usize {
        task
    }

    fn features(&self, model: &Model, task: usize, x: &Tensor) -> Result<Tensor> {
        eval_features(model, task, &self.tasks[task], x)
    }

    fn has_constant_logits(&self) -> bool {
        true
    }

    fn save(&self) -> Result<Kept> {
        let variables: Vec<Var> = self.tasks.iter().flat_map(Calibrations::variables).collect();
        let mut vectors = values(&variables)?;
        for calibration in self.tasks.iter().flat_map(|task| &task.each) {
            vectors.extend([calibration.running.mean.clone(), calibration.running.variance.clone()]);
        }
        Ok(Kept {
            vectors,
            ..Kept::default()
        })
    }

    fn restore(&mut self, start: &Model, tasks: usize, _: u64, kept: Kept) -> Result<()> {
        let own = (0..tasks).map(|task| Calibrations::identity(start, task > 0));
        self.tasks = own.collect::<Result<_>>()?;
        let variables: Vec<Var> = self.tasks.iter().flat_map(Calibrations::variables).collect();
        let statistics = 2 * tasks * start.structure.convs().len();
        check(
            "vectors of calibrations",
            variables.len() + statistics,
            kept.vectors.len(),
        )?;
        set_values(&variables, &kept.vectors)?;
        let mut vectors = kept.vectors.into_iter().skip(variables.len());
        for calibration in self.tasks.iter_mut().flat_map(|task| &mut task.each) {
            calibration.running.mean = vectors.next().unwrap_or_default();
            calibration.running.variance = vectors.next().unwrap_or_default();
        }
        Ok(())
    }

    fn cost(&self, model: &Model) -> Cost {
        let channels: usize = model.structure.convs().iter().map(|layer| layer.shape[0]).sum();
        Cost {
            // Kernel, factor, and the gate's norm with its statistics.
            values: (14 * channels + 4 * model.norm_channels()) as f64,
            training_passes: 2.0 + 3.0 * model.share_of_multiplications(|layer| 9 * layer.shape[0]),
            // It also trains the weights.
            first_task_passes: 1.0,
            ..Cost::default()
        }
    }
}
