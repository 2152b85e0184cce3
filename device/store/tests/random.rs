//! Random operations with random power cuts, compared with the reference model.

use std::sync::Arc;

use clr_adapters::Digest;
use clr_store::{
    Store,
    simulation::{Disk, Fault, Faults, Moment, PowerCut},
};
use proptest::prelude::*;

use crate::{
    model::{Action, Model, OnTrial, Task},
    world::{NOW, assert_tidy, file, open, push, see, tuned},
};

pub(crate) const TASKS: [&str; 2] = ["birds", "cats"];

#[derive(Clone, Copy, Debug)]
struct Cut {
    at: usize,
    half: bool,
    model: usize,
    seed: u64,
}

fn act(store: &Store, task: &str, action: Action) -> bool {
    let on_trial = || {
        let trial = store.task(task).ok().and_then(|state| state.trial);
        trial.map_or(Digest::of(b"none"), |trial| trial.held.digest)
    };
    match action {
        Action::Install(version) => store.install(&file(task, version), NOW).is_ok(),
        Action::Push(version) => push(store, &file(task, version), 150).is_ok(),
        Action::Tune(revision) => store.install_tuned(&tuned(task, 2, revision)).is_ok(),
        Action::Send(revision) => store.install(&tuned(task, 2, revision), NOW).is_ok(),
        Action::Confirm => store.confirm(task, &on_trial()).is_ok(),
        Action::Revert => store.revert(task, &on_trial(), "a reason", NOW).is_ok(),
        Action::RollBack => store.rollback(task, NOW).is_ok(),
        Action::Restore => store.restore(task, NOW).is_ok(),
        Action::MarkGood => store.mark_good(task).is_ok(),
        Action::MarkBad => store.mark_bad(task, NOW).is_ok(),
        Action::Use => store.begin_use(task, &on_trial()).is_ok(),
        Action::Start => store.record_start(task, true, NOW).is_ok(),
        Action::Remove => store.remove(task).is_ok(),
        Action::File(image) => store.add_example(task, Some("label"), &[image], None).is_ok(),
        Action::Unfile(image) => store.remove_example(task, &Digest::of(&[image])).is_ok(),
        Action::Checkpoint(value) => store.put_checkpoint(task, &[value; 50]).is_ok(),
        Action::Clear => store.clear_checkpoint(task).is_ok(),
        Action::Activate => store.set_active(&[task]).is_ok(),
        Action::ActivateGroup => {
            let others = TASKS.into_iter().filter(|other| *other != task);
            let group: Vec<&str> = [task].into_iter().chain(others).collect();
            store.set_active(&group).is_ok()
        }
    }
}

/// The store's state in the model's terms.
fn read(store: &Store, model: &Model) -> Model {
    let name = |held: clr_store::StoredAdapter| (held.version, held.revision);
    let mut read = Model::default();
    for task in model.tasks.keys() {
        let state = store.task(task).ok();
        let model = &model.tasks[task];
        let mut examples: Vec<u8> = (0..8)
            .filter(|&image| store.example(task, &Digest::of(&[image])).is_ok())
            .collect();
        examples.sort_unstable();
        assert_eq!(store.examples(task).unwrap().len(), examples.len());
        let checkpoint = store.checkpoint(task).unwrap().map(|bytes| bytes[0]);
        // The known digests of a removed task are not visible, but they affect which files it admits.
        let mut task_read = Task {
            examples,
            checkpoint,
            highest_admitted: model.highest_admitted,
            known: model.known.clone(),
            ..Task::default()
        };
        if let Some(state) = state {
            task_read.confirmed = state.confirmed.map(name);
            task_read.trial = state.trial.map(|trial| OnTrial {
                name: name(trial.held),
                unclean: trial.unclean,
                in_use: trial.in_use,
                highest_before: trial.highest_before,
            });
            task_read.last = state.last_good.map(name);
            task_read.restore = state.restore.map(name);
            task_read.highest_admitted = state.highest_admitted;
            task_read.reverted = state.reverted.map(|reverted| name(reverted.held));
        }
        read.tasks.insert(task, task_read);
    }
    let known = |active: &String| TASKS.into_iter().find(|task| task == active);
    read.active = store.active().iter().filter_map(known).collect();
    read
}

fn actions() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (1..6_u64).prop_map(Action::Install),
        2 => (1..6_u64).prop_map(Action::Push),
        4 => (1..4_u32).prop_map(Action::Tune),
        2 => (1..4_u32).prop_map(Action::Send),
        6 => Just(Action::Confirm),
        1 => Just(Action::Revert),
        2 => Just(Action::RollBack),
        2 => Just(Action::Restore),
        2 => Just(Action::MarkGood),
        1 => Just(Action::MarkBad),
        2 => Just(Action::Use),
        3 => Just(Action::Start),
        1 => Just(Action::Remove),
        3 => (0..8_u8).prop_map(Action::File),
        1 => (0..8_u8).prop_map(Action::Unfile),
        1 => any::<u8>().prop_map(Action::Checkpoint),
        1 => Just(Action::Clear),
        1 => Just(Action::Activate),
        1 => Just(Action::ActivateGroup),
    ]
}

fn cuts() -> impl Strategy<Value = Option<Cut>> {
    let cut = (0..30_usize, any::<bool>(), 0..4_usize, any::<u64>());
    prop::option::weighted(
        0.3,
        cut.prop_map(|(at, half, model, seed)| Cut { at, half, model, seed }),
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 400 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_operations_and_power_cuts_follow_the_model(
        steps in prop::collection::vec((0..2_usize, actions(), cuts()), 1..if cfg!(miri) { 8 } else { 60 })
    ) {
        let mut disk = Arc::new(Disk::new());
        let mut faults = Arc::new(Faults::new(disk.clone()));
        let mut store = open(faults.clone());
        let mut model = Model::default();
        for (task, action, cut) in steps {
            let task = TASKS[task];
            let before = model.clone();
            let done = model.act(task, action);
            faults.set(cut.map(|cut| Fault::Stop {
                at: cut.at,
                moment: if cut.half { Moment::Half } else { Moment::Before },
            }));
            let got = act(&store, task, action);
            let Some(cut) = cut else {
                prop_assert_eq!(got, done, "{:?} of {} in {:#?}", action, task, before);
                prop_assert_eq!(&read(&store, &model), &model, "{:?} of {}", action, task);
                continue;
            };
            disk = Arc::new(disk.power_cut(PowerCut::ALL[cut.model], cut.seed));
            faults = Arc::new(Faults::new(disk.clone()));
            store = open(faults.clone());
            if read(&store, &model) != model {
                let mut old = before;
                old.tasks.entry(task).or_default();
                prop_assert_eq!(&read(&store, &old), &old, "{:?} of {}, cut", action, task);
                model = old;
            }
            assert_tidy(&store, &disk);
        }
        see(&store);
    }
}
