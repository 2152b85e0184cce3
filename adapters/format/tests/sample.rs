//! Adapters for tests: a small one that uses every field, and one of EfficientNet-Lite0's size.

use clr_adapters::{
    Adapter, Calibration, Canary, ChannelOrder, ClassFeatures, Digest, Filter, Fit, Head, Header, Metrics, OwnScores,
    Preprocessing, Profile, Provenance, Recipe, Site, SiteSteps, SiteWeights, StepSize, Steps, Trial, noise_image,
};

/// A small, portable random generator (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a uniform number in 0..1.
    pub(crate) fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }

    /// Returns a standard normal number, as the sum of twelve uniform ones.
    pub(crate) fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }

    pub(crate) fn normals(&mut self, count: usize, deviation: f32) -> Vec<f32> {
        (0..count).map(|_| self.normal() * deviation).collect()
    }

    fn factor(&mut self) -> f32 {
        (0.5 * self.normal()).exp()
    }

    fn site(&mut self, name: &str, channels: usize, kernel: bool) -> Site {
        let weights = if kernel {
            let mut kernels = self.normals(9 * channels, 0.05);
            for kernel in kernels.as_chunks_mut::<9>().0 {
                kernel[4] += 1.0;
                let factor = self.factor();
                for tap in kernel {
                    *tap *= factor;
                }
            }
            SiteWeights::Kernel(kernels)
        } else {
            SiteWeights::Scale((0..channels).map(|_| self.factor()).collect())
        };
        Site {
            name: Some(name.into()),
            weights,
            bias: self.normals(channels, 1.5),
            steps: None,
        }
    }
}

pub(crate) fn preprocessing() -> Preprocessing {
    Preprocessing {
        height: 224,
        width: 224,
        fit: Fit::CenterCrop { fraction: 0.875 },
        filter: Filter::Bicubic,
        channel_order: ChannelOrder::Rgb,
        mean: [127.0; 3],
        std: [128.0; 3],
    }
}

fn canary(random: &mut Random, side: u16) -> Canary {
    let pixels = (0..3 * usize::from(side) * usize::from(side))
        .map(|_| random.next() as u8)
        .collect();
    Canary {
        size: [side, side],
        pixels,
        class: 1,
        probability: 0.875,
        seed: None,
    }
}

fn header(task: &str, recipe: Recipe, labels: &[&str]) -> Header {
    Header {
        task: task.into(),
        labels: labels.iter().map(|&label| label.into()).collect(),
        backbone: Digest::of(b"backbone"),
        recipe,
        preprocessing: preprocessing(),
        version: 3,
        parent: Some(Digest::of(b"parent")),
        provenance: Provenance::HostTrained,
        metrics: Some(Metrics {
            accuracy: 0.9375,
            quantised_accuracy: 0.93,
            validation_images: 467,
            training_images: 1868,
            data: Digest::of(b"data"),
            seed: 7,
            created: 1_795_000_000,
        }),
        canaries: Vec::new(),
        revision: 2,
        expires: Some(1_900_000_000),
        temperature: 1.25,
        trial: Some(Trial {
            frames: 300,
            max_latency_ms: Some(40),
            low_confidence: 0.5,
            max_low_confidence_fraction: 0.25,
        }),
        calibration: Some(Calibration {
            before: 0.125,
            after: 0.03,
        }),
        profile: None,
        class_features: None,
        steps: None,
    }
}

/// Returns a profile of `dimensions` like those of training: similar diagonal values, and smaller values below the
/// diagonal.
fn profile(random: &mut Random, dimensions: usize) -> Profile {
    Profile {
        mean: random.normals(dimensions, 2.0),
        diagonal: (0..dimensions).map(|_| 0.25 + 0.5 * random.uniform()).collect(),
        factor: random.normals(dimensions * (dimensions - 1) / 2, 0.05),
        own_scores: OwnScores::Distances {
            typical: 0.96875,
            limit: 1.375,
        },
        taught: Vec::new(),
    }
}

/// An adapter with all fields of a file, in under 4 KB.
pub(crate) fn small() -> Adapter {
    let mut random = Random(1);
    let mut header = header("vögel", Recipe::Clr, &["Amsel", "Star", "ツル"]);
    header.canaries = vec![canary(&mut random, 4)];
    header.profile = Some(profile(&mut random, 5));
    Adapter {
        header,
        sites: vec![
            random.site("stem", 5, true),
            random.site("block.0.depthwise", 4, true),
            random.site("block.0.project", 18, false),
        ],
        head: Head {
            features: 18,
            weight: random.normals(3 * 18, 0.1),
            bias: random.normals(3, 0.1),
        },
    }
}

/// Returns an adapter with a head and no sites.
pub(crate) fn linear() -> Adapter {
    let mut adapter = small();
    adapter.header.recipe = Recipe::Linear;
    adapter.header.provenance = Provenance::Imported;
    adapter.header.metrics = None;
    adapter.header.parent = None;
    adapter.header.canaries.clear();
    adapter.sites.clear();
    adapter
}

const LITE0: [(usize, usize, usize); 7] = [
    (1, 1, 16),
    (2, 6, 24),
    (2, 6, 40),
    (3, 6, 80),
    (3, 6, 112),
    (4, 6, 192),
    (1, 6, 320),
];

/// Returns the adapter of EfficientNet-Lite0's size for tests that do not depend on the size. Under Miri, which takes a
/// second per kilobyte, returns the small one.
pub(crate) fn large() -> Adapter {
    if cfg!(miri) { small() } else { lite0() }
}

/// Returns an EfficientNet-Lite0 `clr` adapter: 10 classes, two canaries of 32×32, site names as an exporter writes
/// them.
pub(crate) fn lite0() -> Adapter {
    let mut random = Random(2);
    let labels: Vec<_> = (0..10).map(|class| format!("class number {class}")).collect();
    let mut header = header(
        "clothing",
        Recipe::Clr,
        &labels.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    header.canaries = vec![canary(&mut random, 32), canary(&mut random, 32)];
    header.profile = Some(profile(&mut Random(3), Profile::DIMENSIONS));
    let mut sites = vec![random.site("/_conv_stem/Conv", 32, true)];
    let features = 1280;
    let (mut inputs, mut block) = (32, 0);
    for (repeats, expand, outputs) in LITE0 {
        for _ in 0..repeats {
            let hidden = inputs * expand;
            if expand > 1 {
                sites.push(random.site(&format!("/_blocks.{block}/_expand_conv/Conv"), hidden, false));
            }
            sites.push(random.site(&format!("/_blocks.{block}/_depthwise_conv/Conv"), hidden, true));
            sites.push(random.site(&format!("/_blocks.{block}/_project_conv/Conv"), outputs, false));
            inputs = outputs;
            block += 1;
        }
    }
    sites.push(random.site("/_conv_head/Conv", features, false));
    Adapter {
        header,
        sites,
        head: Head {
            features,
            weight: random.normals(10 * features, 0.05),
            bias: random.normals(10, 0.1),
        },
    }
}

/// Returns `adapter` with all values rounded to steps, as differences: what a file of format version 3 contains.
pub(crate) fn compact(adapter: &Adapter) -> Adapter {
    let round =
        |step: StepSize, values: &mut Vec<f32>| values.iter_mut().for_each(|value| *value = step.nearest(*value));
    let steps = SiteSteps {
        weights: StepSize(-16),
        bias: StepSize(-6),
    };
    let mut adapter = adapter.clone();
    for site in &mut adapter.sites {
        (site.name, site.steps) = (None, Some(steps));
        match &mut site.weights {
            SiteWeights::Scale(values) | SiteWeights::Kernel(values) => {
                // The kernels of the samples are absolute; their centres are near 1.
                let (taps, centre) = if values.len() == site.bias.len() {
                    (1, 0)
                } else {
                    (9, 4)
                };
                values
                    .iter_mut()
                    .skip(centre)
                    .step_by(taps)
                    .for_each(|value| *value -= 1.0);
                round(steps.weights, values);
            }
        }
        round(steps.bias, &mut site.bias);
    }
    let steps = Steps {
        head: StepSize(-20),
        profile_mean: StepSize(-8),
        profile_factor: StepSize(-16),
    };
    round(steps.head, &mut adapter.head.weight);
    adapter.header.profile = adapter
        .header
        .profile
        .map(|profile| profile.rounded([steps.profile_mean, steps.profile_factor]));
    adapter.header.steps = Some(steps);
    let (classes, features) = (adapter.head.classes(), adapter.head.features);
    let mut random = Random(9);
    let known = ClassFeatures {
        mean: random.normals(features, 0.5),
        deviations: random.normals(classes * features, 0.1),
        directions: random.normals(2 * features, 0.05),
        rest: 0.0625,
        margins: vec![-1.5, 0.25, 2.0],
        mean_step: StepSize(-20),
        deviation_step: StepSize(-16),
        direction_step: StepSize(-18),
    };
    adapter.header.class_features = Some(known.rounded());
    adapter.header.canaries.truncate(1);
    for (seed, canary) in (40..).zip(&mut adapter.header.canaries) {
        canary.size = [32, 32];
        canary.pixels = noise_image(seed, canary.size);
        canary.seed = Some(seed);
    }
    adapter
}
