//! Frozen backbone of a network: its sites, and one executable per input size.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use clr_adapters::FoldedNorm;
use clr_onnx::{Backbone, Op, Program, folded_norms};
use clr_runtime::{Executable, ExecutableOptions, PackedWeights};

use crate::{
    FrozenSite, SiteNorm,
    error::{LearningError, Result},
};

/// A frozen backbone, shared by all of its networks.
pub(crate) struct FrozenBackbone {
    pub(crate) backbone: Backbone,
    pub(crate) sites: Vec<FrozenSite>,
    /// The backbone's own norm at each site.
    pub(crate) norms: Vec<Arc<FoldedNorm>>,
    weights: Arc<PackedWeights>,
    executables: Mutex<HashMap<Key, Arc<Executable>>>,
}

/// Image size (rows, columns) of an executable, and whether it computes on bytes.
type Key = ([usize; 2], bool);

impl FrozenBackbone {
    pub(crate) fn new(backbone: &Backbone) -> Result<Self> {
        let nodes = &backbone.graph().nodes;
        let sites = backbone.sites().iter().map(|info| {
            let Op::Conv(conv) = &nodes[info.conv].op else {
                return Err(LearningError::mismatch(
                    format!("site `{}`", info.name),
                    "a convolution",
                    "another operator",
                ));
            };
            Ok(FrozenSite {
                name: info.name.clone(),
                channels: info.channels,
                kernel: info.kernel,
                norm: SiteNorm::new(conv, info.norm.map(|norm| &nodes[norm].op)),
            })
        });
        let sites = sites.collect::<Result<Vec<_>>>()?;
        Ok(Self {
            backbone: backbone.clone(),
            weights: Arc::new(PackedWeights::new(sites.len())),
            sites,
            norms: folded_norms(backbone).into_iter().map(Arc::new).collect(),
            executables: Mutex::default(),
        })
    }

    /// Returns the executable for images of `size` (rows, columns), which computes on real values.
    pub(crate) fn executable(&self, size: [usize; 2]) -> Result<Arc<Executable>> {
        self.compiled(size, false)
    }

    /// Returns an executable as that of the engine: on bytes, if the backbone is quantised.
    pub(crate) fn inference(&self, size: [usize; 2]) -> Result<Arc<Executable>> {
        self.compiled(size, self.backbone.is_quantised())
    }

    fn compiled(&self, size: [usize; 2], integer: bool) -> Result<Arc<Executable>> {
        let mut executables = self.executables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = executables.get(&(size, integer)) {
            return Ok(Arc::clone(known));
        }
        let program = Program::lower(&self.backbone, size)?;
        let options = ExecutableOptions::new(&program)
            .with_weights(Arc::clone(&self.weights))
            .with_integer(integer);
        let executable = Arc::new(Executable::new(&program, &options)?);
        executables.insert((size, integer), Arc::clone(&executable));
        Ok(executable)
    }
}
