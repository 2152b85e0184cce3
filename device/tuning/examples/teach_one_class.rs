//! Teaches an adapter one unknown class from a few images, and evaluates the prototype and the tuned adapter on unseen
//! images. Prints one JSON line.
//!
//! ```text
//! cargo run --release -p clr-tuning --example teach_one_class -- BACKBONE.onnx PARENT.clr TASK --class cat --pictures 20
//! ```
//!
//! `TASK` is the folder with all classes (`train/`, and the split given by `--split`). The parent was trained on a task
//! without the class. `--frames N` adds unlabelled images of the old classes, as from a camera. They are taken from
//! `val/`, because a parent is more confident on its training images than on those of a camera. `--shown N` replaces N
//! of them by unlabelled images of the new class. `--old N` adds N labelled images of each old class, from `train/`.
//! `--limit N` evaluates N images of each class.

use std::{
    collections::HashMap,
    error::Error,
    path::{Path, PathBuf},
};

use clr_adapters::{Adapter, decode, delta::diff};
use clr_learning::{Network, PerGroup, Purpose, argmax, peak_memory, stream};
use clr_onnx::{Backbone, Preprocess as _, decode_image_for};
use clr_tuning::{InMemory, MemoryPlan, Observer, Parent, TrainableScope, TuneOptions, resident, teach, tune};
use rand::RngExt as _;
use serde_json::json;

struct Log(bool);

impl Observer for Log {
    fn plan(&mut self, plan: &MemoryPlan) {
        eprintln!("{plan}");
    }

    fn progress(&mut self, progress: clr_tuning::Progress) {
        if self.0 && progress.step.is_multiple_of(20) {
            eprintln!("step {:>4} loss {:.3}", progress.step, progress.loss);
        }
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, std::io::Error> {
    let mut files = std::fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?;
    files.sort();
    Ok(files)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// For each image the true class (`None` if the adapter does not have it) and the predicted class.
type Answers = Vec<(Option<usize>, usize)>;

fn answers(backbone: &Backbone, adapter: &Adapter, split: &Path, limit: usize) -> Result<Answers, Box<dyn Error>> {
    let network = Network::from_adapter(backbone, adapter)?;
    let preprocessing = &adapter.header.preprocessing;
    let size = [preprocessing.height as usize, preprocessing.width as usize];
    let mut answers = Vec::new();
    for folder in files(split)? {
        let label = name(&folder);
        let expected = adapter.header.labels.iter().position(|known| *known == label);
        let all = files(&folder)?;
        // The selection is spread over the sorted names, because neighbouring names may belong together.
        let kept = limit.min(all.len());
        for file in (0..kept).map(|index| &all[index * all.len() / kept]) {
            let start = network.prefix(
                &preprocessing.preprocess(&decode_image_for(file, &[preprocessing])?),
                size,
            )?;
            let logits = network.classify(&network.features_from_prefix(&start, size)?);
            answers.push((expected, argmax(&logits)));
        }
    }
    Ok(answers)
}

/// Returns five fractions of images. The first is the recall of the new class, the second the accuracy on the old
/// classes. The others are fractions of the old classes' images: correct by the parent but now predicted as the new
/// class, correct by the parent but now confused with another old class, and correct only by this adapter.
fn measure(parent: &Answers, adapter: &Answers, new: usize) -> [f64; 5] {
    let mut counts = [0_u32; 5];
    let mut all = [0_u32; 2];
    for (&(expected, before), &(_, after)) in parent.iter().zip(adapter) {
        let Some(expected) = expected else {
            all[0] += 1;
            counts[0] += u32::from(after == new);
            continue;
        };
        all[1] += 1;
        counts[1] += u32::from(after == expected);
        counts[2] += u32::from(before == expected && after == new);
        counts[3] += u32::from(before == expected && after != expected && after != new);
        counts[4] += u32::from(before != expected && after == expected);
    }
    std::array::from_fn(|index| f64::from(counts[index]) / f64::from(all[index.min(1)].max(1)))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [backbone, file, task, rest @ ..] = arguments.as_slice() else {
        return Err("usage: teach_one_class BACKBONE.onnx PARENT.clr TASK --class NAME [--pictures 20] [--frames 0] [--shown 0] [--old 0] [--seed 0] [--steps N] [--batch N] [--max-ram MB] [--first SITE | --head] [--rates HEAD,NORM,KERNEL] [--decay D] [--distillation-weight W] [--distillation-temperature T] [--logit-margin NATS] [--replay-fraction R] [--interpolation A] [--threads N] [--split val|test] [--limit N] [--yield] [--verbose]".into());
    };
    let mut given: HashMap<&str, &str> = HashMap::new();
    let mut rest = rest.iter().map(String::as_str);
    while let Some(flag) = rest.next() {
        let alone = ["--head", "--verbose", "--yield"].contains(&flag);
        given.insert(
            flag,
            if alone {
                ""
            } else {
                rest.next().ok_or("a flag lacks its value")?
            },
        );
    }
    let number = |flag: &str, default: f64| given.get(flag).map_or(Ok(default), |text| text.parse::<f64>());
    let class = *given.get("--class").ok_or("which --class?")?;
    let (seed, limit) = (number("--seed", 0.0)? as u64, number("--limit", 1e9)? as usize);
    let backbone = Backbone::load(Path::new(backbone))?;
    let published = std::fs::read(file)?;
    let original = decode(&published)?;
    let task = Path::new(task);

    let mut random = stream(seed, Purpose::Order, 0, 0);
    let mut shuffled = |mut files: Vec<PathBuf>| {
        for index in (1..files.len()).rev() {
            files.swap(index, random.random_range(0..=index));
        }
        files
    };
    let mut examples = InMemory::default();
    let mut own = shuffled(files(&task.join("train").join(class))?).into_iter();
    for file in own.by_ref().take(number("--pictures", 20.0)? as usize) {
        examples.add(Some(class), std::fs::read(file)?);
    }
    let shown: Vec<PathBuf> = own.take(number("--shown", 0.0)? as usize).collect();
    let mut frames = Vec::new();
    for label in &original.adapter.header.labels {
        let mut own = shuffled(files(&task.join("train").join(label))?);
        own.truncate(number("--old", 0.0)? as usize);
        for file in own {
            examples.add(Some(label), std::fs::read(file)?);
        }
        frames.extend(files(&task.join("val").join(label))?);
    }
    let most = (number("--frames", 0.0)? as usize).saturating_sub(shown.len());
    for file in shuffled(frames).into_iter().take(most).chain(shown) {
        examples.add(None, std::fs::read(file)?);
    }

    let known = original.adapter.clone();
    let parent = Parent::new(original, Some(&known));
    let prototype = teach(&backbone, &parent, &examples)?.revision;
    let taught = Parent::new(decode(&prototype.file)?, Some(&known));
    let mut options = TuneOptions::default().with_seed(seed);
    options.steps = number("--steps", f64::from(options.steps))? as u32;
    options.batch = number("--batch", options.batch as f64)? as usize;
    options.threads = number("--threads", 1.0)? as usize;
    options.max_memory = Some((number("--max-ram", 300.0)? * 1e6) as u64);
    options.distillation_weight = number("--distillation-weight", f64::from(options.distillation_weight))? as f32;
    options.distillation_temperature = number(
        "--distillation-temperature",
        f64::from(options.distillation_temperature),
    )? as f32;
    options.interpolation = number("--interpolation", f64::from(options.interpolation))? as f32;
    options.replay_fraction = number("--replay-fraction", f64::from(options.replay_fraction))? as f32;
    options.logit_margin = number("--logit-margin", f64::from(options.logit_margin))? as f32;
    if let Some(rates) = given.get("--rates") {
        let rates = rates.split(',').map(str::parse).collect::<Result<Vec<f64>, _>>()?;
        let [head, norm, kernel] = rates[..] else {
            return Err("--rates takes three numbers".into());
        };
        options.rates = PerGroup { head, norm, kernel };
    }
    let decay = number("--decay", options.decay.norm)?;
    (options.decay.norm, options.decay.kernel) = (decay, decay);
    options.scope = match given.get("--first") {
        Some(site) => Some(TrainableScope::From(site.parse()?)),
        None => given.contains_key("--head").then_some(TrainableScope::Head),
    };
    options.yielding = given.contains_key("--yield");
    let before = resident();
    let tuned = tune(
        &backbone,
        &taught,
        &examples,
        &(),
        &options,
        &mut Log(given.contains_key("--verbose")),
    )?;
    let peak = peak_memory();
    let split = task.join(given.get("--split").copied().unwrap_or("test"));
    let new = known.header.labels.len();
    let parent = answers(&backbone, &known, &split, limit)?;
    let [_, old_parent, ..] = measure(&parent, &parent, new);
    let of = |adapter: &Adapter| -> Result<[f64; 5], Box<dyn Error>> {
        Ok(measure(&parent, &answers(&backbone, adapter, &split, limit)?, new))
    };
    let [new_prototype, old_prototype, ..] = of(&prototype.adapter)?;
    let [new_tuned, old_tuned, taken, confused, won] = of(&tuned.candidate.adapter)?;
    let delta = |base: &[u8], target: &[u8]| diff(base, target).map_or(target.len(), |delta| delta.len());
    let line = json!({
        "task": name(task), "class": class, "seed": seed, "split": name(&split),
        "old_pictures": parent.iter().filter(|(expected, _)| expected.is_some()).count(),
        "old_parent": old_parent, "old_prototype": old_prototype, "old_tuned": old_tuned,
        "old_taken": taken, "old_confused": confused, "old_won": won,
        "new_prototype": new_prototype, "new_tuned": new_tuned,
        "verdict": tuned.verdict, "plan": tuned.plan.to_string(),
        "estimated_peak": tuned.plan.peak, "resident_before": before, "peak": peak,
        "steps": tuned.steps, "milliseconds_a_step": 1e3 * tuned.step_seconds / f64::from(tuned.steps.max(1)),
        "seconds": tuned.seconds, "bytes": tuned.candidate.file.len(),
        "delta_taught": delta(&published, &prototype.file), "delta_tuned": delta(&prototype.file, &tuned.candidate.file),
    });
    println!("{line}");
    Ok(())
}
