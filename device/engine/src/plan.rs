//! Plans: a backbone prepared for one input size, and an adapter's parameters in the plan's layout.

use std::sync::Arc;

use clr_adapters::{Adapter, SiteWeights};
#[cfg(feature = "tract")]
use clr_onnx::with_all_sites;
use clr_onnx::{Backbone, absolute_sites};
use clr_runtime::{Executable, FeaturePass, Intermediates, PrefixActivations, RuntimeError, SiteParameters};

use crate::EngineError;
#[cfg(feature = "tract")]
use crate::reference::{Reference, Tensors};

/// A backbone prepared to run at one input size.
#[derive(Clone, Debug)]
pub(crate) enum Plan {
    /// The runtime's program, which runs adapters of every recipe.
    Native(Arc<Native>),
    /// tract's plan, for adapters of one recipe.
    #[cfg(feature = "tract")]
    Reference(Arc<Reference>),
}

/// The runtime's program. At every site it has the backbone's own epilogue, which an adapter's parameters replace.
#[derive(Debug)]
pub(crate) struct Native {
    executable: Executable,
    frozen: Arc<[SiteParameters]>,
}

impl Native {
    /// Packs the weights of `executable` now, so that the first image does not have to wait for the packing.
    pub(crate) fn new(executable: Executable) -> Self {
        executable.pack();
        let frozen = executable.frozen_parameters().into();
        Self { executable, frozen }
    }

    /// Returns the parameters of every site. The adapter must have been checked against the backbone.
    fn sites(&self, backbone: &Backbone, adapter: &Adapter) -> Result<Arc<[SiteParameters]>, RuntimeError> {
        let given = absolute_sites(backbone, adapter).into_iter().enumerate();
        let sites = given.zip(&*self.frozen).map(|((index, given), frozen)| {
            let parameters = given.map(|site| match &site.weights {
                SiteWeights::Scale(weights) => SiteParameters::scale(weights, &site.bias),
                SiteWeights::Kernel(weights) => SiteParameters::kernel(weights, &site.bias),
            });
            parameters.map_or_else(
                || Ok(frozen.clone()),
                |parameters| self.executable.scaled(index, &parameters),
            )
        });
        sites.collect()
    }
}

/// A plan with one adapter's parameters, or with the backbone's own.
#[derive(Debug)]
pub(crate) enum Reprogrammed {
    /// The runtime's program, with one entry of `sites` per site of the backbone.
    Native {
        plan: Arc<Native>,
        sites: Arc<[SiteParameters]>,
    },
    /// tract's plan, and the inputs after the image.
    #[cfg(feature = "tract")]
    Reference { plan: Arc<Reference>, tensors: Tensors },
}

impl Plan {
    /// Returns the plan with the parameters of `adapter`, which must have been checked against the backbone.
    pub(crate) fn reprogram(&self, backbone: &Backbone, adapter: &Adapter) -> Result<Reprogrammed, EngineError> {
        Ok(match self {
            Self::Native(plan) => Reprogrammed::Native {
                sites: plan.sites(backbone, adapter)?,
                plan: Arc::clone(plan),
            },
            #[cfg(feature = "tract")]
            Self::Reference(plan) => Reprogrammed::Reference {
                tensors: plan.tensors(&with_all_sites(backbone, adapter))?,
                plan: Arc::clone(plan),
            },
        })
    }

    /// Returns the plan without an adapter. A plan of tract must be the one for [`Recipe::Linear`].
    pub(crate) fn untouched(&self) -> Reprogrammed {
        match self {
            Self::Native(plan) => Reprogrammed::Native {
                sites: Arc::clone(&plan.frozen),
                plan: Arc::clone(plan),
            },
            #[cfg(feature = "tract")]
            Self::Reference(plan) => Reprogrammed::Reference {
                plan: Arc::clone(plan),
                tensors: Tensors::default(),
            },
        }
    }
}

impl Reprogrammed {
    /// Returns channels, rows and columns of the image.
    pub(crate) fn image(&self) -> [usize; 3] {
        match self {
            Self::Native { plan, .. } => plan.executable.image(),
            #[cfg(feature = "tract")]
            Self::Reference { plan, .. } => plan.image(),
        }
    }

    /// Returns the features `[F]` of a preprocessed image `[C, H, W]`.
    pub(crate) fn features(&self, image: &[f32]) -> Result<Vec<f32>, EngineError> {
        match self {
            Self::Native { plan, sites } => Ok(plan.executable.features(image, sites)),
            #[cfg(feature = "tract")]
            Self::Reference { plan, tensors } => plan.features(image, tensors),
        }
    }

    /// Runs a preprocessed image; `None` if tract executes the plan.
    pub(crate) fn pass(&self, image: &[f32], wanted: Intermediates<'_>) -> Option<FeaturePass> {
        match self {
            Self::Native { plan, sites } => Some(plan.executable.pass(image, sites, wanted)),
            #[cfg(feature = "tract")]
            Self::Reference { .. } => None,
        }
    }

    /// Returns the features `[F]` from activations of the unmodified backbone before [`Reprogrammed::first_step`]; `None` if
    /// tract executes the plan.
    pub(crate) fn features_from(&self, prefix: &PrefixActivations) -> Option<Vec<f32>> {
        match self {
            Self::Native { plan, sites } => Some(plan.executable.features_from_prefix(prefix, sites)),
            #[cfg(feature = "tract")]
            Self::Reference { .. } => None,
        }
    }

    /// Returns the first step that differs from the unmodified backbone; `None` if there is none, or if tract executes the
    /// plan.
    pub(crate) fn first_step(&self) -> Option<usize> {
        match self {
            Self::Native { plan, sites } => {
                let first = plan.executable.first_difference(sites, &plan.frozen);
                (first < plan.executable.step_count()).then_some(first)
            }
            #[cfg(feature = "tract")]
            Self::Reference { .. } => None,
        }
    }

    /// Returns the features `[F]` of a preprocessed image for each adapter. The adapters share the forward pass up to
    /// the first site in which they differ. Returns `None` if the adapters have different plans, or if tract executes
    /// one of them.
    pub(crate) fn features_of_all(all: &[&Self], image: &[f32]) -> Option<Vec<Vec<f32>>> {
        let mut plans = Vec::with_capacity(all.len());
        for one in all {
            match one {
                Self::Native { plan, sites } => plans.push((plan, &**sites)),
                #[cfg(feature = "tract")]
                Self::Reference { .. } => return None,
            }
        }
        let (first, _) = *plans.first()?;
        let sites: Vec<&[SiteParameters]> = plans.iter().map(|(_, sites)| *sites).collect();
        (plans.iter().all(|(plan, _)| Arc::ptr_eq(plan, first)))
            .then(|| first.executable.features_of_tasks(image, &sites))
    }

    /// Returns the bytes of the adapter's parameters. The backbone's own parameters are shared and do not count.
    pub(crate) fn bytes(&self) -> usize {
        let values: usize = match self {
            Self::Native { plan, sites } => (sites.iter().zip(&*plan.frozen))
                .filter(|(own, frozen)| !own.is_clone_of(frozen))
                .map(|(own, _)| own.block_len())
                .sum(),
            #[cfg(feature = "tract")]
            Self::Reference { tensors, .. } => tensors.len(),
        };
        values * size_of::<f32>()
    }
}
