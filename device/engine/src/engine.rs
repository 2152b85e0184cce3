//! Inference engine: one backbone in memory, with any number of adapters.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use clr_adapters::{Adapter, Background, Preprocessing, Recipe};
use clr_kernels::{Arena, Isa, dense};
use clr_onnx::{Backbone, ImageView, Preprocess as _, Program, check_adapter};
use clr_runtime::{Executable, ExecutableOptions, FeaturePass, Intermediates, PackedWeights};
use rayon::{ThreadPool, prelude::*};

#[cfg(feature = "tract")]
use crate::reference::Reference;
use crate::{
    Classification, EngineError, ResidentAdapter,
    plan::{Native, Plan, Reprogrammed},
    scorer::Scorer,
};

/// Threads and kernels of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineOptions {
    /// Number of threads per image. With 1, the calling thread computes. With more, the engine starts a thread pool
    /// that all its callers share. 0 selects the number of CPU cores. Results are bit-identical for any number.
    pub threads: usize,
    /// The kernels that execute the plan.
    pub kernels: Kernels,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            threads: 1,
            kernels: Kernels::Fused,
        }
    }
}

impl EngineOptions {
    /// Sets the number of threads per image; 0 selects the number of CPU cores.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets the executor.
    #[must_use]
    pub fn with_kernels(mut self, kernels: Kernels) -> Self {
        self.kernels = kernels;
        self
    }
}

/// The executor of a plan. The results of both executors agree within rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kernels {
    /// The runtime's program of fused steps: convolution, CLR layer, residual sum and activation in one pass. With the
    /// feature `tract`, a backbone with an operator that the runtime does not support falls back to [`Kernels::Tract`]
    /// and logs a warning.
    #[default]
    Fused,
    /// tract's own operators on the reprogrammed ONNX graph, as the reference.
    #[cfg(feature = "tract")]
    Tract,
}

/// Memory of an engine without its adapters, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineMemory {
    /// Number of plans built so far: one per input size, independent of the adapters' recipes.
    pub plans: usize,
    /// Bytes of the convolution weights in the layout of the kernels. All plans share them.
    pub packed_weights: usize,
    /// Bytes of workspace and feature maps, which are reused from image to image.
    pub working: usize,
}

/// A backbone that classifies with any adapter made for it.
///
/// Every method takes `&self`. Any number of threads may use the engine at the same time, each with its own adapter.
/// There is no global state, so engines do not affect each other.
#[derive(Debug)]
pub struct Engine {
    backbone: Backbone,
    options: EngineOptions,
    isa: Isa,
    pool: Option<Arc<ThreadPool>>,
    weights: Arc<PackedWeights>,
    arena: Arc<Arena>,
    plans: Mutex<HashMap<PlanKey, Plan>>,
    token: Arc<()>,
}

/// Key of a plan: its input size (rows, columns) and, for tract's plans, the recipe.
type PlanKey = ([usize; 2], Option<Recipe>);

impl Engine {
    /// Loads the backbone from an ONNX file, with default options.
    ///
    /// # Errors
    /// [`EngineError::Backbone`] if the file cannot be read or used; otherwise as [`Engine::new`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self, EngineError> {
        Self::new(Backbone::load(path.as_ref())?, EngineOptions::default())
    }

    /// Creates an engine for `backbone`. A plan is built when an adapter first needs it.
    ///
    /// # Errors
    /// [`EngineError::Threads`] if the threads cannot be started.
    pub fn new(backbone: Backbone, options: EngineOptions) -> Result<Self, EngineError> {
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let pool = (threads > 1)
            .then(|| {
                rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .thread_name(|index| format!("clr-engine-{index}"))
                    .build()
                    .map_err(|error| EngineError::Threads {
                        threads,
                        reason: error.to_string(),
                    })
            })
            .transpose()?;
        Ok(Self {
            weights: Arc::new(PackedWeights::new(backbone.sites().len())),
            // Quantised backbones have the same results on every machine.
            isa: if backbone.is_quantised() {
                Isa::exact()
            } else {
                Isa::detect()
            },
            backbone,
            options: EngineOptions { threads, ..options },
            pool: pool.map(Arc::new),
            arena: Arc::default(),
            plans: Mutex::default(),
            token: Arc::default(),
        })
    }

    /// Returns the backbone.
    pub fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    /// Returns the options, with the actual number of threads.
    pub fn options(&self) -> EngineOptions {
        self.options
    }

    /// Checks `adapter` against the backbone and prepares it: converts its tensors to the plan's layout, and builds the
    /// plan for its recipe and input size if there is none yet. The adapter itself may be dropped afterwards.
    ///
    /// # Errors
    /// [`EngineError::Adapter`] if the adapter does not fit the backbone; [`EngineError::Size`] if the backbone cannot
    /// run at the adapter's input size; another [`EngineError`] if the plan cannot be built.
    pub fn prepare(&self, adapter: &Adapter) -> Result<ResidentAdapter, EngineError> {
        check_adapter(&self.backbone, adapter)?;
        let header = &adapter.header;
        let plan = self.plan(header.recipe, &header.preprocessing, &header.task)?;
        let reprogrammed = plan.reprogram(&self.backbone, adapter)?;
        Ok(ResidentAdapter {
            task: header.task.clone(),
            version: header.version,
            revision: header.revision,
            recipe: header.recipe,
            labels: header.labels.as_slice().into(),
            preprocessing: header.preprocessing.clone(),
            temperature: header.temperature,
            profile: header.profile.clone().map(Scorer::new),
            head_weight: adapter.head.weight.as_slice().into(),
            head_bias: adapter.head.bias.as_slice().into(),
            bytes: reprogrammed.bytes(),
            first_step: reprogrammed.first_step(),
            reprogrammed,
            engine: Arc::clone(&self.token),
        })
    }

    /// Returns the logits of a preprocessed image, one per class. `input` is `[3, H, W]` with the adapter's input size.
    ///
    /// # Errors
    /// [`EngineError::OtherEngine`] if another engine prepared the adapter; [`EngineError::Input`] if `input` has the
    /// wrong number of values; [`EngineError::NotFinite`] if a logit is NaN or infinite; another [`EngineError`] if the
    /// plan cannot be executed.
    pub fn logits(&self, adapter: &ResidentAdapter, input: &[f32]) -> Result<Vec<f32>, EngineError> {
        self.check_owner(adapter)?;
        let features = self.run(&adapter.reprogrammed, &adapter.preprocessing, input)?;
        self.finite_logits(adapter, &features)
    }

    pub(crate) fn check_owner(&self, adapter: &ResidentAdapter) -> Result<(), EngineError> {
        if Arc::ptr_eq(&self.token, &adapter.engine) {
            Ok(())
        } else {
            Err(EngineError::OtherEngine {
                task: adapter.task.clone(),
            })
        }
    }

    /// Computes the head and checks that its results are finite.
    pub(crate) fn finite_logits(&self, adapter: &ResidentAdapter, features: &[f32]) -> Result<Vec<f32>, EngineError> {
        let logits = self.head(adapter, features);
        match logits.iter().position(|logit| !logit.is_finite()) {
            Some(class) => Err(EngineError::NotFinite {
                task: adapter.task.clone(),
                class,
                value: logits[class],
            }),
            None => Ok(logits),
        }
    }

    /// Classifies an image of any size, using the adapter's preprocessing.
    ///
    /// # Errors
    /// [`EngineError`] in the same cases as [`Engine::logits`].
    pub fn classify<'a>(
        &self,
        adapter: &ResidentAdapter,
        image: impl Into<ImageView<'a>>,
    ) -> Result<Classification, EngineError> {
        let input = adapter.preprocessing.preprocess(image);
        Ok(Classification::of(adapter, self.logits(adapter, &input)?))
    }

    /// Returns the pooled features `[F]` of an image of any size, computed by the backbone without an adapter. Feature
    /// profiles are based on them. The first call for an input size builds a plan, which `linear` adapters share.
    ///
    /// # Errors
    /// [`EngineError::Size`] if the backbone cannot run at the input size; another [`EngineError`] if the plan cannot
    /// be built or executed.
    pub fn backbone_features<'a>(
        &self,
        preprocessing: &Preprocessing,
        image: impl Into<ImageView<'a>>,
    ) -> Result<Vec<f32>, EngineError> {
        let plan = self.plan(Recipe::Linear, preprocessing, "backbone")?;
        self.run(&plan.untouched(), preprocessing, &preprocessing.preprocess(image))
    }

    /// Runs the unmodified backbone on an image, and keeps the activations before `prefixes` (increasing steps), if the
    /// runtime executes it.
    pub(crate) fn unmodified(
        &self,
        preprocessing: &Preprocessing,
        image: ImageView<'_>,
        prefixes: &[usize],
    ) -> Result<FeaturePass, EngineError> {
        let plan = self.plan(Recipe::Linear, preprocessing, "backbone")?.untouched();
        let input = preprocessing.preprocess(image);
        let wanted = Intermediates {
            block_statistics: self.background().is_some(),
            prefixes,
        };
        match self.in_pool(|| plan.pass(&input, wanted)) {
            Some(pass) => Ok(pass),
            None => Ok(FeaturePass {
                features: self.run(&plan, preprocessing, &input)?,
                block_statistics: Vec::new(),
                prefixes: Vec::new(),
            }),
        }
    }

    /// Returns the backbone's background, if the runtime can compute block statistics.
    pub(crate) fn background(&self) -> Option<Arc<Background>> {
        let computes = match self.options.kernels {
            Kernels::Fused => true,
            #[cfg(feature = "tract")]
            Kernels::Tract => false,
        };
        self.backbone.background().filter(|_| computes).cloned()
    }

    /// Returns the memory of the engine in addition to the backbone and the adapters.
    pub fn memory(&self) -> EngineMemory {
        EngineMemory {
            plans: self.plans.lock().unwrap_or_else(PoisonError::into_inner).len(),
            packed_weights: self.weights.bytes(),
            working: self.arena.bytes(),
        }
    }

    /// Computes the features `[F]` of a preprocessed image with a plan and an adapter's parameters.
    fn run(
        &self,
        reprogrammed: &Reprogrammed,
        preprocessing: &Preprocessing,
        input: &[f32],
    ) -> Result<Vec<f32>, EngineError> {
        let expected = reprogrammed.image().iter().product();
        if input.len() != expected {
            let Preprocessing { height, width, .. } = *preprocessing;
            return Err(EngineError::Input {
                expected,
                height,
                width,
                got: input.len(),
            });
        }
        self.in_pool(|| reprogrammed.features(input))
    }

    /// Runs `work` on the engine's threads.
    pub(crate) fn in_pool<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// Returns the plan for adapters of a recipe at an input size, and builds it if there is none. Two threads never
    /// build the same plan.
    fn plan(&self, recipe: Recipe, preprocessing: &Preprocessing, task: &str) -> Result<Plan, EngineError> {
        let Preprocessing { height, width, .. } = *preprocessing;
        let size = [height as usize, width as usize];
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = [(size, None), (size, Some(recipe))];
        if let Some(plan) = keys.iter().find_map(|key| plans.get(key)) {
            return Ok(plan.clone());
        }
        // The backbone may run at another size than its own, as far as its shapes allow.
        let program = Program::lower(&self.backbone, size).map_err(|error| EngineError::Size {
            task: task.to_owned(),
            height,
            width,
            reason: error.to_string(),
        })?;
        let started = std::time::Instant::now();
        let (key, plan) = match self.options.kernels {
            Kernels::Fused => self.native(&program, recipe, size)?,
            #[cfg(feature = "tract")]
            Kernels::Tract => self.reference(recipe, size)?,
        };
        let milliseconds = started.elapsed().as_millis() as u64;
        tracing::debug!(%recipe, height, width, milliseconds, "plan built");
        plans.insert(key, plan.clone());
        Ok(plan)
    }

    #[cfg_attr(not(feature = "tract"), expect(unused_variables, reason = "for tract's plan"))]
    fn native(&self, program: &Program, recipe: Recipe, size: [usize; 2]) -> Result<(PlanKey, Plan), EngineError> {
        let options = ExecutableOptions::new(program)
            .with_threads(self.options.threads)
            .with_integer(self.backbone.is_quantised())
            .with_weights(Arc::clone(&self.weights))
            .with_arena(Arc::clone(&self.arena));
        match Executable::new(program, &options) {
            Ok(executable) => Ok(((size, None), Plan::Native(Arc::new(Native::new(executable))))),
            #[cfg(feature = "tract")]
            Err(error) => {
                tracing::warn!("{error}; tract's own operators take over");
                self.reference(recipe, size)
            }
            #[cfg(not(feature = "tract"))]
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(feature = "tract")]
    fn reference(&self, recipe: Recipe, size: [usize; 2]) -> Result<(PlanKey, Plan), EngineError> {
        let reference = Reference::new(&self.backbone, recipe, size, self.pool.clone())?;
        Ok(((size, Some(recipe)), Plan::Reference(Arc::new(reference))))
    }

    /// Computes the head. Its rows are independent, so distributing them over threads does not change any bit.
    fn head(&self, adapter: &ResidentAdapter, features: &[f32]) -> Vec<f32> {
        /// Minimum number of weights per thread. Below it, distributing the rows costs more time than it saves.
        const SHARE: usize = 1 << 16;
        let (weight, bias) = (&adapter.head_weight, &adapter.head_bias);
        let mut logits = vec![0.0; bias.len()];
        let parts = (weight.len() / SHARE).min(self.options.threads).max(1);
        let rows = bias.len().div_ceil(parts).max(1);
        let part = |((weight, bias), out): ((&[f32], &[f32]), &mut [f32])| dense(self.isa, weight, bias, features, out);
        match &self.pool {
            Some(pool) if parts > 1 => pool.install(|| {
                let weights = weight.par_chunks(rows * features.len());
                weights
                    .zip(bias.par_chunks(rows))
                    .zip(logits.par_chunks_mut(rows))
                    .for_each(part);
            }),
            _ => part(((weight, bias), &mut logits)),
        }
        logits
    }
}
