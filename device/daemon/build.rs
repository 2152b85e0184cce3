//! Date of the build, which is a lower bound of the device's clock.

use std::{
    env,
    time::{SystemTime, UNIX_EPOCH},
};

fn main() {
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    // For reproducible builds, `SOURCE_DATE_EPOCH` sets the date (reproducible-builds.org/specs/source-date-epoch).
    let stated = env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|seconds| seconds.parse().ok());
    let built = stated.or_else(|| {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .map(|since| since.as_secs())
    });
    println!("cargo::rustc-env=CLR_BUILT={}", built.unwrap_or(0));
}
