//! Fixtures: small seeded backbones, folders of generated images, and the program under test.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use assert_cmd::Command;
use clr_adapters::{Adapter, Head, Header, Provenance, Recipe, SiteWeights};
use clr_onnx::{Architecture, Backbone, RgbImage, identity_adapter, seeded_backbone};
use clr_training::{Dataset, RecipeChoice, Schedule, SplitOptions, TrainOptions, Trained, train};
use tempfile::TempDir;

/// Side of the images and of the network input, in pixels.
pub(crate) const SIDE: u32 = 32;

/// Returns the program, with a separate cache.
pub(crate) fn clr() -> Command {
    static CACHE: OnceLock<TempDir> = OnceLock::new();
    let cache = CACHE.get_or_init(|| tempfile::tempdir().unwrap());
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("clr-under-test"));
    command
        .env("CLR_CACHE", cache.path())
        .env_remove("CLR_LOG")
        .env("NO_COLOR", "1");
    command
}

/// Returns a seeded backbone with a small input.
pub(crate) fn backbone(architecture: Architecture, seed: u64) -> Backbone {
    let backbone = seeded_backbone(architecture, seed, 10);
    let mut preprocessing = backbone.preprocessing().clone();
    (preprocessing.width, preprocessing.height) = (SIDE, SIDE);
    backbone.with_preprocessing(preprocessing).unwrap()
}

/// Returns EfficientNet-Lite0 with seeded weights; created once.
pub(crate) fn lite0() -> &'static Backbone {
    static LITE0: OnceLock<Backbone> = OnceLock::new();
    LITE0.get_or_init(|| backbone(Architecture::EfficientNetLite0, 1))
}

/// Returns a generator of numbers in −1 to 1 (linear congruential).
pub(crate) fn numbers(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// Returns an adapter of `recipe` in which every value differs from the backbone's.
pub(crate) fn random_adapter(backbone: &Backbone, recipe: Recipe, task: &str, classes: usize, seed: u64) -> Adapter {
    let mut next = numbers(seed);
    let features = backbone.feature_count();
    let head = Head {
        features,
        weight: (0..classes * features).map(|_| 0.05 * next()).collect(),
        bias: (0..classes).map(|_| 0.1 * next()).collect(),
    };
    let labels = (0..classes).map(|class| format!("class {class}")).collect();
    let header = Header::new(
        task,
        labels,
        backbone.digest(),
        backbone.preprocessing().clone(),
        Provenance::HostTrained,
    );
    let mut adapter = identity_adapter(backbone, recipe, head, header);
    for site in &mut adapter.sites {
        match &mut site.weights {
            SiteWeights::Scale(values) => values.iter_mut().for_each(|value| *value *= 1.0 + 0.2 * next()),
            SiteWeights::Kernel(values) => {
                for kernel in values.chunks_mut(9) {
                    let size = kernel.iter().fold(0.0f32, |size, value| size.max(value.abs()));
                    for value in kernel {
                        *value += 0.05 * size * next();
                    }
                }
            }
        }
        site.bias.iter_mut().for_each(|value| *value += 0.05 * next());
    }
    adapter
}

/// Returns an image of noise with a colour and a stripe that depend on `class`.
pub(crate) fn image(class: u32, seed: u64) -> RgbImage {
    let mut next = numbers(seed * 31 + u64::from(class));
    RgbImage::from_fn(SIDE, SIDE, |x, y| {
        let stripe = if ((if class.is_multiple_of(2) { x } else { y }) / 4).is_multiple_of(2) {
            50.0
        } else {
            -50.0
        };
        let colours = [
            [60.0, 120.0, 180.0],
            [180.0, 90.0, 60.0],
            [90.0, 180.0, 120.0],
            [150.0, 150.0, 60.0],
        ];
        let colour: [f32; 3] = colours[class as usize % 4];
        image::Rgb(colour.map(|value| (value + stripe + 30.0 * next()).clamp(0.0, 255.0) as u8))
    })
}

/// Writes `folder/<class name>/<number>.png`.
pub(crate) fn write_images(folder: &Path, classes: u32, each: u64, seed: u64) {
    for class in 0..classes {
        let folder = folder.join(format!("kind-{class}"));
        std::fs::create_dir_all(&folder).unwrap();
        for number in 0..each {
            image(class, seed * 1000 + number)
                .save(folder.join(format!("{number}.png")))
                .unwrap();
        }
    }
}

/// A temporary folder with `data/` (class folders) and `backbone.onnx` (Lite0 with seeded weights).
pub(crate) struct Workbench {
    folder: TempDir,
}

impl Workbench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        lite0().save(&folder.path().join("backbone.onnx")).unwrap();
        write_images(&folder.path().join("data"), 2, 8, 3);
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the command `clr` in this folder.
    pub(crate) fn clr(&self, arguments: &[&str]) -> Command {
        let mut command = clr();
        command.current_dir(self.folder.path()).args(arguments);
        command
    }

    /// Runs a command that must fail with a hint. Returns its message.
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let output = self.clr(arguments).assert().failure().get_output().stderr.clone();
        let error = String::from_utf8(output).unwrap();
        assert!(error.contains("hint: "), "{error}");
        error
    }

    /// Writes a random adapter for the backbone as `name`.
    pub(crate) fn adapter(&self, name: &str, task: &str) -> Adapter {
        let adapter = random_adapter(lite0(), Recipe::Clr, task, 2, 5);
        let bytes = clr_adapters::encode(&adapter, clr_adapters::Encoding::F32).unwrap();
        std::fs::write(self.path(name), bytes).unwrap();
        adapter
    }
}

/// Returns a short run with a fixed recipe.
pub(crate) fn options(recipe: Recipe, seed: u64) -> TrainOptions {
    TrainOptions::default()
        .with_recipe(RecipeChoice::Fixed(recipe))
        .with_schedule(Schedule {
            epochs: 1,
            batch: 8,
            ..Schedule::default()
        })
        .with_seed(seed)
        .with_threads(Some(2))
        .with_created(Some(1_700_000_000))
}

/// Trains an adapter on generated images.
pub(crate) fn learn(backbone: &Backbone, recipe: Recipe, classes: u32, seed: u64) -> Trained {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join(format!("task-{seed}"));
    write_images(&data, classes, 8, seed);
    let dataset = Dataset::open(&data, &SplitOptions::default()).unwrap();
    train(backbone, &dataset, &options(recipe, seed), &mut ()).unwrap()
}

/// Returns the largest absolute difference divided by the largest absolute value.
pub(crate) fn relative_difference(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    let size = right.iter().fold(1e-6f32, |size, value| size.max(value.abs()));
    left.iter()
        .zip(right)
        .fold(0.0f32, |worst, (left, right)| worst.max((left - right).abs()))
        / size
}
