//! Conversion of errors into protocol failures.

use clr_store::StoreError;
use clr_transfer::{Failure, FailureCode};

use super::with_causes;
use crate::DaemonError;
use clr_engine::EngineError;

fn store_code(error: &StoreError) -> FailureCode {
    match error {
        StoreError::Refused(refusal) => FailureCode::refusal(refusal.code()),
        StoreError::NoSuchTask { .. } | StoreError::Name { .. } => FailureCode::NO_TASK,
        StoreError::NoSuchAdapter { .. }
        | StoreError::NoTrial { .. }
        | StoreError::NothingToRollBack { .. }
        | StoreError::NothingToRestore { .. }
        | StoreError::NothingServes { .. }
        | StoreError::NoSuchExample { .. } => FailureCode::NO_FILE,
        StoreError::NoSuchUpload { .. } | StoreError::UploadLength { .. } => FailureCode::NO_TRANSFER,
        StoreError::Full { .. } => FailureCode::FULL,
        StoreError::Busy { .. } => FailureCode::BUSY,
        StoreError::Locked { .. } => FailureCode::LOCKED,
        StoreError::Stale { .. } | StoreError::TrialUnderWay { .. } | StoreError::NotTunedHere { .. } => {
            FailureCode::TUNING
        }
        StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => FailureCode::FULL,
        _ => FailureCode::STORAGE,
    }
}

/// Converts an error of the store.
pub(super) fn of_store(error: StoreError) -> Failure {
    Failure::new(store_code(&error), with_causes(&error))
}

/// Converts an error of the engine.
pub(super) fn of_engine(error: EngineError) -> Failure {
    let code = match error {
        EngineError::UnknownTask { .. } => FailureCode::NO_TASK,
        _ => FailureCode::ENGINE,
    };
    Failure::new(code, with_causes(&error))
}

/// Converts any error of the daemon.
pub(super) fn of_daemon(error: DaemonError) -> Failure {
    match error {
        DaemonError::Store(error) => of_store(error),
        DaemonError::Engine(error) => of_engine(error),
        error @ DaemonError::Canary { .. } => Failure::new(FailureCode::CANARY, with_causes(&error)),
        error => Failure::new(FailureCode::INTERNAL, with_causes(&error)),
    }
}
