#!/usr/bin/env bash
# The figures of training on a GPU, in one command: throughput of the three kernels beside the device's peak, seconds per
# epoch of CIFAR-10, and as much of the 400-epoch run of ResNet-20 as the time allows. Called again, it goes on with the run.
#
#   scripts/gpu_figures.sh DATA_DIR [OUT]
#
# DATA_DIR has CIFAR-10's binary version (addernet download cifar10 --data-dir DATA_DIR), OUT (gpu-figures) gets bench.json,
# bench.txt and the run's folder. Environment, with the defaults:
#
#   FEATURES=gpu       gpu-vulkan hands the kernels to a Vulkan driver as SPIR-V
#   PROFILE=release    Cargo's profile
#   ADDERNET=          a program that has been built with the feature: nothing is built
#   SECONDS_LEFT=480   time for training in this call; a run that is stopped has lost a minute at most
#   BATCH=256          images per step when measuring
#   MIN_TIME=1         seconds per measurement
#   EPOCHS=400         of the run
#   TRAIN_IMAGES=      only so many of the 50,000
#   EVALUATE_EVERY=10  epochs between two looks at the test images
#   CHECKPOINT_EVERY=60
#
# On the software device (apt install mesa-vulkan-drivers), small:
#   BATCH=4 MIN_TIME=0.01 EPOCHS=2 TRAIN_IMAGES=64 PROFILE=dev scripts/gpu_figures.sh DATA_DIR OUT
set -euo pipefail
cd "$(dirname "$0")/.."
data=$(realpath "${1:?name the folder with CIFAR-10}")
out=${2:-gpu-figures}
profile=${PROFILE:-release}
seconds_left=${SECONDS_LEFT:-480}
batch=${BATCH:-256}
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp}
mkdir -p "$out"

addernet=${ADDERNET:-}
if [ -z "$addernet" ]; then
    cargo build --profile "$profile" --locked -p addernet --features "${FEATURES:-gpu}"
    addernet=${CARGO_TARGET_DIR:-target}/$([ "$profile" = dev ] && echo debug || echo "$profile")/addernet
fi

echo "== kernels and step, batch $batch"
measure=("$addernet" bench train --device gpu --batch "$batch" --min-time "${MIN_TIME:-1}")
"${measure[@]}" | tee "$out/bench.txt"
"${measure[@]}" --json >"$out/bench.json"

echo "== training, $seconds_left s at most"
options=(--device gpu --evaluate-every "${EVALUATE_EVERY:-10}" --checkpoint-every "${CHECKPOINT_EVERY:-60}")
if [ -e "$out/run/checkpoint.safetensors" ]; then
    train=("$addernet" train --resume "$out/run" --data-dir "$data" "${options[@]}")
else
    train=("$addernet" train cifar10 --arch resnet20 --epochs "${EPOCHS:-400}" --data-dir "$data" --out "$out/run" "${options[@]}")
    [ -z "${TRAIN_IMAGES:-}" ] || train+=(--set "train-images=$TRAIN_IMAGES")
fi
status=0
timeout --signal=INT --kill-after=60 "$seconds_left" "${train[@]}" || status=$?
case $status in
0) echo "== finished" ;;
124 | 130) echo "== time is up: the same command goes on" ;;
*) exit "$status" ;;
esac
if [ -e "$out/run/metrics.csv" ]; then
    echo "== the run's last epochs ($out/run/metrics.csv)"
    head -1 "$out/run/metrics.csv"
    tail -n +2 "$out/run/metrics.csv" | tail -5
    # The column of that name; epochs that were interrupted count what led to their result.
    awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "seconds") at = i; next }
             { print $at }' "$out/run/metrics.csv" | sort -n |
        awk '{ all[NR] = $1 } END { if (NR) printf "seconds per epoch: median %.2f of %d\n", all[int((NR + 1) / 2)], NR }'
fi
