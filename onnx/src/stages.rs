//! Stages of a backbone: its sites by the size of their feature maps.

use crate::{Backbone, OnnxError, ValueId};

/// A stage: consecutive sites. It begins at a site whose feature maps are smaller than those of all sites before, and
/// ends before the next such site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Index of the stage's first site in [`Backbone::sites`].
    pub first_site: usize,
    /// Rows and columns of the first site's feature map.
    pub size: [usize; 2],
}

impl Backbone {
    /// Returns the stages for images of `size` (rows, columns), the one with the largest maps first. Sites on pooled
    /// vectors, as in squeeze-and-excitation, do not begin a stage.
    ///
    /// # Errors
    /// [`OnnxError`] if the graph does not fit that size.
    pub fn stages(&self, size: [usize; 2]) -> Result<Vec<Stage>, OnnxError> {
        let shapes = self.value_shapes(size[0], size[1])?;
        let mut stages: Vec<Stage> = Vec::new();
        for (first_site, site) in self.sites().iter().enumerate() {
            let spatial = shapes[ValueId::of_node(site.conv).0].spatial();
            let Some(size @ [height, width]) = spatial.filter(|size| *size != [1, 1]) else {
                continue;
            };
            let smaller = |stage: &Stage| height * width < stage.size[0] * stage.size[1];
            if stages.last().is_none_or(smaller) {
                stages.push(Stage { first_site, size });
            }
        }
        Ok(stages)
    }
}
