//! The files of a job.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    error::{ContinualError, Result},
    learner::Cost,
};

/// Name of the file of a job that diverged.
const DIVERGENCE: &str = "diverged.json";

/// A cell of the accuracy matrix. Tasks are numbered in the order in which the job learned them, from 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The task that was learned last.
    pub after: usize,
    /// The task that is measured.
    pub task: usize,
    /// Name of the measured task.
    pub name: String,
    /// Test images that were classified correctly.
    pub correct: usize,
    /// Test images.
    pub total: usize,
}

/// Seconds of a job, and what its method stores.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// What the job was computed from: see [`State`].
    pub(super) key: String,
    /// As in [`State`], hexadecimal.
    pub(super) data: Vec<String>,
    /// Seconds of learning each task, without measuring.
    pub seconds: Vec<f64>,
    /// Training images of each task.
    pub images: Vec<usize>,
    /// What is stored and computed after the last task.
    pub cost: Cost,
    /// Values of the heads of all tasks.
    pub head_values: usize,
}

/// A loss that was not finite, which ended a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// As in [`Timing`].
    pub(super) key: String,
    /// As in [`Timing`].
    pub(super) data: Vec<String>,
    /// Number of the task, from 1.
    pub task: usize,
    /// Number of the epoch, from 1.
    pub epoch: usize,
}

/// What a job needs to continue.
#[derive(Serialize, Deserialize)]
pub(super) struct State {
    /// Backbone, settings, sizes and epochs of the job, as JSON.
    pub(super) key: String,
    /// SHA-256 of the images of the tasks so far, in their order.
    pub(super) data: Vec<[u8; 32]>,
    pub(super) seconds: Vec<f64>,
    /// Per task: the bits of some logits directly after it was learned, for methods with constant logits.
    pub(super) logit_bits: Vec<Vec<u32>>,
    pub(super) learner: Vec<u8>,
}

/// Paths of a job's files.
pub(super) struct JobFiles(PathBuf);

impl JobFiles {
    pub(super) fn new(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder).map_err(|source| file_error(&folder, source))?;
        Ok(Self(folder))
    }

    pub(super) fn state(&self) -> PathBuf {
        self.0.join("state.bin")
    }

    pub(super) fn records(&self) -> PathBuf {
        self.0.join("records.jsonl")
    }

    pub(super) fn timing(&self) -> PathBuf {
        self.0.join("timing.json")
    }

    pub(super) fn save_divergence(&self, divergence: &Divergence) -> Result<()> {
        written(&self.0.join(DIVERGENCE), divergence)
    }

    pub(super) fn load_state(&self) -> Result<Option<State>> {
        let path = self.state();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(file_error(&path, source)),
        };
        postcard::from_bytes(&bytes).map(Some).map_err(|error| {
            let reason = format!("{error}\nhint: delete the file, and the job starts from its first task");
            file_error(&path, std::io::Error::other(reason))
        })
    }

    pub(super) fn save_state(&self, state: &State) -> Result<()> {
        let path = self.state();
        let bytes = postcard::to_allocvec(state).map_err(|error| file_error(&path, std::io::Error::other(error)))?;
        replace(&path, &bytes)
    }

    pub(super) fn save_records(&self, cells: &[Cell]) -> Result<()> {
        let lines = cells
            .iter()
            .map(|cell| serde_json::to_string(cell).map(|line| line + "\n"));
        let text = lines.collect::<Result<String, _>>();
        let path = self.records();
        replace(&path, text.map_err(|error| file_error(&path, error.into()))?.as_bytes())
    }

    pub(super) fn save_timing(&self, timing: &Timing) -> Result<()> {
        written(&self.timing(), timing)
    }

    pub(super) fn remove_state(&self) -> Result<()> {
        let path = self.state();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(file_error(&path, error)),
            _ => Ok(()),
        }
    }
}

/// Reads the cells of a job's folder; none if it has not measured any.
///
/// # Errors
/// [`ContinualError::File`] if the file cannot be read, or has a line that is no cell.
pub fn read_cells(folder: &Path) -> Result<Vec<Cell>> {
    let path = folder.join("records.jsonl");
    let Some(text) = read(&path)? else {
        return Ok(Vec::new());
    };
    let lines = text.lines().map(|line| parse(&path, line));
    lines.collect()
}

/// Reads the timing of a job's folder; `None` if the job is not finished.
///
/// # Errors
/// [`ContinualError::File`] if the file cannot be read.
pub fn read_timing(folder: &Path) -> Result<Option<Timing>> {
    let path = folder.join("timing.json");
    parsed(&path)
}

/// Reads the divergence that ended a job; `None` if none did.
///
/// # Errors
/// [`ContinualError::File`] if the file cannot be read.
pub fn read_divergence(folder: &Path) -> Result<Option<Divergence>> {
    parsed(&folder.join(DIVERGENCE))
}

/// Reads a JSON file, if it exists.
pub(super) fn parsed<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    read(path)?.map(|text| parse(path, &text)).transpose()
}

/// Replaces a JSON file.
pub(super) fn written(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| file_error(path, error.into()))?;
    replace(path, (text + "\n").as_bytes())
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(file_error(path, source)),
    }
}

fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        let reason = format!("{error}\nhint: it is damaged or of another version; use another output folder");
        file_error(path, std::io::Error::other(reason))
    })
}

/// Writes a file through a temporary one next to it.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
        file.write_all(bytes)?;
        // Temporary files are private, but others may read the results.
        #[cfg(unix)]
        file.as_file()
            .set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|source| file_error(path, source))
}

pub(super) fn file_error(path: &Path, source: std::io::Error) -> ContinualError {
    ContinualError::File {
        path: path.to_owned(),
        source,
    }
}
