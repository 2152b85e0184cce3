mod batch;
mod block_statistics;
mod fixtures;
mod gradients;
mod memory;
