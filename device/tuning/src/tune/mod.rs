//! A tuning run, from the images to the promotion verdict.

use std::{collections::HashMap, time::Instant};

use clr_adapters::{Digest, Header};
use clr_learning::Network;
use clr_onnx::Backbone;

pub(crate) use self::class_features::has_steps;
use self::{
    candidate::{Candidate, CandidateBuilder},
    reference::FeatureExtractor,
    run_images::RunImages,
    trainer::Trainer,
};
use crate::{
    AdapterRevision, Parent, PromotionVerdict, TuneOptions,
    budget::{self, MemoryPlan, Task, TrainableScope, resident, set_trainable},
    checkpoint::{Checkpoints, State},
    error::{Result, TuneError},
    examples::{Example, Examples},
    priority::lower_priority,
    promote::judge,
};

mod bias_calibration;
mod candidate;
mod class_features;
mod class_weights;
mod moved_means;
mod reference;
mod refit;
mod run_images;
mod suspected_positives;
mod trainer;

/// Progress of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Number of finished steps.
    pub step: u32,
    /// Number of all steps.
    pub steps: u32,
    /// The last step's loss in nats.
    pub loss: f32,
}

/// Callbacks of a run, which may stop it.
pub trait Observer {
    /// Called with the memory plan before the first step.
    fn plan(&mut self, _plan: &MemoryPlan) {}
    /// Called if an earlier run cannot be resumed, with the reason. This run starts from the beginning.
    fn restarted(&mut self, _reason: &str) {}
    /// Called if an earlier run is resumed, with the number of its completed steps.
    fn resumed(&mut self, _step: u32) {}
    /// Called after each step.
    fn progress(&mut self, _progress: Progress) {}
    /// Called between images. Returning `true` ends the run with [`TuneError::Stopped`] after its state has been saved.
    fn should_stop(&mut self) -> bool {
        false
    }
}

impl Observer for () {}

/// Result of a run.
#[derive(Clone, Debug)]
pub struct Tuned {
    /// The tuned adapter. It is present even if it is not promoted.
    pub candidate: AdapterRevision,
    /// Whether the adapter replaces its parent, and why.
    pub verdict: PromotionVerdict,
    /// The memory plan.
    pub plan: MemoryPlan,
    /// Number of training images, including frames.
    pub training: usize,
    /// Number of held-out images, including frames.
    pub held_out: usize,
    /// Duration of the part of the run that this process executed, in seconds.
    pub seconds: f64,
    /// Number of steps that this process executed.
    pub steps: u32,
    /// Total duration of the steps that this process executed, in seconds.
    pub step_seconds: f64,
}

impl Tuned {
    /// Returns the adapter that replaces the parent; `None` if the parent stays.
    pub fn promoted(&self) -> Option<&AdapterRevision> {
        self.verdict.promoted.then_some(&self.candidate)
    }
}

/// Plans a run with `images` images and estimates its memory. Executes no training step.
///
/// # Errors
/// [`TuneError::Budget`] if no plan fits; [`TuneError::Option`] if an option is outside its range;
/// [`TuneError::Learning`] if the network cannot be created.
pub fn plan_memory(backbone: &Backbone, parent: &Parent, images: usize, options: &TuneOptions) -> Result<MemoryPlan> {
    options.check()?;
    let mut network = Network::from_adapter(backbone, &parent.adapter)?;
    plan_for(&mut network, &parent.adapter.header, images, options, options.scope)
}

fn plan_for(
    network: &mut Network,
    header: &Header,
    images: usize,
    options: &TuneOptions,
    scope: Option<TrainableScope>,
) -> Result<MemoryPlan> {
    let sites = network.site_names().len();
    let task = Task {
        size: size(header),
        images,
        batch: options.batch,
        threads: options.threads,
    };
    let resident = options.resident.unwrap_or_else(resident);
    budget::plan_memory(network, sites, &task, options.max_memory, resident, scope)
}

/// Tunes the parent's sites and the weights of the taught classes, and compares the result with the parent. Without
/// images of the old classes, the class weights are refitted against the adapter's class features, without any step.
///
/// The same images, parent, options and seed give the same bytes, for any number of threads, any interruptions, and
/// whether activations are stored or recomputed.
///
/// # Errors
/// As [`plan_memory`]. Also [`TuneError::UnknownLabel`] if an image has a label that the adapter lacks;
/// [`TuneError::NoExamples`] if there is no image to train the classes on; [`TuneError::Examples`] or
/// [`TuneError::Checkpoint`] if images or run state cannot be accessed; [`TuneError::Stopped`] if the observer stops
/// the run; [`TuneError::Diverged`] if the loss is not finite; [`TuneError::Threads`] if the threads cannot be started;
/// [`TuneError::Encode`] or [`TuneError::Decode`] if a candidate cannot be written to a file.
pub fn tune(
    backbone: &Backbone,
    parent: &Parent,
    examples: &dyn Examples,
    checkpoints: &dyn Checkpoints,
    options: &TuneOptions,
    observer: &mut dyn Observer,
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
    let (list, run, mut state) = begin(backbone, parent, list, checkpoints, options, observer)?;
    let mut network = Network::from_adapter(backbone, &parent.adapter)?;
    let has_steps = has_steps(parent, &list);
    let wanted = state.as_ref().map(|state| state.scope);
    let scope = if has_steps {
        wanted.or(options.scope)
    } else {
        Some(TrainableScope::Head)
    };
    let plan = match plan_for(&mut network, header, list.len(), options, scope) {
        Err(TuneError::Budget { .. }) if wanted.is_some() => {
            observer.restarted("what it trained does not fit the memory any more");
            state = None;
            plan_for(&mut network, header, list.len(), options, options.scope)?
        }
        plan => plan?,
    };
    observer.plan(&plan);
    set_trainable(&mut network, plan.scope);
    network.freeze_untrainable([
        header.preprocessing.height as usize,
        header.preprocessing.width as usize,
    ])?;
    let reference = network.sibling_from_adapter(&parent.adapter)?;
    let frames = list.iter().filter(|example| example.label.is_none());
    let frames = frames.map(|example| example.id).collect();
    let images = RunImages::load(parent, examples, list)?;
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
        network: &mut network,
        reference: &reference,
        pool: &pool,
        images: &images,
        frames,
        size: size(header),
        starts: HashMap::new(),
        parent_logits: HashMap::new(),
    };
    let (steps, step_seconds) = if has_steps {
        trainer.run(run, state, checkpoints, observer)?
    } else {
        (0, 0.0)
    };
    drop(trainer);
    // The header's recipe and backbone come from the network, its other fields from the parent.
    let stepped = network.to_adapter(header.clone())?;
    let extractor = FeatureExtractor {
        parent,
        options,
        pool: &pool,
        images: &images,
    };
    let builder = CandidateBuilder {
        parent,
        options,
        reference: &reference,
        outputs: extractor.outputs(&reference, observer)?,
        extractor,
    };
    let labels = &header.labels;
    let judge = |candidate: &Candidate| {
        let without_holdout = images.without_holdout.clone();
        judge(&candidate.evidence, labels, parent.protected, without_holdout)
    };
    let (first, others) = builder.kinds(has_steps);
    let mut candidate = builder.build(first, &stepped, observer)?;
    let mut verdict = judge(&candidate);
    for kind in others {
        if verdict.promoted {
            break;
        }
        let other = builder.build(kind, &stepped, observer)?;
        let of_other = judge(&other);
        if of_other.promoted {
            (candidate, verdict) = (other, of_other);
        } else {
            verdict.reason = format!("{}; {kind}: {}", verdict.reason, of_other.reason);
        }
    }
    let candidate = candidate.finished(parent, &verdict.learned, &run, options)?;
    checkpoints.clear().map_err(TuneError::Checkpoint)?;
    Ok(Tuned {
        candidate,
        verdict,
        training: images.learned.len() + images.replayed.len(),
        held_out: images.held_learned.len() + images.held_old.len(),
        plan,
        seconds: begun.elapsed().as_secs_f64(),
        steps,
        step_seconds,
    })
}

/// Returns the images of the run, its digest, and the state from which it resumes, if there is one.
fn begin(
    backbone: &Backbone,
    parent: &Parent,
    list: Vec<Example>,
    checkpoints: &dyn Checkpoints,
    options: &TuneOptions,
    observer: &mut dyn Observer,
) -> Result<(Vec<Example>, Digest, Option<State>)> {
    let digest = |list: &[Example]| run_digest(backbone, parent, list, options);
    if let Some(bytes) = checkpoints.get().map_err(TuneError::Checkpoint)? {
        match State::from_bytes(&bytes) {
            Err(reason) => observer.restarted(reason),
            Ok(state) => {
                // Frames that were stored after the start of the run are not part of it.
                let its = |example: &&Example| example.label.is_some() || state.frames.contains(&example.id);
                let earlier: Vec<_> = list.iter().filter(its).cloned().collect();
                if digest(&earlier)? == state.run {
                    return Ok((earlier, state.run, Some(state)));
                }
                observer.restarted("it is of another run: other images, parent or options");
            }
        }
    }
    let run = digest(&list)?;
    Ok((list, run, None))
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
    // Options that do not affect the result are left out of the digest.
    let options = TuneOptions {
        max_memory: None,
        resident: None,
        threads: 1,
        yielding: true,
        checkpoint_every: 1,
        checkpoint_seconds: 0,
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
