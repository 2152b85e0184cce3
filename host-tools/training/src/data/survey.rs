//! Survey of a data set for `clr doctor`, which also handles data that training would refuse.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    Scan, ScanReport, Unreadable,
    layout::{Layout, LayoutOptions},
};
use crate::error::{Result, TrainError};

/// A data set's folders.
#[derive(Debug)]
pub struct Survey {
    scan: Scan,
    /// Paths of the images, by part and by class. A part is named by its folder, or `all` if there are no splits.
    /// Training comes first.
    pub parts: Vec<(String, BTreeMap<String, Vec<PathBuf>>)>,
    /// Decisions about the layout.
    pub notes: Vec<String>,
    /// The error for an ambiguous layout. In that case, `parts` is empty.
    pub problem: Option<TrainError>,
}

impl Survey {
    /// Surveys the folder `root`.
    ///
    /// # Errors
    /// [`TrainError`] if the folder cannot be read.
    pub fn of(root: &Path, options: &LayoutOptions) -> Result<Self> {
        let mut scan = Scan::of(root)?;
        let (layout, problem) = match Layout::of(&mut scan, options) {
            Ok(layout) => (layout, None),
            Err(problem) => (Layout::default(), Some(problem)),
        };
        let splits = layout.splits.into_values().map(|part| (part.name.clone(), part));
        let all = layout.all.map(|part| ("all".to_owned(), part));
        let parts = splits.chain(all).map(|(name, part)| {
            let classes = part.classes.into_iter().map(|(class, found)| (class, found.images));
            (name, classes.collect())
        });
        Ok(Self {
            parts: parts.collect(),
            scan,
            notes: layout.notes,
            problem,
        })
    }

    /// Returns the scan's report; see [`Scan::report`].
    pub fn report<'a>(&self, unreadable: impl IntoIterator<Item = &'a Unreadable>) -> ScanReport {
        self.scan.report(unreadable)
    }
}
