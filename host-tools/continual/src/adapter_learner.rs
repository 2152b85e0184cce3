//! Adapters on a frozen backbone: `linear`, `bn`, `clr` and `clr-full`, by the project's own training.

use candle_core::Device;
use clr_adapters::{Recipe, SiteKind};
use clr_learning::{
    Adam, AdamOptions, Ema, Group, LabelledFeatures, LossFn, Network, Site, Snapshot, cross_entropy, fit_head,
    smoothed_target,
};
use clr_onnx::{Backbone, Op};
use clr_training::{Executor, LogisticOptions, Mode, Schedule, TrainError};
use serde::{Deserialize, Serialize};

use crate::{
    error::{ContinualError, Result},
    images::Images,
    learner::{Cost, Learner, LearnerOptions},
    saved::{check, decode, encode},
    task::Task,
};

/// Images whose features or logits are computed at once.
const CHUNK: usize = 50;

/// One adapter per task.
pub struct AdapterLearner {
    executor: Executor,
    recipe: Recipe,
    schedule: Schedule,
    /// Whether epochs and batches are those of the schedule in place of the run's.
    own_epochs: bool,
    /// A network without a task.
    base: Network,
    tasks: Vec<Network>,
}

impl AdapterLearner {
    /// Creates a learner with the run's epochs and the project's rates, without decay, smoothing, clipping and averages.
    ///
    /// # Errors
    /// [`ContinualError::Training`] if the network cannot be executed.
    pub fn new(backbone: &Backbone, recipe: Recipe, device: &Device) -> Result<Self> {
        let plain = Schedule {
            decay: clr_training::PerGroup::all(0.0),
            beta2: 0.999,
            smoothing: 0.0,
            clip: None,
            average: None,
            ..Schedule::default()
        };
        Self::with_schedule(backbone, recipe, device, plain, false)
    }

    /// Creates a learner with the project's default schedule.
    ///
    /// # Errors
    /// [`ContinualError::Training`] if the network cannot be executed.
    pub fn with_project_default(backbone: &Backbone, recipe: Recipe, device: &Device) -> Result<Self> {
        Self::with_schedule(backbone, recipe, device, Schedule::default(), true)
    }

    fn with_schedule(
        backbone: &Backbone,
        recipe: Recipe,
        device: &Device,
        schedule: Schedule,
        own_epochs: bool,
    ) -> Result<Self> {
        Ok(Self {
            executor: Executor::new(backbone, device)?,
            recipe,
            schedule,
            own_epochs,
            base: Network::new(backbone, recipe, 1, 0).map_err(TrainError::from)?,
            tasks: Vec::new(),
        })
    }

    /// Returns the multiplications of the recipe's kernels relative to those of the convolutions.
    fn share_of_kernels(&self) -> f64 {
        let backbone = self.base.backbone();
        let [height, width] = [backbone.preprocessing().height, backbone.preprocessing().width];
        let Ok(shapes) = backbone.value_shapes(height as usize, width as usize) else {
            return 0.0;
        };
        let convs = backbone.graph().nodes.iter().zip(&shapes[1..]);
        let convs = convs.filter_map(|(node, shape)| match &node.op {
            Op::Conv(conv) => Some((conv, shape.spatial().map_or(1, |[rows, columns]| rows * columns))),
            _ => None,
        });
        let (mut kernels, mut all) = (0.0, 0.0);
        for (conv, pixels) in convs {
            let kernel = self.recipe.site_kind(conv.kernel()) == SiteKind::Kernel;
            kernels += if kernel {
                (9 * conv.channels() * pixels) as f64
            } else {
                0.0
            };
            all += (conv.weight.count() * pixels) as f64;
        }
        if all > 0.0 { kernels / all } else { 0.0 }
    }

    fn features(&self, network: &Network, images: &Images) -> Result<LabelledFeatures> {
        let indices: Vec<usize> = (0..images.examples().len()).collect();
        let mut features = Vec::with_capacity(indices.len());
        for chunk in indices.chunks(CHUNK) {
            let values = images.tensor(chunk, &Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
            features.extend(self.executor.features(network, view(images, &values))?);
        }
        Ok(LabelledFeatures {
            features,
            labels: images.labels(&indices),
        })
    }

    /// Trains one epoch. Returns the mean loss.
    fn epoch(
        &self,
        network: &mut Network,
        task: &Task<'_>,
        epoch: usize,
        [epochs, batch]: [usize; 2],
        schedule: clr_training::LrSchedule,
        (adam, average): (&mut Adam, Option<&mut Ema>),
    ) -> Result<f64> {
        let batches = task.batches(epoch, batch);
        let (steps, mut sum, mut average) = (batches.len(), 0.0, average);
        for (index, indices) in batches.iter().enumerate() {
            let x = task.augmented(indices, epoch, &Device::Cpu)?;
            let values = x.flatten_all()?.to_vec1::<f32>()?;
            let labels = task.train.labels(indices);
            let targets: Vec<Vec<f32>> = (labels.iter())
                .map(|&label| smoothed_target(label as usize, task.classes, self.schedule.smoothing))
                .collect();
            let loss = mean_cross_entropy(&targets);
            let x = view(task.train, &values);
            let output = self.executor.forward_backward(network, x, Mode::Train, None, &loss)?;
            sum += f64::from(output.loss);
            let position = epoch as f64 + (index + 1) as f64 / steps as f64;
            let values = adam.step(&output.gradients, schedule.factor(position, epochs));
            network.set_values(values).map_err(TrainError::from)?;
            if let Some(average) = &mut average {
                average.update(adam.values(), adam.state().step);
            }
        }
        Ok(sum / steps.max(1) as f64)
    }
}

/// Returns the mean cross-entropy with the targets of a batch, as a share of each image.
fn mean_cross_entropy(targets: &[Vec<f32>]) -> impl LossFn + '_ {
    let share = 1.0 / targets.len().max(1) as f64;
    move |index: usize, logits: &[f32]| {
        let (loss, gradient) = cross_entropy(logits, &targets[index], 1.0);
        let gradient = gradient.into_iter().map(|value| (value * share) as f32);
        ((loss * share) as f32, gradient.collect())
    }
}

fn view<'a>(images: &Images, values: &'a [f32]) -> clr_training::Images<'a> {
    let preprocessing = images.preprocessing();
    clr_training::Images {
        values,
        size: [preprocessing.height, preprocessing.width].map(|side| side as usize),
    }
}

/// What is saved of a task.
#[derive(Serialize, Deserialize)]
struct Saved {
    classes: usize,
    /// The values of head and sites, and the statistics of the sites.
    values: Vec<Vec<f32>>,
}

impl Learner for AdapterLearner {
    fn learn(
        &mut self,
        task: &Task<'_>,
        validation: &Images,
        options: &LearnerOptions,
        progress: &mut dyn FnMut(usize, f64),
    ) -> Result<()> {
        let mut network = self.base.sibling(self.recipe, task.classes, task.seed);
        let preprocessing = task.train.preprocessing();
        let size = [preprocessing.height, preprocessing.width].map(|side| side as usize);
        network.freeze_untrainable(size).map_err(TrainError::from)?;
        let fitted = fit_head(
            &self.features(&network, task.train)?,
            &self.features(&network, validation)?,
            task.classes,
            &LogisticOptions::default(),
            |_| (),
        );
        let fitted = fitted.map_err(TrainError::from)?;
        network.set_head(&fitted.head).map_err(TrainError::from)?;
        let (epochs, batch, rate) = if self.own_epochs {
            (self.schedule.epochs, self.schedule.batch, self.schedule.rate)
        } else {
            (options.epochs, options.batch, options.schedule)
        };
        let adam_options = AdamOptions::new(self.schedule.rates)
            .with_decay(self.schedule.decay)
            .with_relative(self.schedule.relative_rates)
            .with_clip(self.schedule.clip)
            .with_beta2(self.schedule.beta2);
        let mut adam = Adam::new(network.parameters(), adam_options, None);
        let mut average = self
            .schedule
            .average
            .map(|decay| Ema::new(adam.values().to_vec(), decay));
        for epoch in 0..epochs {
            let state = (&mut adam, average.as_mut());
            let loss = self.epoch(&mut network, task, epoch, [epochs, batch], rate, state)?;
            if !loss.is_finite() {
                return Err(ContinualError::Diverged {
                    method: self.recipe.name(),
                    task: task.index + 1,
                    epoch: epoch + 1,
                });
            }
            progress(epoch + 1, loss);
        }
        if let Some(average) = average {
            network.set_values(&average.values).map_err(TrainError::from)?;
        }
        self.tasks.push(network);
        Ok(())
    }

    fn logits(&self, task: usize, images: &Images, indices: &[usize]) -> Result<Vec<Vec<f32>>> {
        let values = images.tensor(indices, &Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
        Ok(self.executor.logits(&self.tasks[task], view(images, &values))?)
    }

    fn has_constant_logits(&self) -> bool {
        true
    }

    fn cost(&self) -> Cost {
        let parameters = self.base.parameters().into_iter();
        let of_sites = parameters.filter(|parameter| parameter.group != Group::Head);
        let trained: usize = of_sites.map(|parameter| parameter.values.len()).sum();
        // Mean and variance of the task's norms.
        let sites = self.base.sites().iter().zip(self.base.frozen_sites());
        let normed = sites.filter(|(site, frozen)| matches!(site, Site::Normed(_)) && frozen.norm.present);
        let values = trained + 2 * normed.map(|(_, frozen)| frozen.channels).sum::<usize>();
        Cost {
            values: values as f64,
            training_passes: if trained > 0 {
                2.0 + 3.0 * self.share_of_kernels()
            } else {
                1.0
            },
            ..Cost::default()
        }
    }

    fn head_values(&self) -> usize {
        let heads = self.tasks.iter().flat_map(Network::head_weights);
        heads.map(|weight| weight.values.len()).sum()
    }

    fn save(&self) -> Result<Vec<u8>> {
        let tasks = self.tasks.iter().map(|network| Saved {
            classes: network.classes(),
            values: network.snapshot().values,
        });
        let tasks: Vec<Saved> = tasks.collect();
        encode(&(self.recipe.name(), tasks))
    }

    fn restore(&mut self, tasks: usize, seed: u64, state: &[u8]) -> Result<()> {
        let (recipe, saved): (String, Vec<Saved>) = decode(state)?;
        if recipe != self.recipe.name() {
            return Err(ContinualError::Mismatch {
                what: "the recipe of a saved state",
                expected: self.recipe.name().to_owned(),
                got: recipe,
            });
        }
        check("tasks of a saved state", tasks, saved.len())?;
        for saved in saved {
            let mut network = self.base.sibling(self.recipe, saved.classes, seed);
            let snapshot = Snapshot { values: saved.values };
            network.restore(&snapshot).map_err(TrainError::from)?;
            self.tasks.push(network);
        }
        Ok(())
    }
}
