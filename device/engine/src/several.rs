//! Classification of one image by several tasks. They share the forward pass up to the first site in which they differ.

use clr_onnx::{ImageView, Preprocess as _};

use crate::{Classification, Engine, EngineError, ResidentAdapter, plan::Reprogrammed};

impl Engine {
    /// Classifies an image of any size with several adapters. The results are in the order of `adapters`, and
    /// bit-identical to those of [`Engine::classify`].
    ///
    /// Adapters with the same preprocessing share the forward pass up to the first site in which they differ; `linear`
    /// adapters share all of it. Adapters that only have the last sites of their recipe ([`clr_onnx::check_adapter`])
    /// share the part before these sites. An adapter that fails does not affect the others.
    pub fn classify_all<'a>(
        &self,
        adapters: &[impl AsRef<ResidentAdapter>],
        image: impl Into<ImageView<'a>>,
    ) -> Vec<Result<Classification, EngineError>> {
        let image = image.into();
        let adapters: Vec<&ResidentAdapter> = adapters.iter().map(AsRef::as_ref).collect();
        let mut results: Vec<Option<Result<Classification, EngineError>>> = adapters.iter().map(|_| None).collect();
        for start in 0..adapters.len() {
            if results[start].is_some() {
                continue;
            }
            let preprocessing = adapters[start].preprocessing();
            let input = preprocessing.preprocess(image);
            let same = |at: &usize| *at == start || adapters[*at].preprocessing() == preprocessing;
            let members: Vec<usize> = (start..adapters.len()).filter(same).collect();
            let group: Vec<&ResidentAdapter> = members.iter().map(|&at| adapters[at]).collect();
            for (at, logits) in members.into_iter().zip(self.logits_of_all(&group, &input)) {
                results[at] = Some(logits.map(|logits| Classification::of(adapters[at], logits)));
            }
        }
        results.into_iter().flatten().collect()
    }

    /// Returns each adapter's logits of a preprocessed image. All adapters have the same preprocessing.
    fn logits_of_all(&self, adapters: &[&ResidentAdapter], input: &[f32]) -> Vec<Result<Vec<f32>, EngineError>> {
        let all: Vec<&Reprogrammed> = adapters.iter().map(|adapter| &adapter.reprogrammed).collect();
        let own = adapters.iter().all(|adapter| self.check_owner(adapter).is_ok());
        let features = own
            .then(|| self.in_pool(|| Reprogrammed::features_of_all(&all, input)))
            .flatten();
        match features {
            Some(features) => (adapters.iter().zip(&features))
                .map(|(adapter, features)| self.finite_logits(adapter, features))
                .collect(),
            None => adapters.iter().map(|adapter| self.logits(adapter, input)).collect(),
        }
    }
}

impl AsRef<Self> for ResidentAdapter {
    fn as_ref(&self) -> &Self {
        self
    }
}
