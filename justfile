# Recipes for people; `just` lists them. `check` is the gate that continuous integration runs.

default:
    @just --list

# The whole gate: formatting, dependencies, floors, lints, tests, release build, systemd unit, demo.
check:
    .ci/run

# Format everything.
fmt:
    cargo fmt --all

# Lints, warnings denied.
lint:
    cargo clippy --release --workspace --all-targets -- -D warnings

# Dependencies between crates and modules, and the weight of the engine.
floors:
    .ci/floors

# All tests.
test:
    cargo test --release --workspace

# The README's first command.
demo:
    cargo run --release --bin clr -- demo

# Proofs that take too long for `check`: what they look for and what they found stands in docs/reference/security.md.
nightly: loom miri fuzz killed soak noisy-line advisories msrv packages arm

# The speed of twenty networks' inference (one thread) and of ten networks' training step compared with the peers, as Markdown tables
# (needs host-tools/bench/setup.sh, and `pip install onnx onnxscript` there; nothing else may run on the machine).
bench-networks python="~/.cache/clr/bench-venv/bin/python" folder="target/bench-networks" rounds="7":
    #!/usr/bin/env bash
    set -euo pipefail
    python={{python}} folder={{folder}} tool=tests/tools/bench_networks.py
    "$python" $tool export "$folder"
    cargo build --release --locked --bin clr
    clr=${CARGO_TARGET_DIR:-target}/release/clr
    rm -f "$folder"/*.json
    # A network that fails is listed in the notes below the tables.
    mapfile -t files < <("$python" $tool files inference "$folder")
    "$clr" bench --python "$python" --measure inference --recipes linear --threads 1 --rounds {{rounds}} \
        --backbone "${files[@]}" -o "$folder/inference.json" >&2 || true
    mapfile -t files < <("$python" $tool files training "$folder")
    "$clr" bench --python "$python" --measure training --step-threads 1 --batch 16 --step-sizes 96,224 --rounds 3 \
        --torch "$("$python" $tool names training)" --backbone "${files[@]}" -o "$folder/training.json" >&2 || true
    "$python" $tool table "$folder/inference.json" "$folder/training.json"

# Every interleaving of switching, trying, confirming and taking back.
loom:
    RUSTFLAGS="--cfg loom" cargo test --release -p clr-switching --test main -- --nocapture

# Undefined behaviour in what reads untrusted bytes (needs `rustup +nightly component add miri`).
miri:
    MIRIFLAGS="-Zmiri-disable-isolation" cargo +nightly miri test -p clr-adapters --features delta,libm/force-soft-floats
    MIRIFLAGS="-Zmiri-disable-isolation" cargo +nightly miri test -p clr-transfer

# Five minutes of arbitrary bytes for each reader of untrusted data (needs a C++ compiler).
fuzz seconds="300" targets="adapter_file checkpoint configuration difference frames http_connection images onnx_import secure_channel signed_envelope store_files stream_splitter update_session":
    #!/usr/bin/env bash
    set -euo pipefail
    export PATH=$(.ci/tool cargo-fuzz 0.13.2):$PATH
    # A stable compiler does as well, if it is told to take unstable options.
    cargo +nightly --version >/dev/null 2>&1 && export RUSTUP_TOOLCHAIN=nightly || export RUSTC_BOOTSTRAP=1
    for target in {{targets}}; do
        words=fuzz/dictionaries/$target
        cargo fuzz run -O "$target" -- -max_total_time={{seconds}} -max_len=65536 -rss_limit_mb=1024 -timeout=10 \
            $([ ! -f "$words" ] || echo "-dict=$words")
    done

# The device program that ships, its size with and without opaque operators, and its answers under an emulator.
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

# Ten thousand times kill -9 at any moment, under load.
killed rounds="10000":
    CLR_KILL_ROUNDS={{rounds}} cargo test --release --workspace --test main killed -- --nocapture

# Ten minutes of frames while peers, half of them hostile, come and go.
soak seconds="600":
    CLR_SOAK_SECONDS={{seconds}} cargo test --release -p clr-daemon --test main soak -- --ignored --nocapture

# The dependencies against RustSec's database, which must be there (CLR_ADVISORY_DB: a clone of it).
advisories:
    CLR_ADVISORIES=required .ci/deny

# Everything compiles with the oldest Rust that is promised (`rust-version` in Cargo.toml).
msrv:
    #!/usr/bin/env bash
    set -euo pipefail
    version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    rustup toolchain install "$version" --profile minimal
    cargo +"$version" check --locked --workspace --all-targets --target-dir "${CARGO_TARGET_DIR:-target}/msrv"

# Every crate as a registry would get it, built from its own package.
packages:
    cargo package --locked --workspace --exclude clr-tests

# The programs, and a bill of materials next to each.
release:
    cargo build --release --locked
    .ci/sbom "${CARGO_TARGET_DIR:-target}/release"

# Ten megabytes over a line that flips a bit in ten thousand.
noisy-line:
    cargo test --release -p clr-transfer --test main ten_megabytes -- --ignored --nocapture
