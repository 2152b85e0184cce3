//! Sizes of compact adapter files of several recipes and their accuracy, against the same training in full precision.
//!
//! ```sh
//! cargo run --release -p clr-training --example compact_study -- lite0.onnx TASKS... --size 96 --seeds 0,1,2 \
//!     --recipes clr --resume runs/ --options '{}' --options '{"bytes": 16000}'
//! ```
//!
//! One line per task, seed, recipe (default: `clr`) and JSON object of [`CompactOptions`]. With `--resume`, the epochs in
//! full precision run once for all objects. Columns: task, seed, recipe, options, bytes of the file, of its header and of
//! each section, accuracy (per cent) in full precision and as in the file, cross-entropy of both, seconds. Accuracies are
//! of the validation split or, with `--test`, of the test split. `tests/tools/compact_table.py` compares the recipes.

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use clr_adapters::{Encoding, Recipe, decode};
use clr_onnx::Backbone;
use clr_training::{
    CompactOptions, Dataset, RecipeChoice, Split, SplitOptions, TrainOptions, Trained, evaluate_adapter, train,
};

#[derive(Default)]
struct Arguments {
    files: Vec<PathBuf>,
    size: Option<[u32; 2]>,
    limit: Option<usize>,
    seeds: Vec<u64>,
    resume: Option<PathBuf>,
    options: Vec<String>,
    recipes: Vec<Recipe>,
    test: bool,
}

fn arguments() -> Result<Arguments, Box<dyn Error>> {
    let mut arguments = Arguments::default();
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        if argument == "--test" {
            arguments.test = true;
            continue;
        }
        if !argument.starts_with("--") {
            arguments.files.push(argument.into());
            continue;
        }
        let value = given.next().ok_or_else(|| format!("{argument} lacks its value"))?;
        match argument.as_str() {
            "--size" => arguments.size = Some([value.parse()?; 2]),
            "--limit" => arguments.limit = Some(value.parse()?),
            "--seeds" => arguments.seeds = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--resume" => arguments.resume = Some(value.into()),
            "--options" => arguments.options.push(value),
            "--recipes" => {
                let recipe = |name| Recipe::from_name(name).ok_or_else(|| format!("no recipe is called `{name}`"));
                arguments.recipes = value.split(',').map(recipe).collect::<Result<_, _>>()?;
            }
            other => return Err(format!("{other} is unknown").into()),
        }
    }
    if arguments.recipes.is_empty() {
        arguments.recipes.push(Recipe::Clr);
    }
    Ok(arguments)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = arguments()?;
    let [backbone, tasks @ ..] = arguments.files.as_slice() else {
        return Err("usage: compact_study BACKBONE.onnx TASK... [--options JSON]...".into());
    };
    let backbone = Backbone::load(backbone)?;
    let split = if arguments.test { Split::Test } else { Split::Validation };
    for task in tasks {
        for &seed in &arguments.seeds {
            let chosen = SplitOptions::default().with_seed(seed).with_limit(arguments.limit);
            let dataset = Dataset::open(task, &chosen)?;
            for &recipe in &arguments.recipes {
                for text in &arguments.options {
                    let compact: CompactOptions = serde_json::from_str(text)?;
                    let resume = arguments
                        .resume
                        .as_ref()
                        .map(|folder| folder.join(name(task)).join(seed.to_string()));
                    let options = TrainOptions::default()
                        .with_recipe(RecipeChoice::Fixed(recipe))
                        .with_seed(seed)
                        .with_resolution(arguments.size)
                        .with_encoding(Encoding::Compact)
                        .with_compact(compact)
                        .with_resume(resume)
                        .with_test(false);
                    let trained = train(&backbone, &dataset, &options, &mut ())?;
                    let line = measured(&backbone, &dataset, split, &trained)?;
                    println!("{}\t{seed}\t{}\t{text}\t{line}", name(task), recipe.name());
                }
            }
        }
    }
    Ok(())
}

/// Returns the columns that depend on the result.
fn measured(backbone: &Backbone, dataset: &Dataset, split: Split, trained: &Trained) -> Result<String, Box<dyn Error>> {
    let file = decode(&trained.bytes)?;
    let measure = |adapter| evaluate_adapter(backbone, adapter, dataset, split, None, &mut ());
    let (full, rounded) = (measure(&trained.adapter)?, measure(&trained.quantised)?);
    let sections = file
        .sections
        .iter()
        .map(|section| format!("{} {}", section.kind, section.bytes));
    Ok(format!(
        "{}\theader {}, {}\t{:.1}\t{:.1}\t{:.3}\t{:.3}\t{:.0}",
        file.file_bytes,
        file.header_bytes,
        sections.collect::<Vec<_>>().join(", "),
        100.0 * full.accuracy,
        100.0 * rounded.accuracy,
        full.loss,
        rounded.loss,
        trained.seconds
    ))
}

fn name(task: &Path) -> String {
    task.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
