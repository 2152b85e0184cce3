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
