# Recipes for people; `just` lists them. `check` is the gate that continuous integration runs.

default:
    @just --list

# The whole gate: formatting, lints, tests, release build, demo.
check:
    .ci/run

# Format everything.
fmt:
    cargo fmt --all

# Lints, warnings denied.
lint:
    cargo clippy --release --workspace --all-targets -- -D warnings

# All tests.
test:
    cargo test --release --workspace

# The README's first command.
demo:
    cargo run --release --bin clr -- demo

# Proofs that take too long for `check`: what they look for and what they found stands in docs/security.md.
nightly: loom miri fuzz killed noisy-line

# Every interleaving of switching, trying, confirming and taking back.
loom:
    RUSTFLAGS="--cfg loom" cargo test --release -p clr-switching --test main -- --nocapture

# Undefined behaviour in what reads untrusted bytes (needs `rustup +nightly component add miri`).
miri:
    MIRIFLAGS="-Zmiri-disable-isolation" cargo +nightly miri test -p clr-adapters --features delta,libm/force-soft-floats
    MIRIFLAGS="-Zmiri-disable-isolation" cargo +nightly miri test -p clr-transfer

# Five minutes of arbitrary bytes for each parser (needs `cargo install cargo-fuzz` and a C++ compiler).
fuzz seconds="300":
    #!/usr/bin/env bash
    set -euo pipefail
    for target in adapter_file difference frames onnx_import signed_envelope update_session; do
        cargo +nightly fuzz run -O "$target" -- -max_total_time={{seconds}} -max_len=65536 -rss_limit_mb=1024 -timeout=10
    done

# Two thousand times kill -9 at any moment, under load.
killed:
    CLR_KILL_ROUNDS=2000 cargo test --release --workspace --test main killed

# Ten megabytes over a line that flips a bit in ten thousand.
noisy-line:
    cargo test --release -p clr-transfer --test main ten_megabytes -- --ignored --nocapture
