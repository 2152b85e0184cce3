//! Words of a verdict: gains and losses in numbers of images.

use std::fmt;

use crate::comparison::{Comparison, Pair};

/// Returns the labels of the pairs' classes, quoted.
pub(crate) fn names(pairs: &[Pair], labels: &[String]) -> String {
    let mut classes: Vec<usize> = pairs.iter().map(|pair| pair.class).collect();
    classes.sort_unstable();
    classes.dedup();
    let names: Vec<String> = (classes.iter().filter_map(|&class| labels.get(class)))
        .map(|label| format!("`{label}`"))
        .collect();
    match &names[..] {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        names => names.concat(),
    }
}

/// Returns a fraction of images in words.
pub(crate) fn per_thousand(fraction: f64) -> String {
    match 1000.0 * fraction.max(0.0) {
        few if few < 0.5 => "no image in 1,000".to_owned(),
        one if one < 1.5 => "1 image in 1,000".to_owned(),
        some => format!("{some:.0} images in 1,000"),
    }
}

/// What a candidate gained on the learned classes, in words.
pub(crate) struct Gained<'a> {
    pub(crate) comparison: &'a Comparison,
    /// The classes.
    pub(crate) names: String,
    pub(crate) head_only: bool,
}

impl Gained<'_> {
    pub(crate) fn images(&self) -> String {
        let (count, names) = (self.comparison.images, &self.names);
        if self.head_only {
            format!("{count} images of {names} (each by weights fitted without it)")
        } else {
            format!("{count} held-out images of {names}")
        }
    }
}

impl fmt::Display for Gained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = self.comparison;
        write!(f, "recognises {} of {}, {} before", c.tuned, self.images(), c.parent)?;
        f.write_str(if self.head_only {
            ", with new class weights alone"
        } else {
            ""
        })
    }
}
