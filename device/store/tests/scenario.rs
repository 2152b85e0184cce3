//! Test scenarios: a prepared store, and every modifying operation on it.

use std::sync::Arc;

use clr_adapters::Digest;
use clr_store::{
    Progress, Storage, Store, StoreError,
    simulation::{Faults, Operation},
};

use crate::world::{NOW, Seen, begin, confirmed, confirmed_tuned, file, open, push, see, tuned};

type Act = fn(&Store) -> Result<(), StoreError>;

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) set_up: fn(&Store),
    pub(crate) act: Act,
    /// Whether repeating the operation after a cut leads to the same state.
    pub(crate) again: bool,
}

impl Scenario {
    /// Runs the operation without faults on a prepared storage. Returns the states before and after it, and every
    /// operation in between.
    pub(crate) fn rehearse(&self, storage: Arc<dyn Storage>) -> (Seen, Seen, Vec<(Operation, String)>) {
        let faults = Arc::new(Faults::new(storage));
        let store = open(faults.clone());
        let before = see(&store);
        faults.set(None);
        (self.act)(&store).unwrap();
        (before, see(&store), faults.operations())
    }
}

pub(crate) const ODD_NAME: &str = "a/../ Ü\"b";

/// Prepares two tasks with a history, an example, a run state and an active task.
fn past(store: &Store) {
    confirmed(store, &file("birds", 1));
    confirmed(store, &file("birds", 2));
    confirmed(store, &file("cats", 7));
    store
        .add_example("birds", Some("wren"), b"a picture of a wren", NOW)
        .unwrap();
    store.put_checkpoint("birds", &[7; 100]).unwrap();
    store.set_active(&["birds"]).unwrap();
}

fn on_trial(store: &Store) {
    past(store);
    store.install(&file("birds", 3), NOW).unwrap();
}

fn tuned_on_trial(store: &Store) {
    past(store);
    store.install_tuned(&tuned("birds", 2, 1)).unwrap();
}

fn tuned_before(store: &Store) {
    past(store);
    confirmed_tuned(store, &tuned("birds", 2, 1));
}

fn in_use(store: &Store) {
    on_trial(store);
    store.begin_use("birds", &Digest::of(&file("birds", 3))).unwrap();
}

fn two_unclean_ends(store: &Store) {
    in_use(store);
    for _ in 0..2 {
        store.record_start("birds", true, NOW).unwrap();
        store.begin_use("birds", &Digest::of(&file("birds", 3))).unwrap();
    }
}

fn rolled_back(store: &Store) {
    past(store);
    store.rollback("birds", NOW).unwrap();
}

fn half_uploaded(store: &Store) {
    past(store);
    let file = file("birds", 3);
    let digest = Digest::of(&file);
    begin(store, &file).unwrap();
    store.append(&digest, 0, &file[..100]).unwrap();
}

fn nothing(_: &Store) {}

const fn scenario(name: &'static str, set_up: fn(&Store), act: Act, again: bool) -> Scenario {
    Scenario {
        name,
        set_up,
        act,
        again,
    }
}

pub(crate) const ALL: &[Scenario] = &[
    scenario(
        "the first install of all",
        nothing,
        |store| store.install(&file("birds", 1), NOW).map(drop),
        true,
    ),
    scenario(
        "install a new task",
        past,
        |store| store.install(&file(ODD_NAME, 1), NOW).map(drop),
        true,
    ),
    scenario(
        "install a version",
        past,
        |store| store.install(&file("birds", 3), NOW).map(drop),
        true,
    ),
    scenario(
        "replace a trial",
        on_trial,
        |store| store.install(&file("birds", 4), NOW).map(drop),
        true,
    ),
    scenario(
        "undo a rollback by the very file",
        rolled_back,
        |store| store.install(&file("birds", 2), NOW).map(drop),
        true,
    ),
    scenario(
        "upload and commit",
        past,
        |store| push(store, &file("birds", 3), 100),
        true,
    ),
    scenario(
        "take an upload up and commit",
        half_uploaded,
        |store| push(store, &file("birds", 3), 100),
        true,
    ),
    scenario(
        "confirm",
        on_trial,
        |store| store.confirm("birds", &Digest::of(&file("birds", 3))).map(drop),
        false,
    ),
    scenario("mark good", on_trial, |store| store.mark_good("birds"), true),
    scenario(
        "revert",
        on_trial,
        |store| {
            store
                .revert("birds", &Digest::of(&file("birds", 3)), "too slow", NOW)
                .map(drop)
        },
        false,
    ),
    scenario(
        "roll back a trial",
        on_trial,
        |store| store.rollback("birds", NOW).map(drop),
        false,
    ),
    scenario("roll back", past, |store| store.rollback("birds", NOW).map(drop), false),
    scenario("mark bad", past, |store| store.mark_bad("birds", NOW).map(drop), false),
    scenario(
        "install tuned",
        past,
        |store| store.install_tuned(&tuned("birds", 2, 1)).map(drop),
        true,
    ),
    scenario(
        "a task is created",
        past,
        |store| store.install_tuned(&tuned("fish", 1, 1)).map(drop),
        true,
    ),
    scenario("confirm tuned", tuned_on_trial, |store| store.mark_good("birds"), true),
    scenario(
        "restore from a trial",
        tuned_on_trial,
        |store| store.restore("birds", NOW).map(drop),
        false,
    ),
    scenario(
        "restore",
        tuned_before,
        |store| store.restore("birds", NOW).map(drop),
        false,
    ),
    scenario(
        "a new version over a tuned one",
        tuned_before,
        |store| store.install(&file("birds", 3), NOW).map(drop),
        true,
    ),
    scenario(
        "begin to use a trial",
        on_trial,
        |store| store.begin_use("birds", &Digest::of(&file("birds", 3))),
        true,
    ),
    scenario(
        "end to use a trial",
        in_use,
        |store| {
            let frames = 7;
            let progress = Progress {
                frames,
                ..Progress::default()
            };
            store.end_use("birds", &Digest::of(&file("birds", 3)), progress)
        },
        true,
    ),
    scenario(
        "count an unclean end",
        in_use,
        |store| store.record_start("birds", true, NOW).map(drop),
        true,
    ),
    scenario(
        "an unclean end too many",
        two_unclean_ends,
        |store| store.record_start("birds", true, NOW).map(drop),
        true,
    ),
    scenario(
        "the first example of a task",
        past,
        |store| {
            store
                .add_example(ODD_NAME, Some("robin"), b"a picture of a robin", NOW)
                .map(drop)
        },
        true,
    ),
    scenario(
        "another example",
        past,
        |store| {
            store
                .add_example("birds", Some("robin"), b"a picture of a robin", NOW)
                .map(drop)
        },
        true,
    ),
    scenario(
        "a label corrected",
        past,
        |store| {
            store
                .add_example("birds", Some("wren, young"), b"a picture of a wren", NOW)
                .map(drop)
        },
        true,
    ),
    scenario(
        "remove an example",
        past,
        |store| store.remove_example("birds", &Digest::of(b"a picture of a wren")),
        false,
    ),
    scenario(
        "the first checkpoint",
        past,
        |store| store.put_checkpoint("cats", &[8; 300]),
        true,
    ),
    scenario(
        "the next checkpoint",
        past,
        |store| store.put_checkpoint("birds", &[8; 300]),
        true,
    ),
    scenario(
        "clear a checkpoint",
        past,
        |store| store.clear_checkpoint("birds"),
        true,
    ),
    scenario("remove a task", past, |store| store.remove("birds"), false),
    scenario(
        "remove a task that is on trial",
        on_trial,
        |store| store.remove("birds"),
        false,
    ),
    scenario(
        "remove a task that was created here",
        |store| drop(store.install_tuned(&tuned("fish", 1, 1)).unwrap()),
        |store| store.remove("fish"),
        false,
    ),
    scenario("set the active task", past, |store| store.set_active(&["cats"]), true),
    scenario(
        "set a group of active tasks",
        past,
        |store| store.set_active(&["cats", "birds"]),
        true,
    ),
    scenario(
        "remove a task of the active group",
        |store| {
            past(store);
            store.set_active(&["cats", "birds"]).unwrap();
        },
        |store| store.remove("birds"),
        false,
    ),
    scenario("set no active task", past, Store::clear_active, true),
    scenario(
        "note the time",
        past,
        |store| store.raise_time_floor(1_900_000_000),
        true,
    ),
    scenario(
        "note a later time",
        |store| {
            past(store);
            store.raise_time_floor(1_800_000_000).unwrap();
        },
        |store| store.raise_time_floor(1_900_000_000),
        true,
    ),
];
