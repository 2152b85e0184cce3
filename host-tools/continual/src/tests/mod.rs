mod fixture;
mod gradients;
mod invariants;
mod pytorch;
