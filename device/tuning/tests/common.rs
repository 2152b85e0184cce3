//! Test data: a small backbone, generated images, and a publisher's adapter of two classes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use clr_adapters::{
    Adapter, Canary, ChannelOrder, Encoding, Filter, Fit, Header, Preprocessing, Provenance, Recipe, SiteSteps,
    StepSize, decode, encode, noise_image,
};
use clr_learning::{Network, Purpose, argmax, stream};
use clr_onnx::{
    Activation, Backbone, BatchNorm, Conv, Graph, Node, Op, Padding, Preprocess as _, Quantiser, RgbImage, Tensor,
    ValueId, compacted, identity_adapter, image_grid, range_grid,
};
use clr_tuning::{Checkpoints, Example, Examples, InMemory, Parent, TuneOptions, create_task};
use rand::RngExt as _;

pub(crate) const SIDE: u32 = 32;
pub(crate) const LABELS: [&str; 3] = ["across", "down", "round"];

fn uniform(seed: u64, count: usize, low: f32, high: f32) -> Vec<f32> {
    let mut random = stream(seed, Purpose::Head, 7, 0);
    (0..count).map(|_| random.random_range(low..high)).collect()
}

/// Returns a backbone: stem, depthwise, projection with a residual sum, strided 3×3, pooled to 48 features.
pub(crate) fn backbone() -> Backbone {
    let mut nodes: Vec<Node> = Vec::new();
    let mut push = |name: &str, op: Op, inputs: &[ValueId]| {
        nodes.push(Node {
            name: name.to_owned(),
            op,
            inputs: inputs.to_vec(),
        });
        ValueId(nodes.len())
    };
    let conv = |seed: u64, shape: [usize; 4], stride: usize, group: usize| {
        let bound = (3.0 / (shape[1] * shape[2] * shape[3]) as f32).sqrt();
        Op::Conv(Conv {
            weight: Tensor::new(shape, uniform(seed, shape.iter().product(), -bound, bound)).into(),
            bias: None,
            stride: [stride; 2],
            dilation: [1, 1],
            group,
            padding: if shape[2] == 1 {
                Padding::Explicit([0; 4])
            } else {
                Padding::SameUpper
            },
        })
    };
    let norm = |seed: u64, channels: usize| {
        let vector = |at: u64, low, high| Tensor::new([channels], uniform(100 * seed + at, channels, low, high));
        Op::BatchNorm(BatchNorm {
            scale: vector(1, 0.6, 1.4),
            bias: vector(2, -0.2, 0.4),
            mean: vector(3, -0.3, 0.3),
            variance: vector(4, 0.3, 1.2),
            epsilon: 1e-3,
        })
    };
    let relu6 = Op::Activation(Activation::Clip { min: 0.0, max: 6.0 });
    let x = push("stem", conv(1, [16, 3, 3, 3], 2, 1), &[ValueId::IMAGE]);
    let x = push("stem.norm", norm(1, 16), &[x]);
    let stem = push("stem.act", relu6.clone(), &[x]);
    let x = push("depthwise", conv(2, [16, 1, 3, 3], 1, 16), &[stem]);
    let x = push("depthwise.norm", norm(2, 16), &[x]);
    let x = push("depthwise.act", relu6.clone(), &[x]);
    let x = push("project", conv(3, [16, 16, 1, 1], 1, 1), &[x]);
    let x = push("project.norm", norm(3, 16), &[x]);
    let x = push("sum", Op::Add, &[x, stem]);
    let x = push("expand", conv(4, [48, 16, 3, 3], 2, 1), &[x]);
    let x = push("expand.norm", norm(4, 48), &[x]);
    let x = push("expand.act", relu6, &[x]);
    let x = push("pool", Op::GlobalAveragePool, &[x]);
    let features = push("flat", Op::Flatten, &[x]);
    let graph = Graph {
        input_channels: 3,
        nodes,
        features,
    };
    Backbone::new("small", graph, None, None, preprocessing()).unwrap()
}

pub(crate) fn preprocessing() -> Preprocessing {
    Preprocessing {
        height: SIDE,
        width: SIDE,
        fit: Fit::Stretch,
        filter: Filter::Bilinear,
        channel_order: ChannelOrder::Rgb,
        mean: [127.0; 3],
        std: [64.0; 3],
    }
}

/// Returns an image with random phase, colour and noise. Class 0: horizontal stripes, 1: vertical stripes, 2: a disc.
pub(crate) fn image(class: usize, index: u64) -> RgbImage {
    let mut random = stream(3, Purpose::Augment, class as u64, index);
    let (phase, period) = (random.random_range(0..10_u32), random.random_range(8..12_u32));
    let colour: [f32; 3] = std::array::from_fn(|_| random.random_range(90.0..250.0));
    let centre: [f32; 2] = std::array::from_fn(|_| random.random_range(12.0..20.0));
    RgbImage::from_fn(SIDE, SIDE, |x, y| {
        let lit = match class {
            0 => (y + phase) % period < period / 2,
            1 => (x + phase) % period < period / 2,
            _ => (x as f32 - centre[0]).powi(2) + (y as f32 - centre[1]).powi(2) < 80.0,
        };
        image::Rgb(colour.map(|value| {
            let base = if lit { value } else { 40.0 };
            (base + random.random_range(-25.0..25.0_f32)).clamp(0.0, 255.0) as u8
        }))
    })
}

/// Returns an adapter's logits of an image.
pub(crate) fn logits(backbone: &Backbone, adapter: &clr_adapters::Adapter, class: usize, index: u64) -> Vec<f32> {
    let network = Network::from_adapter(backbone, adapter).unwrap();
    let size = [preprocessing().height as usize, preprocessing().width as usize];
    let input = preprocessing().preprocess(&image(class, index));
    network.classify(&network.image_features(&input, size).unwrap())
}

/// Returns the quantised form of a backbone, with one range for all values.
pub(crate) fn quantised(backbone: &Backbone) -> Backbone {
    let quantiser = Quantiser::new(backbone, &BTreeSet::new()).unwrap();
    let grid = |place: &ValueId| match *place {
        ValueId::IMAGE => image_grid(&preprocessing()),
        _ => range_grid(-6.0, 6.0),
    };
    let grids = quantiser.places().iter().map(grid).collect::<Option<Vec<_>>>().unwrap();
    let quantised = quantiser.quantise(&grids, &BTreeMap::new()).unwrap();
    assert!(quantised.is_quantised());
    quantised
}

/// Checks that the logits of the publisher's two classes are bit for bit the same.
pub(crate) fn check_old_logits(backbone: &Backbone, publisher: &Adapter, taught: &Adapter) {
    for class in 0..3 {
        let before = logits(backbone, publisher, class, 50);
        let after = logits(backbone, taught, class, 50);
        assert_eq!(before[..], after[..2], "{class}");
    }
}

/// Returns how many of 30 unseen images of the third class an adapter recognises.
pub(crate) fn recognised(backbone: &Backbone, adapter: &clr_adapters::Adapter) -> usize {
    let shown = (100..130).filter(|&index| argmax(&logits(backbone, adapter, 2, index)) == 2);
    shown.count()
}

pub(crate) fn png(class: usize, index: u64) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image(class, index)
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

/// Returns `count` labelled images of each of `classes`.
pub(crate) fn images(classes: &[usize], count: u64) -> InMemory {
    let mut examples = InMemory::default();
    for &class in classes {
        for index in 0..count {
            examples.add(Some(LABELS[class]), png(class, index));
        }
    }
    examples
}

/// Returns a publisher's adapter for stripes as a file of format version 2: recipe `clr`, two classes, one canary.
pub(crate) fn publisher(backbone: &Backbone) -> Parent {
    let mut adapter = published(backbone);
    (adapter.header.class_features, adapter.header.steps) = (None, None);
    parent(&encode(&adapter, Encoding::Int8).unwrap(), None)
}

/// Returns the same adapter as a compact file with class features and a noise canary.
pub(crate) fn compact_publisher(backbone: &Backbone) -> Parent {
    let mut adapter = published(backbone);
    let canary = &mut adapter.header.canaries[0];
    (canary.size, canary.seed) = ([32; 2], Some(5));
    canary.pixels = noise_image(5, canary.size);
    let steps = SiteSteps {
        weights: StepSize(-20),
        bias: StepSize(-12),
    };
    let adapter = compacted(backbone, &adapter, steps, 0.1);
    parent(&encode(&adapter, Encoding::Compact).unwrap(), None)
}

fn published(backbone: &Backbone) -> Adapter {
    let header = Header::new(
        "shapes",
        vec![],
        backbone.digest(),
        preprocessing(),
        Provenance::HostTrained,
    );
    let created = create_task(backbone, header, Recipe::Linear, &images(&[0, 1], 12)).unwrap();
    let mut header = created.adapter.header.clone();
    (header.provenance, header.revision) = (Provenance::HostTrained, 0);
    header.canaries = vec![Canary {
        size: [SIDE as u16; 2],
        pixels: image(0, 99).into_raw(),
        class: 0,
        probability: 0.9,
        seed: None,
    }];
    identity_adapter(backbone, Recipe::Clr, created.adapter.head.clone(), header)
}

/// Returns the adapter of a file as a parent. Its first two classes are the publisher's.
pub(crate) fn parent(file: &[u8], original: Option<&Parent>) -> Parent {
    let decoded = decode(file).unwrap();
    let own = decoded.adapter.clone();
    Parent::new(decoded, Some(original.map_or(&own, |original| &original.adapter)))
}

pub(crate) fn options() -> TuneOptions {
    TuneOptions::default()
        .with_steps(24)
        .with_checkpoint_every(5)
        .with_created(1)
        .with_yielding(false)
}

/// A checkpoint in memory.
#[derive(Default)]
pub(crate) struct Kept(pub(crate) Mutex<Option<Vec<u8>>>);

impl Checkpoints for Kept {
    fn put(&self, state: &[u8]) -> Result<(), String> {
        *self.0.lock().unwrap() = Some(state.to_vec());
        Ok(())
    }

    fn get(&self) -> Result<Option<Vec<u8>>, String> {
        Ok(self.0.lock().unwrap().clone())
    }

    fn clear(&self) -> Result<(), String> {
        *self.0.lock().unwrap() = None;
        Ok(())
    }
}

/// A source whose images cannot be read.
pub(crate) struct Broken;

impl Examples for Broken {
    fn list(&self) -> Result<Vec<Example>, String> {
        Err("input/output error".to_owned())
    }

    fn read(&self, _: &clr_adapters::Digest) -> Result<Vec<u8>, String> {
        Err("input/output error".to_owned())
    }
}
