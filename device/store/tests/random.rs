//! Random operations with random power cuts, against a model that knows nothing of files.

use std::{collections::BTreeMap, sync::Arc};

use clr_adapters::Digest;
use clr_store::{
    Store,
    simulation::{Disk, Fault, Faults, Moment, PowerCut},
};
use proptest::prelude::*;

use crate::world::{NOW, assert_tidy, file, open, push, see, tuned};

const TASKS: [&str; 2] = ["birds", "cats"];

#[derive(Clone, Copy, Debug)]
enum Action {
    Install(u64),
    Push(u64),
    Tune(u32),
    Send(u32),
    Confirm,
    Revert,
    RollBack,
    Restore,
    MarkGood,
    MarkBad,
    CountStart,
    Remove,
    File(u8),
    Unfile(u8),
    Checkpoint(u8),
    Clear,
    Activate,
}

#[derive(Clone, Copy, Debug)]
struct Cut {
    at: usize,
    half: bool,
    model: usize,
    seed: u64,
}

/// An adapter: version and revision.
type Name = (u64, u32);

#[derive(Clone, Debug, Default, PartialEq)]
struct Task {
    confirmed: Option<Name>,
    trial: Option<(Name, u32)>,
    last: Option<Name>,
    restore: Option<Name>,
    floor: u64,
    known: Vec<Name>,
    reverted: Option<Name>,
    examples: Vec<u8>,
    checkpoint: Option<u8>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    tasks: BTreeMap<&'static str, Task>,
    active: Option<&'static str>,
}

impl Task {
    fn listed(&self) -> bool {
        self.confirmed.is_some() || self.trial.is_some() || self.reverted.is_some()
    }

    fn tidy(&mut self) {
        let tuned = |name: Option<Name>| name.is_some_and(|(_, revision)| revision > 0);
        if !tuned(self.confirmed) && !tuned(self.last) {
            self.restore = None;
        }
    }

    fn end_trial(&mut self) -> bool {
        let Some((name, _)) = self.trial.take() else {
            return false;
        };
        self.reverted = Some(name);
        true
    }

    fn try_out(&mut self, name: Name) -> bool {
        if self.trial.is_none_or(|(trial, _)| trial != name) {
            self.trial = Some((name, 0));
        }
        true
    }

    /// Whether a file from outside is taken.
    fn admits(&self, name: Name) -> bool {
        let on_trial = self.trial.is_some_and(|(trial, _)| trial == name);
        let known = self.known.contains(&name);
        let (version, revision) = name;
        let fits = if revision > 0 {
            known && version >= self.floor
        } else {
            version > self.floor || version == self.floor && known && self.confirmed.is_none()
        };
        on_trial || fits && self.confirmed != Some(name)
    }

    /// The rules of the store, told once more; says whether the operation is done.
    fn act(&mut self, action: Action) -> bool {
        match action {
            // An upload of what is confirmed is not sent, and its commit is answered.
            Action::Push(version) if self.confirmed == Some((version, 0)) => true,
            Action::Install(version) | Action::Push(version) => self.admits((version, 0)) && self.try_out((version, 0)),
            Action::Send(revision) => self.admits((2, revision)) && self.try_out((2, revision)),
            Action::Tune(revision) => {
                let name = (2, revision);
                let on_trial = self.trial.is_some_and(|(trial, _)| trial == name);
                let blocked = self.trial.is_some_and(|((_, revision), _)| revision == 0);
                let stale = self.confirmed.is_some_and(|(version, _)| version != 2);
                let fits = !blocked && !stale && self.confirmed != Some(name);
                (on_trial || fits) && self.try_out(name)
            }
            Action::Confirm | Action::MarkGood => {
                let Some((name, _)) = self.trial.take() else {
                    return matches!(action, Action::MarkGood) && self.listed();
                };
                let before = self.confirmed.replace(name);
                if name.1 == 0 {
                    self.floor = self.floor.max(name.0);
                } else if let Some((version, 0)) = before {
                    self.restore = Some((version, 0));
                }
                self.last = before
                    .filter(|before| *before != name)
                    .or(self.last)
                    .filter(|last| *last != name);
                self.known.retain(|known| *known != name);
                self.known.push(name);
                self.tidy();
                true
            }
            Action::Revert => self.end_trial(),
            Action::RollBack | Action::MarkBad => {
                if self.end_trial() {
                    return true;
                }
                let bad = matches!(action, Action::MarkBad);
                let better = if bad { self.last.or(self.restore) } else { self.last };
                let (Some(confirmed), Some(better)) = (self.confirmed, better) else {
                    return false;
                };
                self.confirmed = Some(better);
                self.last = if bad { None } else { Some(confirmed) };
                self.reverted = Some(confirmed);
                self.tidy();
                true
            }
            Action::Restore => {
                let mut done = false;
                if self.confirmed.is_some() && self.trial.is_some_and(|((_, revision), _)| revision > 0) {
                    done = self.end_trial();
                }
                if let (Some(tuned @ (_, 1..)), Some(original)) = (self.confirmed, self.restore) {
                    (self.confirmed, self.last, self.reverted) = (Some(original), Some(tuned), Some(tuned));
                    done = true;
                }
                self.tidy();
                done
            }
            Action::CountStart => {
                match &mut self.trial {
                    Some((_, starts)) if *starts < 3 => *starts += 1,
                    Some(_) => drop(self.end_trial()),
                    None => return self.listed(),
                }
                true
            }
            Action::Remove => {
                let there = self.listed() || !self.examples.is_empty() || self.checkpoint.is_some();
                let (floor, known) = (self.floor, std::mem::take(&mut self.known));
                if there {
                    *self = Self {
                        floor,
                        known,
                        ..Self::default()
                    };
                } else {
                    self.known = known;
                }
                there
            }
            Action::File(picture) => {
                let there = self.examples.contains(&picture);
                if !there && self.examples.len() < 4 {
                    self.examples.push(picture);
                    self.examples.sort_unstable();
                }
                self.examples.contains(&picture)
            }
            Action::Unfile(picture) => {
                let there = self.examples.contains(&picture);
                self.examples.retain(|known| *known != picture);
                there
            }
            Action::Checkpoint(value) => {
                self.checkpoint = Some(value);
                true
            }
            Action::Clear => {
                self.checkpoint = None;
                true
            }
            Action::Activate => self.listed(),
        }
    }
}

impl Model {
    fn act(&mut self, task: &'static str, action: Action) -> bool {
        let state = self.tasks.entry(task).or_default();
        let done = state.act(action);
        match action {
            Action::Activate if done => self.active = Some(task),
            Action::Remove if done && self.active == Some(task) => self.active = None,
            _ => {}
        }
        done
    }
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
        Action::CountStart => store.count_start(task, NOW).is_ok(),
        Action::Remove => store.remove(task).is_ok(),
        Action::File(picture) => store.add_example(task, "label", &[picture], None).is_ok(),
        Action::Unfile(picture) => store.remove_example(task, &Digest::of(&[picture])).is_ok(),
        Action::Checkpoint(value) => store.put_checkpoint(task, &[value; 50]).is_ok(),
        Action::Clear => store.clear_checkpoint(task).is_ok(),
        Action::Activate => store.set_active(task).is_ok(),
    }
}

/// The store's state in the model's terms.
fn read(store: &Store, model: &Model) -> Model {
    let name = |held: clr_store::Held| (held.version, held.revision);
    let mut read = Model::default();
    for task in model.tasks.keys() {
        let state = store.task(task).ok();
        let model = &model.tasks[task];
        let mut examples: Vec<u8> = (0..8)
            .filter(|&picture| store.example(task, &Digest::of(&[picture])).is_ok())
            .collect();
        examples.sort_unstable();
        assert_eq!(store.examples(task).unwrap().len(), examples.len());
        let checkpoint = store.checkpoint(task).unwrap().map(|bytes| bytes[0]);
        // What is known of a removed task shows in what it admits.
        let mut task_read = Task {
            examples,
            checkpoint,
            floor: model.floor,
            known: model.known.clone(),
            ..Task::default()
        };
        if let Some(state) = state {
            task_read.confirmed = state.confirmed.map(name);
            task_read.trial = state.trial.map(|trial| (name(trial.held), trial.starts));
            task_read.last = state.last_good.map(name);
            task_read.restore = state.restore.map(name);
            task_read.floor = state.floor;
            task_read.reverted = state.reverted.map(|reverted| name(reverted.held));
        }
        read.tasks.insert(task, task_read);
    }
    read.active = store
        .active()
        .and_then(|active| TASKS.into_iter().find(|task| *task == active));
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
        2 => Just(Action::CountStart),
        1 => Just(Action::Remove),
        3 => (0..8_u8).prop_map(Action::File),
        1 => (0..8_u8).prop_map(Action::Unfile),
        1 => any::<u8>().prop_map(Action::Checkpoint),
        1 => Just(Action::Clear),
        1 => Just(Action::Activate),
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
