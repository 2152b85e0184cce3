//! Resumption: a run gives the same bytes after any interruption.

use clr_tuning::{InMemory, Observer, Parent, TrainableScope, TuneError, TuneOptions, Tuned, teach, tune};

use super::common::{Kept, LABELS, backbone, images, options, parent, png, publisher};

/// Stops after this many steps.
#[derive(Default)]
struct StopAfter {
    steps: Option<u32>,
    done: u32,
    restarted: Vec<String>,
    resumed: Option<u32>,
}

impl Observer for StopAfter {
    fn progress(&mut self, _: clr_tuning::Progress) {
        self.done += 1;
    }

    fn should_stop(&mut self) -> bool {
        self.steps.is_some_and(|steps| self.done >= steps)
    }

    fn restarted(&mut self, reason: &str) {
        self.restarted.push(reason.to_owned());
    }

    fn resumed(&mut self, step: u32) {
        self.resumed = Some(step);
    }
}

fn taught() -> (clr_onnx::Backbone, Parent) {
    let backbone = backbone();
    let publisher = publisher(&backbone);
    let taught = teach(&backbone, &publisher, &images(&[2], 10)).unwrap().revision;
    let parent = parent(&taught.file, Some(&publisher));
    (backbone, parent)
}

fn run(options: &TuneOptions, kept: &Kept, observer: &mut StopAfter) -> Result<Tuned, TuneError> {
    let (backbone, parent) = taught();
    tune(&backbone, &parent, &images(&[2, 0], 10), kept, options, observer)
}

#[test]
fn a_stopped_and_resumed_run_writes_the_same_bytes() {
    let whole = run(&options(), &Kept::default(), &mut StopAfter::default()).unwrap();
    let kept = Kept::default();
    let mut observer = StopAfter {
        steps: Some(7),
        ..StopAfter::default()
    };
    let stopped = run(&options(), &kept, &mut observer);
    assert!(matches!(stopped, Err(TuneError::Stopped { step: 7, steps: 24 })));
    let mut observer = StopAfter::default();
    let resumed = run(&options(), &kept, &mut observer).unwrap();
    assert_eq!((observer.resumed, observer.done), (Some(7), 17));
    assert_eq!(resumed.candidate.file, whole.candidate.file);
    assert!(kept.0.lock().unwrap().is_none(), "a finished run leaves no state");
}

#[test]
fn frames_stored_after_the_start_do_not_end_a_run() {
    let (backbone, parent) = taught();
    let mut begun = images(&[2, 0], 10);
    begun.add(None, png(1, 50));
    let tuned = |images: &InMemory, kept: &Kept, observer: &mut StopAfter| {
        tune(&backbone, &parent, images, kept, &options(), observer)
    };
    let whole = tuned(&begun, &Kept::default(), &mut StopAfter::default()).unwrap();
    let stopped_after_seven = || {
        let kept = Kept::default();
        let mut observer = StopAfter {
            steps: Some(7),
            ..StopAfter::default()
        };
        tuned(&begun, &kept, &mut observer).unwrap_err();
        kept
    };
    let mut later = begun.clone();
    assert!(later.add(None, png(0, 50)) && later.add(None, png(1, 51)));
    let mut observer = StopAfter::default();
    let resumed = tuned(&later, &stopped_after_seven(), &mut observer).unwrap();
    assert_eq!((observer.resumed, observer.restarted.len()), (Some(7), 0));
    assert_eq!(resumed.candidate.file, whole.candidate.file);
    // A newly labelled image must be learned.
    later.add(Some(LABELS[2]), png(2, 50));
    let mut observer = StopAfter::default();
    tuned(&later, &stopped_after_seven(), &mut observer).unwrap();
    assert_eq!((observer.resumed, observer.restarted.len()), (None, 1));
}

/// Damage to a run state.
type Damage<'a> = &'a dyn Fn(&mut Vec<u8>);

#[test]
fn a_damaged_or_foreign_run_state_is_reported_and_the_run_restarts() {
    let kept = Kept::default();
    let stop = || StopAfter {
        steps: Some(7),
        ..StopAfter::default()
    };
    run(&options(), &kept, &mut stop()).unwrap_err();
    let good = kept.0.lock().unwrap().clone().unwrap();
    let damages: [Damage<'_>; 4] = [
        &|bytes| bytes[100] ^= 1,
        &|bytes| bytes.truncate(40),
        &|bytes| bytes.clear(),
        &|bytes| bytes[4] = 9,
    ];
    for damage in damages {
        let mut bytes = good.clone();
        damage(&mut bytes);
        *kept.0.lock().unwrap() = Some(bytes);
        let mut observer = stop();
        run(&options(), &kept, &mut observer).unwrap_err();
        assert_eq!((observer.restarted.len(), observer.resumed), (1, None));
    }
    *kept.0.lock().unwrap() = Some(good);
    let other = options().with_seed(1);
    let mut observer = stop();
    run(&other, &kept, &mut observer).unwrap_err();
    assert_eq!(observer.restarted.len(), 1);
}

#[test]
fn results_depend_on_the_seed_but_not_on_threads_or_cache() {
    let file = |options: TuneOptions| run(&options, &Kept::default(), &mut StopAfter::default()).unwrap();
    let one = file(options());
    let two = file(options().with_threads(2));
    assert_eq!(one.candidate.file, two.candidate.file);
    let other = file(options().with_seed(5));
    assert_ne!(one.candidate.file, other.candidate.file);
    // The input activations of late sites may or may not be cached.
    let late = options().with_scope(TrainableScope::From(2)).with_resident(Some(0));
    let cached = file(late.clone());
    assert!(cached.plan.cached);
    let fresh = file(late.with_max_memory(cached.plan.peak - 1));
    assert!(!fresh.plan.cached);
    assert_eq!(cached.candidate.file, fresh.candidate.file);
}
