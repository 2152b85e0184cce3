//! Files and directories of the simulated disk, and single changes to them.

use std::{
    collections::{BTreeMap, HashMap},
    io,
};

pub(super) type NodeId = u64;
pub(super) const ROOT: NodeId = 0;

#[derive(Clone, Debug)]
pub(super) enum Node {
    File(Vec<u8>),
    Directory(BTreeMap<String, NodeId>),
}

/// A single change, which a power cut may lose.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Bytes of a file.
    Write { file: NodeId, offset: u64, bytes: Vec<u8> },
    /// A file's length.
    Truncate { file: NodeId, length: u64 },
    /// Creation of a node with a name.
    Link {
        directory: NodeId,
        name: String,
        node: NodeId,
        is_directory: bool,
    },
    /// Removal of a name.
    Unlink { directory: NodeId, name: String },
    /// Rename of a node within one directory.
    Rename {
        directory: NodeId,
        node: NodeId,
        from: String,
        to: String,
    },
}

impl Change {
    /// The file whose sync makes this durable.
    pub(super) fn file(&self) -> Option<NodeId> {
        match self {
            Self::Write { file, .. } | Self::Truncate { file, .. } => Some(*file),
            _ => None,
        }
    }

    /// Returns the directory whose sync makes this change durable.
    pub(super) fn directory(&self) -> Option<NodeId> {
        match self {
            Self::Link { directory, .. } | Self::Unlink { directory, .. } | Self::Rename { directory, .. } => {
                Some(*directory)
            }
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: HashMap<NodeId, Node>,
}

fn missing() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl Tree {
    pub(super) fn new() -> Self {
        Self {
            nodes: HashMap::from([(ROOT, Node::Directory(BTreeMap::new()))]),
        }
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { file, offset, bytes } => {
                // The data of a file may reach the medium before its name does, or after the name was lost.
                let node = self.nodes.entry(*file).or_insert_with(|| Node::File(Vec::new()));
                if let Node::File(contents) = node {
                    let (start, end) = (*offset as usize, *offset as usize + bytes.len());
                    if contents.len() < end {
                        contents.resize(end, 0);
                    }
                    contents[start..end].copy_from_slice(bytes);
                }
            }
            Change::Truncate { file, length } => {
                let node = self.nodes.entry(*file).or_insert_with(|| Node::File(Vec::new()));
                if let Node::File(contents) = node {
                    contents.resize(*length as usize, 0);
                }
            }
            Change::Link {
                directory,
                name,
                node,
                is_directory,
            } => {
                let new = if *is_directory {
                    Node::Directory(BTreeMap::new())
                } else {
                    Node::File(Vec::new())
                };
                self.nodes.entry(*node).or_insert(new);
                if let Some(names) = self.names(*directory) {
                    names.insert(name.clone(), *node);
                }
            }
            Change::Unlink { directory, name } => {
                if let Some(names) = self.names(*directory) {
                    names.remove(name);
                }
            }
            Change::Rename {
                directory,
                node,
                from,
                to,
            } => {
                self.nodes.entry(*node).or_insert_with(|| Node::File(Vec::new()));
                if let Some(names) = self.names(*directory) {
                    // If a change in between was lost, the old name may refer to an older file, which stays.
                    if names.get(from) == Some(node) {
                        names.remove(from);
                    }
                    names.insert(to.clone(), *node);
                }
            }
        }
    }

    fn names(&mut self, directory: NodeId) -> Option<&mut BTreeMap<String, NodeId>> {
        let node = self
            .nodes
            .entry(directory)
            .or_insert_with(|| Node::Directory(BTreeMap::new()));
        match node {
            Node::Directory(names) => Some(names),
            Node::File(_) => None,
        }
    }

    pub(super) fn find(&self, path: &str) -> io::Result<NodeId> {
        let mut at = ROOT;
        for component in path.split('/').filter(|component| !component.is_empty()) {
            at = *self.directory(at)?.get(component).ok_or_else(missing)?;
        }
        Ok(at)
    }

    pub(super) fn node(&self, id: NodeId) -> io::Result<&Node> {
        self.nodes.get(&id).ok_or_else(missing)
    }

    pub(super) fn directory(&self, id: NodeId) -> io::Result<&BTreeMap<String, NodeId>> {
        match self.node(id)? {
            Node::Directory(names) => Ok(names),
            Node::File(_) => Err(io::Error::from(io::ErrorKind::NotADirectory)),
        }
    }

    pub(super) fn file(&self, id: NodeId) -> io::Result<&Vec<u8>> {
        match self.node(id)? {
            Node::File(contents) => Ok(contents),
            Node::Directory(_) => Err(io::Error::from(io::ErrorKind::IsADirectory)),
        }
    }
}
