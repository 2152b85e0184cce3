//! Tests of the set of resident tasks.

use clr_adapters::Recipe;
use clr_engine::{Engine, EngineError, Kernels, ResidentAdapter, TaskSet};
use clr_onnx::Architecture;

use crate::common::{adapter, backbone, engine};

fn resident(engine: &Engine, task: &str, seed: u64) -> ResidentAdapter {
    engine
        .prepare(&adapter(engine.backbone(), Recipe::Linear, task, 3, seed))
        .unwrap()
}

#[test]
fn replacing_the_active_task_makes_the_new_version_active() {
    let engine = engine(backbone(Architecture::MobileNetV2, 32), 1, Kernels::Fused);
    let tasks = TaskSet::new();
    assert!(tasks.is_empty() && tasks.active().is_none());
    assert!(tasks.insert(resident(&engine, "birds", 1)).is_none());
    assert!(tasks.insert(resident(&engine, "cars", 2)).is_none());
    assert!(tasks.active().is_none(), "nothing is active before a switch");
    let old = tasks.switch("birds").unwrap();
    let replaced = tasks.insert(resident(&engine, "birds", 3)).unwrap();
    assert!(std::sync::Arc::ptr_eq(&old, &replaced));
    let active = tasks.active().unwrap();
    assert!(active.task() == "birds" && !std::sync::Arc::ptr_eq(&active, &old));
    tasks.insert(resident(&engine, "cars", 4));
    assert_eq!(
        tasks.active().unwrap().task(),
        "birds",
        "replacing another task changes nothing"
    );
    assert_eq!(
        (tasks.names(), tasks.len()),
        (vec!["birds".to_owned(), "cars".to_owned()], 2)
    );
}

#[test]
fn an_unknown_task_is_reported_with_the_resident_ones() {
    let engine = engine(backbone(Architecture::MobileNetV2, 32), 1, Kernels::Fused);
    let tasks = TaskSet::new();
    tasks.insert(resident(&engine, "birds", 1));
    tasks.switch("birds").unwrap();
    let error = tasks.switch("brids").unwrap_err();
    assert!(matches!(&error, EngineError::UnknownTask { name, resident } if name == "brids" && resident == &["birds"]));
    assert_eq!(
        error.to_string(),
        "no task `brids` is resident\nhint: resident tasks: birds"
    );
    assert!(tasks.remove("brids").is_err() && tasks.get("brids").is_err());
    assert_eq!(
        tasks.active().unwrap().task(),
        "birds",
        "a failed switch changes nothing"
    );
}
