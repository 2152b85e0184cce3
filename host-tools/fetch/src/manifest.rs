//! Task folders, `<cache>/tasks/<name>/{train,val,test}/<label>/*.png` and `task.json`, written atomically.

use std::{collections::BTreeMap, fs, path::Path, path::PathBuf};

use clr_adapters::Digest;
use serde::{Deserialize, Serialize};

use super::{
    FetchError,
    client::{self, Source},
    split::{self, Part, Sample},
    tasks::Task,
};
use crate::{
    cache::{self, Cache},
    progress::{Progress, Unit},
};

const SCHEMA: &str = "clr.task/1";

/// Options of a task's split.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct TaskOptions {
    /// Seed of the split.
    pub seed: u64,
    /// Maximum images per class before the split; `None` selects the task's default.
    pub limit_per_class: Option<usize>,
}

impl TaskOptions {
    /// Sets the seed of the split.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the maximum number of images per class before the split; `None` selects the task's default.
    #[must_use]
    pub fn with_limit_per_class(mut self, limit: impl Into<Option<usize>>) -> Self {
        self.limit_per_class = limit.into();
        self
    }
}

/// `task.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// `clr.task/1`.
    pub schema: String,
    /// The task.
    pub name: String,
    /// The question that the task answers, as a clause.
    pub title: String,
    /// The task's goal according to the paper (objects, style, scenes, counting, medical), or inspection.
    pub goal: String,
    /// Photographed, drawn, rendered, scanned.
    pub nature: String,
    /// Size of an image.
    pub pixels: String,
    /// The packages from which the task was created.
    pub sources: Vec<ManifestSource>,
    /// The unit that is never divided between splits.
    pub split_by: String,
    /// Decisions and caveats.
    pub note: String,
    /// Seed of the split.
    pub seed: u64,
    /// Images per class before the split.
    pub limit_per_class: Option<usize>,
    /// Number of removed duplicates.
    pub duplicates_removed: usize,
    /// Number of images that were removed because they had several labels.
    pub contradictory_removed: usize,
    /// Files that could not be read.
    pub unreadable: Vec<String>,
    /// Number of groups that stay together.
    pub groups: usize,
    /// Size of the largest group.
    pub largest_group: usize,
    /// Number of images, by split and label.
    pub counts: BTreeMap<String, BTreeMap<String, usize>>,
    /// SHA-256 of the sorted relative paths and pixels: equal for equal tasks.
    pub digest: String,
}

/// A package of a task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ManifestSource {
    /// The registry.
    pub registry: String,
    /// The package's name.
    pub package: String,
    /// The package's version.
    pub version: String,
    /// The package's licence.
    pub licence: String,
    /// SHA-256 of its file.
    pub sha256: String,
    /// Whether the file is byte-identical to the pinned one.
    pub pinned: bool,
}

impl Manifest {
    /// Returns the number of images in a split.
    pub fn total(&self, part: &str) -> usize {
        self.counts.get(part).map_or(0, |labels| labels.values().sum())
    }

    /// Returns the number of classes.
    pub fn classes(&self) -> usize {
        self.counts.get("train").map_or(0, BTreeMap::len)
    }
}

/// A task on disk.
#[derive(Clone, Debug, Serialize)]
pub struct FetchedTask {
    /// The folder.
    pub path: PathBuf,
    /// Whether the task was already cached.
    pub cached: bool,
    /// The content of `task.json`.
    pub task: Manifest,
}

/// Returns the folder's name: the task's name, and the options that differ from the task's defaults.
pub fn folder_name(task: &Task, options: TaskOptions) -> String {
    let mut name = task.name.to_owned();
    if options.seed != 0 {
        name = format!("{name}.seed{}", options.seed);
    }
    if let Some(limit) = options
        .limit_per_class
        .filter(|&limit| Some(limit) != task.default_limit)
    {
        name = format!("{name}.limit{limit}");
    }
    name
}

/// Returns the task from the cache, or creates it from its packages.
pub fn fetch_task(
    task: &'static Task,
    options: TaskOptions,
    cache: &Cache,
    progress: &dyn Progress,
) -> Result<FetchedTask, FetchError> {
    let path = cache.task(&folder_name(task, options));
    if let Some(manifest) = read(&path) {
        return Ok(FetchedTask {
            path,
            cached: true,
            task: manifest,
        });
    }
    let sources = task
        .packages
        .iter()
        .map(|&package| client::ensure(package, cache, progress))
        .collect::<Result<Vec<_>, _>>()?;
    tracing::info!("preparing task '{}'", task.name);
    let bar = progress.start(Unit::Images, 0, &format!("preparing {}", task.name));
    let collected = (task.collect)(&sources)?;
    if collected.samples.is_empty() {
        return Err(FetchError::content(sources[0].file(), "no images found"));
    }
    for problem in &collected.unreadable {
        tracing::warn!("skipped: {problem}");
    }
    let (samples, removed) = split::remove_duplicates(collected.samples);
    let samples = match options.limit_per_class.or(task.default_limit) {
        Some(limit) => split::limit_per_class(samples, limit, options.seed),
        None => samples,
    };
    let groups = split::groups(&samples, task.near_duplicates);
    let parts = split::assign(&samples, &groups, options.seed);
    let work = cache.work()?;
    let folder = work.path().join("task");
    bar.set_length(samples.len() as u64);
    let (counts, digest) = write(&folder, &collected.labels, &samples, &parts, &|done| {
        bar.set_position(done);
    })?;
    drop(bar);
    let manifest = Manifest {
        schema: SCHEMA.to_owned(),
        name: task.name.to_owned(),
        title: task.title.to_owned(),
        goal: task.goal.to_owned(),
        nature: task.nature.to_owned(),
        pixels: task.pixels.to_owned(),
        sources: sources.iter().map(record).collect(),
        split_by: task.split_by.to_owned(),
        note: task.note.to_owned(),
        seed: options.seed,
        limit_per_class: options.limit_per_class.or(task.default_limit),
        duplicates_removed: removed.duplicates,
        contradictory_removed: removed.contradictory,
        unreadable: collected.unreadable,
        groups: groups.len(),
        largest_group: groups.iter().map(Vec::len).max().unwrap_or(0),
        counts,
        digest,
    };
    let text =
        serde_json::to_string_pretty(&manifest).map_err(|error| FetchError::content("task.json", error.to_string()))?;
    write_file(&folder.join("task.json"), text.as_bytes())?;
    if path.exists() {
        // The folder has no readable task.json, so it is damaged or was not created by this program.
        fs::remove_dir_all(&path).map_err(|source| FetchError::Io {
            action: "replace",
            path: path.clone(),
            source,
        })?;
    }
    cache::install(&folder, &path)?;
    Ok(FetchedTask {
        path,
        cached: false,
        task: manifest,
    })
}

fn read(path: &Path) -> Option<Manifest> {
    let text = clr_adapters::text_from_bytes(fs::read(path.join("task.json")).ok()?).ok()?;
    serde_json::from_str::<Manifest>(&text)
        .ok()
        .filter(|manifest| manifest.schema == SCHEMA)
}

fn record(source: &Source) -> ManifestSource {
    ManifestSource {
        registry: source.registry.to_owned(),
        package: source.package.to_owned(),
        version: source.version.clone(),
        licence: source.licence.to_owned(),
        sha256: source.sha256.clone(),
        pinned: source.pinned,
    }
}

type Counts = BTreeMap<String, BTreeMap<String, usize>>;

/// Writes the folders. Returns the counts and the digest.
fn write(
    folder: &Path,
    labels: &[String],
    samples: &[Sample],
    parts: &[Part],
    written: &dyn Fn(u64),
) -> Result<(Counts, String), FetchError> {
    let mut counts = Counts::new();
    for part in Part::ALL {
        let by_label = counts.entry(part.folder().to_owned()).or_default();
        for label in labels {
            by_label.insert(label.clone(), 0);
        }
    }
    let mut content = BTreeMap::new();
    for (index, (sample, part)) in samples.iter().zip(parts).enumerate() {
        let label = &labels[sample.class];
        let relative = format!("{}/{label}/{index:05}-{}.png", part.folder(), safe(&sample.name));
        let path = folder.join(&relative);
        let count = counts
            .get_mut(part.folder())
            .and_then(|by_label| by_label.get_mut(label));
        if let Some(count) = count {
            if *count == 0 {
                cache::create_dir(&folder.join(part.folder()).join(label))?;
            }
            *count += 1;
        }
        write_file(&path, &sample.image.png)?;
        content.insert(relative, sample.image.pixels);
        written(index as u64 + 1);
    }
    let mut text = Vec::new();
    for (path, digest) in content {
        text.extend_from_slice(path.as_bytes());
        text.push(0);
        text.extend_from_slice(&digest.0);
    }
    Ok((counts, Digest::of(&text).to_string()))
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), FetchError> {
    fs::write(path, bytes).map_err(|source| FetchError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

/// Returns a name that is valid on every file system.
fn safe(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') {
                c
            } else {
                '-'
            }
        })
        .take(60)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks;

    #[test]
    fn the_folder_names_what_differs_from_the_defaults() {
        let task = tasks::find("climate").unwrap();
        let name = |seed, limit_per_class| folder_name(task, TaskOptions { seed, limit_per_class });
        assert_eq!(name(0, None), "climate");
        assert_eq!(name(0, task.default_limit), "climate");
        assert_eq!(name(3, Some(50)), "climate.seed3.limit50");
    }

    #[test]
    fn names_become_safe() {
        assert_eq!(safe("a b/c..png"), "a-b-c--png");
        assert_eq!(safe(&"x".repeat(100)).len(), 60);
    }
}
