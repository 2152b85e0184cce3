# `just` lists the recipes. `check` is the gate that continuous integration runs.

default:
    @just --list

# Run the complete gate: formatting, dependencies, floors, lints, tests, release build, systemd unit, demo.
check:
    .ci/run

# Format everything.
fmt:
    cargo fmt --all

# Run lints; warnings are errors.
lint:
    cargo clippy --release --workspace --all-targets -- -D warnings

# Check dependencies between crates and modules, and the number of packages of the engine.
floors:
    .ci/floors

# Run all tests.
test:
    cargo test --release --workspace

# Run the first command of the README.
demo:
    cargo run --release --bin clr -- demo

# Run the tests that take too long for `check`; docs/reference/security.md describes them.
nightly: loom miri fuzz killed soak noisy-line advisories msrv packages arm

# Needs host-tools/bench/setup.sh, `pip install onnx onnxscript` in its environment, and an idle machine. Prints Markdown tables.
# Measure the inference of twenty networks (one thread) and the training step of ten, compared with other engines.
bench-networks python="~/.cache/clr/bench-venv/bin/python" folder="target/bench-networks" rounds="7":
    #!/usr/bin/env bash
    set -euo pipefail
    python={{python}} folder={{folder}} tool=tests/tools/bench_networks.py
    "$python" $tool export "$folder"
    cargo build --release --locked --bin clr
    clr=${CARGO_TARGET_DIR:-target}/release/clr
    rm -f "$folder"/*.json
    # The notes below the tables list networks that failed.
    mapfile -t files < <("$python" $tool files inference "$folder")
    "$clr" bench --python "$python" --measure inference --recipes linear --threads 1 --rounds {{rounds}} \
        --backbone "${files[@]}" -o "$folder/inference.json" >&2 || true
    mapfile -t files < <("$python" $tool files training "$folder")
    "$clr" bench --python "$python" --measure training --step-threads 1 --batch 16 --step-sizes 96,224 --rounds 3 \
        --torch "$("$python" $tool names training)" --backbone "${files[@]}" -o "$folder/training.json" >&2 || true
    "$python" $tool table "$folder/inference.json" "$folder/training.json"

# Test every interleaving of switching, trying, confirming and reverting.
loom:
    RUSTFLAGS="--cfg loom" cargo test --release -p clr-switching --test main -- --nocapture

# Find undefined behaviour in the code that reads untrusted bytes (needs `rustup +nightly component add miri`).
miri:
    MIRIFLAGS="-Zmiri-disable-isolation" cargo +nightly miri test -p clr-adapters --features delta,libm/force-soft-floats
    MIRIFLAGS="-Zmiri-disable-isolation" cargo +nightly miri test -p clr-transfer

# Fuzz each reader of untrusted data for five minutes (needs a C++ compiler).
fuzz seconds="300" targets="adapter_file background_file checkpoint configuration difference frames http_connection images onnx_import secure_channel signed_envelope store_files stream_splitter update_session":
    #!/usr/bin/env bash
    set -euo pipefail
    export PATH=$(.ci/tool cargo-fuzz 0.13.2):$PATH
    # Without a nightly toolchain, RUSTC_BOOTSTRAP makes the stable compiler accept unstable options.
    cargo +nightly --version >/dev/null 2>&1 && export RUSTUP_TOOLCHAIN=nightly || export RUSTC_BOOTSTRAP=1
    for target in {{targets}}; do
        words=fuzz/dictionaries/$target
        cargo fuzz run -O "$target" -- -max_total_time={{seconds}} -max_len=65536 -rss_limit_mb=1024 -timeout=10 \
            $([ ! -f "$words" ] || echo "-dict=$words")
    done

# Build the released device program for ARM, print its size with and without opaque operators, and test its kernels under an emulator.
arm target="aarch64-unknown-linux-gnu":
    #!/usr/bin/env bash
    set -euo pipefail
    .ci/setup-arm {{target}}
    . "${CLR_ARM_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/clr/arm}/env.sh"
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/arm
    for features in "--no-default-features --features tuning" ""; do
        cargo build --profile device --locked --target {{target}} -p clr-daemon $features
        printf 'clr-device %s: %s bytes\n' "$features" "$(stat -c %s "$CARGO_TARGET_DIR/{{target}}/device/clr-device")"
    done
    cargo test --profile device --locked --target {{target}} -p clr-kernels -- results_are_bit_identical

# Kill the device at random moments under load (kill -9), ten thousand times.
killed rounds="10000":
    CLR_KILL_ROUNDS={{rounds}} cargo test --release --workspace --test main killed -- --nocapture

# Classify images for ten minutes while peers connect and disconnect, half of them hostile.
soak seconds="600":
    CLR_SOAK_SECONDS={{seconds}} cargo test --release -p clr-daemon --test main soak -- --ignored --nocapture

# Check the dependencies against RustSec's database, which must be accessible (CLR_ADVISORY_DB: a local clone).
advisories:
    CLR_ADVISORIES=required .ci/deny

# Compile everything with the oldest supported Rust (`rust-version` in Cargo.toml).
msrv:
    #!/usr/bin/env bash
    set -euo pipefail
    version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    rustup toolchain install "$version" --profile minimal
    cargo +"$version" check --locked --workspace --all-targets --target-dir "${CARGO_TARGET_DIR:-target}/msrv"

# Package every crate as for a registry, and build it from its package.
packages:
    cargo package --locked --workspace --exclude clr-tests

# Build the programs, each with a bill of materials.
release:
    cargo build --release --locked
    .ci/sbom "${CARGO_TARGET_DIR:-target}/release"

# Transfer ten megabytes over a line with one error in 10,000 bits.
noisy-line:
    cargo test --release -p clr-transfer --test main ten_megabytes -- --ignored --nocapture
