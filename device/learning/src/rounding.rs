//! Rounding of a network's parameters in the forward pass, so that training knows the steps of the file.

use std::sync::Arc;

use clr_adapters::{SiteSteps, StepSize};

use crate::{DifferenceSite, Network, Site, error::Result};

impl Network {
    /// Expresses every site that is not frozen as differences from the backbone's own norm. The function stays the same
    /// except for the rounding of f32.
    ///
    /// # Errors
    /// As [`Network::to_adapter`].
    pub fn make_differences(&mut self) -> Result<()> {
        for index in 0..self.sites.len() {
            if matches!(self.sites[index], Site::Frozen | Site::Difference(_)) {
                continue;
            }
            if let Some(site) = self.site_for_adapter(index)? {
                let norm = Arc::clone(&self.frozen.norms[index]);
                let trained = self.sites[index].weights().iter().any(|(_, _, weight)| weight.trained);
                let mut site = Site::Difference(Box::new(DifferenceSite::new(norm, &site)));
                for (_, _, weight) in site.weights_mut() {
                    weight.trained = trained;
                }
                self.sites[index] = site;
            }
        }
        Ok(())
    }

    /// Returns the sites that are differences, in the backbone's order.
    pub fn differences(&self) -> impl Iterator<Item = &DifferenceSite> {
        self.sites.iter().filter_map(|site| match site {
            Site::Difference(site) => Some(&**site),
            _ => None,
        })
    }

    /// Returns the geometric mean of the steps of weights, and of those of biases; 1 if there are none.
    pub(crate) fn typical_steps(&self) -> [f64; 2] {
        let steps: Vec<SiteSteps> = self.differences().filter_map(DifferenceSite::steps).collect();
        let mean = |of: fn(&SiteSteps) -> StepSize| {
            let logs = steps.iter().map(|steps| of(steps).size().ln());
            (logs.sum::<f64>() / steps.len().max(1) as f64).exp()
        };
        [mean(|steps| steps.weights), mean(|steps| steps.bias)]
    }

    /// Rounds to these steps in the forward pass: one entry for each site of [`Network::differences`], and the step of
    /// the head's weight. Additional entries are ignored.
    pub fn round(&mut self, sites: &[SiteSteps], head: StepSize) {
        let own = self.sites.iter_mut().filter_map(|site| match site {
            Site::Difference(site) => Some(site),
            _ => None,
        });
        own.zip(sites).for_each(|(site, steps)| site.set_steps(Some(*steps)));
        self.head_weight.step = Some(head);
    }
}
