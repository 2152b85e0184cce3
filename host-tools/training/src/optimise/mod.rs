//! Optimisers: Adam for everything together, L-BFGS for the head alone.

mod adam;
mod average;
mod logistic;
mod rate;

pub use adam::{Adam, AdamOptions, AdamState, PerGroup};
pub use logistic::HeadFit;
pub use rate::Rate;

pub(crate) use average::Average;
pub(crate) use logistic::{Features, FittedHead, fit_head};
