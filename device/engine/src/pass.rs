//! Computations on one image that share features.

use clr_adapters::Preprocessing;
use clr_onnx::ImageView;

use crate::{Classification, Engine, EngineError, ResidentAdapter};

/// An image, and the results that an engine has computed from it so far. Tasks are chosen by the features of the
/// unmodified backbone. A task without sites (recipe `linear`) uses the same features, so choosing such a task and
/// classifying with it takes only one forward pass.
#[derive(Debug)]
pub struct ImagePass<'a> {
    engine: &'a Engine,
    image: ImageView<'a>,
    /// Features `[F]` of the unmodified backbone, for each preprocessing.
    features: Vec<(Preprocessing, Vec<f32>)>,
}

impl Engine {
    /// Begins a pass over an image of any size. Nothing is computed yet.
    pub fn pass<'a>(&'a self, image: impl Into<ImageView<'a>>) -> ImagePass<'a> {
        ImagePass {
            engine: self,
            image: image.into(),
            features: Vec::new(),
        }
    }
}

impl ImagePass<'_> {
    /// Returns [`Engine::backbone_features`] of the image, computed once for each preprocessing.
    ///
    /// # Errors
    /// [`EngineError`] in the same cases as [`Engine::backbone_features`].
    pub fn backbone_features(&mut self, preprocessing: &Preprocessing) -> Result<&[f32], EngineError> {
        let at = if let Some(at) = self.position(preprocessing) {
            at
        } else {
            let features = self.engine.backbone_features(preprocessing, self.image)?;
            self.features.push((preprocessing.clone(), features));
            self.features.len() - 1
        };
        Ok(&self.features[at].1)
    }

    /// Classifies the image. The result is bit-identical to that of [`Engine::classify`]. An adapter without sites
    /// needs no forward pass if the features for its preprocessing are already computed.
    ///
    /// # Errors
    /// [`EngineError`] in the same cases as [`Engine::classify`].
    pub fn classify(&self, adapter: &ResidentAdapter) -> Result<Classification, EngineError> {
        match self.position(adapter.preprocessing()) {
            Some(at) if adapter.bytes == 0 => {
                self.engine.check_owner(adapter)?;
                let logits = self.engine.finite_logits(adapter, &self.features[at].1)?;
                Ok(Classification::of(adapter, logits))
            }
            _ => self.engine.classify(adapter, self.image),
        }
    }

    fn position(&self, preprocessing: &Preprocessing) -> Option<usize> {
        self.features.iter().position(|(known, _)| known == preprocessing)
    }
}
