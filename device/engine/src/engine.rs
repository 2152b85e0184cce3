//! One backbone in memory, any number of adapters on it.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use clr_adapters::{Adapter, Preprocessing, Recipe};
use clr_kernels::{Arena, Level, dense, interleave};
use clr_onnx::{Backbone, ImageView, Parameter, Preprocess as _, check_adapter};
use rayon::{ThreadPool, prelude::*};
use tract_onnx::{
    prelude::{RunOptions, TValue, Tensor, multithread::Executor},
    tract_core::internal::{TVec, tvec},
};

use crate::{
    Classification, EngineError, ResidentAdapter,
    auto::Scorer,
    plan::{Layout, Obstacle, PackedConvs, Plan, Target, compile, reference, tensors},
};

/// How an engine computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Threads per picture. 1 computes on the calling thread; more start a pool of the engine's own, shared by all
    /// callers; 0 takes as many as the machine has cores. Answers do not depend on it, to the bit.
    pub threads: usize,
    /// Which kernels compute the plan.
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

/// Which kernels compute a plan. Their answers agree within rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kernels {
    /// This crate's: convolution, CLR layer, shortcut and activation in one pass, in tract's plan. A graph with a node
    /// that they do not know falls back to [`Kernels::Tract`], with a warning in the log.
    #[default]
    Fused,
    /// tract's own operators on the reprogrammed ONNX graph: the reference.
    Tract,
}

/// Memory that an engine holds beside its adapters, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineMemory {
    /// Plans built so far: one per layout of adapters and input size.
    pub plans: usize,
    /// The convolutions' weights as the fused kernels read them, shared by all plans.
    pub packed_weights: usize,
    /// Working memory of the fused kernels, reused from frame to frame.
    pub working: usize,
}

/// A backbone that answers with any adapter made for it.
///
/// Every method takes `&self`; the engine may be used from any number of threads at once, each with its own adapter.
/// There is no global state: two engines do not touch one another.
#[derive(Debug)]
pub struct Engine {
    backbone: Backbone,
    options: EngineOptions,
    level: Level,
    pool: Option<Arc<ThreadPool>>,
    convs: PackedConvs,
    arena: Arc<Arena>,
    plans: Mutex<HashMap<(Layout, [usize; 2]), Ready>>,
    token: Arc<()>,
}

/// A plan, and how an adapter becomes its inputs.
#[derive(Clone, Debug)]
struct Ready {
    plan: Arc<Plan>,
    /// The inputs behind the picture in tract's own plan; `None` is the fused plan's one tensor.
    parameters: Option<Arc<[Parameter]>>,
}

impl Engine {
    /// An engine for the backbone in an ONNX file, with default options.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, EngineError> {
        Self::new(Backbone::load(path.as_ref())?, EngineOptions::default())
    }

    /// An engine for `backbone`. Plans are built when an adapter first needs them.
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
            convs: PackedConvs::new(backbone.sites().len()),
            backbone,
            options: EngineOptions { threads, ..options },
            level: Level::detect(),
            pool: pool.map(Arc::new),
            arena: Arc::default(),
            plans: Mutex::default(),
            token: Arc::default(),
        })
    }

    /// The backbone.
    pub fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    /// The options, with the number of threads resolved.
    pub fn options(&self) -> EngineOptions {
        self.options
    }

    /// Checks `adapter` against the backbone and makes it ready: tensors in the plan's own layout, the plan for its
    /// recipe and input size built if it is the first of its kind. The adapter itself may be dropped afterwards.
    pub fn prepare(&self, adapter: &Adapter) -> Result<ResidentAdapter, EngineError> {
        check_adapter(&self.backbone, adapter)?;
        let header = &adapter.header;
        let layout = Layout::new(&self.backbone, header.recipe);
        let ready = self.plan(&layout, header.recipe, &header.preprocessing, &header.task)?;
        let tensors = if let Some(parameters) = &ready.parameters {
            tensors(parameters, adapter)?
        } else {
            let packed = layout.pack(&self.backbone, adapter);
            let tensor = || {
                Tensor::from_shape(&[packed.len()], &packed)
                    .map(Arc::new)
                    .map_err(EngineError::plan)
            };
            if packed.is_empty() { Vec::new() } else { vec![tensor()?] }
        };
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
            tensors,
            plan: ready.plan,
            engine: Arc::clone(&self.token),
        })
    }

    /// The answer for a preprocessed picture: `input [3, H, W]` of the adapter's input size, one logit per class out.
    pub fn logits(&self, adapter: &ResidentAdapter, input: &[f32]) -> Result<Vec<f32>, EngineError> {
        if !Arc::ptr_eq(&self.token, &adapter.engine) {
            return Err(EngineError::OtherEngine {
                task: adapter.task.clone(),
            });
        }
        let features = self.run(&adapter.plan, &adapter.tensors, &adapter.preprocessing, input)?;
        let logits = self.head(adapter, &features);
        match logits.iter().position(|logit| !logit.is_finite()) {
            Some(class) => Err(EngineError::NotFinite {
                task: adapter.task.clone(),
                class,
                value: logits[class],
            }),
            None => Ok(logits),
        }
    }

    /// The answer for a picture of any size, preprocessed as the adapter says.
    pub fn classify<'a>(
        &self,
        adapter: &ResidentAdapter,
        picture: impl Into<ImageView<'a>>,
    ) -> Result<Classification, EngineError> {
        let input = adapter.preprocessing.preprocess(picture);
        Ok(Classification::new(
            self.logits(adapter, &input)?,
            Arc::clone(&adapter.labels),
            adapter.temperature,
        ))
    }

    /// The pooled features `[F]` of a picture of any size on the backbone without any adapter: what profiles are scored
    /// on. The plan for the picture's size is built the first time and shared with `linear` adapters.
    pub fn backbone_features<'a>(
        &self,
        preprocessing: &Preprocessing,
        picture: impl Into<ImageView<'a>>,
    ) -> Result<Vec<f32>, EngineError> {
        let layout = Layout::new(&self.backbone, Recipe::Linear);
        let ready = self.plan(&layout, Recipe::Linear, preprocessing, "backbone")?;
        self.run(&ready.plan, &[], preprocessing, &preprocessing.preprocess(picture))
    }

    /// What the engine holds in memory beside the backbone and the adapters.
    pub fn memory(&self) -> EngineMemory {
        EngineMemory {
            plans: self.plans.lock().unwrap_or_else(PoisonError::into_inner).len(),
            packed_weights: self.convs.bytes(),
            working: self.arena.bytes(),
        }
    }

    /// The features `[F]` of a preprocessed picture, by a plan with an adapter's tensors.
    fn run(
        &self,
        plan: &Plan,
        tensors: &[Arc<Tensor>],
        preprocessing: &Preprocessing,
        input: &[f32],
    ) -> Result<Vec<f32>, EngineError> {
        let [channels, height, width] = plan.input;
        let expected = channels * height * width;
        if input.len() != expected {
            let Preprocessing { height, width, .. } = *preprocessing;
            return Err(EngineError::Input {
                expected,
                height,
                width,
                got: input.len(),
            });
        }
        let run = || {
            let picture = if plan.interleaved {
                let mut picture = Tensor::zero::<f32>(&[1, height, width, channels])?;
                interleave(input, channels, picture.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?);
                picture
            } else {
                Tensor::from_shape(&[1, channels, height, width], input)?
            };
            let mut inputs: TVec<TValue> = tvec!(picture.into());
            inputs.extend(tensors.iter().map(|tensor| TValue::from_const(Arc::clone(tensor))));
            plan.run(inputs)
        };
        match &self.pool {
            Some(pool) => pool.install(run),
            None => run(),
        }
        .map_err(EngineError::plan)
    }

    /// The plan for adapters of a layout at an input size, built if there is none yet. Two threads never build the same one.
    fn plan(
        &self,
        layout: &Layout,
        recipe: Recipe,
        preprocessing: &Preprocessing,
        task: &str,
    ) -> Result<Ready, EngineError> {
        let Preprocessing { height, width, .. } = *preprocessing;
        let size = [height as usize, width as usize];
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (layout.clone(), size);
        if let Some(ready) = plans.get(&key) {
            return Ok(ready.clone());
        }
        // The backbone runs at sizes other than its own as far as its shapes allow.
        self.backbone
            .value_shapes(size[0], size[1])
            .map_err(|error| EngineError::Size {
                task: task.to_owned(),
                height,
                width,
                reason: error.to_string(),
            })?;
        let started = std::time::Instant::now();
        let fused = match self.options.kernels {
            Kernels::Fused => self.fused(layout, size)?,
            Kernels::Tract => None,
        };
        let kernels = if fused.is_some() {
            Kernels::Fused
        } else {
            Kernels::Tract
        };
        let ready = if let Some(plan) = fused {
            Ready {
                plan: Arc::new(plan),
                parameters: None,
            }
        } else {
            let executor = self.pool.clone().map_or(Executor::SingleThread, Executor::MultiThread);
            let options = RunOptions {
                executor: Some(executor),
                ..RunOptions::default()
            };
            let (plan, parameters) = reference(&self.backbone, recipe, size, &options)?;
            Ready {
                plan: Arc::new(plan),
                parameters: Some(parameters.into()),
            }
        };
        tracing::debug!(
            recipe = %recipe, height, width, ?kernels,
            milliseconds = started.elapsed().as_millis() as u64, "plan built"
        );
        plans.insert(key, ready.clone());
        Ok(ready)
    }

    /// The fused plan, or none if the graph has a node that the fused kernels do not know.
    fn fused(&self, layout: &Layout, size: [usize; 2]) -> Result<Option<Plan>, EngineError> {
        let target = Target {
            level: self.level,
            threads: self.options.threads,
            convs: &self.convs,
            arena: &self.arena,
        };
        match compile(&self.backbone, layout, size, &target) {
            Ok(plan) => Ok(Some(plan)),
            Err(Obstacle::Unsupported { node, reason }) => {
                tracing::warn!(node, reason, "no fused plan; tract's own operators take over");
                Ok(None)
            }
            Err(Obstacle::Failed(error)) => Err(error),
        }
    }

    /// The head: its rows are independent, so they may be shared out without changing a bit.
    fn head(&self, adapter: &ResidentAdapter, features: &[f32]) -> Vec<f32> {
        /// Weights per thread below which sharing costs more than it gives.
        const SHARE: usize = 1 << 16;
        let (weight, bias) = (&adapter.head_weight, &adapter.head_bias);
        let mut logits = vec![0.0; bias.len()];
        let parts = (weight.len() / SHARE).min(self.options.threads).max(1);
        let rows = bias.len().div_ceil(parts).max(1);
        let part =
            |((weight, bias), out): ((&[f32], &[f32]), &mut [f32])| dense(self.level, weight, bias, features, out);
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
