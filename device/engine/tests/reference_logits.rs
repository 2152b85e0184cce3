//! Logits are equal on every architecture, within rounding. The reference was computed on x86-64 and is committed.
//!
//! `CLR_WRITE_FIXTURE=1 cargo test --release -p clr-engine --test main same_answers` writes the file again.

use std::{collections::BTreeMap, path::PathBuf};

use clr_adapters::Recipe;
use clr_engine::Kernels;
use clr_onnx::Architecture;

use crate::common::{adapter, assert_close, backbone, engine, image};

fn path() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("tests/reference_logits.json")
}

#[test]
fn same_answers_on_every_architecture() {
    let mut answers = BTreeMap::new();
    for architecture in [
        Architecture::ResNet18,
        Architecture::MobileNetV2,
        Architecture::EfficientNetLite0,
    ] {
        let backbone = backbone(architecture, 64);
        let input = image(&backbone, 42);
        for kernels in [Kernels::Fused, Kernels::Tract] {
            let engine = engine(backbone.clone(), 1, kernels);
            for recipe in [Recipe::Linear, Recipe::Clr] {
                let resident = engine.prepare(&adapter(&backbone, recipe, "any", 10, 1)).unwrap();
                let logits = engine.logits(&resident, &input).unwrap();
                answers
                    .entry(format!("{architecture:?} {recipe}"))
                    .or_insert_with(Vec::new)
                    .push(logits);
            }
        }
    }
    if std::env::var_os("CLR_WRITE_FIXTURE").is_some() {
        let fused: BTreeMap<&String, &Vec<f32>> = answers.iter().map(|(name, both)| (name, &both[0])).collect();
        std::fs::write(path(), serde_json::to_string_pretty(&fused).unwrap()).unwrap();
    }
    let text = std::fs::read_to_string(path()).expect("the fixture is committed");
    let want: BTreeMap<String, Vec<f32>> = serde_json::from_str(&text).expect("the fixture is JSON");
    assert_eq!(want.keys().collect::<Vec<_>>(), answers.keys().collect::<Vec<_>>());
    for (name, both) in &answers {
        for logits in both {
            assert_close(logits, &want[name], 2e-4, name);
        }
    }
}
