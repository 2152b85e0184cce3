//! The methods by name, with their settings.

use std::collections::BTreeMap;

use candle_core::Device;
use clr_adapters::Recipe;
use clr_onnx::Backbone;
use clr_training::Schedule;

use crate::{
    adapter_learner::AdapterLearner,
    error::{ContinualError, Result},
    joint::JointLearner,
    learner::Learner,
    methods::{
        Ccll, Confit, DerPlusPlus, Eft, Ewc, ExperienceReplay, Independent, LaterRates, Lwf, Method, OnlineEwc, Psp,
        Sgd, SgdLastLayer, SupSup, SynapticIntelligence,
    },
    model::Model,
    network_learner::NetworkLearner,
};

/// A method with the values that are tried for its settings.
pub struct Entry {
    /// Name, as in options and reports.
    pub name: &'static str,
    /// One line on the method.
    pub summary: &'static str,
    /// Settings, each with the values that tuning compares. The first is the default.
    pub grid: &'static [(&'static str, &'static [f64])],
    /// Whether the rate is that of plain fine-tuning, so that methods differ in their mechanism only.
    pub rate_of_sgd: bool,
}

/// Learning rates of fine-tuning everything. The first is the default.
pub(crate) const RATES: &[f64] = &[0.01, 0.003, 0.03];

const fn entry(
    name: &'static str,
    summary: &'static str,
    grid: &'static [(&'static str, &'static [f64])],
    rate_of_sgd: bool,
) -> Entry {
    Entry {
        name,
        summary,
        grid,
        rate_of_sgd,
    }
}

/// All methods: baselines, then adapters, then references.
pub const METHODS: &[Entry] = &[
    entry(
        "sgd",
        "fine-tuning of everything, task after task",
        &[("rate", RATES)],
        false,
    ),
    entry(
        "sgd-ll",
        "one last layer for all tasks on a frozen backbone",
        &[("rate", &[1e-3])],
        false,
    ),
    entry(
        "ewc",
        "penalty weighted by the Fisher information",
        &[("strength", &[1e4, 1e2, 1e6])],
        true,
    ),
    entry(
        "online-ewc",
        "EWC with one penalty around the newest values",
        &[("strength", &[1e4, 1e2, 1e6]), ("keep", &[1.0])],
        true,
    ),
    entry(
        "si",
        "penalty weighted by each value's share in lowering the loss",
        &[("strength", &[1.0, 0.1, 10.0]), ("damping", &[0.1])],
        true,
    ),
    entry(
        "lwf",
        "distils the old heads' logits on the new images",
        &[("strength", &[1.0, 0.3, 3.0]), ("temperature", &[2.0])],
        true,
    ),
    entry(
        "er",
        "each batch adds as many images from a replay buffer",
        &[("images", &[200.0])],
        true,
    ),
    entry(
        "der++",
        "a buffer of images with their logits",
        &[("logits", &[0.1, 0.2]), ("labels", &[0.5, 1.0]), ("images", &[200.0])],
        true,
    ),
    entry("psp", "random signs of each task on shared weights", &[], true),
    entry(
        "supsup",
        "a mask per task on a random network",
        &[("density", &[8.0, 2.0, 32.0]), ("rate", &[1e-3])],
        false,
    ),
    entry(
        "ccll",
        "calibrations after each convolution of the first task's network",
        &[],
        true,
    ),
    entry(
        "confit",
        "fine-tuning in phases with corrected norms",
        &[("rate", &[0.01, 0.003])],
        false,
    ),
    entry(
        "eft",
        "grouped convolutions after those of the first task's network",
        &[("rate", &[0.01, 0.003])],
        false,
    ),
    entry(
        "eft-pretrained",
        "EFT on the frozen pretrained backbone",
        &[("rate", &[0.01, 0.003])],
        false,
    ),
    entry("linear", "a head on the frozen backbone", &[], false),
    entry("bn", "norms and a head", &[], false),
    entry(
        "clr",
        "a 3×3 kernel per channel after each spatial convolution, norms and a head",
        &[],
        false,
    ),
    entry(
        "clr-full",
        "a 3×3 kernel per channel after every convolution, norms and a head",
        &[],
        false,
    ),
    entry("clr-default", "clr by the project's default schedule", &[], false),
    entry(
        "independent",
        "one fine-tuned network per task: a reference without forgetting",
        &[],
        true,
    ),
    entry("joint", "all tasks at once: a reference without forgetting", &[], true),
];

/// Values of a method's settings.
pub type Settings = BTreeMap<String, f64>;

/// Returns the method of a name.
pub fn find(name: &str) -> Option<&'static Entry> {
    METHODS.iter().find(|entry| entry.name == name)
}

impl Entry {
    /// Returns whether the settings depend on trials: those of the method, or those of plain fine-tuning.
    pub fn depends_on_trials(&self) -> bool {
        self.rate_of_sgd || self.has_choice()
    }

    /// Returns whether there are several combinations of settings.
    pub fn has_choice(&self) -> bool {
        self.combinations(RATES[0]).len() > 1
    }

    /// Returns the settings' defaults.
    pub fn defaults(&self) -> Settings {
        let mut settings: Settings = self
            .grid
            .iter()
            .map(|(name, values)| ((*name).to_owned(), values[0]))
            .collect();
        if self.rate_of_sgd {
            settings.insert("network-rate".to_owned(), RATES[0]);
        }
        settings
    }

    /// Returns every combination of the values that tuning compares, the defaults first. `rate` is that of plain
    /// fine-tuning.
    pub fn combinations(&self, rate: f64) -> Vec<Settings> {
        let mut all = vec![Settings::new()];
        for (name, values) in self.grid {
            let with = |settings: &Settings| {
                let settings = settings.clone();
                values.iter().map(move |&value| {
                    let mut settings = settings.clone();
                    settings.insert((*name).to_owned(), value);
                    settings
                })
            };
            all = all.iter().flat_map(with).collect();
        }
        if self.name == "der++" {
            // The three pairs of the paper's tables.
            all.retain(|settings| settings["logits"] != 0.2 || settings["labels"] != 1.0);
        }
        if self.rate_of_sgd {
            for settings in &mut all {
                settings.insert("network-rate".to_owned(), rate);
            }
        }
        all
    }

    /// Creates a learner that has seen no task. `classes` are those of each task of the sequence.
    ///
    /// # Errors
    /// [`ContinualError`] if the backbone has an operator that the method cannot train.
    pub fn learner(
        &self,
        backbone: &Backbone,
        settings: &Settings,
        classes: &[usize],
        device: &Device,
    ) -> Result<Box<dyn Learner>> {
        let of = |name: &'static str| {
            settings.get(name).copied().ok_or_else(|| ContinualError::Mismatch {
                what: "settings",
                expected: format!("`{name}` for {}", self.name),
                got: format!("{settings:?}"),
            })
        };
        let rate = |name| of(name).map(|rate| rate as f32);
        let adapter = |recipe| AdapterLearner::new(backbone, recipe, device);
        let method: Box<dyn Method> = match self.name {
            "sgd" => Box::new(Sgd { rate: rate("rate")? }),
            "sgd-ll" => {
                let widest = classes.iter().copied().max().unwrap_or(0);
                Box::new(SgdLastLayer::new(rate("rate")?, widest))
            }
            "ewc" => Box::new(Ewc::new(rate("network-rate")?, rate("strength")?)),
            "online-ewc" => Box::new(OnlineEwc::new(rate("network-rate")?, rate("strength")?, rate("keep")?)),
            "si" => {
                let (strength, damping) = (rate("strength")?, rate("damping")?);
                Box::new(SynapticIntelligence::new(rate("network-rate")?, strength, damping))
            }
            "lwf" => Box::new(Lwf::new(rate("network-rate")?, rate("strength")?, of("temperature")?)),
            "er" => Box::new(ExperienceReplay::new(rate("network-rate")?, of("images")? as usize)),
            "der++" => {
                let (logits, labels) = (rate("logits")?, rate("labels")?);
                Box::new(DerPlusPlus::new(
                    rate("network-rate")?,
                    logits,
                    labels,
                    of("images")? as usize,
                ))
            }
            "psp" => Box::new(Psp::new(rate("network-rate")?)),
            "supsup" => Box::new(SupSup::new(rate("rate")?, of("density")? as usize)),
            "ccll" => {
                // Those of the recipes of CLR.
                let rates = Schedule::default().rates;
                let later = LaterRates {
                    calibrations: rates.kernel as f32,
                    norms: rates.norm as f32,
                    head: rates.head as f32,
                };
                Box::new(Ccll::new(rate("network-rate")?, later))
            }
            "confit" => Box::new(Confit::new(rate("rate")?)),
            "eft" => Box::new(Eft::new(rate("rate")?)),
            "eft-pretrained" => Box::new(Eft::new(rate("rate")?).on_the_backbone()),
            "independent" => Box::new(Independent::new(rate("network-rate")?)),
            "linear" => return Ok(Box::new(adapter(Recipe::Linear)?)),
            "bn" => return Ok(Box::new(adapter(Recipe::Bn)?)),
            "clr" => return Ok(Box::new(adapter(Recipe::Clr)?)),
            "clr-full" => return Ok(Box::new(adapter(Recipe::ClrFull)?)),
            "clr-default" => {
                let learner = AdapterLearner::with_project_default(backbone, Recipe::Clr, device)?;
                return Ok(Box::new(learner));
            }
            "joint" => {
                let learner = JointLearner::new(backbone, rate("network-rate")?, classes.len(), device)?;
                return Ok(Box::new(learner));
            }
            other => unreachable!("{other} is in the list of methods, but has no learner"),
        };
        Ok(Box::new(NetworkLearner::new(Model::new(backbone, device)?, method)))
    }
}
