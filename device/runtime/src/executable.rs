//! Executable: a program compiled for a machine.

use std::sync::Arc;

use clr_kernels::{Arena, Isa};
use clr_onnx::{Program, Quantisation, ValueId};

use crate::{
    PackedWeights, RuntimeError, SiteParameters,
    convolution::Convolution,
    integer::Stored,
    memory::Buffers,
    operators::{Operator, Reads},
};

/// Options of an executable: threads, shared weights and shared workspace.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExecutableOptions {
    /// Number of threads in the pool that runs a step; 1 (the default) means the caller's own thread.
    pub threads: usize,
    /// The packed weights, which executables of the same backbone can share.
    pub weights: Arc<PackedWeights>,
    /// The workspace, which executables can share.
    pub arena: Arc<Arena>,
    /// Whether the steps of a quantised backbone compute on bytes where they can. Such an executable is for inference
    /// only. Without it, they compute the same function on real values, which differ from bytes by rounding.
    pub integer: bool,
}

impl ExecutableOptions {
    /// Returns the options for one thread, without shared weights or workspace.
    pub fn new(program: &Program) -> Self {
        Self {
            threads: 1,
            weights: Arc::new(PackedWeights::new(program.sites)),
            arena: Arc::default(),
            integer: false,
        }
    }

    /// Selects whether the steps of a quantised backbone compute on bytes where they can.
    #[must_use]
    pub fn with_integer(mut self, integer: bool) -> Self {
        self.integer = integer;
        self
    }

    /// Sets the number of threads in the pool that runs a step.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Shares packed weights.
    #[must_use]
    pub fn with_weights(mut self, weights: Arc<PackedWeights>) -> Self {
        self.weights = weights;
        self
    }

    /// Shares working memory.
    #[must_use]
    pub fn with_arena(mut self, arena: Arc<Arena>) -> Self {
        self.arena = arena;
        self
    }
}

/// A backbone's computation for images of one size, which can be executed with the parameters of any adapter.
#[derive(Debug)]
pub struct Executable {
    pub(crate) steps: Vec<Step>,
    /// Lengths of the values in blocks, by [`ValueId`]; for the image, the number of its pixel values.
    pub(crate) lengths: Vec<usize>,
    /// The image as the first step reads it.
    pub(crate) entry: ValueId,
    pub(crate) features: ValueId,
    pub(crate) feature_count: usize,
    pub(crate) block_outputs: Vec<BlockOutput>,
    /// Channels, rows, columns.
    pub(crate) image: [usize; 3],
    pub(crate) sites: usize,
    pub(crate) isa: Isa,
    /// Whether steps compute on bytes.
    pub(crate) integer: bool,
    /// How the program's values are stored.
    pub(crate) stored: Vec<Stored>,
    pub(crate) arena: Arc<Arena>,
    /// Buffers for training, which outlive an image.
    pub(crate) buffers: Buffers,
}

/// A block output ([`Program::block_outputs`]).
#[derive(Debug)]
pub(crate) struct BlockOutput {
    pub(crate) value: ValueId,
    /// Number of steps after which it is computed.
    pub(crate) steps: usize,
    pub(crate) channels: usize,
    /// The grid, if it is stored as bytes.
    pub(crate) grid: Option<Quantisation>,
}

/// A step.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) work: Work,
    pub(crate) inputs: Vec<ValueId>,
    pub(crate) output: ValueId,
    pub(crate) last_uses: Vec<ValueId>,
    /// The operands that the backward pass reads.
    pub(crate) reads: Reads,
    pub(crate) differentiable: bool,
}

/// The computation of a step.
#[derive(Debug)]
pub(crate) enum Work {
    Convolution(Box<Convolution>),
    Operator(Box<dyn Operator>),
}

impl Step {
    /// Marks the values that the backward pass reads.
    pub(crate) fn mark_kept(&self, kept: &mut [bool]) {
        if self.reads.inputs {
            self.inputs.iter().for_each(|input| kept[input.0] = true);
        }
        kept[self.output.0] |= self.reads.output;
    }

    pub(crate) fn convolution(&self) -> Option<&Convolution> {
        match &self.work {
            Work::Convolution(conv) => Some(conv),
            Work::Operator(_) => None,
        }
    }
}

impl Executable {
    /// Packs the weights for inference now, and not during the first image.
    pub fn pack(&self) {
        self.steps
            .iter()
            .filter_map(Step::convolution)
            .for_each(Convolution::pack);
    }

    /// Returns the parameters of a site in the units in which this executable takes them. Parameters of
    /// [`Executable::frozen_parameters`] have them already.
    ///
    /// # Errors
    /// [`RuntimeError::Range`] if a step on bytes could compute values beyond f32 with them.
    pub fn scaled(&self, site: usize, parameters: &SiteParameters) -> Result<SiteParameters, RuntimeError> {
        let mut convolutions = self.steps.iter().filter_map(|step| Some((step, step.convolution()?)));
        let Some((step, conv)) = convolutions.find(|(_, conv)| conv.site == site) else {
            return Ok(parameters.clone());
        };
        let scaled = conv.scaled(parameters);
        scaled.map_err(|channel| RuntimeError::range(&step.name, channel))
    }

    /// Channels, rows and columns of the image.
    pub fn image(&self) -> [usize; 3] {
        self.image
    }

    /// Number of steps.
    pub fn step_count(&self) -> usize {
        self.steps.len()
    }

    /// Number of features.
    pub fn feature_count(&self) -> usize {
        self.feature_count
    }

    /// Returns the backbone's own epilogue at every site, as parameters of a task that changes nothing.
    pub fn frozen_parameters(&self) -> Vec<SiteParameters> {
        // A site whose result is not read has no step, and its parameters are never read.
        let mut parameters = vec![SiteParameters::scale(&[], &[]); self.sites];
        for conv in self.steps.iter().filter_map(Step::convolution) {
            parameters[conv.site] = conv.frozen.clone();
        }
        parameters
    }

    /// Returns the first node without a backward pass, if there is one. No site that comes before it can be trained.
    pub fn first_obstacle(&self) -> Option<&str> {
        let obstacle = self.steps.iter().find(|step| !step.differentiable);
        obstacle.map(|step| step.name.as_str())
    }

    /// Returns for each site whether it can be trained, which requires a backward pass of every step that depends on
    /// it.
    pub fn trainable_sites(&self) -> Vec<bool> {
        let mut blocked = vec![false; self.lengths.len()];
        let mut trainable = vec![true; self.sites];
        for step in self.steps.iter().rev() {
            let stops = blocked[step.output.0] || !step.differentiable;
            if let Some(conv) = step.convolution() {
                trainable[conv.site] = !stops;
            }
            if stops {
                step.inputs.iter().for_each(|input| blocked[input.0] = true);
            }
        }
        trainable
    }

    /// Returns the bytes of the packed weights for the forward pass and for the backward pass, and of the workspace.
    pub fn packed_bytes(&self) -> [usize; 3] {
        let convolutions = self.steps.iter().filter_map(Step::convolution);
        let [forward, backward] = convolutions.fold([0, 0], |[forward, backward], conv| {
            let packed = conv.packed_bytes();
            [forward + packed[0], backward + packed[1]]
        });
        [forward, backward, self.arena.bytes()]
    }

    /// Returns the maximum bytes that the training buffers have used so far.
    pub fn peak_bytes(&self) -> usize {
        size_of::<f32>() * self.buffers.peak()
    }
}
