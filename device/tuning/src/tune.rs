//! Refining an adapter in the background.
//!
//! Each step takes some pictures of the classes that are learned and, where there are any, some that recall the old ones. A learned picture's
//! loss is the cross-entropy of its class, and the divergence of what the network thinks of the old classes among themselves from what
//! the parent thinks. A recalled picture's is the cross-entropy to the parent's answer, with nothing for the new classes. Protected rows of
//! the head stay as they are, and sites are pulled towards the parent's.

use std::{collections::HashMap, time::Instant};

use candle_core::{D, Device, Tensor};
use candle_nn::ops::log_softmax;
use clr_adapters::{Digest, Header, Metrics};
use clr_onnx::{Backbone, RgbImage};
use clr_training::{
    Adam, AdamOptions, Group, Learned, Network, Parameter, Purpose, Start, argmax, log_probability, stream,
};
use rand::RngExt as _;

use crate::{
    Parent, TuneOptions, Verdict, Version,
    budget::{self, Plan, Task, resident, train_only},
    checkpoint::{Checkpoints, State},
    error::{Result, TuneError},
    examples::{Example, Examples, part},
    pictures::{Picture, VARIANTS},
    priority::lower_priority,
    promote::{Pair, judge},
};

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Finished steps.
    pub step: u32,
    /// All steps.
    pub steps: u32,
    /// The last step's loss in nats.
    pub loss: f32,
}

/// Follows a run, and may end it.
pub trait Watch {
    /// What will be done, before anything is.
    fn plan(&mut self, _plan: &Plan) {}
    /// The state of an earlier run cannot be gone on with, and why: this one starts anew.
    fn restarted(&mut self, _reason: &str) {}
    /// The run goes on behind this step.
    fn resumed(&mut self, _step: u32) {}
    /// After each step.
    fn progress(&mut self, _progress: Progress) {}
    /// Asked between pictures; yes ends the run with [`TuneError::Stopped`] and a checkpoint.
    fn should_stop(&mut self) -> bool {
        false
    }
}

impl Watch for () {}

/// What a run made.
#[derive(Clone, Debug)]
pub struct Tuned {
    /// The tuned adapter, whether or not it is promoted.
    pub candidate: Version,
    /// Whether it replaces its parent, and why.
    pub verdict: Verdict,
    /// What was done.
    pub plan: Plan,
    /// Pictures learned from, frames included.
    pub training: usize,
    /// Pictures held out, frames included.
    pub held_out: usize,
    /// Seconds of this process's part of the run.
    pub seconds: f64,
    /// Steps that this process made.
    pub steps: u32,
    /// Seconds of these steps alone.
    pub step_seconds: f64,
}

impl Tuned {
    /// What should serve from now on; none if that is the parent, unchanged.
    pub fn promoted(&self) -> Option<&Version> {
        self.verdict.promoted.then_some(&self.candidate)
    }
}

/// The pictures of a run, decoded.
struct Pictures {
    learned: Vec<Picture>,
    recalled: Vec<Picture>,
    held_learned: Vec<Picture>,
    held_old: Vec<Picture>,
    unjudged: Vec<String>,
}

/// What tuning would do with so many pictures, and what it would take; nothing is run for it.
pub fn plan(backbone: &Backbone, parent: &Parent, pictures: usize, options: &TuneOptions) -> Result<Plan> {
    options.check()?;
    let mut network = Network::from_adapter(backbone, &parent.adapter, &Device::Cpu)?;
    plan_for(&mut network, &parent.adapter.header, pictures, options, options.extent)
}

fn plan_for(
    network: &mut Network,
    header: &Header,
    pictures: usize,
    options: &TuneOptions,
    extent: Option<budget::Extent>,
) -> Result<Plan> {
    let sites = network.site_names().len();
    let task = Task {
        size: size(header),
        pictures,
        batch: options.batch,
        threads: options.threads,
    };
    let resident = options.resident.unwrap_or_else(resident);
    budget::plan(network, sites, &task, options.max_memory, resident, extent)
}

/// Tunes the parent's sites and the rows of the classes that the device learned, and compares the result with the parent.
///
/// The same pictures, parent, options and seed give the same bytes, whatever the number of threads, wherever it was stopped, and whether
/// values were kept or computed again.
pub fn tune(
    backbone: &Backbone,
    parent: &Parent,
    examples: &dyn Examples,
    checkpoints: &dyn Checkpoints,
    options: &TuneOptions,
    watch: &mut dyn Watch,
) -> Result<Tuned> {
    let begun = Instant::now();
    options.check()?;
    let header = &parent.adapter.header;
    let list = examples.list().map_err(TuneError::Examples)?;
    for label in list.iter().filter_map(|example| example.label.as_ref()) {
        if !header.labels.contains(label) {
            return Err(TuneError::UnknownLabel {
                task: header.task.clone(),
                label: label.clone(),
            });
        }
    }
    let run = run_digest(backbone, parent, &list, options)?;
    let mut network = Network::from_adapter(backbone, &parent.adapter, &Device::Cpu)?;
    let mut state = match checkpoints.get().map_err(TuneError::Checkpoint)? {
        None => None,
        Some(bytes) => match State::from_bytes(&bytes, run) {
            Ok(state) => Some(state),
            Err(reason) => {
                watch.restarted(reason);
                None
            }
        },
    };
    let wanted = state.as_ref().map(|state| state.extent);
    let plan = match plan_for(&mut network, header, list.len(), options, wanted.or(options.extent)) {
        Err(TuneError::Budget { .. }) if wanted.is_some() => {
            watch.restarted("what it trained does not fit the memory any more");
            state = None;
            plan_for(&mut network, header, list.len(), options, options.extent)?
        }
        plan => plan?,
    };
    watch.plan(&plan);
    train_only(&mut network, plan.extent);
    let reference = network.sibling_from_adapter(&parent.adapter)?;
    let pictures = load(parent, examples, list)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .thread_name(|index| format!("clr-tune-{index}"))
        .start_handler({
            let yielding = options.yielding;
            move |_| {
                if let Some(reason) = yielding.then(lower_priority).and_then(Result::err) {
                    tracing::debug!("a tuning thread keeps its priority: {reason}");
                }
            }
        })
        .build()
        .map_err(|error| TuneError::Threads {
            threads: options.threads,
            reason: error.to_string(),
        })?;
    let mut trainer = Trainer {
        parent,
        options,
        plan: &plan,
        network: &network,
        reference: &reference,
        pool: &pool,
        pictures: &pictures,
        size: size(header),
        starts: HashMap::new(),
        answers: HashMap::new(),
    };
    let (steps, step_seconds) = trainer.run(run, state, checkpoints, watch)?;
    drop(trainer);
    let mut adapter = network.to_adapter(header.clone())?;
    // The header's recipe and backbone are the network's own; the rest is the parent's.
    adapter.header.metrics = None;
    let first = Version::new(adapter.clone(), Some(parent))?;
    let tuned = network.sibling_from_adapter(&first.adapter)?;
    let exact = network.sibling_from_adapter(&adapter)?;
    let judged = Judged::new(parent, &reference, &tuned, &exact, &pictures, watch, options)?;
    adapter.header.metrics = judged.metrics(&pictures, &run, options);
    for (canary, probability) in adapter.header.canaries.iter_mut().zip(&judged.canaries) {
        canary.probability = *probability;
    }
    let candidate = Version::new(adapter, Some(parent))?;
    let count = judged.canaries.len();
    let verdict = judge(
        &judged.learned,
        &judged.old,
        count,
        parent.protected,
        pictures.unjudged.clone(),
    );
    checkpoints.clear().map_err(TuneError::Checkpoint)?;
    Ok(Tuned {
        candidate,
        verdict,
        training: pictures.learned.len() + pictures.recalled.len(),
        held_out: pictures.held_learned.len() + pictures.held_old.len(),
        plan,
        seconds: begun.elapsed().as_secs_f64(),
        steps,
        step_seconds,
    })
}

fn size(header: &Header) -> [usize; 2] {
    [
        header.preprocessing.height as usize,
        header.preprocessing.width as usize,
    ]
}

fn run_digest(backbone: &Backbone, parent: &Parent, list: &[Example], options: &TuneOptions) -> Result<Digest> {
    let mut ids: Vec<(Option<&str>, [u8; 32])> = (list.iter())
        .map(|example| (example.label.as_deref(), example.id.0))
        .collect();
    ids.sort_unstable();
    // What changes no bit of the result is left out.
    let options = TuneOptions {
        max_memory: None,
        resident: None,
        threads: 1,
        yielding: true,
        checkpoint_every: 1,
        ..options.clone()
    };
    let all = (
        backbone.digest().0,
        parent.digest.0,
        parent.protected as u64,
        ids,
        options,
    );
    let bytes = postcard::to_allocvec(&all).map_err(|error| TuneError::Checkpoint(error.to_string()))?;
    Ok(Digest::of(&bytes))
}

fn load(parent: &Parent, examples: &dyn Examples, list: Vec<Example>) -> Result<Pictures> {
    let header = &parent.adapter.header;
    let parted = part(list);
    let class = |example: &Example| {
        let label = example.label.as_ref()?;
        header.labels.iter().position(|known| known == label)
    };
    let all = parted.training.iter().chain(&parted.held_out);
    // Where no class is new, those with pictures are refined.
    let new = all.clone().filter_map(class).any(|class| class >= parent.protected);
    let learned = |class: Option<usize>| class.is_some_and(|class| !new || class >= parent.protected);
    let mut pictures = Pictures {
        learned: Vec::new(),
        recalled: Vec::new(),
        held_learned: Vec::new(),
        held_old: Vec::new(),
        unjudged: Vec::new(),
    };
    for (examples_of, is_training) in [(&parted.training, true), (&parted.held_out, false)] {
        for example in examples_of {
            let class = class(example);
            let picture = Picture::load(examples, example, class, &header.preprocessing)?;
            let place = match (learned(class), is_training) {
                (true, true) => &mut pictures.learned,
                (true, false) => &mut pictures.held_learned,
                (false, true) => &mut pictures.recalled,
                (false, false) => &mut pictures.held_old,
            };
            place.push(picture);
        }
    }
    pictures.unjudged = parted.unjudged;
    if pictures.learned.is_empty() {
        return Err(TuneError::NoExamples {
            task: header.task.clone(),
        });
    }
    Ok(pictures)
}

/// A training picture: whether it recalls, its index, its variant.
type Key = (bool, usize, u64);

/// A picture's part in a step.
struct Target {
    /// `[K]`, sums to 1.
    class: Vec<f32>,
    /// What the parent thinks of the protected classes among themselves, and how much that weighs.
    old: Option<(Vec<f32>, f64)>,
}

struct Trainer<'a> {
    parent: &'a Parent,
    options: &'a TuneOptions,
    plan: &'a Plan,
    network: &'a Network,
    reference: &'a Network,
    pool: &'a rayon::ThreadPool,
    pictures: &'a Pictures,
    size: [usize; 2],
    starts: HashMap<Key, Start>,
    /// The parent's logits.
    answers: HashMap<Key, Vec<f32>>,
}

impl Trainer<'_> {
    fn run(
        &mut self,
        run: Digest,
        state: Option<State>,
        checkpoints: &dyn Checkpoints,
        watch: &mut dyn Watch,
    ) -> Result<(u32, f64)> {
        let options = self.options;
        let parameters = self.parameters()?;
        let adam_options = AdamOptions {
            rates: options.rates,
            decay: options.decay,
            relative: true,
            l2_norm: 0.0,
            clip: Some(5.0),
            beta2: 0.99,
        };
        let mut step = 0;
        let mut moments = None;
        if let Some(state) = state {
            let fits = state.values.len() == parameters.len()
                && (parameters.iter().zip(&state.values))
                    .all(|(parameter, values)| parameter.anchor.len() == values.len());
            if fits {
                for (parameter, values) in parameters.iter().zip(&state.values) {
                    let (shape, device) = (parameter.var.shape(), parameter.var.device());
                    parameter.var.set(&Tensor::from_slice(values, shape, device)?)?;
                }
                step = state.step.min(options.steps);
                moments = Some(state.moments());
                watch.resumed(step);
            } else {
                watch.restarted("its parameters are not this adapter's");
            }
        }
        let mut adam = Adam::new(parameters, adam_options, moments)?;
        let first = step;
        let mut seconds = 0.0;
        while step < options.steps {
            let begun = Instant::now();
            let learned = match self.step(step, watch) {
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
            adam.step(&learned.gradients, factor(step, options.steps))?;
            step += 1;
            seconds += begun.elapsed().as_secs_f64();
            if step % options.checkpoint_every == 0 && step < options.steps {
                self.save(run, step, &adam, checkpoints)?;
            }
            watch.progress(Progress {
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
            step,
            extent: self.plan.extent,
            values: adam.values().to_vec(),
            updates: moments.step,
            first: moments.first.clone(),
            second: moments.second.clone(),
        };
        let bytes = state.to_bytes().map_err(TuneError::Checkpoint)?;
        checkpoints.put(&bytes).map_err(TuneError::Checkpoint)
    }

    /// The trained parameters. Protected rows of the head have rate and decay zero; what decay pulls towards is the parent.
    fn parameters(&self) -> Result<Vec<Parameter>> {
        let classes = self.network.classes();
        let new = self.pictures.learned.iter().filter_map(|picture| picture.class);
        let refined: Vec<bool> = if new.clone().any(|class| class >= self.parent.protected) {
            (0..classes).map(|class| class >= self.parent.protected).collect()
        } else {
            let own: Vec<usize> = new.collect();
            (0..classes).map(|class| own.contains(&class)).collect()
        };
        let mut parameters = self.network.parameters()?;
        for parameter in parameters.iter_mut().filter(|parameter| parameter.group == Group::Head) {
            parameter.unit = refined.iter().map(|&refined| f32::from(u8::from(refined))).collect();
            parameter.anchor = parameter.var.flatten_all()?.to_vec1()?;
        }
        Ok(parameters)
    }

    fn step(&mut self, step: u32, watch: &mut dyn Watch) -> Result<Learned> {
        let keys = self.draw(step);
        let mut targets = Vec::with_capacity(keys.len());
        let mut fresh = HashMap::new();
        for &key in &keys {
            if watch.should_stop() {
                return Err(TuneError::Stopped { step: 0, steps: 0 });
            }
            if !self.starts.contains_key(&key) {
                let start = self.start(key)?;
                let kept = if self.plan.cached { &mut self.starts } else { &mut fresh };
                kept.insert(key, start);
            }
            let answer = if let Some(answer) = self.answers.get(&key) {
                answer.clone()
            } else {
                let start = self.starts.get(&key).or_else(|| fresh.get(&key));
                let answer = match start {
                    Some(start) => self.pool.install(|| logits(self.reference, start, self.size))?,
                    None => Vec::new(),
                };
                self.answers.insert(key, answer.clone());
                answer
            };
            targets.push(self.target(key, &answer));
        }
        let starts: Vec<&Start> = keys
            .iter()
            .filter_map(|key| self.starts.get(key).or_else(|| fresh.get(key)))
            .collect();
        let protected = self.parent.protected;
        let share = 1.0 / keys.len() as f64;
        let adjustment = self.adjustment();
        let objective = |network: &Network, range: std::ops::Range<usize>, features: &Tensor| {
            let target = &targets[range.start];
            let logits = network.classify(features, true)?;
            let adjusted = (&logits + Tensor::from_slice(&adjustment, (1, adjustment.len()), logits.device())?)?;
            let loss = cross_entropy(&adjusted, &target.class)?;
            let loss = match &target.old {
                Some((old, weight)) => {
                    (loss + (cross_entropy(&logits.narrow(D::Minus1, 0, protected)?, old)? * *weight)?)?
                }
                None => loss,
            };
            Ok((logits, (loss * share)?))
        };
        let learned = (self.pool).install(|| {
            self.network
                .learn_from(&starts, self.size, self.plan.memory, &objective)
        });
        Ok(learned?)
    }

    /// The pictures of a step: learned ones, then recalled ones, none twice as far as there are enough.
    fn draw(&self, step: u32) -> Vec<Key> {
        let mut random = stream(self.options.seed, Purpose::Tune, u64::from(step), 0);
        let (batch, recalled) = (self.options.batch, self.pictures.recalled.len());
        let recall = self.recall();
        let mut keys = Vec::with_capacity(batch);
        for (recalls, wanted, count) in [
            (false, batch - recall, self.pictures.learned.len()),
            (true, recall, recalled),
        ] {
            let mut left: Vec<usize> = Vec::new();
            for _ in 0..wanted {
                if left.is_empty() {
                    left = (0..count).collect();
                }
                let index = left.swap_remove(random.random_range(0..left.len()));
                keys.push((recalls, index, random.random_range(0..VARIANTS)));
            }
        }
        keys
    }

    /// Pictures of a step that recall old classes.
    fn recall(&self) -> usize {
        let batch = self.options.batch;
        match self.pictures.recalled.len() {
            0 => 0,
            _ => ((batch as f32 * self.options.recall).round() as usize).min(batch - 1),
        }
    }

    /// What is added to the logits while learning, so that it is not added afterwards (logit adjustment, Menon et al. 2021): new classes
    /// come far more often than they will, and have to be surer by the options' caution.
    fn adjustment(&self) -> Vec<f32> {
        let (classes, protected) = (self.network.classes(), self.parent.protected);
        if protected == 0 || protected == classes {
            return vec![0.0; classes];
        }
        let (recall, batch) = (self.recall() as f32, self.options.batch as f32);
        let often = match recall {
            0.0 => 0.0,
            _ => ((batch - recall) / (classes - protected) as f32).ln() - (recall / protected as f32).ln(),
        };
        let new = |class: usize| {
            if class < protected {
                0.0
            } else {
                often + self.options.caution
            }
        };
        (0..classes).map(new).collect()
    }

    fn picture(&self, (recalls, index, _): Key) -> &Picture {
        if recalls {
            &self.pictures.recalled[index]
        } else {
            &self.pictures.learned[index]
        }
    }

    fn start(&self, key: Key) -> Result<Start> {
        let preprocessing = &self.parent.adapter.header.preprocessing;
        let input = self.picture(key).variant(key.2, self.options.seed, preprocessing);
        Ok(self.pool.install(|| self.network.start(&input, self.size))?)
    }

    fn target(&self, key: Key, answer: &[f32]) -> Target {
        let (classes, protected) = (answer.len(), self.parent.protected);
        let label = self.picture(key).class;
        if key.0 {
            return Target {
                class: kept(answer, protected, label),
                old: None,
            };
        }
        let mut class = vec![0.0; classes];
        if let Some(label) = label {
            class[label] = 1.0;
        }
        let distil = self.options.distil > 0.0 && protected > 1 && label.is_some_and(|label| label >= protected);
        Target {
            class,
            old: distil.then(|| (softmax(&answer[..protected]), f64::from(self.options.distil))),
        }
    }
}

/// What a picture that recalls old classes should answer: what the parent does among the protected classes, unless its label says
/// otherwise.
fn kept(answer: &[f32], protected: usize, label: Option<usize>) -> Vec<f32> {
    let old = if protected == 0 { answer.len() } else { protected };
    let mut target = vec![0.0; answer.len()];
    match label {
        Some(label) if argmax(&answer[..old]) != label => target[label] = 1.0,
        // A frame may well show a new class.
        None if argmax(answer) >= old => target = softmax(answer),
        _ => target[..old].copy_from_slice(&softmax(&answer[..old])),
    }
    target
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    (0..logits.len())
        .map(|class| log_probability(logits, class, 1.0).exp() as f32)
        .collect()
}

fn cross_entropy(logits: &Tensor, target: &[f32]) -> candle_core::Result<Tensor> {
    let target = Tensor::from_slice(target, (1, target.len()), logits.device())?;
    (log_softmax(logits, D::Minus1)? * target)?.sum_all()?.neg()
}

/// A tenth of the steps of warm-up, then half a cosine to a twentieth.
fn factor(step: u32, steps: u32) -> f64 {
    let position = (f64::from(step) + 1.0) / f64::from(steps);
    let warm = (position / 0.1).min(1.0);
    let cosine = 0.5 * (1.0 + (std::f64::consts::PI * ((position - 0.1) / 0.9).max(0.0)).cos());
    warm * (0.05 + 0.95 * cosine)
}

fn logits(network: &Network, start: &Start, size: [usize; 2]) -> Result<Vec<f32>, clr_training::TrainError> {
    let features = network.features_from(start, size)?;
    let features = Tensor::from_slice(&features, (1, features.len()), &Device::Cpu)?;
    Ok(network.classify(&features, false)?.flatten_all()?.to_vec1()?)
}

/// Held-out pictures with both adapters' answers.
struct Judged {
    learned: Vec<Pair>,
    old: Vec<Pair>,
    /// The tuned adapter's probability of each canary's class.
    canaries: Vec<f32>,
    exact_hits: usize,
}

impl Judged {
    fn new(
        parent: &Parent,
        reference: &Network,
        tuned: &Network,
        exact: &Network,
        pictures: &Pictures,
        watch: &mut dyn Watch,
        options: &TuneOptions,
    ) -> Result<Self> {
        let header = &parent.adapter.header;
        let answer = |network: &Network, picture: &Picture| -> Result<Vec<f32>> {
            let input = picture.variant(0, 0, &header.preprocessing);
            Ok(logits(network, &network.start(&input, size(header))?, size(header))?)
        };
        let mut judged = Self {
            learned: Vec::new(),
            old: Vec::new(),
            canaries: Vec::new(),
            exact_hits: 0,
        };
        for picture in &pictures.held_learned {
            if watch.should_stop() {
                let steps = options.steps;
                return Err(TuneError::Stopped { step: steps, steps });
            }
            let class = picture.class.unwrap_or(0);
            judged.exact_hits += usize::from(argmax(&answer(exact, picture)?) == class);
            judged.learned.push(Pair {
                class,
                parent: answer(reference, picture)?,
                tuned: answer(tuned, picture)?,
            });
        }
        let old = if parent.protected == 0 {
            header.labels.len()
        } else {
            parent.protected
        };
        for picture in &pictures.held_old {
            let before = answer(reference, picture)?;
            judged.old.push(Pair {
                class: picture.class.unwrap_or_else(|| argmax(&before[..old])),
                parent: before,
                tuned: answer(tuned, picture)?,
            });
        }
        for canary in &header.canaries {
            let [width, height] = canary.size.map(u32::from);
            let Some(pixels) = RgbImage::from_raw(width, height, canary.pixels.clone()) else {
                continue;
            };
            let picture = Picture::new(&pixels, None, &header.preprocessing, 0);
            let (class, after) = (canary.class as usize, answer(tuned, &picture)?);
            let temperature = f64::from(header.temperature);
            judged
                .canaries
                .push(log_probability(&after, class, temperature).exp() as f32);
            judged.old.push(Pair {
                class,
                parent: answer(reference, &picture)?,
                tuned: after,
            });
        }
        Ok(judged)
    }

    /// On the held-out pictures of learned classes.
    fn metrics(&self, pictures: &Pictures, data: &Digest, options: &TuneOptions) -> Option<Metrics> {
        let held = self.learned.len();
        let hits = self
            .learned
            .iter()
            .filter(|pair| argmax(&pair.tuned) == pair.class)
            .count();
        (held > 0).then(|| Metrics {
            accuracy: self.exact_hits as f32 / held as f32,
            quantised_accuracy: hits as f32 / held as f32,
            validation_images: held as u32,
            training_images: (pictures.learned.len() + pictures.recalled.len()) as u32,
            data: *data,
            seed: options.seed,
            created: options.created,
        })
    }
}
