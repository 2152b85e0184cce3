//! Jobs of every method: whole, stopped and continued.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use candle_core::Device;
use clr_adapters::Digest;

use super::fixture::{CLASSES, Fixture};
use crate::{
    ContinualError, ImageLimits, LearnerOptions, TaskData,
    registry::{self, METHODS},
    report::{Summary, accuracy_over_size_svg, average_accuracy_svg, first_task_svg, html},
    run::{Event, Job, Plan, Trial, Tuning, TuningBasis, read_cells, run_job, validation_accuracy},
};

/// Returns three tasks; training, validation and test images are the same here.
fn tasks(fixture: &Fixture) -> Vec<TaskData> {
    let task = |(index, name): (usize, &str)| {
        let images = &fixture.tasks[index % 2];
        TaskData {
            name: name.to_owned(),
            classes: (0..CLASSES[index % 2]).map(|class| class.to_string()).collect(),
            train: images.clone(),
            validation: images.clone(),
            test: images.clone(),
            digest: Digest::of(name.as_bytes()),
        }
    };
    ["one", "two", "three"].into_iter().enumerate().map(task).collect()
}

fn plan(fixture: &Fixture, methods: &[&str]) -> Plan {
    let job = |method: &&str| Job {
        method: (*method).to_owned(),
        settings: registry::find(method).expect("a method").defaults(),
        seed: 1,
    };
    Plan {
        backbone: "tiny.onnx".into(),
        backbone_digest: fixture.backbone.digest().to_string(),
        tasks: vec!["one".into(), "two".into(), "three".into()],
        size: [8, 8],
        limits: ImageLimits {
            train: 12,
            held_out: 12,
        },
        epochs: 2,
        batch: 4,
        jobs: methods.iter().map(job).collect(),
    }
}

/// Runs a job until it is finished. It is stopped at event number `stops[i]` of attempt `i`.
fn finish(plan: &Plan, job: &Job, fixture: &Fixture, folder: &Path, stops: &[usize]) -> String {
    let tasks = tasks(fixture);
    for attempt in 0.. {
        let mut events = 0;
        let mut progress = |_: Event| {
            assert!(stops.get(attempt) != Some(&events), "the process ends here");
            events += 1;
        };
        let run = || {
            run_job(
                plan,
                job,
                &fixture.backbone,
                &tasks,
                folder,
                &Device::Cpu,
                &mut progress,
            )
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(cells) => {
                assert!(attempt >= stops.len(), "it was to be stopped in attempt {attempt}");
                cells.expect("the job's cells");
                break;
            }
            Err(_) => assert!(attempt < stops.len(), "{} failed", job.method),
        }
    }
    let records = folder.join("jobs").join(job.folder()).join("records.jsonl");
    std::fs::read_to_string(records).expect("the records")
}

#[test]
fn a_job_that_is_stopped_ten_times_has_the_records_of_a_whole_one() {
    let fixture = Fixture::new();
    let names: Vec<&str> = METHODS.iter().map(|entry| entry.name).collect();
    let plan = plan(&fixture, &names);
    for job in &plan.jobs {
        let [whole, stopped] = [(), ()].map(|()| tempfile::tempdir().expect("a folder"));
        let expected = finish(&plan, job, &fixture, whole.path(), &[]);
        // A task has two events. Those from number 2 on are in a task after one that is complete.
        let stops = match &*job.method {
            // All tasks are learned at once.
            "joint" => [0, 1, 0, 1, 1, 1, 0, 0, 0, 1],
            _ => [0, 1, 0, 2, 1, 1, 0, 2, 0, 1],
        };
        let got = finish(&plan, job, &fixture, stopped.path(), &stops);
        assert_eq!(got, expected, "{}", job.method);
        let left = stopped.path().join("jobs").join(job.folder()).join("state.bin");
        assert!(!left.exists(), "{}", left.display());
    }
}

#[test]
fn a_finished_job_is_not_run_again() {
    let fixture = Fixture::new();
    let plan = plan(&fixture, &["sgd"]);
    let folder = tempfile::tempdir().expect("a folder");
    let first = finish(&plan, &plan.jobs[0], &fixture, folder.path(), &[]);
    let mut events = 0;
    let (job, data) = (&plan.jobs[0], tasks(&fixture));
    let mut progress = |_: Event| events += 1;
    let cells = run_job(
        &plan,
        job,
        &fixture.backbone,
        &data,
        folder.path(),
        &Device::Cpu,
        &mut progress,
    );
    assert_eq!(cells.expect("cells").len(), first.lines().count());
    assert_eq!(events, 0);
}

#[test]
fn a_job_does_not_continue_with_other_images() {
    let fixture = Fixture::new();
    let plan = plan(&fixture, &["clr"]);
    let folder = tempfile::tempdir().expect("a folder");
    let mut data = tasks(&fixture);
    let run = |data: &[TaskData], stop: usize| {
        let mut events = 0;
        let mut progress = |_: Event| {
            events += 1;
            assert!(events < stop, "the process ends here");
        };
        let job = &plan.jobs[0];
        catch_unwind(AssertUnwindSafe(|| {
            run_job(
                &plan,
                job,
                &fixture.backbone,
                data,
                folder.path(),
                &Device::Cpu,
                &mut progress,
            )
        }))
    };
    assert!(run(&data, 3).is_err());
    data[0].digest = Digest::of(b"other images");
    let error = run(&data, 100).expect("no panic").expect_err("other images");
    assert!(error.to_string().contains("use another output folder"), "{error}");
}

#[test]
fn isolated_methods_forget_exactly_nothing_and_sgd_does_not_keep_its_answers() {
    let fixture = Fixture::new();
    let plan = plan(
        &fixture,
        &[
            "linear",
            "bn",
            "clr",
            "clr-full",
            "supsup",
            "eft",
            "ccll",
            "independent",
        ],
    );
    let folder = tempfile::tempdir().expect("a folder");
    for job in &plan.jobs {
        finish(&plan, job, &fixture, folder.path(), &[]);
        let cells = read_cells(&folder.path().join("jobs").join(job.folder())).expect("cells");
        for cell in &cells {
            let directly = cells
                .iter()
                .find(|other| other.after == cell.task && other.task == cell.task);
            assert_eq!(
                directly.map(|other| other.correct),
                Some(cell.correct),
                "{} {cell:?}",
                job.method
            );
        }
    }
}

#[test]
fn a_report_has_all_methods_and_says_what_is_missing() {
    let fixture = Fixture::new();
    let plan = plan(&fixture, &["sgd", "clr", "joint", "ewc"]);
    let folder = tempfile::tempdir().expect("a folder");
    for job in &plan.jobs[..3] {
        finish(&plan, job, &fixture, folder.path(), &[]);
    }
    let summary = Summary::read(&plan, &fixture.backbone, folder.path()).expect("a summary");
    assert_eq!(summary.missing, ["ewc-1"]);
    let names: Vec<&str> = summary.methods.iter().map(|method| method.method.as_str()).collect();
    assert_eq!(names, ["sgd", "clr", "joint"]);
    let [_, clr, joint] = &summary.methods[..] else {
        panic!("three methods");
    };
    assert_eq!(clr.forgetting.map(|spread| spread.mean), Some(0.0));
    assert!(joint.forgetting.is_none() && joint.average_accuracy.is_some());
    // Three tasks have six cells; joint training has a last row only.
    assert_eq!(summary.csv().lines().count(), 1 + 6 + 6 + 3);
    let page = html(&summary).expect("a page");
    for part in ["<svg", "clr", "Not finished:", "three"] {
        assert!(page.contains(part), "{part}");
    }
    for svg in [
        first_task_svg(&summary),
        average_accuracy_svg(&summary),
        accuracy_over_size_svg(&summary),
    ] {
        assert!(svg.expect("a plot").contains("clr"));
    }
}

#[test]
fn seeds_permute_all_tasks_but_the_first() {
    let fixture = Fixture::new();
    let mut plan = plan(&fixture, &["sgd"]);
    plan.tasks = (0..9).map(|task| format!("task{task}").into()).collect();
    assert_eq!(plan.order(0), (0..9).collect::<Vec<_>>());
    let orders: Vec<Vec<usize>> = (1..4).map(|seed| plan.order(seed)).collect();
    for order in &orders {
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, plan.order(0));
        assert_eq!(order[0], 0);
    }
    assert!(orders[0] != orders[1] && orders[1] != orders[2] && orders[0] != plan.order(0));
}

#[test]
fn a_loss_that_becomes_infinite_has_no_validation_accuracy() {
    let fixture = Fixture::new();
    let data = tasks(&fixture);
    let options = LearnerOptions {
        epochs: 2,
        batch: 4,
        ..LearnerOptions::default()
    };
    let entry = registry::find("si").expect("si");
    let accuracy = |rate| {
        let settings = &entry.combinations(rate)[0];
        validation_accuracy(entry, settings, &fixture.backbone, &data, 100, &options, &Device::Cpu).expect("a trial")
    };
    assert!(accuracy(0.01).is_some_and(|accuracy| accuracy <= 1_000_000));
    assert_eq!(accuracy(1e30), None);
}

#[test]
fn a_job_that_diverged_is_reported_and_not_run_again() {
    let fixture = Fixture::new();
    let mut plan = plan(&fixture, &["sgd", "linear"]);
    plan.jobs[0].settings.insert("rate".to_owned(), 1e30);
    let folder = tempfile::tempdir().expect("a folder");
    let data = tasks(&fixture);
    let mut epochs = 0;
    let mut run = |job: usize| {
        run_job(
            &plan,
            &plan.jobs[job],
            &fixture.backbone,
            &data,
            folder.path(),
            &Device::Cpu,
            &mut |_| epochs += 1,
        )
    };
    run(1).expect("a job");
    let errors = [run(0), run(0)].map(|result| result.expect_err("a divergence").to_string());
    assert_eq!(errors[0], errors[1]);
    assert!(errors[0].contains("the loss is not finite"), "{}", errors[0]);
    let after_two = epochs;
    let mut again = |_: Event| epochs += 1;
    let job = &plan.jobs[0];
    let device = Device::Cpu;
    let result = run_job(&plan, job, &fixture.backbone, &data, folder.path(), &device, &mut again);
    assert!(result.is_err());
    assert_eq!(epochs, after_two);
    let summary = Summary::read(&plan, &fixture.backbone, folder.path()).expect("a summary");
    assert_eq!(summary.diverged, ["sgd-1"]);
    assert!(summary.missing.is_empty() && summary.methods.len() == 1);
}

#[test]
fn the_best_settings_are_those_of_the_highest_accuracy_when_all_were_tried() {
    let all = registry::find("si").expect("si").combinations(0.01);
    let trial = |index: usize, accuracy| Trial {
        method: "si".to_owned(),
        settings: all[index].clone(),
        accuracy,
    };
    let mut tuning = Tuning {
        basis: TuningBasis {
            backbone: String::new(),
            tasks: Vec::new(),
            digests: Vec::new(),
            size: [8, 8],
            images: 12,
            epochs: 2,
            seed: 100,
        },
        trials: vec![trial(2, Some(500_000)), trial(0, None)],
    };
    assert_eq!(tuning.best("si", &all), None);
    tuning.trials.push(trial(1, Some(500_000)));
    // The first of two equal ones in the order of the grid, not of the trials.
    assert_eq!(tuning.best("si", &all), Some(&all[1]));
    assert_eq!(tuning.best("lwf", &all), None);
}

#[test]
fn an_unknown_method_is_named_with_those_that_exist() {
    let fixture = Fixture::new();
    let mut plan = plan(&fixture, &["sgd"]);
    plan.jobs[0].method = "sdg".to_owned();
    let folder = tempfile::tempdir().expect("a folder");
    let job = &plan.jobs[0];
    let error = run_job(
        &plan,
        job,
        &fixture.backbone,
        &tasks(&fixture),
        folder.path(),
        &Device::Cpu,
        &mut |_| (),
    );
    let error = error.expect_err("an unknown method");
    assert!(matches!(error, ContinualError::Mismatch { .. }));
    assert!(
        error.to_string().contains("sdg") && error.to_string().contains("der++"),
        "{error}"
    );
}
