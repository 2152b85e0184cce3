//! Memory plan of a run, made before it starts.

use std::fmt;

use clr_learning::{Checkpointing, Footprint, Group, Network};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Result, TuneError},
    images::VARIANTS,
};

/// Constant margin of an estimate in bytes, for the allocator, stacks and small buffers. A tenth of the estimate is
/// added as well.
pub const MARGIN: u64 = 8 << 20;

/// The trained part of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrainableScope {
    /// All sites of the adapter, and the head.
    #[serde(rename = "whole")]
    Complete,
    /// The adapter's sites from this index on, and the head.
    From(usize),
    /// Only the head.
    Head,
}

impl TrainableScope {
    /// Returns the index of the first trained site among `sites`.
    fn first(self, sites: usize) -> usize {
        match self {
            Self::Complete => 0,
            Self::From(site) => site.min(sites),
            Self::Head => sites,
        }
    }
}

/// Trained scope of a run, and its memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryPlan {
    /// The trained part of the adapter.
    pub scope: TrainableScope,
    /// Number of trained sites.
    pub trained_sites: usize,
    /// Number of the adapter's sites.
    pub sites: usize,
    /// Whether the backward pass uses stored activations or recomputes them.
    pub memory: Checkpointing,
    /// Whether the input activations of the first trained site are cached for every variant of every image.
    pub cached: bool,
    /// Resident memory of the process before the run, in bytes.
    pub resident: u64,
    /// Estimated peak memory of the process including the margin, in bytes.
    pub peak: u64,
    /// The budget in bytes; `None` if there is no limit.
    pub budget: Option<u64>,
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scope {
            TrainableScope::Head => write!(f, "the head alone")?,
            _ if self.trained_sites == self.sites => {
                write!(f, "the complete adapter ({} sites and the head)", self.sites)?;
            }
            _ => write!(
                f,
                "the last {} of {} sites and the head",
                self.trained_sites, self.sites
            )?,
        }
        if let Checkpointing::Segments(segments) = self.memory {
            write!(f, ", activations recomputed in {segments} segments")?;
        }
        if self.cached {
            write!(f, ", their input activations cached for every image")?;
        }
        let mb = |bytes: u64| bytes as f64 / 1e6;
        write!(
            f,
            ": at most {:.0} MB, of which {:.0} MB are in use already",
            mb(self.peak),
            mb(self.resident)
        )?;
        match self.budget {
            Some(budget) => write!(f, " (budget {:.0} MB)", mb(budget)),
            None => write!(f, " (no budget)"),
        }
    }
}

/// Sizes that determine an estimate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    /// Height and width of the input.
    pub(crate) size: [usize; 2],
    /// Number of images of the run, both training and held-out.
    pub(crate) images: usize,
    /// Number of images in a step.
    pub(crate) batch: usize,
    /// Number of worker threads.
    pub(crate) threads: usize,
}

/// Estimates the bytes of a run with this scope and checkpointing, in addition to the resident memory. Sets the
/// network's trained sites to the scope.
pub(crate) fn estimate(
    network: &mut Network,
    scope: TrainableScope,
    memory: Checkpointing,
    task: &Task,
) -> Result<(u64, Footprint)> {
    set_trainable(network, scope);
    network.freeze_untrainable(task.size)?;
    let trained: usize = (network.parameters().iter())
        .map(|parameter| parameter.anchor.len())
        .sum();
    let threads = task.threads.min(task.batch).max(1);
    let footprint = network.footprint(task.size, memory, task.batch.div_ceil(threads))?;
    let plane = task.size[0] * task.size[1];
    // The parameters themselves are already resident. This counts the anchors, the optimiser's values and two moments,
    // the run state with copies of these three and its encoded bytes, the gradients, and their copy in the optimiser.
    let optimiser = 4 * trained * 16;
    let parts = footprint.parameters / 2 * (task.batch + 2);
    let images = 3 * plane * task.images;
    let inputs = threads * plane * 3 * (2 + 2 * 4);
    let starts = task.batch * footprint.start;
    let bytes = footprint.weights
        + footprint.gradient_weights
        + footprint.parameters
        + threads * (footprint.values + footprint.scratch)
        + optimiser
        + parts
        + images
        + inputs
        + starts;
    Ok((bytes as u64, footprint))
}

/// Returns the first plan that fits into `budget`. Tries the complete adapter, then fewer and fewer of its last sites,
/// then the head alone; if `wanted` is given, only that scope. For each scope, activations are recomputed only if
/// storing them does not fit.
pub(crate) fn plan_memory(
    network: &mut Network,
    sites: usize,
    task: &Task,
    budget: Option<u64>,
    resident: u64,
    wanted: Option<TrainableScope>,
) -> Result<MemoryPlan> {
    let mut least = u64::MAX;
    let scopes: Vec<TrainableScope> = match wanted {
        Some(scope) => vec![scope],
        None if sites == 0 => vec![TrainableScope::Head],
        None => {
            let late = (1..8)
                .map(|eighth| sites * eighth / 8)
                .filter(|&site| site > 0 && site < sites);
            let mut scopes: Vec<TrainableScope> = std::iter::once(TrainableScope::Complete)
                .chain(late.map(TrainableScope::From))
                .chain([TrainableScope::Head])
                .collect();
            scopes.dedup();
            scopes
        }
    };
    for scope in scopes {
        let head = scope.first(sites) >= sites;
        let memories = [
            Checkpointing::Off,
            Checkpointing::Segments(2),
            Checkpointing::Segments(4),
            Checkpointing::Segments(8),
        ];
        for memory in memories.into_iter().take(if head { 1 } else { 4 }) {
            let (bytes, footprint) = estimate(network, scope, memory, task)?;
            let with_margin = |bytes: u64| resident + bytes + bytes / 10 + MARGIN;
            let peak = with_margin(bytes);
            least = least.min(peak);
            if budget.is_some_and(|budget| peak > budget) {
                continue;
            }
            let kept = footprint.start as u64 * VARIANTS * task.images as u64;
            let below = scope.first(sites) > 0;
            // Without a budget, the cache may at most double the peak.
            let room = budget.map_or(2 * peak, |budget| budget);
            let cached = below && with_margin(bytes + kept) <= room;
            return Ok(MemoryPlan {
                scope,
                trained_sites: sites - scope.first(sites),
                sites,
                memory,
                cached,
                resident,
                peak: if cached { with_margin(bytes + kept) } else { peak },
                budget,
            });
        }
    }
    Err(TuneError::Budget {
        budget: budget.unwrap_or(0),
        needed: least,
        resident,
    })
}

/// Makes the sites of `scope` and the head trainable, and all other parameters fixed.
pub(crate) fn set_trainable(network: &mut Network, scope: TrainableScope) {
    network.set_trainable(|_, _| true);
    let names = network.site_names();
    let first = scope.first(names.len());
    let trained: std::collections::HashSet<&str> = names[first..].iter().map(String::as_str).collect();
    network.set_trainable(|name, group| {
        group == Group::Head && name.starts_with("head.")
            || name.rsplit_once('.').is_some_and(|(site, _)| trained.contains(site))
    });
}

/// Returns the resident memory of this process in bytes; 0 on systems other than Linux.
pub fn resident() -> u64 {
    clr_learning::resident_memory().unwrap_or(0)
}
