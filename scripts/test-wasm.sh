#!/usr/bin/env bash
# Runs the kernel crate's tests as WebAssembly, simd128 variant included, in Node.js.
#
#   scripts/test-wasm.sh            run them; says what is missing and exits 0 if the tools are not there
#   scripts/test-wasm.sh --install  first get what is missing but Node.js (Debian; about 140 MB)
#   scripts/test-wasm.sh --engine FILE   run a quantized model instead, as WebAssembly and natively, one thread each:
#                                   the digest of 16 images' logits, which has to be the same, images per second, and
#                                   terms per second that the operator reaches on registers
#
# Two things are needed: Node.js 20 or later, and Rust's standard library for wasm32-wasip1. The last comes from rustup if
# `rustup target add wasm32-wasip1` was run. Otherwise --install unpacks Debian's rustc-web with its library's source and
# WASI's C library below target/wasm-tools (debian-rust.sh), and the library is built beside the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

triple=wasm32-wasip1
tools=${ADDERNET_WASM_TOOLS:-$PWD/target/wasm-tools}
# shellcheck source=scripts/debian-rust.sh
. scripts/debian-rust.sh

has_rustup_target() {
    [ -e "$(rustc --print sysroot)/lib/rustlib/$triple/lib" ]
}

model=
if [ "${1:-}" = --engine ] && [ $# = 2 ]; then
    model=$(realpath "$2")
elif [ "${1:-}" = --install ]; then
    has_rustup_target || [ -x "$tools/rustc" ] || unpack_debian_rust "$tools" rust-web-src:all wasi-libc:all
elif [ $# -gt 0 ]; then
    echo "usage: scripts/test-wasm.sh [--install | --engine FILE]" >&2
    exit 2
fi

flags="-C target-feature=+simd128"
build=()
missing=()
command -v node >/dev/null || missing+=("node (Node.js 20 or later)")
if ! has_rustup_target; then
    if [ -x "$tools/rustc" ]; then
        libc=$tools/sysroot/usr/lib/wasm32-wasi
        lld=$(rustc --print sysroot)/lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld
        # Debian's C library is older than what std expects of it: it has no thread functions (run-wasi.mjs).
        flags+=" -C linker=$lld -C linker-flavor=wasm-ld -C link-self-contained=no -L $libc"
        flags+=" -C link-arg=$libc/crt1-command.o -C link-arg=--allow-undefined"
        export RUSTC=$tools/rustc RUSTC_BOOTSTRAP=1
        build=(-Zbuild-std=std,panic_abort,test)
    else
        missing+=("Rust's standard library for $triple")
    fi
fi
if [ ${#missing[@]} -gt 0 ]; then
    echo "skipped: the WebAssembly tests need these; scripts/test-wasm.sh --install gets the library:" >&2
    printf '  %s\n' "${missing[@]}" >&2
    exit 0
fi

if [ -n "$model" ]; then
    requests='digest 16\nrun 16 2\npeak 1\n'
    example=(--release -q -p addernet-engine --example throughput)
    echo "natively:"
    # shellcheck disable=SC2059
    printf "$requests" | env -u RUSTC -u RUSTC_BOOTSTRAP cargo run "${example[@]}" -- "$model"
fi
export CARGO_TARGET_DIR=${ADDERNET_WASM_TARGET_DIR:-$PWD/target/wasm}
export CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS=$flags
export CARGO_TARGET_WASM32_WASIP1_RUNNER="node --no-warnings $PWD/scripts/run-wasi.mjs"
if [ -n "$model" ]; then
    echo "as WebAssembly:"
    # shellcheck disable=SC2059
    printf "$requests" | cargo run "${build[@]}" --target "$triple" "${example[@]}" -- "$model"
    exit
fi
# There are no threads.
exec cargo test "${build[@]}" --target "$triple" --release -p addernet-kernels --lib -- --test-threads=1
