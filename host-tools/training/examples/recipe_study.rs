//! Trains recipes on a data set with given schedules, and prints validation and test accuracy as one JSON line per seed
//! and recipe. `docs/reference/training.md` has the results on which the default schedule is based.
//!
//! ```text
//! cargo run --release -p clr-training --example recipe_study -- BACKBONE.onnx DATA --size 96 --seeds 0,1,2 \
//!     --recipes linear,bn,clr --schedule '{"epochs": 10, "rates": {"head": 1e-3, "norm": 1e-3, "kernel": 3e-3}}'
//! ```
//!
//! `--schedule` is JSON that overrides fields of the default schedule (with `--paper`, of the paper's schedule). `DATA`
//! needs a `test/` folder.

use std::{collections::HashMap, error::Error, path::Path};

use clr_adapters::{Encoding, Recipe, decode, encode};
use clr_onnx::Backbone;
use clr_training::{
    Dataset, Network, Observer, RecipeChoice, Record, Schedule, Split, SplitImages, SplitOptions, TrainOptions,
    evaluate, train,
};
use serde_json::{Value, json};

/// Prints epochs on stderr.
struct EpochLog(bool);

impl Observer for EpochLog {
    fn record(&mut self, record: &Record) {
        if self.0 {
            eprintln!(
                "{:>9} {:>2}/{} train {:.3} {:.3} validation {:.3} {:.3} {:>5.0} s{}",
                record.recipe.name(),
                record.epoch,
                record.epochs,
                record.train_loss.unwrap_or(f32::NAN),
                record.train_accuracy.unwrap_or(f32::NAN),
                record.validation_loss,
                record.validation_accuracy,
                record.seconds,
                if record.best { " *" } else { "" }
            );
        }
    }
}

/// Overrides fields of `under` by those of `over`, recursively. A field that `under` does not have is an error.
fn merge(under: &mut Value, over: Value) -> Result<(), String> {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                // An enum variant with content is an object with one field, which is replaced as a whole.
                let field = under
                    .get_mut(&key)
                    .ok_or_else(|| format!("the schedule has no field `{key}`"))?;
                if ["rate", "statistics"].contains(&key.as_str()) {
                    *field = value;
                } else {
                    merge(field, value)?;
                }
            }
        }
        (under, over) => *under = over,
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [backbone, data, rest @ ..] = arguments.as_slice() else {
        return Err("usage: recipe_study BACKBONE.onnx DATA [--size N] [--seeds 0,1] [--recipes linear,bn,clr] [--limit N] [--threads N] [--paper] [--schedule JSON] [--name TEXT] [--quiet]".into());
    };
    let mut given: HashMap<&str, &str> = HashMap::new();
    let mut rest = rest.iter().map(String::as_str);
    while let Some(flag) = rest.next() {
        let value = if ["--paper", "--quiet"].contains(&flag) {
            ""
        } else {
            rest.next().ok_or("a flag lacks its value")?
        };
        given.insert(flag, value);
    }
    let backbone = Backbone::load(Path::new(backbone))?;
    let mut schedule = if given.contains_key("--paper") {
        Schedule::paper()
    } else {
        Schedule::default()
    };
    if let Some(text) = given.get("--schedule") {
        let mut value = serde_json::to_value(&schedule)?;
        merge(&mut value, serde_json::from_str(text)?)?;
        schedule = serde_json::from_value(value)?;
    }
    let recipes = (given.get("--recipes").unwrap_or(&"linear,bn,clr").split(','))
        .map(|name| Recipe::from_name(name).ok_or_else(|| format!("no recipe is called `{name}`")))
        .collect::<Result<Vec<_>, _>>()?;
    let size = given.get("--size").map(|size| size.parse::<u32>()).transpose()?;
    let limit = given.get("--limit").map(|limit| limit.parse()).transpose()?;
    let threads = given.get("--threads").map(|threads| threads.parse()).transpose()?;
    let name = given.get("--name").copied().unwrap_or("");
    for seed in given.get("--seeds").unwrap_or(&"0").split(',') {
        let seed = seed.parse()?;
        let split = SplitOptions::default().with_seed(seed).with_limit(limit);
        let dataset = Dataset::open(Path::new(data), &split)?;
        let options = TrainOptions::default()
            .with_recipe(RecipeChoice::Auto {
                candidates: Some(recipes.clone()),
            })
            .with_schedule(schedule.clone())
            .with_seed(seed)
            .with_threads(threads)
            .with_resolution(size.map(|size| [size, size]))
            .with_encoding(Encoding::F32)
            .with_test(false);
        let trained = train(
            &backbone,
            &dataset,
            &options,
            &mut EpochLog(!given.contains_key("--quiet")),
        )?;
        let preprocessing = &trained.adapter.header.preprocessing;
        let test = SplitImages::load(&dataset, Split::Test, preprocessing, 1 << 30, &mut ())?;
        for candidate in &trained.candidates {
            let adapter = decode(&candidate.file)?.adapter;
            let network = Network::from_adapter(&backbone, &adapter)?;
            let measured = evaluate(&network, &test, dataset.classes(), 1, &mut ())?;
            let small = encode(&adapter, Encoding::Int8)?;
            let network = Network::from_adapter(&backbone, &decode(&small)?.adapter)?;
            let quantised = evaluate(&network, &test, dataset.classes(), 1, &mut ())?;
            let epochs = trained
                .history
                .iter()
                .filter(|record| record.recipe == candidate.recipe);
            let best = epochs
                .clone()
                .filter(|record| record.best)
                .map(|record| record.epoch)
                .max();
            let line = json!({
                "name": name,
                "data": Path::new(data).file_name().map(|name| name.to_string_lossy()),
                "seed": seed,
                "recipe": candidate.recipe,
                "validation": candidate.accuracy,
                "validation_loss": candidate.loss,
                "test": measured.accuracy,
                "test_loss": measured.loss,
                "test_int8": quantised.accuracy,
                "int8_bytes": small.len(),
                "chosen": candidate.chosen,
                "best_epoch": best,
                "epochs": epochs.count() - 1,
                "penalty": trained.penalty,
                "mirrored": trained.mirrored,
                "train_pictures": dataset.samples(Split::Train)?.len(),
                "test_pictures": test.len(),
                "seconds": candidate.seconds.round(),
            });
            println!("{line}");
        }
    }
    Ok(())
}
