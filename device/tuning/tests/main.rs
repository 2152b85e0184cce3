//! All tests of the crate, one module for each property.

mod budget;
mod common;
mod compact;
mod promotion;
mod quantised;
mod remove_class;
mod resume;
mod teaching;
mod without_old_images;
