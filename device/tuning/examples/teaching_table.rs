//! Evaluates classes taught from twenty images each: recall of the new class and losses of the old ones, per class.
//!
//! ```text
//! cargo run --release -p clr-tuning --example teaching_table -- lite0.onnx tasks/digits:2,4,6 tasks/signs:0
//! ```
//!
//! The arguments are task folders (`train/`, `val/`, `test/`, one folder per class) with the indices of classes. For
//! each such class, logistic regression fits a head to the unmodified backbone's features of all *other* classes, with
//! the canaries, the profile and the class features that a host writes. [`clr_tuning::teach`] then gets 20 training
//! images of the left-out class, and no other image. The result is evaluated on test images, for three draws, and
//! compared with the same for a file without class features (format version 2). With `--foreign`, a class of the next task on the command line is taught to each complete task. The input is 96 px unless
//! `--size` is given.

use std::{
    error::Error,
    path::{Path, PathBuf},
    time::Instant,
};

use clr_adapters::{
    Adapter, Canary, Encoding, Head, Header, Preprocessing, Profile, Provenance, Recipe, SiteSteps, StepSize, decode,
    encode,
};
use clr_learning::{LabelledFeatures, Network, Purpose, argmax, learn_class_features, log_probability, stream};
use clr_onnx::{Backbone, Preprocess as _, RgbImage, compacted, decode_image, identity_adapter};
use clr_tuning::{InMemory, Parent, teach};
use rand::RngExt as _;

const MOST: [(&str, usize); 3] = [("train", 120), ("val", 60), ("test", 100)];
const IMAGES: usize = 20;
const DRAWS: u64 = 3;

/// An image: its class, its file and its features.
struct Seen {
    class: usize,
    file: PathBuf,
    x: Vec<f32>,
}

struct Task {
    name: String,
    labels: Vec<String>,
    /// Training, validation and test images.
    parts: [Vec<Seen>; 3],
}

struct Study {
    backbone: Backbone,
    preprocessing: Preprocessing,
    network: Network,
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>, std::io::Error> {
    let mut files = std::fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?;
    files.sort();
    Ok(files)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Study {
    fn features(&self, image: &RgbImage) -> Result<Vec<f32>, Box<dyn Error>> {
        let size = [self.preprocessing.height as usize, self.preprocessing.width as usize];
        let start = self.network.prefix(&self.preprocessing.preprocess(image), size)?;
        Ok(self.network.features_from_prefix(&start, size)?)
    }

    fn task(&self, folder: &Path) -> Result<Task, Box<dyn Error>> {
        let labels: Vec<String> = sorted(&folder.join("train"))?.iter().map(|path| name(path)).collect();
        let mut parts = [Vec::new(), Vec::new(), Vec::new()];
        for ((part, most), seen) in MOST.iter().zip(&mut parts) {
            for (class, label) in labels.iter().enumerate() {
                let files = sorted(&folder.join(part).join(label)).unwrap_or_default();
                // The selection is spread over the sorted names, because neighbouring names may belong together.
                let kept = (*most).min(files.len());
                for index in 0..kept {
                    let file = files[index * files.len() / kept].clone();
                    let x = self.features(&decode_image(&file)?)?;
                    seen.push(Seen { class, file, x });
                }
            }
        }
        let name = name(folder);
        Ok(Task { name, labels, parts })
    }

    /// Returns the publisher's adapter of a task without one of its classes: without class features, and with them.
    fn publishers(&self, task: &Task, left_out: Option<usize>) -> Result<[Parent; 2], Box<dyn Error>> {
        let kept: Vec<usize> = (0..task.labels.len())
            .filter(|&class| Some(class) != left_out)
            .collect();
        let place = |class: usize| kept.iter().position(|&kept| kept == class);
        let of = |part: usize| -> Vec<(usize, &Seen)> {
            let all = task.parts[part].iter();
            all.filter_map(|seen| Some((place(seen.class)?, seen))).collect()
        };
        let (train, validation) = (of(0), of(1));
        let head = fit(&train, kept.len());
        let mut header = Header::new(
            "study",
            kept.iter().map(|&class| task.labels[class].clone()).collect(),
            self.backbone.digest(),
            self.preprocessing.clone(),
            Provenance::HostTrained,
        );
        let slices = |part: &[(usize, &Seen)]| part.iter().map(|(_, seen)| seen.x.clone()).collect::<Vec<_>>();
        let (training, own) = (slices(&train), slices(&validation));
        header.profile = Profile::learn(training.iter().map(Vec::as_slice), own.iter().map(Vec::as_slice));
        header.canaries = self.canaries(&head, &validation)?;
        let adapter = identity_adapter(&self.backbone, Recipe::Linear, head, header);
        let steps = SiteSteps {
            weights: StepSize(-16),
            bias: StepSize(-6),
        };
        let mut compact = compacted(&self.backbone, &adapter, steps, 0.3);
        let labelled = |part: &[(usize, &Seen)]| LabelledFeatures {
            features: slices(part),
            labels: part.iter().map(|(class, _)| *class as u32).collect(),
        };
        let (train, validation) = (labelled(&train), labelled(&validation));
        compact.header.class_features = learn_class_features(&train, &validation, &compact.head, 0)?;
        compact.header.canaries.clear();
        let parent = |adapter: &Adapter, encoding| -> Result<Parent, Box<dyn Error>> {
            let file = decode(&encode(adapter, encoding)?)?;
            let own = file.adapter.clone();
            Ok(Parent::new(file, Some(&own)))
        };
        Ok([parent(&adapter, Encoding::Int8)?, parent(&compact, Encoding::Compact)?])
    }

    /// Selects canaries as in training: the most confident validation images of two classes, in small size.
    fn canaries(&self, head: &Head, validation: &[(usize, &Seen)]) -> Result<Vec<Canary>, Box<dyn Error>> {
        let mut order: Vec<&(usize, &Seen)> = validation.iter().collect();
        let sure = |(class, seen): &(usize, &Seen)| -log_probability(&logits(head, &seen.x), *class, 1.0);
        order.sort_by(|a, b| sure(a).total_cmp(&sure(b)));
        let mut chosen: Vec<Canary> = Vec::new();
        for (class, seen) in order.into_iter().take(24) {
            let image = decode_image(&seen.file)?;
            let factor = (32.0 / f64::from(image.width().max(image.height()))).min(1.0);
            let side = |side: u32| ((f64::from(side) * factor).round() as u32).max(1);
            let (width, height) = (side(image.width()), side(image.height()));
            let small = image::imageops::resize(&image, width, height, image::imageops::FilterType::Triangle);
            let answer = logits(head, &self.features(&small)?);
            let new = chosen.iter().all(|canary| canary.class as usize != *class);
            if argmax(&answer) == *class && new && chosen.len() < 2 {
                chosen.push(Canary {
                    size: [width as u16, height as u16],
                    pixels: small.into_raw(),
                    class: *class as u32,
                    probability: log_probability(&answer, *class, 1.0).exp() as f32,
                    seed: None,
                });
            }
        }
        Ok(chosen)
    }
}

fn logits(head: &Head, x: &[f32]) -> Vec<f32> {
    let rows = head.weight.chunks_exact(head.features).zip(&head.bias);
    rows.map(|(row, &bias)| row.iter().zip(x).map(|(w, x)| w * x).sum::<f32>() + bias)
        .collect()
}

/// Fits a head by logistic regression with a penalty on centred features, by Adam with full batches.
fn fit(images: &[(usize, &Seen)], classes: usize) -> Head {
    const STEPS: i32 = 120;
    const PENALTY: f32 = 0.03;
    let features = images[0].1.x.len();
    let count = images.len() as f32;
    let mut mean = vec![0.0_f32; features];
    for (_, seen) in images {
        mean.iter_mut().zip(&seen.x).for_each(|(mean, x)| *mean += x / count);
    }
    let squares: f32 = (images.iter())
        .map(|(_, seen)| {
            seen.x
                .iter()
                .zip(&mean)
                .map(|(x, mean)| (x - mean).powi(2))
                .sum::<f32>()
        })
        .sum();
    let deviation = (squares / count / features as f32).sqrt().max(1e-9);
    let scaled: Vec<Vec<f32>> = (images.iter())
        .map(|(_, seen)| {
            seen.x
                .iter()
                .zip(&mean)
                .map(|(x, mean)| (x - mean) / deviation)
                .collect()
        })
        .collect();
    let mut head = Head {
        features,
        weight: vec![0.0; classes * features],
        bias: vec![0.0; classes],
    };
    let mut moments = vec![(0.0_f32, 0.0_f32); classes * (features + 1)];
    for step in 1..=STEPS {
        let mut gradient: Vec<f32> = head.weight.iter().map(|w| PENALTY * w).collect();
        gradient.extend(vec![0.0; classes]);
        for ((class, _), x) in images.iter().zip(&scaled) {
            let answer = logits(&head, x);
            for other in 0..classes {
                let probability = log_probability(&answer, other, 1.0).exp() as f32;
                let error = (probability - f32::from(u8::from(other == *class))) / count;
                let row = &mut gradient[other * features..(other + 1) * features];
                row.iter_mut().zip(x).for_each(|(gradient, x)| *gradient += error * x);
                gradient[classes * features + other] += error;
            }
        }
        let values = head.weight.iter_mut().chain(&mut head.bias);
        for ((value, gradient), (first, second)) in values.zip(&gradient).zip(&mut moments) {
            *first = 0.9 * *first + 0.1 * gradient;
            *second = 0.99 * *second + 0.01 * gradient * gradient;
            let (a, b) = (1.0 - 0.9_f32.powi(step), 1.0 - 0.99_f32.powi(step));
            *value -= 0.02 * (*first / a) / ((*second / b).sqrt() + 1e-8);
        }
    }
    for (row, bias) in head.weight.chunks_exact_mut(features).zip(&mut head.bias) {
        for weight in row.iter_mut() {
            *weight /= deviation;
        }
        *bias -= row.iter().zip(&mean).map(|(w, mean)| w * mean).sum::<f32>();
    }
    head
}

/// Returns the recall of the new class, and the fraction of old images that were correct and are now predicted as the
/// new class.
fn measure(parent: &Adapter, head: &Head, old: &[(usize, &Seen)], new: &[&Seen]) -> [f64; 2] {
    let class = head.bias.len() - 1;
    let recognised = new
        .iter()
        .filter(|seen| argmax(&logits(head, &seen.x)) == class)
        .count();
    let lost = (old.iter())
        .filter(|(right, seen)| argmax(&logits(&parent.head, &seen.x)) == *right)
        .filter(|(_, seen)| argmax(&logits(head, &seen.x)) == class)
        .count();
    [
        recognised as f64 / new.len().max(1) as f64,
        lost as f64 / old.len().max(1) as f64,
    ]
}

fn row(
    study: &Study,
    task: &Task,
    left_out: Option<usize>,
    from: &Task,
    class: usize,
) -> Result<[f64; 4], Box<dyn Error>> {
    let parents = study.publishers(task, left_out)?;
    let place = |label: &str| {
        let mut labels = parents[0].adapter.header.labels.iter();
        labels.position(|known| known == label)
    };
    let old: Vec<(usize, &Seen)> = (task.parts[2].iter())
        .filter_map(|seen| Some((place(&task.labels[seen.class])?, seen)))
        .collect();
    let of = |part: usize| {
        from.parts[part]
            .iter()
            .filter(|seen| seen.class == class)
            .collect::<Vec<_>>()
    };
    let (all, new) = (of(0), of(2));
    let mut sums = [0.0; 4];
    let mut words = String::new();
    let mut seconds = [0.0; 2];
    for draw in 0..DRAWS {
        let mut random = stream(draw, Purpose::Order, class as u64, 0);
        let mut own = all.clone();
        for index in (1..own.len()).rev() {
            own.swap(index, random.random_range(0..=index));
        }
        own.truncate(IMAGES);
        let mut examples = InMemory::default();
        for seen in &own {
            examples.add(Some("the new class"), std::fs::read(&seen.file)?);
        }
        for (at, parent) in parents.iter().enumerate() {
            let start = Instant::now();
            let result = match teach(&study.backbone, parent, &examples) {
                Ok(taught) => measure(&parent.adapter, &taught.revision.adapter.head, &old, &new),
                Err(error) => {
                    let refusal = error.to_string();
                    words = format!("{words} refused ({})", refusal.lines().next().unwrap_or_default());
                    [0.0; 2]
                }
            };
            seconds[at] += start.elapsed().as_secs_f64() / DRAWS as f64;
            for (sum, value) in sums[2 * at..].iter_mut().zip(result) {
                *sum += 100.0 / DRAWS as f64 * value;
            }
        }
    }
    println!(
        "| {}, {} | {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.0}, {:.0} |{words}",
        task.name,
        if left_out.is_some() {
            from.labels[class].clone()
        } else {
            format!("{} of {}", from.labels[class], from.name)
        },
        old.len(),
        sums[0],
        -sums[1],
        sums[2],
        -sums[3],
        1000.0 * seconds[0],
        1000.0 * seconds[1],
    );
    Ok(sums)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let foreign = arguments.iter().any(|argument| argument == "--foreign");
    arguments.retain(|argument| argument != "--foreign");
    let size = match arguments.iter().position(|argument| argument == "--size") {
        Some(at) => arguments.drain(at..at + 2).nth(1).unwrap_or_default().parse()?,
        None => 96,
    };
    let [backbone, tasks @ ..] = arguments.as_slice() else {
        return Err("usage: teaching_table BACKBONE.onnx TASK:CLASS,CLASS… … [--foreign] [--size 96]".into());
    };
    let backbone = Backbone::load(Path::new(backbone))?;
    let mut preprocessing = backbone.preprocessing().clone();
    (preprocessing.width, preprocessing.height) = (size, size);
    let network = Network::new(&backbone, Recipe::Linear, 2, 0)?;
    let study = Study {
        backbone,
        preprocessing,
        network,
    };
    let mut all: Vec<(Task, Vec<usize>)> = Vec::new();
    for argument in tasks {
        let (folder, classes) = argument.split_once(':').unwrap_or((argument, ""));
        let classes = classes.split(',').filter(|text| !text.is_empty()).map(str::parse);
        all.push((study.task(Path::new(folder))?, classes.collect::<Result<_, _>>()?));
    }
    println!(
        "| task, class | old images | recall without | old | recall with class features | old | ms, both |\n|---|---|---|---|---|---|---|"
    );
    let (mut sums, mut count) = ([0.0; 4], 0.0);
    for (index, (task, classes)) in all.iter().enumerate() {
        let mut rows: Vec<(Option<usize>, &Task, usize)> =
            classes.iter().map(|&class| (Some(class), task, class)).collect();
        if foreign {
            rows = vec![(None, &all[(index + 1) % all.len()].0, 1)];
        }
        for (left_out, from, class) in rows {
            let one = row(&study, task, left_out, from, class)?;
            sums.iter_mut().zip(one).for_each(|(sum, one)| *sum += one);
            count += 1.0;
        }
    }
    let mean = sums.map(|sum| sum / count);
    println!(
        "| mean of {count} | | {:.1} | {:.1} | {:.1} | {:.1} | |",
        mean[0], -mean[1], mean[2], -mean[3]
    );
    Ok(())
}
