//! Power cuts at every operation of every modifying call, and at every operation of the opening that follows.
//!
//! A cut after an operation is the same as one before the next; the last cut is after all operations. With
//! `CLR_LONG_TESTS=1`, 100 random orders of the pending changes are tested instead of 12, and after each the power is
//! also cut during opening: `CLR_LONG_TESTS=1 cargo test --release -p clr-store power_cut -- --nocapture`.

use std::sync::Arc;

use clr_store::simulation::{Disk, Fault, Faults, Moment, Operation, PowerCut};

use crate::{
    scenario::{ALL, Scenario},
    world::{Seen, assert_tidy, open, see},
};

/// Returns the seeds to test per model: the two forms of half a file, or random choices of the reordered changes.
fn seeds(model: PowerCut) -> u64 {
    match model {
        PowerCut::UnsyncedLost | PowerCut::RenameLost => 1,
        PowerCut::HalfWritten => 2,
        PowerCut::Reordered if cfg!(miri) => 1,
        PowerCut::Reordered if long() => 100,
        PowerCut::Reordered => 12,
    }
}

fn long() -> bool {
    !cfg!(miri) && std::env::var_os("CLR_LONG_TESTS").is_some()
}

#[derive(Default)]
struct Counts {
    cuts: usize,
    opened: usize,
    during_opening: usize,
    after_a_kill: usize,
}

/// Returns the disk after the scenario's preparation, which is entirely durable.
fn base(scenario: &Scenario) -> Disk {
    let disk = Arc::new(Disk::new());
    (scenario.set_up)(&open(disk.clone()));
    let set_up = see(&open(Arc::new(disk.copy())));
    // Every preparing call has returned, so its changes must be durable.
    let disk = disk.power_cut(PowerCut::UnsyncedLost, 0);
    let store = open(Arc::new(disk.copy()));
    assert_eq!(see(&store), set_up, "{}", scenario.name);
    disk
}

/// Stops the operation, cuts the power in every model, opens the store, and passes it to `check`.
fn cut(scenario: &Scenario, base: &Disk, at: usize, moment: Moment, mut check: impl FnMut(u64, Disk)) {
    let disk = Arc::new(base.copy());
    let faults = Arc::new(Faults::new(disk.clone()));
    let store = open(faults.clone());
    faults.set(Some(Fault::Stop { at, moment }));
    let _ = (scenario.act)(&store);
    for model in PowerCut::ALL {
        for seed in 0..seeds(model) {
            check(seed, disk.power_cut(model, seed));
        }
    }
}

/// Kills the program, then cuts the power while the store is being opened or right after.
fn kill_then_cut(scenario: &Scenario, base: &Disk, at: usize, before: &Seen, after: &Seen, counts: &mut Counts) {
    let killed = || {
        let disk = Arc::new(base.copy());
        let faults = Arc::new(Faults::new(disk.clone()));
        let store = open(faults.clone());
        let moment = Moment::Half;
        faults.set(Some(Fault::Stop { at, moment }));
        let _ = (scenario.act)(&store);
        Arc::new(disk.copy())
    };
    let disk = killed();
    let faults = Arc::new(Faults::new(disk.clone()));
    let seen = see(&open(faults.clone()));
    old_or_new(scenario, &seen, before, after, "killed");
    let steps = faults.operations().len();
    for at in 0..=steps {
        let disk = killed();
        let faults = Arc::new(Faults::new(disk.clone()));
        let moment = Moment::Before;
        faults.set(Some(Fault::Stop { at, moment }));
        let _ = clr_store::Store::open(faults, crate::world::options());
        for model in PowerCut::ALL {
            let disk = Arc::new(disk.power_cut(model, at as u64));
            let store = open(disk.clone());
            let got = see(&store);
            old_or_new(scenario, &got, before, after, "killed, then cut while opening");
            if at == steps {
                assert_eq!(got, seen, "{}: what was seen after opening is lost", scenario.name);
            }
            assert_tidy(&store, &disk);
            counts.after_a_kill += 1;
        }
    }
}

fn old_or_new(scenario: &Scenario, got: &Seen, before: &Seen, after: &Seen, place: &str) {
    assert!(
        got == before || got == after,
        "{}, {place}: neither the old state nor the new one: {got:#?}",
        scenario.name
    );
    // Whatever is lost, the confirmed version remains the lower bound.
    for state in &got.tasks {
        let confirmed = state.confirmed.filter(|held| !held.tuned);
        assert!(confirmed.is_none_or(|held| state.highest_admitted >= held.version));
    }
}

fn run(scenario: &Scenario, counts: &mut Counts) {
    let base = base(scenario);
    let (before, after, operations) = scenario.rehearse(Arc::new(base.copy()));
    assert!(!operations.is_empty(), "{}", scenario.name);
    for at in 0..=operations.len() {
        kill_then_cut(scenario, &base, at, &before, &after, counts);
        let is_write = operations
            .get(at)
            .is_some_and(|(operation, _)| *operation == Operation::Write);
        for moment in if is_write {
            &[Moment::Before, Moment::Half][..]
        } else {
            &[Moment::Before]
        } {
            counts.cuts += 1;
            let place = format!("cut at {at} of {}, {:?}", operations.len(), operations.get(at));
            cut(scenario, &base, at, *moment, |seed, disk| {
                counts.opened += 1;
                if seed == 0 || long() {
                    cut_while_opening(scenario, &disk, &before, &after, counts);
                }
                let disk = Arc::new(disk);
                let store = open(disk.clone());
                let got = see(&store);
                old_or_new(scenario, &got, &before, &after, &place);
                if at == operations.len() {
                    assert_eq!(got, after, "{}: what was done is lost", scenario.name);
                }
                assert_tidy(&store, &disk);
                if scenario.again {
                    (scenario.act)(&store).unwrap();
                    assert_eq!(see(&store), after, "{}, {place}, done again", scenario.name);
                    assert_tidy(&store, &disk);
                }
            });
        }
    }
}

/// Cuts the power again while the store is being opened.
fn cut_while_opening(scenario: &Scenario, disk: &Disk, before: &Seen, after: &Seen, counts: &mut Counts) {
    let steps = {
        let faults = Arc::new(Faults::new(Arc::new(disk.copy())));
        let _ = clr_store::Store::open(faults.clone(), crate::world::options()).unwrap();
        faults.operations().len()
    };
    // If opening has nothing to repair, its syncs change nothing.
    let seen = see(&open(Arc::new(disk.copy())));
    for at in (0..steps).step_by(if cfg!(miri) { 5 } else { 1 }) {
        let disk = Arc::new(disk.copy());
        let faults = Arc::new(Faults::new(disk.clone()));
        faults.set(Some(Fault::Stop {
            at,
            moment: Moment::Before,
        }));
        let _ = clr_store::Store::open(faults, crate::world::options());
        let disk = Arc::new(disk.power_cut(PowerCut::Reordered, at as u64));
        let got = see(&open(disk));
        old_or_new(scenario, &got, before, after, "cut while opening");
        assert_eq!(got, seen, "{}: opening changed the state", scenario.name);
        counts.during_opening += 1;
    }
}

#[test]
fn after_a_cut_anywhere_the_state_is_the_old_one_or_the_new_one() {
    let mut total = Counts::default();
    for scenario in ALL.iter().step_by(if cfg!(miri) { 6 } else { 1 }) {
        let mut counts = Counts::default();
        run(scenario, &mut counts);
        println!(
            "{:38} {:3} cuts, {:5} disks opened, {:5} cuts while opening, {:5} after a kill",
            scenario.name, counts.cuts, counts.opened, counts.during_opening, counts.after_a_kill
        );
        total.cuts += counts.cuts;
        total.opened += counts.opened;
        total.during_opening += counts.during_opening;
        total.after_a_kill += counts.after_a_kill;
    }
    println!(
        "{:38} {:3} cuts, {:5} disks opened, {:5} cuts while opening, {:5} after a kill",
        format!("{} operations", ALL.len()),
        total.cuts,
        total.opened,
        total.during_opening,
        total.after_a_kill
    );
}
