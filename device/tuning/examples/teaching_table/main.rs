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
//! compared with the same for a file without class features (format version 2). The input is 96 px unless `--size` is
//! given.
//!
//! With `--tune`, each class is tuned after it was taught, and the table compares these two. With `--adapters FOLDER`,
//! the parents are the files `TASK-INDEX.clr` of this folder, trained without the class `INDEX` of `TASK`. With
//! `--foreign`, a class of the next task on the command line is taught to each complete task.

use std::{
    error::Error,
    path::{Path, PathBuf},
    time::Instant,
};

use clr_adapters::{Head, Recipe, decode};
use clr_learning::{Network, Purpose, argmax, stream};
use clr_onnx::Backbone;
use clr_tuning::{InMemory, Parent, TuneOptions, teach, tune};
use rand::RngExt as _;

mod head;
mod publisher;
mod task;

use self::{
    head::logits,
    publisher::Publisher,
    task::{Extractor, Seen, Task},
};

const IMAGES: usize = 20;
const DRAWS: u64 = 3;

/// Recall of the new class and fraction of lost old images, each for the two columns of the table, and the promoted runs.
#[derive(Clone, Copy, Default)]
struct Row {
    old_images: usize,
    recall: [f64; 2],
    lost: [f64; 2],
    milliseconds: [f64; 2],
    promoted: usize,
}

impl Row {
    fn print(&self, name: &str, words: &str) {
        let Self {
            recall,
            lost,
            milliseconds,
            ..
        } = self;
        println!(
            "| {name} | {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.0}, {:.0} | {} |{words}",
            self.old_images, recall[0], -lost[0], recall[1], -lost[1], milliseconds[0], milliseconds[1], self.promoted,
        );
    }
}

/// Returns the recall of the new class, and the fraction of old images that were correct and are now predicted as the
/// new class.
fn measure(parent: &Head, head: &Head, old: &[(usize, &Seen)], new: &[&Seen]) -> [f64; 2] {
    let class = head.bias.len() - 1;
    let recognised = new
        .iter()
        .filter(|seen| argmax(&logits(head, &seen.x)) == class)
        .count();
    let lost = (old.iter())
        .filter(|(right, seen)| argmax(&logits(parent, &seen.x)) == *right)
        .filter(|(_, seen)| argmax(&logits(head, &seen.x)) == class)
        .count();
    [
        recognised as f64 / new.len().max(1) as f64,
        lost as f64 / old.len().max(1) as f64,
    ]
}

/// One class to be taught.
struct Case<'a> {
    backbone: &'a Backbone,
    /// The publisher's files: with tuning the one with class features, else first one without them.
    parents: Vec<Parent>,
    task: &'a Task,
    from: &'a Task,
    class: usize,
    tunes: bool,
}

impl Case<'_> {
    fn evaluate(&self, name: &str) -> Result<Row, Box<dyn Error>> {
        let place = |label: &str| {
            let mut labels = self.parents[0].adapter.header.labels.iter();
            labels.position(|known| known == label)
        };
        let old: Vec<(usize, &Seen)> = (self.task.parts[2].iter())
            .filter_map(|seen| Some((place(&self.task.labels[seen.class])?, seen)))
            .collect();
        let of = |part: usize| {
            let all = self.from.parts[part].iter();
            all.filter(|seen| seen.class == self.class).collect::<Vec<_>>()
        };
        let (all, new) = (of(0), of(2));
        let mut row = Row {
            old_images: old.len(),
            ..Row::default()
        };
        let mut words = String::new();
        for draw in 0..DRAWS {
            let mut random = stream(draw, Purpose::Order, self.class as u64, 0);
            let mut own = all.clone();
            for index in (1..own.len()).rev() {
                own.swap(index, random.random_range(0..=index));
            }
            own.truncate(IMAGES);
            let mut examples = InMemory::default();
            for seen in &own {
                examples.add(Some("the new class"), std::fs::read(&seen.file)?);
            }
            let mut add = |column: usize, result: [f64; 2], start: Instant| {
                row.recall[column] += 100.0 / DRAWS as f64 * result[0];
                row.lost[column] += 100.0 / DRAWS as f64 * result[1];
                row.milliseconds[column] += 1000.0 * start.elapsed().as_secs_f64() / DRAWS as f64;
            };
            for (column, parent) in self.parents.iter().enumerate() {
                let start = Instant::now();
                let taught = match teach(self.backbone, parent, &examples) {
                    Ok(taught) => taught.revision,
                    Err(error) => {
                        let refusal = error.to_string();
                        words = format!("{words} refused ({})", refusal.lines().next().unwrap_or_default());
                        continue;
                    }
                };
                let head = &parent.adapter.head;
                add(column, measure(head, &taught.adapter.head, &old, &new), start);
                if self.tunes {
                    let start = Instant::now();
                    let taught = Parent::new(decode(&taught.file)?, Some(&parent.adapter));
                    let options = TuneOptions::default().with_max_memory(None).with_seed(draw);
                    let tuned = tune(self.backbone, &taught, &examples, &(), &options, &mut ())?;
                    let serving = tuned.promoted().map_or(&taught.adapter, |revision| &revision.adapter);
                    add(1, measure(head, &serving.head, &old, &new), start);
                    row.promoted += usize::from(tuned.verdict.promoted);
                    let [recall, lost] = measure(head, &tuned.candidate.adapter.head, &old, &new);
                    eprintln!("{name}: {:.1} {:.2}: {}", 100.0 * recall, -100.0 * lost, tuned.verdict);
                }
            }
        }
        row.print(name, &words);
        Ok(row)
    }
}

/// Removes `name` and its value from the arguments.
fn option(arguments: &mut Vec<String>, name: &str) -> Option<String> {
    let at = arguments.iter().position(|argument| argument == name)?;
    arguments.drain(at..(at + 2).min(arguments.len())).nth(1)
}

fn flag(arguments: &mut Vec<String>, name: &str) -> bool {
    let count = arguments.len();
    arguments.retain(|argument| argument != name);
    arguments.len() < count
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let (foreign, tunes) = (flag(&mut arguments, "--foreign"), flag(&mut arguments, "--tune"));
    let size = option(&mut arguments, "--size").map_or(Ok(96), |size| size.parse())?;
    let adapters = option(&mut arguments, "--adapters").map(PathBuf::from);
    let [backbone, tasks @ ..] = arguments.as_slice() else {
        return Err(
            "usage: teaching_table BACKBONE.onnx TASK:CLASS,CLASS… … [--tune] [--adapters FOLDER] [--foreign] [--size 96]"
                .into(),
        );
    };
    let backbone = Backbone::load(Path::new(backbone))?;
    let columns = if tunes || adapters.is_some() {
        ["taught", "tuned"]
    } else {
        ["recall without", "with class features"]
    };
    println!(
        "| task, class | old images | {} | old | {} | old | ms, both | promoted |\n|---|---|---|---|---|---|---|---|",
        columns[0], columns[1]
    );
    let mut rows = Vec::new();
    let mut list: Vec<(PathBuf, Vec<usize>)> = Vec::new();
    for argument in tasks {
        let (folder, classes) = argument.split_once(':').unwrap_or((argument, ""));
        let classes = classes.split(',').filter(|text| !text.is_empty()).map(str::parse);
        list.push((folder.into(), classes.collect::<Result<_, _>>()?));
    }
    if let Some(adapters) = adapters {
        for (folder, classes) in &list {
            for &class in classes {
                let name = folder.file_name().unwrap_or_default().to_string_lossy();
                let file = decode(&std::fs::read(adapters.join(format!("{name}-{class}.clr")))?)?;
                let extractor = Extractor {
                    network: Network::from_adapter(&backbone, &file.adapter)?,
                    preprocessing: file.adapter.header.preprocessing.clone(),
                };
                let task = extractor.task(folder, |part, of| part == 2 || part == 0 && of == class)?;
                let own = file.adapter.clone();
                let case = Case {
                    backbone: &backbone,
                    parents: vec![Parent::new(file, Some(&own))],
                    task: &task,
                    from: &task,
                    class,
                    tunes,
                };
                rows.push(case.evaluate(&format!("{name}, {}", task.labels[class]))?);
            }
        }
    } else {
        let mut preprocessing = backbone.preprocessing().clone();
        (preprocessing.width, preprocessing.height) = (size, size);
        let extractor = Extractor {
            network: Network::new(&backbone, Recipe::Linear, 2, 0)?,
            preprocessing,
        };
        let mut all: Vec<(Task, &[usize])> = Vec::new();
        for (folder, classes) in &list {
            all.push((extractor.task(folder, |_, _| true)?, classes));
        }
        let publisher = Publisher {
            backbone: &backbone,
            extractor: &extractor,
        };
        for (index, (task, classes)) in all.iter().enumerate() {
            let mut cases: Vec<(Option<usize>, &Task, usize)> =
                classes.iter().map(|&class| (Some(class), task, class)).collect();
            if foreign {
                cases = vec![(None, &all[(index + 1) % all.len()].0, 1)];
            }
            for (left_out, from, class) in cases {
                let files = publisher.files(task, left_out)?;
                let case = Case {
                    backbone: &backbone,
                    parents: files.into_iter().skip(usize::from(tunes)).collect(),
                    task,
                    from,
                    class,
                    tunes,
                };
                let label = &from.labels[class];
                let name = match left_out {
                    Some(_) => format!("{}, {label}", task.name),
                    None => format!("{}, {label} of {}", task.name, from.name),
                };
                rows.push(case.evaluate(&name)?);
            }
        }
    }
    let mean = |value: &dyn Fn(&Row) -> f64| rows.iter().map(value).sum::<f64>() / rows.len().max(1) as f64;
    let both = |value: &dyn Fn(&Row) -> [f64; 2]| [0, 1].map(|column| mean(&|row| value(row)[column]));
    Row {
        old_images: rows.iter().map(|row| row.old_images).sum(),
        recall: both(&|row| row.recall),
        lost: both(&|row| row.lost),
        milliseconds: both(&|row| row.milliseconds),
        promoted: rows.iter().map(|row| row.promoted).sum(),
    }
    .print(&format!("mean of {}", rows.len()), "");
    Ok(())
}
