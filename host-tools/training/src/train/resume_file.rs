//! Resume file of a recipe, written atomically after each epoch.
//!
//! Layout: `CLRTRAIN`, u32 version, u64 length of the JSON head, the head, f32 tensors (little-endian), SHA-256 of
//! everything before it.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use clr_adapters::{Digest, Recipe};
use serde::{Deserialize, Serialize};

use crate::{
    AdamState, Record, Snapshot,
    error::{Result, TrainError},
};

const MAGIC: &[u8; 12] = b"CLRTRAIN\x02\0\0\0";
/// Maximum size of a resume file.
const MAX_BYTES: u64 = 1 << 30;

/// State of a run after an epoch.
pub(super) struct State {
    pub(super) epoch: usize,
    /// Number of epochs since the best one.
    pub(super) stale: usize,
    pub(super) best_score: (f32, f32),
    pub(super) best: Snapshot,
    pub(super) current: Snapshot,
    pub(super) history: Vec<Record>,
}

/// Content of a resume file.
pub(super) struct Resumed {
    pub(super) state: State,
    pub(super) adam: AdamState,
    pub(super) average: Vec<Vec<f32>>,
}

#[derive(Serialize, Deserialize)]
struct HeadPart {
    fingerprint: String,
    recipe: Recipe,
    epoch: usize,
    stale: usize,
    /// Stored as bits, so that decimal rounding cannot change the values.
    best_score: [u32; 2],
    step: u64,
    /// Lengths of the tensors in each of five groups: current, best, first moments, second moments, average.
    layout: [Vec<usize>; 5],
    history: Vec<Record>,
}

pub(super) struct ResumeFile {
    path: Option<PathBuf>,
    recipe: Recipe,
    fingerprint: Digest,
}

impl ResumeFile {
    pub(super) fn new(folder: Option<&Path>, recipe: Recipe, fingerprint: Digest) -> Self {
        Self {
            path: folder.map(|folder| folder.join(format!("{recipe}.resume"))),
            recipe,
            fingerprint,
        }
    }

    /// Writes the file; does nothing without a folder.
    pub(super) fn save(&self, state: &State, adam: &AdamState, average: Option<&[Vec<f32>]>) -> Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let groups: [&[Vec<f32>]; 5] = [
            &state.current.values,
            &state.best.values,
            &adam.first,
            &adam.second,
            average.unwrap_or_default(),
        ];
        let head = HeadPart {
            fingerprint: self.fingerprint.to_string(),
            recipe: self.recipe,
            epoch: state.epoch,
            stale: state.stale,
            best_score: [state.best_score.0.to_bits(), state.best_score.1.to_bits()],
            step: adam.step,
            layout: groups.map(|group| group.iter().map(Vec::len).collect()),
            history: state.history.clone(),
        };
        let write_error = |source: std::io::Error| TrainError::Write {
            path: path.clone(),
            source,
        };
        let head = serde_json::to_vec(&head).map_err(|error| write_error(error.into()))?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&(head.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&head);
        for value in groups.into_iter().flatten().flatten() {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        let digest = Digest::of(&bytes);
        bytes.extend_from_slice(&digest.0);

        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(write_error)?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(write_error)?;
        file.write_all(&bytes)
            .and_then(|()| file.as_file().sync_all())
            .map_err(write_error)?;
        file.persist(path).map_err(|error| write_error(error.error))?;
        Ok(())
    }

    /// Reads the file. Returns `None` if there is no file or no folder.
    ///
    /// # Errors
    /// [`TrainError`] if the file is damaged or belongs to another run.
    pub(super) fn load(&self) -> Result<Option<Resumed>> {
        let Some(path) = self.path.as_ref().filter(|path| path.exists()) else {
            return Ok(None);
        };
        let read_error = |source| TrainError::Read {
            path: path.clone(),
            source,
        };
        let damaged = |reason| TrainError::DamagedResumeFile {
            path: path.clone(),
            reason,
        };
        if std::fs::metadata(path).map_err(read_error)?.len() > MAX_BYTES {
            return Err(damaged("it is larger than any run writes"));
        }
        let bytes = std::fs::read(path).map_err(read_error)?;
        let (body, digest) = bytes
            .split_last_chunk::<32>()
            .ok_or_else(|| damaged("it is too short"))?;
        if Digest::of(body).0 != *digest {
            return Err(damaged("its checksum does not match"));
        }
        let rest = body
            .strip_prefix(MAGIC)
            .ok_or_else(|| damaged("it has another format version"))?;
        let (length, rest) = rest
            .split_first_chunk::<8>()
            .ok_or_else(|| damaged("it is too short"))?;
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (head, payload) = rest
            .split_at_checked(length)
            .ok_or_else(|| damaged("its head is too long"))?;
        let head: HeadPart = serde_json::from_slice(head).map_err(|_| damaged("its head cannot be read"))?;
        if head.fingerprint != self.fingerprint.to_string() || head.recipe != self.recipe {
            return Err(TrainError::ForeignResumeFile { path: path.clone() });
        }
        let (values, rest) = payload.as_chunks::<4>();
        let total: usize = head.layout.iter().flatten().sum();
        if !rest.is_empty() || values.len() != total {
            return Err(damaged("its tensors do not fill it"));
        }
        let mut values = values.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let [current, best, first, second, average] = head.layout.map(|lengths| {
            lengths
                .into_iter()
                .map(|length| values.by_ref().take(length).collect())
                .collect::<Vec<Vec<f32>>>()
        });
        let state = State {
            epoch: head.epoch,
            stale: head.stale,
            best_score: (f32::from_bits(head.best_score[0]), f32::from_bits(head.best_score[1])),
            best: Snapshot { values: best },
            current: Snapshot { values: current },
            history: head.history,
        };
        Ok(Some(Resumed {
            state,
            adam: AdamState {
                step: head.step,
                first,
                second,
            },
            average,
        }))
    }
}
