//! The same seed, data and thread count give the same adapter file, bit for bit.

use clr_adapters::Recipe;

use crate::fixtures::{learn, lite0};

#[test]
fn the_same_seed_gives_the_same_file() {
    let first = learn(lite0(), Recipe::Clr, 2, 5);
    let second = learn(lite0(), Recipe::Clr, 2, 5);
    assert_eq!(first.bytes, second.bytes);
    let other = learn(lite0(), Recipe::Clr, 2, 6);
    assert_ne!(first.bytes, other.bytes);
}
