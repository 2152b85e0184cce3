//! Training steps of a run, with replay and distillation.
//!
//! Each step draws images of the learned classes and, if there are any, replayed images of the old ones. The loss of a
//! learned image is the cross-entropy of its class plus the divergence from the parent's probabilities among the old
//! classes. The loss of a replayed image is the cross-entropy with the parent's output (0 for the new classes) plus the
//! same divergence. The divergence uses a temperature (Hinton et al. 2015), because the parent is nearly certain of
//! most images, and at temperature 1 its probabilities of the other classes would have no influence. Protected class
//! weights do not change, and weight decay pulls the sites towards the parent's.

use std::{collections::HashMap, time::Instant};

use clr_adapters::Digest;
use clr_learning::{
    Adam, AdamOptions, Group, Network, Parameter, PrefixActivations, Purpose, StepOutput, argmax, cross_entropy,
    softmax, stream,
};
use rand::RngExt as _;

use super::{Observer, Progress, reference::logits, run_images::RunImages};
use crate::{
    Parent, TuneOptions,
    budget::MemoryPlan,
    checkpoint::{Checkpoints, State},
    error::{Result, TuneError},
    images::{Image, VARIANTS},
};

/// Key of a training image: whether it is replayed, its index, and its variant.
pub(super) type Key = (bool, usize, u64);

/// Targets of one image in a step.
struct Target {
    /// `[K]`, sums to 1.
    class: Vec<f32>,
    /// The parent's probabilities among the protected classes at the options' temperature, and the weight of the
    /// distillation term.
    old: Option<(Vec<f32>, f64)>,
}

impl Target {
    /// Returns the image's share of the loss and its gradient with respect to the logits `[K]`. `adjustment` `[K]` is
    /// added to the logits of the class term. The distillation term is multiplied by `temperature²`, so that its
    /// gradient does not shrink with the temperature.
    fn loss(&self, logits: &[f32], adjustment: &[f32], temperature: f64, share: f64) -> (f32, Vec<f32>) {
        let adjusted: Vec<f32> = logits.iter().zip(adjustment).map(|(logit, add)| logit + add).collect();
        let (mut loss, mut gradient) = cross_entropy(&adjusted, &self.class, 1.0);
        if let Some((old, weight)) = &self.old {
            let (divergence, of_old) = cross_entropy(&logits[..old.len()], old, temperature);
            let weight = weight * temperature.powi(2);
            loss += weight * divergence;
            (gradient.iter_mut().zip(of_old)).for_each(|(gradient, of_old)| *gradient += weight * of_old);
        }
        let gradient = gradient.into_iter().map(|value| (value * share) as f32).collect();
        ((loss * share) as f32, gradient)
    }
}

pub(super) struct Trainer<'a> {
    pub(super) parent: &'a Parent,
    pub(super) options: &'a TuneOptions,
    pub(super) plan: &'a MemoryPlan,
    pub(super) network: &'a mut Network,
    pub(super) reference: &'a Network,
    pub(super) pool: &'a rayon::ThreadPool,
    pub(super) images: &'a RunImages,
    /// Unlabelled images of the run.
    pub(super) frames: Vec<Digest>,
    pub(super) size: [usize; 2],
    pub(super) starts: HashMap<Key, PrefixActivations>,
    /// The parent's logits.
    pub(super) parent_logits: HashMap<Key, Vec<f32>>,
}

impl Trainer<'_> {
    pub(super) fn run(
        &mut self,
        run: Digest,
        state: Option<State>,
        checkpoints: &dyn Checkpoints,
        observer: &mut dyn Observer,
    ) -> Result<(u32, f64)> {
        let options = self.options;
        let mut parameters = self.parameters();
        let adam_options = AdamOptions::new(options.rates)
            .with_decay(options.decay)
            .with_relative(true)
            .with_l2_norm(0.0)
            .with_clip(Some(5.0))
            .with_beta2(0.99);
        let mut step = 0;
        let mut moments = None;
        if let Some(state) = state {
            let lengths: Vec<usize> = parameters.iter().map(|parameter| parameter.values.len()).collect();
            let fits = [&state.values, &state.first, &state.second]
                .iter()
                .all(|group| group.iter().map(Vec::len).eq(lengths.iter().copied()));
            if fits {
                self.network.set_values(&state.values)?;
                for (parameter, values) in parameters.iter_mut().zip(&state.values) {
                    parameter.values.clone_from(values);
                }
                step = state.step.min(options.steps);
                moments = Some(state.moments());
                observer.resumed(step);
            } else {
                observer.restarted("its parameters are not this adapter's");
            }
        }
        let mut adam = Adam::new(parameters, adam_options, moments);
        let first = step;
        let mut seconds = 0.0;
        let mut saved: Option<Instant> = None;
        while step < options.steps {
            let begun = Instant::now();
            let learned = match self.step(step, observer) {
                Err(TuneError::Stopped { .. }) => {
                    self.save(run, step, &adam, checkpoints)?;
                    return Err(TuneError::Stopped {
                        step,
                        steps: options.steps,
                    });
                }
                learned => learned?,
            };
            if !learned.loss.is_finite() {
                return Err(TuneError::Diverged { step: step + 1 });
            }
            self.network
                .set_values(adam.step(&learned.gradients, factor(step, options.steps)))?;
            step += 1;
            seconds += begun.elapsed().as_secs_f64();
            let rested = saved.is_none_or(|saved| saved.elapsed().as_secs() >= u64::from(options.checkpoint_seconds));
            if step % options.checkpoint_every == 0 && step < options.steps && rested {
                self.save(run, step, &adam, checkpoints)?;
                saved = Some(Instant::now());
            }
            observer.progress(Progress {
                step,
                steps: options.steps,
                loss: learned.loss,
            });
        }
        Ok((step - first, seconds))
    }

    fn save(&self, run: Digest, step: u32, adam: &Adam, checkpoints: &dyn Checkpoints) -> Result<()> {
        let moments = adam.state();
        let state = State {
            run,
            frames: self.frames.clone(),
            step,
            scope: self.plan.scope,
            values: adam.values().to_vec(),
            updates: moments.step,
            first: moments.first.clone(),
            second: moments.second.clone(),
        };
        let bytes = state.to_bytes().map_err(TuneError::Checkpoint)?;
        checkpoints.put(&bytes).map_err(TuneError::Checkpoint)
    }

    /// Returns the trained parameters. Protected class weights have learning rate and decay 0; the decay of the others
    /// pulls towards the parent.
    fn parameters(&self) -> Vec<Parameter> {
        let classes = self.network.classes();
        let new = self.images.learned.iter().filter_map(|image| image.class);
        let refined: Vec<bool> = if new.clone().any(|class| class >= self.parent.protected) {
            (0..classes).map(|class| class >= self.parent.protected).collect()
        } else {
            let own: Vec<usize> = new.collect();
            (0..classes).map(|class| own.contains(&class)).collect()
        };
        let mut parameters = self.network.parameters();
        for parameter in parameters.iter_mut().filter(|parameter| parameter.group == Group::Head) {
            parameter.unit = refined.iter().map(|&refined| f32::from(u8::from(refined))).collect();
            parameter.anchor.clone_from(&parameter.values);
        }
        parameters
    }

    fn step(&mut self, step: u32, observer: &mut dyn Observer) -> Result<StepOutput> {
        let keys = self.draw(step);
        let mut targets = Vec::with_capacity(keys.len());
        let mut fresh = HashMap::new();
        for &key in &keys {
            if observer.should_stop() {
                return Err(TuneError::Stopped { step: 0, steps: 0 });
            }
            if !self.starts.contains_key(&key) {
                let start = self.start(key)?;
                let kept = if self.plan.cached { &mut self.starts } else { &mut fresh };
                kept.insert(key, start);
            }
            let of_parent = if let Some(of_parent) = self.parent_logits.get(&key) {
                of_parent.clone()
            } else {
                let start = self.starts.get(&key).or_else(|| fresh.get(&key));
                let of_parent = match start {
                    Some(start) => self.pool.install(|| logits(self.reference, start, self.size))?,
                    None => Vec::new(),
                };
                self.parent_logits.insert(key, of_parent.clone());
                of_parent
            };
            targets.push(self.target(key, &of_parent));
        }
        let starts: Vec<&PrefixActivations> = keys
            .iter()
            .filter_map(|key| self.starts.get(key).or_else(|| fresh.get(key)))
            .collect();
        let share = 1.0 / keys.len() as f64;
        let adjustment = self.adjustment();
        let temperature = f64::from(self.options.distillation_temperature);
        let loss = |index: usize, logits: &[f32]| targets[index].loss(logits, &adjustment, temperature, share);
        let network = &*self.network;
        let output =
            (self.pool).install(|| network.forward_backward_from_prefix(&starts, self.size, self.plan.memory, &loss));
        Ok(output?)
    }

    /// Draws the images of a step, learned ones and then replayed ones, without repetition if there are enough.
    fn draw(&self, step: u32) -> Vec<Key> {
        let mut random = stream(self.options.seed, Purpose::Tune, u64::from(step), 0);
        let (batch, replayed) = (self.options.batch, self.images.replayed.len());
        let replay = self.replay_count();
        let mut keys = Vec::with_capacity(batch);
        for (is_replay, wanted, count) in [
            (false, batch - replay, self.images.learned.len()),
            (true, replay, replayed),
        ] {
            let mut left: Vec<usize> = Vec::new();
            for _ in 0..wanted {
                if left.is_empty() {
                    left = (0..count).collect();
                }
                let index = left.swap_remove(random.random_range(0..left.len()));
                keys.push((is_replay, index, random.random_range(0..VARIANTS)));
            }
        }
        keys
    }

    /// Returns the number of replayed images in a step.
    fn replay_count(&self) -> usize {
        let batch = self.options.batch;
        match self.images.replayed.len() {
            0 => 0,
            _ => ((batch as f32 * self.options.replay_fraction).round() as usize).min(batch - 1),
        }
    }

    /// Returns the logit adjustment `[K]` of the loss (Menon et al. 2021), which inference omits. New classes are more
    /// frequent in a step than in practice; the log of that ratio is added to their logits, together with the margin
    /// from the options.
    fn adjustment(&self) -> Vec<f32> {
        let (classes, protected) = (self.network.classes(), self.parent.protected);
        if protected == 0 || protected == classes {
            return vec![0.0; classes];
        }
        let (replay, batch) = (self.replay_count() as f32, self.options.batch as f32);
        let often = match replay {
            0.0 => 0.0,
            _ => ((batch - replay) / (classes - protected) as f32).ln() - (replay / protected as f32).ln(),
        };
        let new = |class: usize| {
            if class < protected {
                0.0
            } else {
                often + self.options.logit_margin
            }
        };
        (0..classes).map(new).collect()
    }

    fn image(&self, (is_replay, index, _): Key) -> &Image {
        if is_replay {
            &self.images.replayed[index]
        } else {
            &self.images.learned[index]
        }
    }

    fn start(&self, key: Key) -> Result<PrefixActivations> {
        let preprocessing = &self.parent.adapter.header.preprocessing;
        let input = self.image(key).variant(key.2, self.options.seed, preprocessing);
        Ok(self.pool.install(|| self.network.prefix(&input, self.size))?)
    }

    fn target(&self, key: Key, of_parent: &[f32]) -> Target {
        let (classes, protected) = (of_parent.len(), self.parent.protected);
        let label = self.image(key).class;
        let weight = f64::from(self.options.distillation_weight);
        let distils = weight > 0.0 && protected > 1;
        let old = || {
            let softer = softmax(
                &of_parent[..protected],
                f64::from(self.options.distillation_temperature),
            );
            (softer, weight)
        };
        if key.0 {
            // The parent's output is not a target if it contradicts the label.
            let is_wrong = || label.is_some_and(|label| argmax(&of_parent[..protected]) != label);
            return Target {
                class: kept(of_parent, protected, label),
                old: (distils && !is_wrong()).then(old),
            };
        }
        let mut class = vec![0.0; classes];
        if let Some(label) = label {
            class[label] = 1.0;
        }
        Target {
            class,
            old: (distils && label.is_some_and(|label| label >= protected)).then(old),
        }
    }
}

/// Returns the target `[K]` of a replayed image: the parent's probabilities among the protected classes, or the label
/// if the parent predicts another class.
fn kept(of_parent: &[f32], protected: usize, label: Option<usize>) -> Vec<f32> {
    let old = if protected == 0 { of_parent.len() } else { protected };
    let mut target = vec![0.0; of_parent.len()];
    match label {
        Some(label) if argmax(&of_parent[..old]) != label => target[label] = 1.0,
        // An unlabelled frame may show a new class.
        None if argmax(of_parent) >= old => target = softmax(of_parent, 1.0),
        _ => target[..old].copy_from_slice(&softmax(&of_parent[..old], 1.0)),
    }
    target
}

/// Returns the factor of the learning rates: linear warm-up over a tenth of the steps, then half a cosine down to a
/// twentieth.
fn factor(step: u32, steps: u32) -> f64 {
    let position = (f64::from(step) + 1.0) / f64::from(steps);
    let warm = (position / 0.1).min(1.0);
    let cosine = 0.5 * (1.0 + (std::f64::consts::PI * ((position - 0.1) / 0.9).max(0.0)).cos());
    warm * (0.05 + 0.95 * cosine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_of_a_taught_images_loss_is_correct() {
        let target = Target {
            class: vec![0.0, 0.0, 0.0, 1.0],
            old: Some((vec![0.5, 0.3, 0.2], 0.7)),
        };
        let (logits, adjustment) = ([0.4_f32, -0.3, 1.1, 0.2], [0.0, 0.0, 0.0, 1.5]);
        let loss = |logits: &[f32]| target.loss(logits, &adjustment, 2.0, 0.25);
        let (_, gradient) = loss(&logits);
        for (class, got) in gradient.iter().enumerate() {
            let at = |step: f32| {
                let mut moved = logits;
                moved[class] += step;
                loss(&moved).0
            };
            let want = (at(0.05) - at(-0.05)) / 0.1;
            assert!((got - want).abs() < 1e-3, "{class}: {got} {want}");
        }
    }
}
