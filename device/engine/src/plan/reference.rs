//! The plan that tract makes by itself of the reprogrammed ONNX graph: what the fused plan is checked against, and the
//! way to run a backbone whose operators the fused kernels lack.

use std::{collections::HashMap, sync::Arc};

use clr_adapters::{Adapter, Recipe};
use clr_onnx::{Backbone, HeadPart, Parameter, Reprogrammed, reprogram};
use prost::Message as _;
use tract_onnx::{
    prelude::{
        DatumType, DatumTypeExt as _, Framework as _, InferenceModelExt as _, RunOptions, Tensor, TypedSimplePlan,
    },
    tract_hir::prelude::InferenceFact,
};

use super::Plan;
use crate::EngineError;

/// tract's own plan for `recipe` at `size` (rows, columns), and the inputs that an adapter fills.
pub(crate) fn reference(
    backbone: &Backbone,
    recipe: Recipe,
    size: [usize; 2],
    options: &RunOptions,
) -> Result<(Plan, Vec<Parameter>), EngineError> {
    let mut reprogrammed = reprogram(backbone, recipe, HeadPart::Features, size)?;
    rename(&mut reprogrammed);
    let channels = backbone.graph().input_channels;
    let build = || {
        let bytes = reprogrammed.model.encode_to_vec();
        let mut model = tract_onnx::onnx().model_for_read(&mut bytes.as_slice())?;
        let picture: InferenceFact = DatumType::F32.fact([1, channels, size[0], size[1]]).into();
        model.set_input_fact(0, picture)?;
        TypedSimplePlan::build(model.into_optimized()?, options)
    };
    let runnable = build().map_err(EngineError::plan)?;
    let plan = Plan {
        runnable: Arc::new(runnable),
        interleaved: false,
        input: [channels, size[0], size[1]],
    };
    Ok((plan, reprogrammed.parameters))
}

/// Gives the adapter's inputs names that tract does not make up itself: it calls a convolution's bias `{node}.bias`,
/// which is what the rewrite calls the site's.
fn rename(reprogrammed: &mut Reprogrammed) {
    let names: HashMap<&str, String> = reprogrammed
        .parameters
        .iter()
        .enumerate()
        .map(|(index, it)| (it.name.as_str(), format!("adapter/{index}")))
        .collect();
    let Some(graph) = &mut reprogrammed.model.graph else {
        return;
    };
    let inputs = graph.input.iter_mut().filter_map(|input| input.name.as_mut());
    let reads = graph.node.iter_mut().flat_map(|node| &mut node.input);
    for name in inputs.chain(reads) {
        if let Some(new) = names.get(name.as_str()) {
            name.clone_from(new);
        }
    }
}

/// The adapter's tensors for `parameters`, in order. The adapter must have been checked against the backbone.
pub(crate) fn tensors(parameters: &[Parameter], adapter: &Adapter) -> Result<Vec<Arc<Tensor>>, EngineError> {
    parameters
        .iter()
        .map(|parameter| {
            let values = parameter.values(adapter).unwrap_or_default();
            Tensor::from_shape(&parameter.shape, values)
                .map(Arc::new)
                .map_err(EngineError::plan)
        })
        .collect()
}
