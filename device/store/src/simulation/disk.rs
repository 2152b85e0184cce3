//! Simulated disk: the state that programs see, the state of the medium, and the pending changes between the two.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::tree::{Change, Node, NodeId, Tree};
use crate::storage::{Storage, parent};

/// Effect of a power cut on changes that have not been synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerCut {
    /// All unsynced changes are lost.
    UnsyncedLost,
    /// All names are kept, but only the first half of each written piece. With an even seed, the file ends after the
    /// last first half; with an odd seed, zeros replace the missing halves.
    HalfWritten,
    /// All contents are kept, but creations, renames and removals of names since the last sync of their directory are
    /// lost.
    RenameLost,
    /// Each change is independently kept, lost or, if it writes bytes, half kept. The seed decides.
    Reordered,
}

impl PowerCut {
    /// All power-cut models.
    pub const ALL: [Self; 4] = [Self::UnsyncedLost, Self::HalfWritten, Self::RenameLost, Self::Reordered];
}

#[derive(Clone, Debug)]
pub(super) struct State {
    /// The state that programs see.
    pub(super) seen: Tree,
    /// The durable state of the medium.
    durable: Tree,
    /// Changes that are not durable yet, in the order they were made.
    pending: Vec<Change>,
    pub(super) next: NodeId,
}

/// An in-memory disk that simulates power cuts.
#[derive(Debug)]
pub struct Disk {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) lock: Arc<()>,
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

pub(super) fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    pub(super) fn change(&mut self, change: Change) {
        self.seen.apply(&change);
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self, covered: impl Fn(&Change) -> bool) {
        let Self { durable, pending, .. } = self;
        pending.retain(|change| {
            let covered = covered(change);
            if covered {
                durable.apply(change);
            }
            !covered
        });
    }
}

impl Disk {
    /// Creates an empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::from_state(State {
            seen: Tree::new(),
            durable: Tree::new(),
            pending: Vec::new(),
            next: 1,
        })
    }

    fn from_state(state: State) -> Self {
        Self {
            state: Arc::new(Mutex::new(state)),
            lock: Arc::new(()),
        }
    }

    /// Returns a copy of the disk, unlocked.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self::from_state(locked(&self.state).clone())
    }

    /// Returns the disk as it would be after a power cut. This disk does not change.
    #[must_use]
    pub fn power_cut(&self, model: PowerCut, seed: u64) -> Self {
        let mut state = locked(&self.state).clone();
        let mut random = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut draw = |sides: u64| {
            // SplitMix64.
            random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = random;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % sides
        };
        for change in std::mem::take(&mut state.pending) {
            let is_name = change.directory().is_some();
            let kept = match model {
                PowerCut::UnsyncedLost => None,
                PowerCut::RenameLost => Some(change).filter(|_| !is_name),
                PowerCut::HalfWritten => Some(half(change, seed % 2 == 1)),
                PowerCut::Reordered => match draw(4) {
                    0 => Some(half(change, false)),
                    1 => Some(half(change, true)),
                    2 => Some(change),
                    _ => None,
                },
            };
            if let Some(change) = kept {
                state.durable.apply(&change);
            }
        }
        state.seen = state.durable.clone();
        Self::from_state(state)
    }

    /// Returns the number of changes that a power cut could undo.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        locked(&self.state).pending.len()
    }

    /// Returns every file with its contents. Tests compare them, or damage them with [`Disk::put`].
    #[must_use]
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let state = locked(&self.state);
        let mut files = Vec::new();
        let mut directories = vec![(String::new(), super::tree::ROOT)];
        while let Some((path, id)) = directories.pop() {
            for (name, &child) in state.seen.directory(id).into_iter().flatten() {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}/{name}")
                };
                match state.seen.node(child) {
                    Ok(Node::Directory(_)) => directories.push((path, child)),
                    Ok(Node::File(contents)) => files.push((path, contents.clone())),
                    Err(_) => {}
                }
            }
        }
        files.sort();
        files
    }

    /// Replaces a file durably and directly, to simulate another program or a failing medium.
    ///
    /// # Errors
    /// Returns an error in the same cases as [`Storage::create`].
    pub fn put(&self, path: &str, contents: &[u8]) -> io::Result<()> {
        let mut file = self.create(path)?;
        file.write(0, contents)?;
        file.sync()?;
        self.sync_directory(parent(path))
    }
}

/// Returns the first half of a write. With `full`, zeros replace the second half.
fn half(change: Change, full: bool) -> Change {
    match change {
        Change::Write {
            file,
            offset,
            mut bytes,
        } => {
            let half = bytes.len() / 2;
            if full {
                bytes[half..].fill(0);
            } else {
                bytes.truncate(half);
            }
            Change::Write { file, offset, bytes }
        }
        change => change,
    }
}
