//! tract's plan of the reprogrammed ONNX graph. It is the reference for the runtime's program, and the executor for
//! backbones with an operator that the runtime does not support.

use std::sync::Arc;

use clr_adapters::{Adapter, Recipe};
use clr_onnx::{Backbone, HeadPart, Parameter, reprogram};
use rayon::ThreadPool;
use tract_onnx::{
    prelude::{
        DatumType, DatumTypeExt as _, Framework as _, InferenceModelExt as _, RunOptions, TValue, TVec, Tensor,
        TypedSimplePlan, multithread::Executor, tvec,
    },
    tract_hir::prelude::InferenceFact,
};

use crate::EngineError;

/// A plan that is ready to run. Its inputs are `[image, adapter's tensors…]`, its output is the features.
#[derive(Debug)]
pub(crate) struct Reference {
    runnable: Arc<TypedSimplePlan>,
    parameters: Vec<Parameter>,
    /// Channels, rows and columns of the image.
    image: [usize; 3],
}

/// An adapter's parameters, as one tensor per graph input.
#[derive(Debug, Default)]
pub(crate) struct Tensors(Vec<Arc<Tensor>>);

impl Tensors {
    /// Returns the number of values.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|tensor| tensor.len()).sum()
    }
}

impl Reference {
    /// Builds tract's plan for `recipe` at `size` (rows, columns), which runs on `pool` if that is given.
    pub(crate) fn new(
        backbone: &Backbone,
        recipe: Recipe,
        size: [usize; 2],
        pool: Option<Arc<ThreadPool>>,
    ) -> Result<Self, EngineError> {
        let mut reprogrammed = reprogram(backbone, recipe, HeadPart::Features, size)?;
        // tract names a convolution's bias `{node}.bias`, which would collide with the name that the rewrite gives to
        // the site's bias.
        reprogrammed.rename_parameters(|index| format!("adapter/{index}"));
        let channels = backbone.graph().input_channels;
        let options = RunOptions {
            executor: Some(pool.map_or(Executor::SingleThread, Executor::MultiThread)),
            ..RunOptions::default()
        };
        let build = || {
            let bytes = reprogrammed.model.to_bytes();
            let mut model = tract_onnx::onnx().model_for_read(&mut bytes.as_slice())?;
            let image: InferenceFact = DatumType::F32.fact([1, channels, size[0], size[1]]).into();
            model.set_input_fact(0, image)?;
            TypedSimplePlan::build(model.into_optimized()?, &options)
        };
        let runnable = build().map_err(EngineError::plan)?;
        Ok(Self {
            runnable: Arc::new(runnable),
            parameters: reprogrammed.parameters,
            image: [channels, size[0], size[1]],
        })
    }

    /// Returns channels, rows and columns of the image.
    pub(crate) fn image(&self) -> [usize; 3] {
        self.image
    }

    /// Returns the tensors of `adapter`, which must have been checked against the backbone.
    pub(crate) fn tensors(&self, adapter: &Adapter) -> Result<Tensors, EngineError> {
        let tensors = self.parameters.iter().map(|parameter| {
            let values = parameter.values(adapter).unwrap_or_default();
            Tensor::from_shape(&parameter.shape, values)
                .map(Arc::new)
                .map_err(EngineError::plan)
        });
        tensors.collect::<Result<_, _>>().map(Tensors)
    }

    /// Returns the features `[F]` of a preprocessed image `[C, H, W]`.
    pub(crate) fn features(&self, image: &[f32], tensors: &Tensors) -> Result<Vec<f32>, EngineError> {
        let [channels, height, width] = self.image;
        let run = || {
            let image = Tensor::from_shape(&[1, channels, height, width], image)?;
            let mut inputs: TVec<TValue> = tvec!(image.into());
            inputs.extend(tensors.0.iter().map(|tensor| TValue::from_const(Arc::clone(tensor))));
            let outputs = self.runnable.run(inputs)?;
            Ok(outputs[0].try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
        };
        run().map_err(|error: tract_onnx::prelude::TractError| EngineError::plan(error))
    }
}
