//! Tensors of a checkpoint by name. Shapes are known immediately; values are read on demand.

use std::collections::{BTreeMap, HashSet};
use std::io::Cursor;
use std::rc::Rc;

use zip::ZipArchive;

use super::ImportError;
use super::pickle::{Element, TensorRef};
use super::settings::Settings;
use super::views::contiguous;
use crate::Tensor;

/// All tensors of one or several files.
#[derive(Default)]
pub(super) struct Weights<'a> {
    /// Tensors by full name: the keys and attributes on the path to the tensor, joined with dots.
    pub(super) entries: BTreeMap<String, Entry<'a>>,
    /// Names of networks that the file contains next to the weights, such as `resnet50` under `arch`.
    pub(super) stated: Vec<String>,
    /// Settings of layers in pickled modules.
    pub(super) settings: Settings,
    /// The archives of the entries in the zip format.
    pub(super) archives: Vec<ZipArchive<Cursor<&'a [u8]>>>,
    /// Bytes of all files, which limit [`Weights::read`].
    bytes: usize,
    elements: usize,
    checked: HashSet<(usize, String)>,
}

/// A tensor.
pub(super) struct Entry<'a> {
    /// The file that contains the tensor.
    pub(super) origin: Rc<str>,
    /// The tensor's dimensions.
    pub(super) shape: Vec<usize>,
    /// Number of bytes of the tensor's name that lead to the dictionary of the tensor.
    pub(super) container: usize,
    /// Location of the tensor's values.
    pub(super) source: Source<'a>,
}

/// Location of a tensor's values.
pub(super) enum Source<'a> {
    /// Bytes of the values in row-major order.
    Bytes {
        /// The type of the elements.
        element: Element,
        /// The bytes of exactly these values.
        bytes: &'a [u8],
    },
    /// A view of a storage in an archive entry or in the old format.
    View {
        /// The view.
        tensor: TensorRef,
        /// The bytes of the storage.
        storage: &'a [u8],
        /// Archive and entry, to check the entry's CRC.
        entry: Option<(usize, String)>,
    },
    /// Description of a tensor that cannot be read.
    Unreadable(String),
}

impl<'a> Weights<'a> {
    /// Adds `other`. Its tensors replace those with the same name.
    pub(super) fn merge(&mut self, other: Self) {
        let archives = self.archives.len();
        self.bytes += other.bytes;
        self.stated.extend(other.stated);
        self.settings.merge(other.settings);
        self.archives.extend(other.archives);
        self.entries.extend(other.entries.into_iter().map(|(name, mut entry)| {
            if let Source::View {
                entry: Some((archive, _)),
                ..
            } = &mut entry.source
            {
                *archive += archives;
            }
            (name, entry)
        }));
    }

    /// Creates the weights from the tensors `entries` of a file with `bytes` bytes.
    pub(super) fn new(entries: BTreeMap<String, Entry<'a>>, bytes: usize) -> Self {
        Self {
            entries,
            bytes,
            ..Self::default()
        }
    }

    /// Returns the tensors whose names start with `prefix`, each with the rest of its name.
    pub(super) fn under<'b, 'p>(
        &'b self,
        prefix: &'p str,
    ) -> impl Iterator<Item = (&'b str, &'b Entry<'a>)> + use<'a, 'b, 'p> {
        self.entries
            .range(prefix.to_owned()..)
            .map_while(move |(name, entry)| Some((name.strip_prefix(prefix)?, entry)))
    }

    /// Returns the values of the tensor called `name` as f32, rounded to the nearest value.
    ///
    /// All tensors read together may have at most as many elements as the files have bytes. Otherwise, views that
    /// repeat a small storage could use unlimited memory. Every regular tensor has at least one byte per element.
    pub(super) fn read(&mut self, name: &str) -> Result<Tensor, ImportError> {
        let Some(entry) = self.entries.get(name) else {
            return Ok(Tensor::new([0], []));
        };
        let fail = |reason| ImportError::Tensor {
            origin: entry.origin.to_string(),
            tensor: name.to_owned(),
            reason,
        };
        let count = entry
            .shape
            .iter()
            .try_fold(1_usize, |count, &side| count.checked_mul(side));
        self.elements = self.elements.saturating_add(count.unwrap_or(usize::MAX));
        let Some(count) = count.filter(|_| self.elements <= self.bytes) else {
            return Err(ImportError::TooLarge {
                origin: entry.origin.to_string(),
                what: "elements of all tensors",
                limit: self.bytes as u64,
                got: self.elements as u64,
            });
        };
        let values = match &entry.source {
            Source::Unreadable(reason) => return Err(fail(reason.clone())),
            Source::Bytes { element, bytes } => bytes
                .chunks_exact(element.size())
                .map(|value| element.read(value))
                .collect(),
            Source::View { tensor, storage, entry } => {
                if let Some((archive, path)) = entry
                    && self.checked.insert((*archive, path.clone()))
                {
                    check(&mut self.archives[*archive], path).map_err(fail)?;
                }
                if let Some(what) = tensor.storage.element.unreadable() {
                    return Err(fail(format!("expected f16, bf16, f32, f64 or integers, got {what}")));
                }
                contiguous(tensor, count, storage).map_err(fail)?
            }
        };
        Ok(Tensor::new(entry.shape.clone(), values))
    }
}

impl Entry<'_> {
    /// Returns the type of the elements.
    pub(super) fn element(&self) -> Option<Element> {
        match &self.source {
            Source::Bytes { element, .. } => Some(*element),
            Source::View { tensor, .. } => Some(tensor.storage.element),
            Source::Unreadable(_) => None,
        }
    }

    /// Returns the reason why the tensor's values cannot be read, if there is one.
    pub(super) fn unreadable(&self) -> Option<&str> {
        match &self.source {
            Source::Unreadable(reason) => Some(reason),
            _ => self.element().and_then(Element::unreadable),
        }
    }
}

/// Reads an entry to its end, where its CRC is compared.
fn check(archive: &mut ZipArchive<Cursor<&[u8]>>, path: &str) -> Result<(), String> {
    let fail = |error: &dyn std::fmt::Display| format!("entry `{path}`: {error}");
    let mut file = archive.by_name(path).map_err(|error| fail(&error))?;
    std::io::copy(&mut file, &mut std::io::sink()).map_err(|error| fail(&error))?;
    Ok(())
}
