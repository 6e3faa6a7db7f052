#!/usr/bin/env bash
# Runs the fuzz targets on the stable toolchain.
#
#   scripts/fuzz.sh [SECONDS=300] [TARGET…]
#
# Each target (all of fuzz/fuzz_targets, or those named) runs for SECONDS. It may take 2 GiB of memory in all and
# 512 MiB in one allocation, and 10 s for an input. Found inputs are kept in fuzz/corpus, crashes in fuzz/artifacts; the
# tests' fixtures are the first inputs. The exit status is 1 if a target failed.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-300}
if ! [[ $seconds =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: scripts/fuzz.sh [SECONDS=300] [TARGET...]" >&2
    exit 2
fi
shift || true

if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "scripts/fuzz.sh needs cargo-fuzz: cargo install cargo-fuzz" >&2
    exit 1
fi

targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    for file in fuzz/fuzz_targets/*.rs; do
        targets+=("$(basename "$file" .rs)")
    done
fi
for target in "${targets[@]}"; do
    if ! [ -e "fuzz/fuzz_targets/$target.rs" ]; then
        echo "there is no target $target; there are: $(cd fuzz/fuzz_targets && ls | sed 's/\.rs$//' | xargs)" >&2
        exit 2
    fi
done

# The folders with inputs that a target understands.
seeds() {
    case $1 in
    cifar_pickle) echo crates/addernet-data/tests/fixtures ;;
    pth) echo crates/addernet-graph/tests/fixtures/torch-* ;;
    safetensors_model) echo crates/addernet-graph/tests/fixtures ;;
    quantized_model) echo crates/addernet-quant/tests/fixtures ;;
    engine) echo crates/addernet-engine/tests/fixtures ;;
    energy_model) echo crates/addernet-cost/models ;;
    recipe) echo crates/addernet-train/recipes ;;
    esac
}

# What a target needs beyond the others.
features() {
    case $1 in
    recipe) echo --features=recipe ;;
    esac
}

# cargo-fuzz asks for unstable flags of the sanitizers.
export RUSTC_BOOTSTRAP=1
failed=()
for target in "${targets[@]}"; do
    echo "== $target, $seconds s"
    # cargo-fuzz makes the default folder only if no other is given. Inputs that are found go to the first one.
    corpus=fuzz/corpus/$target
    mkdir -p "$corpus"
    # shellcheck disable=SC2046 # lists
    cargo fuzz run $(features "$target") "$target" "$corpus" $(seeds "$target") -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=512 || failed+=("$target")
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]}; the inputs are in fuzz/artifacts" >&2
    exit 1
fi
