//! Stopping and resuming.

use clr_adapters::Recipe;

use super::fixtures::{backbone, options, task};
use crate::{Observer, RecipeChoice, Record, TrainError, TrainOptions, train};

/// Stops after a number of finished epochs.
struct StopAfter(usize);

impl Observer for StopAfter {
    fn record(&mut self, record: &Record) {
        if record.epoch > 0 {
            self.0 = self.0.saturating_sub(1);
        }
    }

    fn should_stop(&mut self) -> bool {
        self.0 == 0
    }
}

#[test]
fn a_stopped_and_resumed_run_writes_the_same_bytes() {
    let (_data, dataset) = task();
    for batch_statistics in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut options = options(RecipeChoice::Fixed(Recipe::Clr));
        if batch_statistics {
            options.schedule.statistics = crate::NormStatistics::Batch { momentum: 0.1 };
            options.schedule.dropout = 0.2;
        }
        let whole = train(&backbone(), &dataset, &options, &mut ()).unwrap();
        let options = TrainOptions {
            resume: Some(folder.path().join("state")),
            ..options
        };
        let stopped = train(&backbone(), &dataset, &options, &mut StopAfter(2));
        assert!(matches!(stopped, Err(TrainError::Stopped)));
        let resumed = train(&backbone(), &dataset, &options, &mut ()).unwrap();
        assert_eq!(resumed.bytes, whole.bytes);
        let losses = |history: &[Record]| history.iter().map(|record| record.validation_loss).collect::<Vec<_>>();
        assert_eq!(losses(&resumed.history), losses(&whole.history));
        // A finished run is not trained again.
        let again = train(&backbone(), &dataset, &options, &mut StopAfter(usize::MAX)).unwrap();
        assert_eq!(again.bytes, whole.bytes);
    }
}

#[test]
fn damaged_and_foreign_resume_files_are_refused() {
    let (_data, dataset) = task();
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(RecipeChoice::Fixed(Recipe::Bn));
    options.schedule.epochs = 1;
    options.resume = Some(folder.path().to_owned());
    train(&backbone(), &dataset, &options, &mut ()).unwrap();
    let path = folder.path().join("bn.resume");
    let good = std::fs::read(&path).unwrap();
    let refused = || train(&backbone(), &dataset, &options, &mut ()).unwrap_err();

    for position in [0, 9, 13, 40, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[position] ^= 4;
        std::fs::write(&path, bad).unwrap();
        assert!(matches!(refused(), TrainError::DamagedResumeFile { .. }), "{position}");
    }
    for length in [0, 5, 20, 60, good.len() - 1] {
        std::fs::write(&path, &good[..length]).unwrap();
        assert!(matches!(refused(), TrainError::DamagedResumeFile { .. }), "{length}");
    }
    std::fs::write(&path, &good).unwrap();
    let other = TrainOptions {
        seed: 9,
        ..options.clone()
    };
    let error = train(&backbone(), &dataset, &other, &mut ()).unwrap_err();
    assert!(matches!(error, TrainError::ForeignResumeFile { .. }), "{error}");
    assert!(train(&backbone(), &dataset, &options, &mut ()).is_ok());
}
