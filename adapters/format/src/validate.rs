//! Validation of adapters, trained or decoded.

use alloc::{borrow::ToOwned, collections::BTreeSet, format, string::String};

use crate::{
    Adapter, Calibration, Canary, ClassFeatures, Fit, Header, InvalidAdapter, Limits, Metrics, OwnScores,
    Preprocessing, Profile, Ratios, Recipe, SectionKind, Site, SiteWeights, Trial, noise_image,
};

/// The reserved name for automatic selection of the task.
pub const AUTO: &str = "auto";

impl Adapter {
    /// Checks the adapter against [`Limits::DEFAULT`]. A valid adapter can be written.
    pub fn validate(&self) -> Result<(), InvalidAdapter> {
        self.validate_with(&Limits::DEFAULT)
    }

    /// Checks the adapter: counts agree, numbers are finite and in range, texts have no control characters, sizes are
    /// within `limits`.
    pub fn validate_with(&self, limits: &Limits) -> Result<(), InvalidAdapter> {
        let classes = self.head.classes();
        self.header.validate(classes, limits)?;
        cap("classes", classes, limits.classes)?;
        cap("features", self.head.features, limits.features)?;
        nonempty("head bias", classes)?;
        nonempty("head features", self.head.features)?;
        let (expected, got) = (classes.saturating_mul(self.head.features), self.head.weight.len());
        if expected != got {
            return Err(InvalidAdapter::HeadWeight { expected, got });
        }
        finite(SectionKind::HeadWeight, || None, &self.head.weight)?;
        finite(SectionKind::HeadBias, || None, &self.head.bias)?;
        if let Some(profile) = &self.header.profile {
            profile.validate(self.head.features, limits)?;
            profile.validate_taught(self.header.labels.len())?;
        }
        if let Some(known) = &self.header.class_features {
            known.validate(classes, self.head.features, limits)?;
        }
        self.validate_sites(limits)?;
        cap("parameters", self.parameters(), limits.parameters)
    }

    fn validate_sites(&self, limits: &Limits) -> Result<(), InvalidAdapter> {
        let recipe = self.header.recipe;
        let problem = |problem| Err(InvalidAdapter::Recipe { recipe, problem });
        cap("sites", self.sites.len(), limits.sites)?;
        match recipe {
            Recipe::Linear if !self.sites.is_empty() => return problem("sites are reprogrammed, expected none"),
            Recipe::Linear => {}
            _ if self.sites.is_empty() => return problem("no site is reprogrammed"),
            _ => {}
        }
        let mut names = BTreeSet::new();
        for (index, site) in self.sites.iter().enumerate() {
            site.validate(index, limits)?;
            if let Some(name) = &site.name
                && !names.insert(name.as_str())
            {
                return Err(InvalidAdapter::DuplicateSite { site: name.clone() });
            }
            match (recipe, &site.weights) {
                (Recipe::Bn, SiteWeights::Kernel(_)) => return problem("a site has a kernel, expected scales only"),
                (Recipe::ClrFull, SiteWeights::Scale(_)) => {
                    return problem("a site has a scale, expected kernels only");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns the number of weights and biases, head included.
    #[must_use]
    pub fn parameters(&self) -> usize {
        let sites: usize = self
            .sites
            .iter()
            .map(|site| site.weights.values().len() + site.bias.len())
            .sum();
        sites + self.head.weight.len() + self.head.bias.len()
    }

    /// Returns the bytes of all weights and biases in memory: 4 per parameter.
    #[must_use]
    pub fn decoded_bytes(&self) -> usize {
        4 * self.parameters()
    }
}

impl Site {
    /// Returns the name for messages; the index in the adapter if there is none.
    fn described(&self, index: usize) -> String {
        self.name.clone().unwrap_or_else(|| format!("#{index}"))
    }

    fn validate(&self, index: usize, limits: &Limits) -> Result<(), InvalidAdapter> {
        if let Some(name) = &self.name {
            text("site name", name, limits.site_name_bytes)?;
        }
        cap("channels of a site", self.channels(), limits.channels)?;
        nonempty("site bias", self.channels())?;
        let (channels, got) = (self.channels(), self.weights.values().len());
        let (section, expected) = match self.weights {
            SiteWeights::Kernel(_) => (SectionKind::Kernels, 9 * channels),
            SiteWeights::Scale(_) => (SectionKind::Scales, channels),
        };
        if expected != got {
            return Err(InvalidAdapter::SiteWeights {
                site: self.described(index),
                channels,
                expected,
                got,
            });
        }
        let name = || Some(self.described(index));
        finite(section, name, self.weights.values())?;
        finite(SectionKind::Biases, name, &self.bias)
    }
}

impl Header {
    fn validate(&self, classes: usize, limits: &Limits) -> Result<(), InvalidAdapter> {
        task_name(&self.task, limits)?;
        if self.labels.len() != classes {
            return Err(InvalidAdapter::Labels {
                labels: self.labels.len(),
                classes,
            });
        }
        self.labels
            .iter()
            .try_for_each(|label| text("label", label, limits.label_bytes))?;
        self.preprocessing.validate_with(limits)?;
        if self.version == 0 {
            return Err(InvalidAdapter::Empty { what: "version" });
        }
        self.metrics.as_ref().map_or(Ok(()), Metrics::validate)?;
        let temperature = self.temperature;
        in_range(
            "temperature",
            temperature,
            "a finite number above 0",
            temperature.is_finite() && temperature > 0.0,
        )?;
        self.trial.as_ref().map_or(Ok(()), Trial::validate)?;
        self.calibration.map_or(Ok(()), Calibration::validate)?;
        cap("canaries", self.canaries.len(), limits.canaries)?;
        self.canaries
            .iter()
            .enumerate()
            .try_for_each(|(index, canary)| canary.validate(index, classes, limits))
    }
}

impl Preprocessing {
    /// Checks that the input has a size of at most [`Limits::input_side`] and that all numbers are finite and in range.
    pub fn validate(&self) -> Result<(), InvalidAdapter> {
        self.validate_with(&Limits::DEFAULT)
    }

    fn validate_with(&self, limits: &Limits) -> Result<(), InvalidAdapter> {
        for (what, side) in [("input height", self.height), ("input width", self.width)] {
            nonempty(what, side as usize)?;
            cap(what, side as usize, limits.input_side)?;
        }
        if let Fit::CenterCrop { fraction } = self.fit {
            in_range(
                "crop fraction",
                fraction,
                "more than 0, at most 1",
                fraction > 0.0 && fraction <= 1.0,
            )?;
        }
        for (&mean, &std) in self.mean.iter().zip(&self.std) {
            in_range("mean", mean, "a finite number", mean.is_finite())?;
            in_range("std", std, "a finite number above 0", std.is_finite() && std > 0.0)?;
        }
        Ok(())
    }
}

impl Calibration {
    fn validate(self) -> Result<(), InvalidAdapter> {
        fraction("calibration error before", self.before)?;
        fraction("calibration error after", self.after)
    }
}

impl Profile {
    fn validate(&self, features: usize, limits: &Limits) -> Result<(), InvalidAdapter> {
        let dimensions = self.dimensions();
        nonempty("dimensions of the profile", dimensions)?;
        let most = match self.own_scores {
            OwnScores::Distances { .. } => limits.profile_dimensions.min(features),
            OwnScores::Ratios(_) => limits.profile_dimensions,
        };
        cap("dimensions of the profile", dimensions, most)?;
        let parts = [
            (SectionKind::ProfileMean, &self.mean, dimensions),
            (SectionKind::ProfileDiagonal, &self.diagonal, dimensions),
            (
                SectionKind::ProfileFactor,
                &self.factor,
                dimensions * (dimensions - 1) / 2,
            ),
        ];
        for (section, values, expected) in parts {
            if values.len() != expected {
                let got = values.len();
                return Err(InvalidAdapter::Profile { section, expected, got });
            }
            finite(section, || None, values)?;
        }
        for &value in &self.diagonal {
            in_range("profile diagonal", value, "above 0", value > 0.0)?;
        }
        match &self.own_scores {
            OwnScores::Distances { typical, limit } => {
                in_range(
                    "typical distance",
                    *typical,
                    "a finite number above 0",
                    typical.is_finite() && *typical > 0.0,
                )?;
                in_range(
                    "limit of the distance",
                    *limit,
                    "a finite number above the typical distance",
                    limit.is_finite() && limit > typical,
                )
            }
            OwnScores::Ratios(ratios) => ratios.validate(),
        }
    }

    fn validate_taught(&self, classes: usize) -> Result<(), InvalidAdapter> {
        if !self.taught.is_empty() && self.own_scores.ratios().is_none() {
            return Err(InvalidAdapter::TaughtWithoutBackground);
        }
        for taught in &self.taught {
            let (section, expected, got) = (SectionKind::ProfileTaught, self.dimensions(), taught.mean.len());
            if got != expected {
                return Err(InvalidAdapter::Profile { section, expected, got });
            }
            finite(section, || None, &taught.mean)?;
            let (class, variance) = (taught.class as f32, taught.variance);
            in_range(
                "taught class",
                class,
                "a class of the head",
                (taught.class as usize) < classes,
            )?;
            let holds = variance.is_finite() && variance > 0.0;
            in_range("variance of a taught class", variance, "a finite number above 0", holds)?;
            in_range(
                "shift of a taught class",
                taught.shift,
                "a finite number",
                taught.shift.is_finite(),
            )?;
        }
        Ok(())
    }
}

impl Ratios {
    fn validate(&self) -> Result<(), InvalidAdapter> {
        let mut before = f32::MIN;
        for &quantile in &self.quantiles {
            let holds = quantile.is_finite() && quantile >= before;
            in_range("quantile of scores", quantile, "finite numbers, not decreasing", holds)?;
            before = quantile;
        }
        if let Some(head) = self.head {
            let (median, weight) = (head.median, head.weight);
            in_range("median energy", median, "a finite number", median.is_finite())?;
            let holds = weight.is_finite() && weight >= 0.0;
            in_range("weight of the energy", weight, "a finite number, at least 0", holds)?;
        }
        Ok(())
    }
}

impl ClassFeatures {
    fn validate(&self, classes: usize, features: usize, limits: &Limits) -> Result<(), InvalidAdapter> {
        cap("class directions", self.rank(), limits.class_directions)?;
        cap("margins", self.margins.len(), limits.margins)?;
        let parts = [
            (SectionKind::ClassMean, &self.mean, features),
            (SectionKind::ClassDeviations, &self.deviations, classes * features),
            (SectionKind::ClassDirections, &self.directions, self.rank() * features),
        ];
        for (section, values, expected) in parts {
            if values.len() != expected {
                let got = values.len();
                return Err(InvalidAdapter::ClassFeatures { section, expected, got });
            }
            finite(section, || None, values)?;
        }
        let rest = self.rest;
        in_range(
            "variance of the rest",
            rest,
            "a finite number, 0 or more",
            rest.is_finite() && rest >= 0.0,
        )?;
        let margins = self.margins.iter();
        margins
            .copied()
            .try_for_each(|margin| in_range("margin", margin, "a finite number", margin.is_finite()))
    }
}

impl Metrics {
    fn validate(&self) -> Result<(), InvalidAdapter> {
        fraction("accuracy", self.accuracy)?;
        fraction("quantised accuracy", self.quantised_accuracy)
    }
}

impl Trial {
    fn validate(&self) -> Result<(), InvalidAdapter> {
        nonempty("trial frames", self.frames as usize)?;
        fraction("low confidence", self.low_confidence)?;
        fraction("fraction of low confidence", self.max_low_confidence_fraction)
    }
}

impl Canary {
    fn validate(&self, canary: usize, classes: usize, limits: &Limits) -> Result<(), InvalidAdapter> {
        let [width, height] = self.size.map(usize::from);
        for side in [width, height] {
            nonempty("canary side", side)?;
            cap("canary side", side, limits.canary_side)?;
        }
        let (expected, got) = (width.saturating_mul(height).saturating_mul(3), self.pixels.len());
        if expected != got {
            return Err(InvalidAdapter::CanaryPixels { canary, expected, got });
        }
        if self
            .seed
            .is_some_and(|seed| noise_image(seed, self.size) != self.pixels)
        {
            return Err(InvalidAdapter::CanarySeed { canary });
        }
        if self.class as usize >= classes {
            return Err(InvalidAdapter::CanaryClass {
                canary,
                class: self.class,
                classes,
            });
        }
        fraction("canary probability", self.probability)
    }
}

fn cap(what: &'static str, got: usize, cap: usize) -> Result<(), InvalidAdapter> {
    if got > cap {
        Err(InvalidAdapter::TooLarge { what, cap, got })
    } else {
        Ok(())
    }
}

fn nonempty(what: &'static str, got: usize) -> Result<(), InvalidAdapter> {
    if got == 0 {
        Err(InvalidAdapter::Empty { what })
    } else {
        Ok(())
    }
}

/// Checks a task's name: text of 1–128 bytes without control characters, other than [`AUTO`].
///
/// # Errors
/// [`InvalidAdapter`] if the name is invalid, with the variant for its fault.
pub fn check_task_name(name: &str) -> Result<(), InvalidAdapter> {
    task_name(name, &Limits::DEFAULT)
}

fn task_name(name: &str, limits: &Limits) -> Result<(), InvalidAdapter> {
    text("task", name, limits.task_bytes)?;
    if name == AUTO {
        return Err(InvalidAdapter::ReservedName { name: AUTO });
    }
    Ok(())
}

fn text(what: &'static str, text: &str, most: usize) -> Result<(), InvalidAdapter> {
    nonempty(what, text.len())?;
    cap(what, text.len(), most)?;
    if text.chars().any(char::is_control) {
        return Err(InvalidAdapter::ControlCharacter {
            what,
            text: text.to_owned(),
        });
    }
    Ok(())
}

fn in_range(what: &'static str, got: f32, expected: &'static str, holds: bool) -> Result<(), InvalidAdapter> {
    if holds {
        Ok(())
    } else {
        Err(InvalidAdapter::OutOfRange {
            what,
            expected,
            got: f64::from(got),
        })
    }
}

fn fraction(what: &'static str, got: f32) -> Result<(), InvalidAdapter> {
    in_range(what, got, "0 to 1", (0.0..=1.0).contains(&got))
}

fn finite(section: SectionKind, site: impl Fn() -> Option<String>, values: &[f32]) -> Result<(), InvalidAdapter> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => Err(InvalidAdapter::NotFinite {
            section,
            site: site(),
            index,
            value: values[index],
        }),
    }
}
