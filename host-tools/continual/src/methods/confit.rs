//! `ConFiT` (Jie et al. 2022): fine-tuning in phases, and norms whose means are corrected for the shift of the weights
//! before them.

use std::cell::RefCell;

use candle_core::Tensor;

use super::{Batch, Method, Task, Trained, eval_features, train_features};
use crate::{
    error::Result,
    learner::Cost,
    loss::cross_entropy,
    model::Model,
    network::{ConvLayer, Mode, NoTransform, Norms, Transform},
    ops::conv,
    optimiser::OptimiserKind,
    saved::{Kept, check},
};

/// Weight of a new batch in the running means.
const MOMENTUM: f32 = 0.1;

/// Training: a task trains the head for the first fifth of its epochs, then norms as well until the half, then everything, by
/// plain SGD. Norms are kept per task. To classify an image of an older task, the mean of each norm is replaced by the mean of the
/// convolution before it, as it is today, on an input that has the old task's mean in every pixel.
pub struct Confit {
    /// Learning rate.
    pub rate: f32,
    /// Means of the inputs of the convolutions before a norm, while a task is trained.
    current: InputMeans,
    /// Those of finished tasks.
    finished: Vec<Vec<Option<InputMean>>>,
}

/// Mean of a convolution's input, per channel and per phase of the stride: `[rows' phases · columns' phases][C]`.
#[derive(Clone, Debug, PartialEq)]
struct InputMean {
    phases: Vec<Vec<f32>>,
    /// Rows and columns of the input.
    size: [usize; 2],
}

/// Collects the means of inputs.
#[derive(Default)]
struct InputMeans {
    layers: Vec<ConvLayer>,
    means: RefCell<Vec<Option<InputMean>>>,
}

impl InputMeans {
    fn new(layers: &[ConvLayer]) -> Self {
        Self {
            means: RefCell::new(vec![None; layers.len()]),
            layers: layers.to_vec(),
        }
    }
}

impl Transform for InputMeans {
    fn input(&self, conv: usize, x: &Tensor, mode: Mode) -> candle_core::Result<()> {
        let layer = &self.layers[conv];
        if mode != Mode::Train || layer.norm.is_none() {
            return Ok(());
        }
        let phases = phase_means(x, layer.options.stride)?;
        let (_, _, rows, columns) = x.dims4()?;
        let mut means = self.means.borrow_mut();
        let size = [rows, columns];
        let Some(mean) = &mut means[conv] else {
            means[conv] = Some(InputMean { phases, size });
            return Ok(());
        };
        mean.size = size;
        for (running, new) in mean.phases.iter_mut().flatten().zip(phases.iter().flatten()) {
            *running = (1.0 - MOMENTUM) * *running + MOMENTUM * new;
        }
        Ok(())
    }
}

/// Returns the mean per channel of each phase of the stride.
fn phase_means(x: &Tensor, stride: [usize; 2]) -> candle_core::Result<Vec<Vec<f32>>> {
    let (images, channels, rows, columns) = x.dims4()?;
    let values: Vec<f32> = x.flatten_all()?.to_vec1()?;
    let phases = stride[0] * stride[1];
    let (mut sums, mut counts) = (vec![vec![0.0_f64; channels]; phases], vec![0_usize; phases]);
    for (plane, values) in values.chunks_exact(rows * columns).enumerate() {
        for (row, values) in values.chunks_exact(columns).enumerate() {
            for (column, value) in values.iter().enumerate() {
                let phase = row % stride[0] * stride[1] + column % stride[1];
                sums[phase][plane % channels] += f64::from(*value);
                counts[phase] += usize::from(plane == 0);
            }
        }
    }
    let mean = |(sums, count): (Vec<f64>, usize)| {
        let count = (count * images).max(1) as f64;
        sums.into_iter().map(|sum| (sum / count) as f32).collect()
    };
    Ok(sums.into_iter().zip(counts).map(mean).collect())
}

impl InputMean {
    /// Returns a map `[1, C, H, W]` that has the mean of its phase in each pixel.
    fn map(&self, stride: [usize; 2], model: &Model) -> Result<Tensor> {
        let [rows, columns] = self.size;
        let channels = self.phases.first().map_or(0, Vec::len);
        let mut values = Vec::with_capacity(channels * rows * columns);
        for channel in 0..channels {
            for row in 0..rows {
                let phase = |column: usize| row % stride[0] * stride[1] + column % stride[1];
                values.extend((0..columns).map(|column| self.phases[phase(column)][channel]));
            }
        }
        Ok(Tensor::from_vec(values, (1, channels, rows, columns), &model.device)?)
    }
}

impl Confit {
    /// Creates the method with its learning rate.
    pub fn new(rate: f32) -> Self {
        Self {
            rate,
            current: InputMeans::default(),
            finished: Vec::new(),
        }
    }

    /// Returns the norms of an older task, with the means that today's weights give for its inputs.
    fn corrected(&self, model: &Model, task: usize) -> Result<Norms> {
        let mut norms = model.norms[task].clone();
        for (index, (layer, mean)) in model.structure.convs().iter().zip(&self.finished[task]).enumerate() {
            let (Some(norm), Some(mean)) = (layer.norm, mean) else {
                continue;
            };
            let x = mean.map(layer.options.stride, model)?;
            let y = conv(&x, &model.weights.conv(index).detach(), layer.options)?;
            let mut means: Vec<f32> = y.mean((2, 3))?.flatten_all()?.to_vec1()?;
            if let Some(bias) = model.weights.bias(index) {
                let bias: Vec<f32> = bias.to_vec1()?;
                means.iter_mut().zip(bias).for_each(|(mean, bias)| *mean += bias);
            }
            norms.running_mut()[norm].mean = means;
        }
        Ok(norms)
    }
}

impl Method for Confit {
    fn name(&self) -> &'static str {
        "confit"
    }

    fn begin(&mut self, model: &mut Model, task: &Task<'_>) -> Result<()> {
        super::push_head(model, task)?;
        if task.index == 0 {
            self.current = InputMeans::new(model.structure.convs());
        } else {
            model.norms.push(model.norms[task.index - 1].copied()?);
        }
        Ok(())
    }

    fn trained(&self, model: &Model, task: &Task<'_>, epoch: usize, epochs: usize) -> Trained {
        let plain = OptimiserKind::Sgd {
            momentum: 0.0,
            decay: 0.0,
        };
        let mut variables = model.heads[task.index].variables();
        if epoch >= epochs / 5 {
            variables.extend(model.norms[task.index].variables());
        }
        if epoch >= epochs / 2 {
            variables.extend(model.weights.variables());
        }
        Trained::all(variables, plain, self.rate)
    }

    fn loss(&mut self, model: &mut Model, task: &Task<'_>, batch: &Batch<'_>) -> Result<Tensor> {
        let features = train_features(model, task.index, &self.current, &batch.x)?;
        cross_entropy(&model.heads[task.index].logits(&features)?, &batch.labels)
    }

    #[cfg(test)]
    fn step_state(&self) -> Result<crate::Vectors> {
        let means = self.current.means.borrow();
        Ok(means.iter().flatten().map(|mean| mean.phases.concat()).collect())
    }

    fn end(&mut self, _: &mut Model, _: &Task<'_>) -> Result<()> {
        self.finished.push(self.current.means.borrow().clone());
        Ok(())
    }

    fn norms(&self, task: usize) -> usize {
        task
    }

    /// The newest task is not corrected: its means are those of today's weights.
    fn features(&self, model: &Model, task: usize, x: &Tensor) -> Result<Tensor> {
        if task + 1 >= model.heads.len() {
            return eval_features(model, task, &NoTransform, x);
        }
        let norms = self.corrected(model, task)?;
        let features = model
            .structure
            .forward(&model.weights, &norms, &NoTransform, Mode::Eval, x)?;
        Ok(features.values)
    }

    /// Per task and convolution: the number of phases (0 without a norm), and rows and columns of the input.
    fn save(&self) -> Result<Kept> {
        let mut kept = Kept::default();
        for mean in self.finished.iter().flatten() {
            let [rows, columns] = mean.as_ref().map_or([0, 0], |mean| mean.size);
            let phases = mean.as_ref().map_or(0, |mean| mean.phases.len());
            kept.numbers.extend([phases, rows, columns].map(|number| number as u64));
            kept.vectors.extend(mean.iter().flat_map(|mean| mean.phases.clone()));
        }
        Ok(kept)
    }

    fn restore(&mut self, start: &Model, tasks: usize, _: u64, kept: Kept) -> Result<()> {
        let layers = start.structure.convs();
        check("sizes of inputs", 3 * tasks * layers.len(), kept.numbers.len())?;
        let mut vectors = kept.vectors.into_iter();
        let means = kept.numbers.chunks_exact(3).map(|numbers| {
            let [phases, rows, columns] = [0, 1, 2].map(|index| numbers[index] as usize);
            (phases > 0).then(|| InputMean {
                phases: vectors.by_ref().take(phases).collect(),
                size: [rows, columns],
            })
        });
        let means: Vec<Option<InputMean>> = means.collect();
        self.finished = means.chunks(layers.len().max(1)).map(<[_]>::to_vec).collect();
        self.current = InputMeans::new(layers);
        if let Some(last) = self.finished.last() {
            self.current.means.borrow_mut().clone_from(last);
        }
        Ok(())
    }

    fn cost(&self, model: &Model) -> Cost {
        let means = self
            .finished
            .iter()
            .flatten()
            .flatten()
            .map(|mean| mean.phases.iter().map(Vec::len).sum::<usize>());
        let tasks = self.finished.len().max(1) as f64;
        Cost {
            values: 4.0 * model.norm_channels() as f64 + means.sum::<usize>() as f64 / tasks,
            // Of eight epochs, one trains the head, three the norms and four everything.
            training_passes: (1.0 + 3.0 * 2.0 + 4.0 * 3.0) / 8.0,
            ..Cost::default()
        }
    }
}
