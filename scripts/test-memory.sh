#!/usr/bin/env bash
# Runs the kernels' tests, all variants that this CPU has, under AddressSanitizer on the stable toolchain.
#
#   scripts/test-memory.sh [TEST-FILTER…]
#
# Linux on x86-64 only. Builds in target/memory, or ADDERNET_MEMORY_TARGET_DIR.
set -euo pipefail
cd "$(dirname "$0")/.."

# The sanitizer is an unstable flag; with an explicit target, build scripts do without it.
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="${RUSTFLAGS:-} -Zsanitizer=address"
export CARGO_TARGET_DIR="${ADDERNET_MEMORY_TARGET_DIR:-target/memory}"
exec cargo test --release --target x86_64-unknown-linux-gnu -p addernet-kernels --lib -- "$@"
