//! Adapters on a quantised backbone: converted from the float one, and with the same bits on every machine.
//!
//! `CLR_WRITE_FIXTURE=1 cargo test --release -p clr-engine --test main bit_identical_on_every_machine` writes the fixture
//! again.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use clr_adapters::{Encoding, Recipe, SiteSteps, StepSize, decode, encode};
use clr_engine::Kernels;
use clr_onnx::{
    Architecture, Backbone, ConversionError, Program, Quantiser, ValueId, compacted, convert_adapter, image_grid,
    range_grid,
};
use clr_runtime::{Executable, ExecutableOptions};

use crate::common::{adapter, assert_close, backbone, engine, image};

const SIDE: u32 = 64;

/// Returns the quantised backbone, with the ranges of a few images.
fn quantised(backbone: &Backbone) -> Backbone {
    calibrated(backbone, |end| end)
}

/// Returns the next power of two, which does not depend on how a machine rounds.
fn power_of_two(value: f32) -> f32 {
    let power = f32::from_bits((value.abs().to_bits() & 0x7f80_0000) + 0x0080_0000);
    power.copysign(value)
}

/// Returns the quantised backbone, with the ranges of a few images, whose ends `widen` changes.
fn calibrated(backbone: &Backbone, widen: impl Fn(f32) -> f32) -> Backbone {
    let quantiser = Quantiser::new(backbone, &BTreeSet::new()).unwrap();
    let program = Program::unfused(quantiser.folded(), [SIDE as usize; 2]).unwrap();
    let float = Executable::new(&program, &ExecutableOptions::new(&program)).unwrap();
    let mut ranges: BTreeMap<ValueId, [f32; 2]> = BTreeMap::new();
    for seed in 0..3 {
        float.observe(&image(backbone, seed), &float.frozen_parameters(), |value, values| {
            let range = ranges.entry(value).or_default();
            for value in values.iter().filter(|value| value.is_finite()) {
                *range = [range[0].min(*value), range[1].max(*value)];
            }
        });
    }
    let grids = quantiser.places().iter().map(|place| match ranges.get(place) {
        Some(&[low, high]) => range_grid(widen(low), widen(high)).unwrap(),
        None => image_grid(backbone.preprocessing()).unwrap(),
    });
    quantiser
        .quantise(&grids.collect::<Vec<_>>(), &BTreeMap::new())
        .unwrap()
}

fn distance(got: &[f32], expected: &[f32]) -> f32 {
    let square = |values: &mut dyn Iterator<Item = f32>| values.map(|value| value * value).sum::<f32>().sqrt();
    square(&mut got.iter().zip(expected).map(|(got, expected)| got - expected)) / square(&mut expected.iter().copied())
}

#[test]
fn a_converted_adapter_computes_the_function_of_its_parent_up_to_the_rounding_of_the_backbone() {
    for architecture in [Architecture::ResNet18, Architecture::EfficientNetLite0] {
        let float = backbone(architecture, SIDE);
        let integer = quantised(&float);
        let engines = [float.clone(), integer.clone()].map(|backbone| engine(backbone, 1, Kernels::Fused));
        for recipe in [Recipe::Linear, Recipe::Bn, Recipe::Clr, Recipe::ClrFull] {
            let parent = adapter(&float, recipe, "birds", 10, 1);
            let converted = convert_adapter(&float, &integer, &parent).unwrap();
            assert_eq!(converted.header.backbone, integer.digest());
            let input = image(&float, 1);
            let logits = [&parent, &converted];
            let logits = [0, 1].map(|which| {
                let resident = engines[which].prepare(logits[which]).unwrap();
                engines[which].logits(&resident, &input).unwrap()
            });
            let error = distance(&logits[1], &logits[0]);
            // The seeded adapters change the backbone far more than trained ones do.
            assert!(error < 0.3, "{architecture:?}, {recipe}: {error}");
        }
    }
}

#[test]
fn an_adapter_is_converted_only_from_the_backbone_of_the_quantised_one() {
    let float = backbone(Architecture::ResNet18, SIDE);
    let integer = quantised(&float);
    let parent = adapter(&float, Recipe::Clr, "birds", 10, 1);
    let other = clr_onnx::seeded_backbone(Architecture::ResNet18, 77, 3);
    let foreign = adapter(&other, Recipe::Clr, "birds", 10, 1);
    let refused = |float: &Backbone, integer: &Backbone, adapter| {
        convert_adapter(float, integer, adapter).expect_err("it does not fit")
    };
    assert!(matches!(
        refused(&float, &integer, &foreign),
        ConversionError::Adapter(_)
    ));
    assert!(matches!(
        refused(&float, &float, &parent),
        ConversionError::Float { .. }
    ));
    assert!(matches!(
        refused(&other, &integer, &foreign),
        ConversionError::OtherBackbone { .. }
    ));
    // An engine refuses the parent itself.
    assert!(engine(integer, 1, Kernels::Fused).prepare(&parent).is_err());
}

#[test]
fn tract_computes_the_same_function_of_a_quantised_backbone() {
    let integer = quantised(&backbone(Architecture::EfficientNetLite0, SIDE));
    let input = image(&integer, 3);
    for recipe in [Recipe::Linear, Recipe::Clr] {
        let own = adapter(&integer, recipe, "any", 10, 1);
        let [got, expected] = [Kernels::Fused, Kernels::Tract].map(|kernels| {
            let engine = engine(integer.clone(), 1, kernels);
            engine.logits(&engine.prepare(&own).unwrap(), &input).unwrap()
        });
        // A sum that is halfway between two bytes may become either, and the difference grows.
        let error = distance(&got, &expected);
        assert!(error < 0.1, "{recipe}: {error}");
    }
}

#[test]
fn logits_of_quantised_backbones_are_bit_identical_on_every_machine_and_for_any_number_of_threads() {
    let path = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let path = path.join("tests/quantised_logits.json");
    let mut all: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for architecture in [
        Architecture::ResNet18,
        Architecture::MobileNetV2,
        Architecture::EfficientNetLite0,
    ] {
        let integer = calibrated(&backbone(architecture, SIDE), power_of_two);
        let input = image(&integer, 42);
        for recipe in [Recipe::Linear, Recipe::Clr, Recipe::ClrFull] {
            let own = adapter(&integer, recipe, "any", 10, 1);
            let of_threads = [1, 3].map(|threads| {
                let engine = engine(integer.clone(), threads, Kernels::Fused);
                engine.logits(&engine.prepare(&own).unwrap(), &input).unwrap()
            });
            assert_eq!(of_threads[0], of_threads[1]);
            let bits = of_threads[0].iter().map(|logit| logit.to_bits()).collect();
            all.insert(format!("{architecture:?} {recipe}"), bits);
        }
    }
    if std::env::var_os("CLR_WRITE_FIXTURE").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&all).unwrap()).unwrap();
    }
    let text = std::fs::read_to_string(&path).expect("the fixture is committed");
    let expected: BTreeMap<String, Vec<u32>> = serde_json::from_str(&text).expect("the fixture is JSON");
    for (name, bits) in &all {
        let real = |bits: &[u32]| bits.iter().map(|bits| f32::from_bits(*bits)).collect::<Vec<_>>();
        assert_close(&real(bits), &real(&expected[name]), 1e-3, name);
        assert_eq!(bits, &expected[name], "{name}");
    }
}

#[test]
fn a_converted_compact_file_has_the_size_of_its_parent() {
    let float = backbone(Architecture::EfficientNetLite0, SIDE);
    let integer = quantised(&float);
    let engines = [float.clone(), integer.clone()].map(|backbone| engine(backbone, 1, Kernels::Fused));
    let steps = SiteSteps {
        weights: StepSize(-12),
        bias: StepSize(-12),
    };
    for recipe in [Recipe::Linear, Recipe::Clr] {
        let parent = compacted(&float, &adapter(&float, recipe, "birds", 10, 1), steps, 0.1);
        let converted = convert_adapter(&float, &integer, &parent).unwrap();
        let files = [&parent, &converted].map(|adapter| encode(adapter, Encoding::Compact).unwrap());
        let [before, after] = [&files[0], &files[1]].map(Vec::len);
        assert!(after <= before + before / 50, "{recipe}: {before} and {after} bytes");
        let logits = [0, 1].map(|which| {
            let read = decode(&files[which]).unwrap().adapter;
            let resident = engines[which].prepare(&read).unwrap();
            engines[which].logits(&resident, &image(&float, 1)).unwrap()
        });
        let error = distance(&logits[1], &logits[0]);
        assert!(error < 0.3, "{recipe}: {error}");
    }
}

#[test]
fn the_file_of_a_quantised_backbone_gives_an_equal_backbone() {
    for architecture in [Architecture::EfficientNetLite0, Architecture::ResNet18] {
        let integer = quantised(&backbone(architecture, SIDE));
        assert!(integer.bias_units().is_some());
        let read = Backbone::from_bytes(&integer.to_bytes(), "quantised.onnx").unwrap();
        assert_eq!(read, integer);
    }
}
