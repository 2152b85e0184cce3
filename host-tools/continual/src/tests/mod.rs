mod closed_forms;
mod confit;
mod fixture;
mod gradients;
mod invariants;
mod jobs;
mod pytorch;
