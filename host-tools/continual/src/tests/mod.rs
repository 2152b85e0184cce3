mod fixture;
mod gradients;
mod invariants;
mod jobs;
mod pytorch;
