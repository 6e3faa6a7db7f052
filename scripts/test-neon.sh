#!/usr/bin/env bash
# Runs the kernel crate's tests for 64-bit Arm, NEON variant included, under qemu's user-mode emulation.
#
#   scripts/test-neon.sh            run them; says what is missing and exits 0 if the tools are not there
#   scripts/test-neon.sh --install  first get the tools (Debian, root; about 250 MB)
#
# Three things are needed: a linker for aarch64 (Debian's gcc-aarch64-linux-gnu), qemu-aarch64-static
# (qemu-user-static), and Rust's standard library for aarch64. The last comes from rustup if
# `rustup target add aarch64-unknown-linux-gnu` was run. Otherwise --install unpacks Debian's rustc-web with its
# amd64 and arm64 standard libraries below target/neon-tools (debian-rust.sh).
set -euo pipefail
cd "$(dirname "$0")/.."

triple=aarch64-unknown-linux-gnu
tools=${ADDERNET_NEON_TOOLS:-$PWD/target/neon-tools}
# shellcheck source=scripts/debian-rust.sh
. scripts/debian-rust.sh

has_rustup_target() {
    [ -e "$(rustc --print sysroot)/lib/rustlib/$triple/lib" ]
}

if [ "${1:-}" = --install ]; then
    if ! command -v aarch64-linux-gnu-gcc >/dev/null || ! command -v qemu-aarch64-static >/dev/null; then
        apt-get install -qy --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static
    fi
    has_rustup_target || [ -x "$tools/rustc" ] || unpack_debian_rust "$tools" libstd-rust-web-dev:arm64
elif [ $# -gt 0 ]; then
    echo "usage: scripts/test-neon.sh [--install]" >&2
    exit 2
fi

missing=()
command -v aarch64-linux-gnu-gcc >/dev/null || missing+=("aarch64-linux-gnu-gcc (Debian: gcc-aarch64-linux-gnu)")
command -v qemu-aarch64-static >/dev/null || missing+=("qemu-aarch64-static (Debian: qemu-user-static)")
if ! has_rustup_target; then
    if [ -x "$tools/rustc" ]; then
        export RUSTC=$tools/rustc
    else
        missing+=("Rust's standard library for $triple")
    fi
fi
if [ ${#missing[@]} -gt 0 ]; then
    echo "skipped: the NEON tests need these, which scripts/test-neon.sh --install gets:" >&2
    printf '  %s\n' "${missing[@]}" >&2
    exit 0
fi

export CARGO_TARGET_DIR=${ADDERNET_NEON_TARGET_DIR:-$PWD/target/neon}
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -L /usr/aarch64-linux-gnu"
# Doctests would need the runner in rustdoc too; they show the interface, which the host's run tests.
cargo test --target "$triple" -p addernet-kernels --lib --tests
# The engine on them: random graphs, and a committed model whose logits are known.
exec cargo test --target "$triple" -p addernet-engine --tests -- random_graphs fixture
