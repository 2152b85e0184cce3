//! A frozen backbone with one task's sites and head.

use std::sync::Arc;

use clr_adapters::{Head, Recipe, SiteKind};
use clr_onnx::Backbone;
use clr_runtime::{FeaturePass, Intermediates};
use rand::RngExt as _;
use rayon::prelude::*;

use crate::{
    FrozenSite, Group, NormedSite, Parameter, Purpose, Site, Snapshot, Weight,
    check::check_images,
    classifier,
    error::{LearningError, Result},
    frozen_backbone::FrozenBackbone,
    parameter::{kernel_magnitudes, magnitudes},
    site::identity,
    stream,
};

/// What the unmodified backbone computes for feature profiles.
const WITH_STATISTICS: Intermediates<'_> = Intermediates {
    block_statistics: true,
    prefixes: &[],
};

/// A frozen backbone with one task's sites and head. Networks of the same backbone share its packed weights.
#[derive(Clone)]
pub struct Network {
    pub(crate) frozen: Arc<FrozenBackbone>,
    pub(crate) recipe: Recipe,
    pub(crate) sites: Vec<Site>,
    /// `[K, F]`.
    pub(crate) head_weight: Weight,
    /// `[K]`.
    pub(crate) head_bias: Weight,
}

impl Network {
    /// Creates a network with identity sites, whose features equal the backbone's. The head is initialised uniformly in
    /// ±1/√F from `seed`.
    ///
    /// # Errors
    /// [`LearningError::Mismatch`] if a site is not a convolution.
    pub fn new(backbone: &Backbone, recipe: Recipe, classes: usize, seed: u64) -> Result<Self> {
        Ok(Self::build(
            Arc::new(FrozenBackbone::new(backbone)?),
            recipe,
            classes,
            seed,
        ))
    }

    /// Creates another network with identity sites on the same backbone. Both networks share the packed weights.
    #[must_use]
    pub fn sibling(&self, recipe: Recipe, classes: usize, seed: u64) -> Self {
        Self::build(Arc::clone(&self.frozen), recipe, classes, seed)
    }

    fn build(frozen: Arc<FrozenBackbone>, recipe: Recipe, classes: usize, seed: u64) -> Self {
        let sites = (frozen.sites.iter())
            .map(|frozen| match recipe.site_kind(frozen.kernel) {
                SiteKind::Frozen => Site::Frozen,
                kind => {
                    let unit_scale = recipe == Recipe::ClrScale && kind == SiteKind::Scale;
                    Site::Normed(Box::new(NormedSite::new(frozen, kind, unit_scale)))
                }
            })
            .collect();
        let features = frozen.backbone.feature_count();
        let bound = 1.0 / (features.max(1) as f32).sqrt();
        let mut random = stream(seed, Purpose::Head, 0, 0);
        let mut uniform = |count: usize| {
            let values = (0..count).map(|_| random.random_range(-bound..bound));
            Weight::new(values.collect())
        };
        Self {
            recipe,
            sites,
            head_weight: uniform(classes * features),
            head_bias: uniform(classes),
            frozen,
        }
    }

    /// Returns the recipe.
    pub fn recipe(&self) -> Recipe {
        self.recipe
    }

    /// Returns the frozen backbone.
    pub fn backbone(&self) -> &Backbone {
        &self.frozen.backbone
    }

    /// Returns the number of classes of the head.
    pub fn classes(&self) -> usize {
        self.head_bias.values.len()
    }

    /// Returns the number of features that the head reads.
    pub fn feature_count(&self) -> usize {
        self.frozen.backbone.feature_count()
    }

    /// Returns the backbone's sites.
    pub fn frozen_sites(&self) -> &[FrozenSite] {
        &self.frozen.sites
    }

    /// Returns the task's parameters at each of the backbone's sites.
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// Returns the sites as mutable, to change their statistics.
    pub fn sites_mut(&mut self) -> &mut [Site] {
        &mut self.sites
    }

    /// Returns the head's weight `[K, F]` and bias `[K]`.
    pub fn head_weights(&self) -> [&Weight; 2] {
        [&self.head_weight, &self.head_bias]
    }

    /// Returns a copy of the head.
    pub fn head(&self) -> Head {
        Head {
            features: self.feature_count(),
            weight: self.head_weight.rounded().into_owned(),
            bias: self.head_bias.values.clone(),
        }
    }

    /// Replaces the head by one of the same size.
    ///
    /// # Errors
    /// [`LearningError::Mismatch`] if the size differs.
    pub fn set_head(&mut self, head: &Head) -> Result<()> {
        let (classes, features) = (self.classes(), self.feature_count());
        if head.features != features || head.classes() != classes || head.weight.len() != classes * features {
            let (got_classes, got) = (head.classes(), head.features);
            return Err(LearningError::mismatch(
                "head",
                format!("{classes} classes of {features} features"),
                format!("{got_classes} classes of {got} features"),
            ));
        }
        self.head_weight.values.clone_from(&head.weight);
        self.head_bias.values.clone_from(&head.bias);
        Ok(())
    }

    /// Trains exactly the parameters for which `keep` returns true. The others get no gradient.
    pub fn set_trainable(&mut self, keep: impl Fn(&str, Group) -> bool) {
        for (name, group, weight) in self.weights_mut() {
            weight.trained = keep(&name, group);
        }
    }

    /// Restricts the adapter to the sites from index `first` on. The sites before keep the backbone's own norms, and
    /// [`Network::to_adapter`] leaves them out.
    pub fn begin_at(&mut self, first: usize) {
        let first = first.min(self.sites.len());
        self.sites[..first].fill(Site::Frozen);
    }

    /// Freezes the sites that have no gradient at this input size, because they come before an operator without a
    /// backward pass (an opaque step). Returns their number and the name of the first such operator, if there are any.
    ///
    /// # Errors
    /// As [`Network::features`].
    pub fn freeze_untrainable(&mut self, size: [usize; 2]) -> Result<Option<(usize, String)>> {
        let executable = self.frozen.executable(size)?;
        let Some(obstacle) = executable.first_obstacle() else {
            return Ok(None);
        };
        let mut frozen = 0;
        for (site, trainable) in self.sites.iter_mut().zip(executable.trainable_sites()) {
            let mut weights = site.weights_mut();
            if !trainable && weights.iter().any(|(_, _, weight)| weight.trained) {
                frozen += 1;
                for (_, _, weight) in &mut weights {
                    weight.trained = false;
                }
            }
        }
        Ok((frozen > 0).then(|| (frozen, obstacle.to_owned())))
    }

    /// Returns the names of the sites that the task reprograms, in the backbone's order.
    pub fn site_names(&self) -> Vec<String> {
        let sites = self.frozen.sites.iter().zip(&self.sites);
        let own = sites.filter(|(_, site)| !matches!(site, Site::Frozen));
        own.map(|(frozen, _)| frozen.name.clone()).collect()
    }

    /// Returns the trained parameters: first those of the head, then those of the sites in order.
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut parameters = Vec::new();
        let mut push = |name: String, group, weight: &Weight, anchor: Vec<f32>, unit: Vec<f32>| {
            if weight.trained {
                let values = weight.values.clone();
                parameters.push(Parameter {
                    name,
                    group,
                    values,
                    anchor,
                    unit,
                });
            }
        };
        for (name, weight) in ["head.weight", "head.bias"].into_iter().zip(self.head_weights()) {
            let zero = vec![0.0; weight.values.len()];
            push(name.to_owned(), Group::Head, weight, zero, vec![1.0]);
        }
        let typical_steps = self.typical_steps();
        for (frozen, site) in self.frozen.sites.iter().zip(&self.sites) {
            let norm = &frozen.norm;
            for (part, group, weight) in site.weights() {
                let (anchor, unit) = match (site, part) {
                    (Site::Normed(_), "kernel") => (identity(frozen.channels), vec![1.0]),
                    (Site::Normed(_), "scale") => (vec![1.0; frozen.channels], vec![1.0]),
                    (Site::Normed(_), "norm.scale") => (norm.scale.clone(), magnitudes(&norm.scale)),
                    (Site::Normed(_), _) => (norm.bias.clone(), magnitudes(&norm.scale)),
                    // Differences are in units of the channel's magnitude already. Rounded ones move by their steps.
                    (Site::Difference(_), part) => {
                        let typical = typical_steps[usize::from(part == "bias")];
                        let unit = weight.step.map_or(1.0, |step| (step.size() / typical) as f32);
                        (vec![0.0; weight.values.len()], vec![unit])
                    }
                    (_, "bias") => (weight.values.clone(), magnitudes(&norm.scale)),
                    _ => (weight.values.clone(), kernel_magnitudes(weight, frozen.channels)),
                };
                push(format!("{}.{part}", frozen.name), group, weight, anchor, unit);
            }
        }
        parameters
    }

    /// Sets the trained parameters, in the order of [`Network::parameters`].
    ///
    /// # Errors
    /// [`LearningError::Mismatch`] if the number of parameters or values differs.
    pub fn set_values(&mut self, values: &[Vec<f32>]) -> Result<()> {
        let weights = self.weights_mut().into_iter().filter(|(_, _, weight)| weight.trained);
        let weights: Vec<_> = weights.map(|(name, _, weight)| (name, weight)).collect();
        if weights.len() != values.len() {
            return Err(LearningError::mismatch("parameters", weights.len(), values.len()));
        }
        let mut sizes = weights.iter().zip(values);
        if let Some(((name, weight), values)) = sizes.find(|((_, weight), values)| weight.values.len() != values.len())
        {
            return Err(LearningError::mismatch(
                format!("values of `{name}`"),
                weight.values.len(),
                values.len(),
            ));
        }
        for ((_, weight), values) in weights.into_iter().zip(values) {
            weight.values.copy_from_slice(values);
        }
        Ok(())
    }

    /// Returns all values that training may change.
    pub fn snapshot(&self) -> Snapshot {
        let weights = self.head_weights().into_iter();
        let sites = self.sites.iter().flat_map(Site::weights).map(|(_, _, weight)| weight);
        let mut values: Vec<Vec<f32>> = weights.chain(sites).map(|weight| weight.values.clone()).collect();
        for site in &self.sites {
            if let Site::Normed(site) = site {
                values.push(site.norm.mean.clone());
                values.push(site.norm.variance.clone());
            }
        }
        Snapshot { values }
    }

    /// Restores a [`Network::snapshot`] of a network with the same backbone, recipe and classes.
    ///
    /// # Errors
    /// [`LearningError::Mismatch`] if the layout of the snapshot differs. In that case the network is unchanged.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        let lengths = |snapshot: &Snapshot| snapshot.values.iter().map(Vec::len).collect::<Vec<_>>();
        let (expected, got) = (lengths(&self.snapshot()), lengths(snapshot));
        if expected != got {
            return Err(LearningError::mismatch(
                "lengths of the snapshot's values",
                format!("{expected:?}"),
                format!("{got:?}"),
            ));
        }
        let mut values = snapshot.values.iter();
        for ((_, _, weight), values) in self.weights_mut().into_iter().zip(&mut values) {
            weight.values.clone_from(values);
        }
        for site in &mut self.sites {
            if let Site::Normed(site) = site
                && let (Some(mean), Some(variance)) = (values.next(), values.next())
            {
                site.set_statistics(mean.clone(), variance.clone());
            }
        }
        Ok(())
    }

    fn weights_mut(&mut self) -> Vec<(String, Group, &mut Weight)> {
        let mut weights = vec![
            ("head.weight".to_owned(), Group::Head, &mut self.head_weight),
            ("head.bias".to_owned(), Group::Head, &mut self.head_bias),
        ];
        for (frozen, site) in self.frozen.sites.iter().zip(&mut self.sites) {
            let parts = site.weights_mut().into_iter();
            weights.extend(parts.map(|(part, group, weight)| (format!("{}.{part}", frozen.name), group, weight)));
        }
        weights
    }

    /// Returns the features `[F]` of each preprocessed image `[3, H, W]` of `size` (rows, columns), as the engine computes
    /// them: on bytes, if the backbone is quantised. Training computes the same function on real values.
    ///
    /// # Errors
    /// If the runtime cannot execute the backbone at this size, or an image has another size.
    pub fn features(&self, images: &[&[f32]], size: [usize; 2]) -> Result<Vec<Vec<f32>>> {
        let executable = self.frozen.inference(size)?;
        check_images(&executable, images)?;
        let parameters = self.site_parameters(&executable)?;
        let all = images.par_iter();
        Ok(all.map(|image| executable.features(image, &parameters)).collect())
    }

    /// Returns the features `[F]` of one preprocessed image, as [`Network::features`] does.
    ///
    /// # Errors
    /// As [`Network::features`].
    pub fn image_features(&self, image: &[f32], size: [usize; 2]) -> Result<Vec<f32>> {
        let executable = self.frozen.inference(size)?;
        check_images(&executable, &[image])?;
        Ok(executable.features(image, &self.site_parameters(&executable)?))
    }

    /// Runs the unmodified backbone, whatever the task's sites are, on a preprocessed image `[3, H, W]` of `size` (rows,
    /// columns), and computes features and block statistics.
    ///
    /// # Errors
    /// As [`Network::features`].
    pub fn unmodified(&self, image: &[f32], size: [usize; 2]) -> Result<FeaturePass> {
        let executable = self.frozen.inference(size)?;
        check_images(&executable, &[image])?;
        Ok(executable.pass(image, &executable.frozen_parameters(), WITH_STATISTICS))
    }

    /// Returns the block statistics `[S]` of each image, as [`Network::unmodified`] computes them. Feature profiles
    /// describe them.
    ///
    /// # Errors
    /// As [`Network::features`].
    pub fn block_statistics(&self, images: &[&[f32]], size: [usize; 2]) -> Result<Vec<Vec<f32>>> {
        let executable = self.frozen.inference(size)?;
        check_images(&executable, images)?;
        let parameters = executable.frozen_parameters();
        let all = images.par_iter();
        let statistics = all.map(|image| executable.pass(image, &parameters, WITH_STATISTICS).block_statistics);
        Ok(statistics.collect())
    }

    /// Returns the logits `[K]` of features `[F]`.
    pub fn classify(&self, features: &[f32]) -> Vec<f32> {
        classifier::logits(&self.head_weight.rounded(), &self.head_bias.values, features)
    }

    /// Returns the logits `[K]` of each preprocessed image.
    ///
    /// # Errors
    /// As [`Network::features`].
    pub fn logits(&self, images: &[&[f32]], size: [usize; 2]) -> Result<Vec<Vec<f32>>> {
        let features = self.features(images, size)?;
        Ok(features.iter().map(|features| self.classify(features)).collect())
    }
}
