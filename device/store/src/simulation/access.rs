//! Storage interface of the simulated disk.

use std::{
    io,
    sync::{Arc, Mutex},
};

use super::{
    disk::{Disk, State, locked},
    tree::{Change, Node, NodeId},
};
use crate::storage::{Entry, EntryKind, LockError, Storage, StorageFile, StorageLock, parent};

struct OpenFile {
    state: Arc<Mutex<State>>,
    file: NodeId,
}

impl StorageFile for OpenFile {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let bytes = bytes.to_vec();
        locked(&self.state).change(Change::Write {
            file: self.file,
            offset,
            bytes,
        });
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        locked(&self.state).change(Change::Truncate {
            file: self.file,
            length,
        });
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        locked(&self.state).sync(|change| change.file() == Some(self.file));
        Ok(())
    }
}

fn name(path: &str) -> String {
    path.rsplit_once('/').map_or(path, |(_, name)| name).to_owned()
}

impl Storage for Disk {
    fn create(&self, path: &str) -> io::Result<Box<dyn StorageFile>> {
        let mut state = locked(&self.state);
        let file = if let Ok(file) = state.seen.find(path) {
            state.seen.file(file)?;
            state.change(Change::Truncate { file, length: 0 });
            file
        } else {
            let directory = state.seen.find(parent(path))?;
            state.seen.directory(directory)?;
            let node = state.next;
            state.next += 1;
            let name = name(path);
            let is_directory = false;
            state.change(Change::Link {
                directory,
                name,
                node,
                is_directory,
            });
            node
        };
        let state = Arc::clone(&self.state);
        Ok(Box::new(OpenFile { state, file }))
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn StorageFile>> {
        let state = locked(&self.state);
        let file = state.seen.find(path)?;
        state.seen.file(file)?;
        let state = Arc::clone(&self.state);
        Ok(Box::new(OpenFile { state, file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = locked(&self.state);
        let node = state.seen.find(from)?;
        if state.seen.file(node).is_ok() && state.seen.find(to).is_ok_and(|to| state.seen.directory(to).is_ok()) {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        let (from_directory, to_directory) = (state.seen.find(parent(from))?, state.seen.find(parent(to))?);
        state.seen.directory(to_directory)?;
        let (from, to) = (name(from), name(to));
        if from_directory == to_directory {
            state.change(Change::Rename {
                directory: to_directory,
                node,
                from,
                to,
            });
        } else {
            // A rename between directories is two changes, and a power cut may keep only one of them.
            state.change(Change::Link {
                directory: to_directory,
                name: to,
                node,
                is_directory: false,
            });
            state.change(Change::Unlink {
                directory: from_directory,
                name: from,
            });
        }
        Ok(())
    }

    fn sync_directory(&self, path: &str) -> io::Result<()> {
        let mut state = locked(&self.state);
        let directory = state.seen.find(path)?;
        state.seen.directory(directory)?;
        state.sync(|change| change.directory() == Some(directory));
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = locked(&self.state);
        let file = state.seen.find(path)?;
        state.seen.file(file)?;
        let directory = state.seen.find(parent(path))?;
        state.change(Change::Unlink {
            directory,
            name: name(path),
        });
        Ok(())
    }

    fn create_directory(&self, path: &str) -> io::Result<()> {
        let mut state = locked(&self.state);
        if state.seen.find(path).is_ok() {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let directory = state.seen.find(parent(path))?;
        state.seen.directory(directory)?;
        let node = state.next;
        state.next += 1;
        state.change(Change::Link {
            directory,
            name: name(path),
            node,
            is_directory: true,
        });
        Ok(())
    }

    fn remove_directory(&self, path: &str) -> io::Result<()> {
        let mut state = locked(&self.state);
        let node = state.seen.find(path)?;
        if !state.seen.directory(node)?.is_empty() {
            return Err(io::Error::from(io::ErrorKind::DirectoryNotEmpty));
        }
        let directory = state.seen.find(parent(path))?;
        state.change(Change::Unlink {
            directory,
            name: name(path),
        });
        Ok(())
    }

    fn list(&self, path: &str) -> io::Result<Vec<Entry>> {
        let state = locked(&self.state);
        let names = state.seen.directory(state.seen.find(path)?)?;
        names
            .iter()
            .map(|(name, &node)| {
                let (kind, bytes) = match state.seen.node(node)? {
                    Node::File(contents) => (EntryKind::File, contents.len() as u64),
                    Node::Directory(_) => (EntryKind::Directory, 0),
                };
                Ok(Entry {
                    name: name.clone(),
                    kind,
                    bytes,
                })
            })
            .collect()
    }

    fn read(&self, path: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let state = locked(&self.state);
        let contents = state.seen.file(state.seen.find(path)?)?;
        let start = contents.len().min(offset as usize);
        let end = contents.len().min(start.saturating_add(length));
        Ok(contents[start..end].to_vec())
    }

    fn length(&self, path: &str) -> io::Result<u64> {
        let state = locked(&self.state);
        Ok(state.seen.file(state.seen.find(path)?)?.len() as u64)
    }

    fn lock(&self, _: &str) -> Result<StorageLock, LockError> {
        if Arc::strong_count(&self.lock) > 1 {
            return Err(LockError::Held {
                pid: Some(std::process::id()),
            });
        }
        Ok(Box::new(Arc::clone(&self.lock)))
    }
}
