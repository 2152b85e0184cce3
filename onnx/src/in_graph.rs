//! Convention of a normalisation inside a graph: the value range of the file's input, and the image values at the
//! network.

use clr_adapters::{ChannelOrder, Preprocessing};

/// Per-channel computation at the start of a graph: `scale · x[source] + bias`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Lane {
    pub(crate) source: usize,
    pub(crate) scale: f64,
    pub(crate) bias: f64,
}

/// A normalisation that was inside the graph, and the values that the file's input expects.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct InGraph {
    lanes: [Lane; 3],
    /// Mean, deviation and channel order of the file's input.
    base: Base,
    /// Whether the normalisation could be deduced from the lanes.
    pub(crate) normalises: bool,
    /// Whether the order of the channels could be deduced.
    pub(crate) orders: bool,
}

/// Normalisation and channel order of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Base {
    mean: [f64; 3],
    std: [f64; 3],
    order: ChannelOrder,
}

/// Mean and deviation in RGB for each value range that files expect: 0–1, 0–255, and normalised as for `ImageNet`.
const UNIT: ([f64; 3], [f64; 3]) = ([0.0; 3], [255.0; 3]);
const BYTES: ([f64; 3], [f64; 3]) = ([0.0; 3], [1.0; 3]);
const IMAGENET: ([f64; 3], [f64; 3]) = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]);

/// Means and deviations in RGB, in 0–255, that training scripts use.
const KNOWN: [([f64; 3], [f64; 3]); 12] = [
    IMAGENET,
    UNIT,
    BYTES,
    // Used by TensorFlow and Inception; by EfficientNet-Lite.
    ([127.5; 3], [127.5; 3]),
    ([127.0; 3], [128.0; 3]),
    ([0.0; 3], [256.0; 3]),
    ([128.0; 3], [128.0; 3]),
    // Used by Caffe; Caffe's mean with ImageNet's deviation; with a scale of 0.017.
    ([123.68, 116.779, 103.939], [1.0; 3]),
    ([123.68, 116.779, 103.939], [58.395, 57.12, 57.375]),
    ([123.68, 116.779, 103.939], [58.82; 3]),
    // CLIP.
    ([122.77, 116.75, 104.09], [68.5, 66.63, 70.32]),
    // CIFAR-10.
    ([125.31, 122.95, 113.87], [62.99, 62.09, 66.70]),
];

impl InGraph {
    /// Deduces the convention from the lanes. `bytes` means that the file's input has integer values. Returns `None` if
    /// no convention matches.
    pub(super) fn deduce(lanes: [Lane; 3], bytes: bool) -> Option<Self> {
        let sources = lanes.map(|lane| lane.source);
        let reversed = match sources {
            [0, 1, 2] => false,
            [2, 1, 0] => true,
            _ => return None,
        };
        if lanes
            .iter()
            .any(|lane| !(lane.scale > 0.0 && lane.scale.is_finite() && lane.bias.is_finite()))
        {
            return None;
        }
        let identity = lanes
            .iter()
            .all(|lane| (lane.scale - 1.0).abs() < 1e-6 && lane.bias.abs() < 1e-6);
        let straight = if reversed { ChannelOrder::Bgr } else { ChannelOrder::Rgb };
        let result = |(mean, std): ([f64; 3], [f64; 3]), seen: ChannelOrder, normalises, orders| Self {
            lanes,
            base: Base {
                mean,
                std,
                // If the graph reverses the channels, the input has the opposite order.
                order: if reversed { other(seen) } else { seen },
            },
            normalises,
            orders,
        };
        if identity && !bytes {
            // Only the order can be deduced; the caller has to state the normalisation.
            return Some(result(IMAGENET, straight, false, reversed));
        }
        let bases = if bytes {
            &[BYTES][..]
        } else {
            &[UNIT, BYTES, IMAGENET][..]
        };
        let mut found = bases.iter().filter_map(|&base| {
            let (mean, std) = total(&lanes, base);
            let known = move |order| KNOWN.into_iter().any(|known| near((mean, std), in_order(known, order)));
            let (rgb, bgr) = (known(ChannelOrder::Rgb), known(ChannelOrder::Bgr));
            match (rgb, bgr) {
                (true, true) => Some((base, straight, reversed)),
                (true, false) => Some((base, ChannelOrder::Rgb, true)),
                (false, true) => Some((base, ChannelOrder::Bgr, true)),
                (false, false) => None,
            }
        });
        if let Some((base, seen, orders)) = found.next() {
            return Some(result(base, seen, true, orders));
        }
        // No known convention. An image's mean and deviation are within bounds, either in 0–1 or in 0–255.
        let (mean, std) = total(&lanes, BYTES);
        let within = |values: [f64; 3], low: f64, high: f64| values.iter().all(|value| (low..=high).contains(value));
        let one = |values: [f64; 3]| values.iter().all(|value| (value - 1.0).abs() < 1e-6);
        let base = if bytes
            || within(mean, 25.0, 230.0) && (within(std, 15.0, 300.0) || one(std))
            || within(mean, 0.0, 0.0) && within(std, 100.0, 300.0)
        {
            BYTES
        } else if within(mean, 0.1, 0.9) && within(std, 0.1, 1.0) {
            UNIT
        } else {
            return None;
        };
        Some(result(base, straight, true, reversed))
    }

    /// Returns mean and deviation (in 0–255) and the order of the channels that the network receives.
    fn seen(&self) -> Base {
        let (mean, std) = total(&self.lanes, (self.base.mean, self.base.std));
        let reversed = self.lanes[0].source == 2;
        Base {
            mean,
            std,
            order: other_if(self.base.order, reversed),
        }
    }

    /// Writes the values that the network receives to a preprocessing.
    pub(crate) fn apply(&self, to: &mut Preprocessing) {
        let seen = self.seen();
        to.mean = seen.mean.map(rounded);
        to.std = seen.std.map(rounded);
        to.channel_order = seen.order;
    }

    /// Sets what the caller states about the file's input. If the stated values equal those that the network receives,
    /// no further normalisation is applied.
    pub(crate) fn restate(&mut self, mean: Option<[f32; 3]>, std: Option<[f32; 3]>, order: Option<ChannelOrder>) {
        let seen = self.seen();
        let equals = |stated: Option<[f32; 3]>, seen: [f64; 3]| {
            stated.is_none_or(|stated| {
                stated
                    .iter()
                    .zip(seen)
                    .all(|(&stated, seen)| (f64::from(stated) - seen).abs() <= 0.01 * seen.abs().max(1.0))
            })
        };
        let same = self.normalises
            && (mean.is_some() || std.is_some())
            && equals(mean, seen.mean)
            && equals(std, seen.std)
            && order.is_none_or(|order| order == seen.order || !self.orders);
        if same {
            if let Some(order) = order {
                self.base.order = other_if(order, self.lanes[0].source == 2);
            }
            return;
        }
        let wide = |values: [f32; 3]| values.map(f64::from);
        self.base.mean = mean.map_or(self.base.mean, wide);
        self.base.std = std.map_or(self.base.std, wide);
        self.base.order = order.unwrap_or(self.base.order);
    }
}

/// Returns a product of rounded constants with the digits that f32 can hold: 57.12 and not 57.120003.
fn rounded(value: f64) -> f32 {
    format!("{value:.6e}").parse().unwrap_or(value as f32)
}

fn other(order: ChannelOrder) -> ChannelOrder {
    match order {
        ChannelOrder::Bgr => ChannelOrder::Rgb,
        _ => ChannelOrder::Bgr,
    }
}

fn other_if(order: ChannelOrder, condition: bool) -> ChannelOrder {
    if condition { other(order) } else { order }
}

/// Returns a pair listed in RGB, in `order`.
fn in_order((mut mean, mut std): ([f64; 3], [f64; 3]), order: ChannelOrder) -> ([f64; 3], [f64; 3]) {
    if order == ChannelOrder::Bgr {
        mean.reverse();
        std.reverse();
    }
    (mean, std)
}

/// Returns mean and deviation of the bytes after the lanes, in the lanes' order: `(v − m) / s · a + b = (v − (m −
/// b·s/a)) / (s/a)`.
fn total(lanes: &[Lane; 3], (mean, std): ([f64; 3], [f64; 3])) -> ([f64; 3], [f64; 3]) {
    let scaled = lanes.map(|lane| std[lane.source] / lane.scale);
    let shifted = [0, 1, 2].map(|index| {
        let lane = lanes[index];
        mean[lane.source] - lane.bias * scaled[index]
    });
    (shifted, scaled)
}

/// Returns whether two pairs are the same convention, up to the number of written digits.
fn near((mean, std): ([f64; 3], [f64; 3]), (known_mean, known_std): ([f64; 3], [f64; 3])) -> bool {
    let means = mean
        .iter()
        .zip(known_mean)
        .all(|(got, known)| (got - known).abs() <= 0.6);
    means
        && std
            .iter()
            .zip(known_std)
            .all(|(got, known)| (got / known - 1.0).abs() <= 0.01)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Preset, imagenet_preprocessing};

    fn lanes(scale: [f64; 3], bias: [f64; 3]) -> [Lane; 3] {
        [0, 1, 2].map(|source| Lane {
            source,
            scale: scale[source],
            bias: bias[source],
        })
    }

    fn seen(lanes: [Lane; 3], bytes: bool) -> Option<Preprocessing> {
        let mut preprocessing = imagenet_preprocessing();
        InGraph::deduce(lanes, bytes)?.apply(&mut preprocessing);
        Some(preprocessing)
    }

    #[test]
    fn common_conventions_are_deduced_for_inputs_in_0_to_1_and_in_bytes() {
        let imagenet = |range: f64| {
            let (mean, std) = (IMAGENET.0.map(|m| m / range), IMAGENET.1.map(|s| s / range));
            lanes(std.map(|s| 1.0 / s), [0, 1, 2].map(|c| -mean[c] / std[c]))
        };
        for (what, lanes, expected) in [
            ("imagenet of 0–1", imagenet(255.0), Preset::ImageNet),
            ("imagenet of bytes", imagenet(1.0), Preset::ImageNet),
            ("2x − 1", lanes([2.0; 3], [-1.0; 3]), Preset::Tf),
            ("x / 127.5 − 1", lanes([1.0 / 127.5; 3], [-1.0; 3]), Preset::Tf),
            ("x / 255", lanes([1.0 / 255.0; 3], [0.0; 3]), Preset::Unit),
            ("255x", lanes([255.0; 3], [0.0; 3]), Preset::Bytes),
        ] {
            let got = seen(lanes, false).unwrap_or_else(|| panic!("{what}"));
            assert_eq!(Preset::of(&got), Some(expected), "{what}: {got:?}");
        }
    }

    #[test]
    fn renormalisation_of_imagenet_inputs_is_deduced() {
        // GoogLeNet and Inception of torchvision (`transform_input`).
        let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        let lanes = lanes(std.map(|s| s / 0.5), mean.map(|m| (m - 0.5) / 0.5));
        assert_eq!(Preset::of(&seen(lanes, false).unwrap()), Some(Preset::Tf));
    }

    #[test]
    fn caffe_is_deduced_with_and_without_the_channel_swap() {
        let mean = [103.939, 116.779, 123.68];
        for reversed in [false, true] {
            let lanes = [0, 1, 2].map(|index| Lane {
                source: if reversed { 2 - index } else { index },
                scale: 1.0,
                bias: -mean[index],
            });
            assert_eq!(
                Preset::of(&seen(lanes, false).unwrap()),
                Some(Preset::Caffe),
                "{reversed}"
            );
        }
    }

    #[test]
    fn an_unknown_convention_stays_in_the_graph() {
        // A norm on an input that is already normalised.
        assert_eq!(InGraph::deduce(lanes([0.9, 1.1, 1.0], [0.02, -0.1, 0.05]), false), None);
        assert_eq!(InGraph::deduce(lanes([-1.0; 3], [0.0; 3]), false), None);
        assert_eq!(InGraph::deduce(lanes([1.0, 2.0, 3.0], [0.0; 3]), false), None);
    }

    #[test]
    fn bytes_without_a_normalisation_are_0_to_255() {
        let got = seen(lanes([1.0; 3], [0.0; 3]), true).unwrap();
        assert_eq!(Preset::of(&got), Some(Preset::Bytes));
    }

    #[test]
    fn stated_values_are_applied_first_unless_they_equal_the_deduced_ones() {
        let tf = lanes([2.0; 3], [-1.0; 3]);
        let mut found = InGraph::deduce(tf, false).unwrap();
        let mut preprocessing = imagenet_preprocessing();
        found.restate(Some([127.5; 3]), Some([127.5; 3]), Some(ChannelOrder::Rgb));
        found.apply(&mut preprocessing);
        assert_eq!(Preset::of(&preprocessing), Some(Preset::Tf));
        // Bytes into 2x − 1: (v − ½) / ½.
        found.restate(Some([0.0; 3]), Some([1.0; 3]), None);
        found.apply(&mut preprocessing);
        assert_eq!((preprocessing.mean, preprocessing.std), ([0.5; 3], [0.5; 3]));
    }
}
