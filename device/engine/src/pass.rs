//! Computations on one image that share features.

use std::{borrow::Cow, sync::Arc};

use clr_adapters::{Background, Preprocessing};
use clr_onnx::ImageView;
use clr_runtime::FeaturePass;

use crate::{Classification, Engine, EngineError, ResidentAdapter};

/// Maximum number of steps before which activations are kept for tasks that begin late.
const MOST_PREFIXES: usize = 4;

/// An image, and the results that an engine has computed from it so far. Tasks are chosen by the features of the
/// unmodified backbone. A task without sites (recipe `linear`) uses the same features, so choosing such a task and
/// classifying with it takes only one forward pass.
#[derive(Debug)]
pub struct ImagePass<'a> {
    engine: &'a Engine,
    image: ImageView<'a>,
    /// Features of the unmodified backbone, for each preprocessing.
    features: Vec<(Preprocessing, FeaturePass)>,
    /// Classifications that choosing the task needed.
    kept: Vec<(Arc<ResidentAdapter>, Classification)>,
}

impl Engine {
    /// Begins a pass over an image of any size. Nothing is computed yet.
    pub fn pass<'a>(&'a self, image: impl Into<ImageView<'a>>) -> ImagePass<'a> {
        ImagePass {
            engine: self,
            image: image.into(),
            features: Vec::new(),
            kept: Vec::new(),
        }
    }
}

impl ImagePass<'_> {
    /// Returns [`Engine::backbone_features`] of the image, computed once for each preprocessing.
    ///
    /// # Errors
    /// [`EngineError`] in the same cases as [`Engine::backbone_features`].
    pub fn backbone_features(&mut self, preprocessing: &Preprocessing) -> Result<&[f32], EngineError> {
        Ok(&self.unmodified(preprocessing, &[])?.features)
    }

    /// Returns the block statistics `[S]` of the image, from the same forward pass as
    /// [`ImagePass::backbone_features`]; empty if the backbone has no background or tract executes it.
    ///
    /// # Errors
    /// [`EngineError`] in the same cases as [`Engine::backbone_features`].
    pub fn block_statistics(&mut self, preprocessing: &Preprocessing) -> Result<&[f32], EngineError> {
        Ok(&self.unmodified(preprocessing, &[])?.block_statistics)
    }

    /// Runs the unmodified backbone for the tasks' preprocessings, unless that was done, and keeps what the tasks can be
    /// classified from without running their first sites again.
    ///
    /// # Errors
    /// [`EngineError`] in the same cases as [`Engine::backbone_features`].
    pub(crate) fn prepare(
        &mut self,
        preprocessing: &Preprocessing,
        tasks: &[Arc<ResidentAdapter>],
    ) -> Result<(), EngineError> {
        let same = tasks.iter().filter(|task| task.preprocessing() == preprocessing);
        let mut steps: Vec<usize> = same
            .filter_map(|task| task.first_step)
            .filter(|&step| step > 0)
            .collect();
        steps.sort_unstable();
        steps.dedup();
        // The later a task begins, the more of its pass is saved, and the smaller are the activations.
        let kept = &steps[steps.len().saturating_sub(MOST_PREFIXES)..];
        self.unmodified(preprocessing, kept).map(|_| ())
    }

    fn unmodified(&mut self, preprocessing: &Preprocessing, prefixes: &[usize]) -> Result<&FeaturePass, EngineError> {
        let at = if let Some(at) = self.position(preprocessing) {
            at
        } else {
            let pass = self.engine.unmodified(preprocessing, self.image, prefixes)?;
            self.features.push((preprocessing.clone(), pass));
            self.features.len() - 1
        };
        Ok(&self.features[at].1)
    }

    /// Returns the background that scores are relative to; `None` if the backbone has none, or tract executes it.
    pub(crate) fn background(&self) -> Option<Arc<Background>> {
        self.engine.background()
    }

    /// Classifies the image like [`ImagePass::classify`], which then returns this result.
    pub(crate) fn classify_and_keep(&mut self, adapter: &Arc<ResidentAdapter>) -> Result<&Classification, EngineError> {
        let known = self.kept.iter().position(|(known, _)| Arc::ptr_eq(known, adapter));
        let at = if let Some(at) = known {
            at
        } else {
            let classification = self.classify(adapter)?;
            self.kept.push((Arc::clone(adapter), classification));
            self.kept.len() - 1
        };
        Ok(&self.kept[at].1)
    }

    /// Classifies the image. The result is bit-identical to that of [`Engine::classify`]. An adapter without sites
    /// needs no forward pass if the features for its preprocessing are already computed, one that begins late only the rest
    /// of the pass if it was a candidate when the task was chosen, and one whose head helped to choose none at all.
    ///
    /// # Errors
    /// [`EngineError`] in the same cases as [`Engine::classify`].
    pub fn classify(&self, adapter: &ResidentAdapter) -> Result<Classification, EngineError> {
        let kept = self
            .kept
            .iter()
            .find(|(known, _)| std::ptr::eq(&raw const **known, adapter));
        if let Some((_, classification)) = kept {
            return Ok(classification.clone());
        }
        let Some(at) = self.position(adapter.preprocessing()) else {
            return self.engine.classify(adapter, self.image);
        };
        self.engine.check_owner(adapter)?;
        let pass = &self.features[at].1;
        let prefix = (pass.prefixes.iter()).find(|prefix| Some(prefix.step()) == adapter.first_step);
        let features = match prefix {
            _ if adapter.bytes == 0 => Cow::Borrowed(&pass.features),
            Some(prefix) => match self.engine.in_pool(|| adapter.reprogrammed.features_from(prefix)) {
                Some(features) => Cow::Owned(features),
                None => return self.engine.classify(adapter, self.image),
            },
            None => return self.engine.classify(adapter, self.image),
        };
        let logits = self.engine.finite_logits(adapter, &features)?;
        Ok(Classification::of(adapter, logits))
    }

    fn position(&self, preprocessing: &Preprocessing) -> Option<usize> {
        self.features.iter().position(|(known, _)| known == preprocessing)
    }
}
