//! Reads an ONNX file and writes the backbone and its rewritten graphs, for `tests/tools/onnx_check.py` and for
//! inspection.
//!
//! ```text
//! cargo run --release -p clr-onnx --example rewrite -- MODEL FOLDER [RECIPE…]
//! ```
//! Writes `backbone.onnx` and, for every recipe, `{recipe}-{adapter}-{reprogram,export,merge}.onnx`, where the adapter
//! is `identity` (the backbone's own norm and classifier) or `random` (seeded). Prints one JSON line about the
//! backbone.

use std::{error::Error, fs, path::Path, process::ExitCode};

use clr_adapters::{Adapter, Head, Header, Provenance, Recipe, SiteWeights};
use clr_onnx::{Backbone, HeadPart, export, identity_adapter, merge, reprogram};

const CLASSES: usize = 7;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, folder, recipes @ ..] = &arguments[..] else {
        eprintln!("usage: rewrite MODEL FOLDER [RECIPE…]");
        return ExitCode::from(2);
    };
    match run(Path::new(model), Path::new(folder), recipes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(model: &Path, folder: &Path, recipes: &[String]) -> Result<(), Box<dyn Error>> {
    let backbone = Backbone::load(model)?;
    fs::create_dir_all(folder)?;
    let saved = folder.join("backbone.onnx");
    backbone.save(&saved)?;
    let again = Backbone::load(&saved)?;
    let size = [
        backbone.preprocessing().height as usize,
        backbone.preprocessing().width as usize,
    ];
    for name in recipes {
        let recipe = Recipe::from_name(name).ok_or_else(|| format!("no recipe is called `{name}`"))?;
        let mut random = Random(1);
        let head = backbone
            .classifier()
            .cloned()
            .unwrap_or_else(|| random.head(backbone.feature_count()));
        let identity = identity_adapter(&backbone, recipe, head, header(&backbone));
        let mut perturbed = identity.clone();
        random.perturb(&mut perturbed);
        for (kind, mut adapter) in [("identity", identity), ("random", perturbed)] {
            let classes = adapter.head.classes();
            adapter.header.labels = (0..classes).map(|class| format!("class {class}")).collect();
            let reprogrammed = reprogram(&backbone, recipe, HeadPart::Logits { classes }, size)?.model;
            let models = [
                ("reprogram", reprogrammed),
                ("export", export(&backbone, &adapter, size)?),
                ("merge", merge(&backbone, &adapter, size)?),
            ];
            for (what, model) in models {
                fs::write(folder.join(format!("{name}-{kind}-{what}.onnx")), model.to_bytes())?;
            }
        }
    }
    let report = serde_json::json!({
        "name": backbone.name(), "digest": backbone.digest().to_string(), "nodes": backbone.graph().nodes.len(),
        "sites": backbone.sites().len(), "normed": backbone.sites().iter().filter(|site| site.norm.is_some()).count(),
        "activated": backbone.sites().iter().filter(|site| site.activation.is_some()).count(),
        "features": backbone.feature_count(), "classes": backbone.classifier().map(Head::classes),
        "same_after_reading_again": again == backbone && again.digest() == backbone.digest(), "notes": backbone.notes(),
    });
    println!("{report}");
    Ok(())
}

fn header(backbone: &Backbone) -> Header {
    Header::new(
        "check",
        Vec::new(),
        backbone.digest(),
        backbone.preprocessing().clone(),
        Provenance::HostTrained,
    )
}

/// A linear congruential generator, which gives the same numbers on every platform.
struct Random(u64);

impl Random {
    /// Uniform in −1…1.
    fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }

    fn head(&mut self, features: usize) -> Head {
        let mut values = |count: usize| (0..count).map(|_| self.next() / (features as f32).sqrt()).collect();
        Head {
            features,
            weight: values(CLASSES * features),
            bias: values(CLASSES),
        }
    }

    fn perturb(&mut self, adapter: &mut Adapter) {
        for site in &mut adapter.sites {
            match &mut site.weights {
                SiteWeights::Scale(scale) => scale.iter_mut().for_each(|value| *value *= 1.0 + 0.1 * self.next()),
                SiteWeights::Kernel(kernel) => {
                    for taps in kernel.chunks_exact_mut(9) {
                        let centre = taps[4];
                        for tap in taps {
                            *tap += 0.1 * centre * self.next();
                        }
                    }
                }
            }
            site.bias.iter_mut().for_each(|value| *value += 0.05 * self.next());
        }
        adapter.head = self.head(adapter.head.features);
    }
}
