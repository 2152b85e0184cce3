mod batch;
mod fixtures;
mod gradients;
mod memory;
mod pass;
mod quantised;
