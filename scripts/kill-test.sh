#!/usr/bin/env bash
# Kills a training run with SIGKILL at random moments, resumes it each time, and compares the network with that of a run
# that was left alone: they must have the same bytes.
#
#   scripts/kill-test.sh [KILLS]
#
# One thread, ten kills by default. Needs no data: the images are generated.
set -euo pipefail
cd "$(dirname "$0")/.."
kills=${1:-10}
cargo build --release -q -p addernet
addernet=${CARGO_TARGET_DIR:-target}/release/addernet
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

train=("$addernet" train shapes --threads 1 --set train-images=400 --batch 32 --epochs 3 --evaluate-every 0 --checkpoint-every 0)
start=$(date +%s%N)
"${train[@]}" --out "$folder/whole" >"$folder/log"
milliseconds=$((($(date +%s%N) - start) / 1000000))
echo "the whole run takes $milliseconds ms"

"${train[@]}" --out "$folder/killed" >>"$folder/log" 2>&1 &
killed=0
while [ "$killed" -lt "$kills" ]; do
    # Each life lasts about as long as it takes for all of them to fit into the run.
    sleep "$(awk -v seed="$RANDOM" -v whole="$milliseconds" -v kills="$kills" \
        'BEGIN { srand(seed); printf "%.3f", rand() * 2 * whole / (kills + 1) / 1000 }')"
    kill -KILL $! 2>/dev/null || { echo "finished after $killed kills"; break; }
    wait $! 2>/dev/null || true
    killed=$((killed + 1))
    if [ -e "$folder/killed/checkpoint.safetensors" ]; then
        "$addernet" train --resume "$folder/killed" --threads 1 --evaluate-every 0 --checkpoint-every 0 >>"$folder/log" 2>&1 &
    else
        "${train[@]}" --out "$folder/killed" >>"$folder/log" 2>&1 &
    fi
done
wait $!
cmp "$folder/whole/model.safetensors" "$folder/killed/model.safetensors"
echo "$killed kills, the same network"
