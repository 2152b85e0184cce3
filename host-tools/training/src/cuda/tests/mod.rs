//! CUDA kernels compiled for the CPU, compared with the CPU operators: values and gradients.

mod compare;
mod compiled;
mod convolutions;
mod elementwise;
mod pools;
mod sites;

use candle_core::Result;
use compiled::Compiled;
use std::collections::BTreeSet;

#[test]
fn the_kernels_compute_what_the_cpu_operators_do() -> Result<()> {
    let mut compiled = Compiled::new();
    convolutions::compare(&mut compiled)?;
    elementwise::compare(&mut compiled)?;
    sites::compare(&mut compiled)?;
    pools::compare(&mut compiled)?;
    pools::special_values(&mut compiled)?;
    let sources = concat!(
        include_str!("../kernels/conv.h"),
        include_str!("../kernels/elementwise.h"),
        include_str!("../kernels/norm.h"),
        include_str!("../kernels/pool.h"),
        include_str!("../kernels/site.h"),
    );
    let declared: BTreeSet<&str> = sources
        .split("KERNEL(")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .collect();
    assert_eq!(declared, *compiled.launched.borrow(), "every kernel was compared");
    Ok(())
}
