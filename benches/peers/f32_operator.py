#!/usr/bin/env python3
"""The f32 adder convolution against other libraries' L1 operators, one thread, on ResNet-20's layers.

Makes its own Python environment, builds this project's benchmark with `cargo build --release`, lets the contenders take
turns for several rounds and prints one JSON object with the median throughputs in G elements |x - w| per second and
the ratios. See README.md beside this file.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
import venv

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# Name as printed by the Rust example, input size, input channels, output channels, kernel, stride.
LAYERS = [
    ("3x3 16-16 32x32", 32, 16, 16, 3, 1),
    ("3x3 16-32 32x32 /2", 32, 16, 32, 3, 2),
    ("1x1 16-32 32x32 /2", 32, 16, 32, 1, 2),
    ("3x3 32-32 16x16", 16, 32, 32, 3, 1),
    ("3x3 32-64 16x16 /2", 16, 32, 64, 3, 2),
    ("1x1 32-64 16x16 /2", 16, 32, 64, 1, 2),
    ("3x3 64-64 8x8", 8, 64, 64, 3, 1),
]
# How often each shape occurs in ResNet-20, for the whole network's figure (the 1x1 layers are its shortcuts).
OCCURRENCES = [6, 1, 1, 5, 1, 1, 5]
ONE_THREAD = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", type=pathlib.Path, default=HERE / ".venv", help="environment, made if missing")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contender (default 7)")
    parser.add_argument("--seconds", type=float, default=0.1, help="length of a turn per layer (default 0.1)")
    parser.add_argument("--batch", type=int, default=8, help="images (default 8)")
    return parser.parse_args()


def enter_environment(directory, script=__file__):
    """Runs a script again inside its own environment."""
    python = directory / "bin" / "python"
    if not python.exists():
        print(f"making {directory}", file=sys.stderr)
        venv.create(directory, with_pip=True)
    install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", HERE / "requirements.txt"]
    subprocess.run(install, check=True, stdout=sys.stderr)
    environment = {name: value for name, value in os.environ.items() if name not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    # Without the two variables above OpenBLAS picks its kernels for this CPU, as it does for its users.
    environment.update({name: "1" for name in ONE_THREAD}, ADDERNET_PEERS_INSIDE="1")
    os.execve(python, [str(python), script, *sys.argv[1:]], environment)


def build(package, example):
    """Builds a Rust example and gives its path."""
    command = ["cargo", "build", "--release", "-q", "-p", package, "--example", example]
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
    metadata = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--format-version", "1"], cwd=ROOT, check=True, capture_output=True
    )
    target = pathlib.Path(json.loads(metadata.stdout)["target_directory"])
    return target / "release" / "examples" / example


def run_example(binary, *arguments):
    """The JSON object that a Rust example prints."""
    ours = subprocess.run([binary, *arguments], check=True, capture_output=True, text=True)
    return json.loads(ours.stdout)


def contenders(layer, batch):
    """One layer's operators as {name: [(images, callable)]}, the distances checked against the formula."""
    import faiss
    import numpy as np
    import torch

    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    _, size, channels, out_channels, kernel, stride = layer
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, channels, size, size, generator=generator)
    w = torch.randn(out_channels, channels, kernel, kernel, generator=generator)

    def formula(x):
        """y[n,o,p] = -sum_k |columns[n,k,p] - w[o,k]|, every difference at once, as framework code has to write it."""
        columns = torch.nn.functional.unfold(x, kernel, padding=kernel // 2, stride=stride)
        rows = columns.permute(1, 2, 0).reshape(channels * kernel * kernel, -1)
        return -(w.reshape(out_channels, -1, 1) - rows.unsqueeze(0)).abs().sum(1)

    # The distance functions are given the unfolded windows for nothing.
    windows = torch.nn.functional.unfold(x, kernel, padding=kernel // 2, stride=stride)
    windows = windows.permute(2, 0, 1).reshape(-1, channels * kernel * kernel).contiguous()
    kernels = w.reshape(out_channels, -1).contiguous()
    windows_np, kernels_np = windows.numpy(), kernels.numpy()
    expected = -formula(x).numpy()

    def faiss_l1(a, b):
        return faiss.pairwise_distances(a, b, metric=faiss.METRIC_L1)

    # Where the order of the operands makes a difference, the faster way counts.
    calls = {
        "pytorch formula": [(batch, lambda: formula(x))],
        "pytorch formula, 1 image": [(1, lambda: formula(x[:1]))],
        "torch.cdist p=1": [
            (batch, lambda: torch.cdist(windows, kernels, p=1)),
            (batch, lambda: torch.cdist(kernels, windows, p=1)),
        ],
        "faiss L1": [
            (batch, lambda: faiss_l1(windows_np, kernels_np)),
            (batch, lambda: faiss_l1(kernels_np, windows_np)),
        ],
    }
    for name, result in [
        ("torch.cdist p=1", torch.cdist(kernels, windows, p=1).numpy()),
        ("faiss L1", faiss_l1(kernels_np, windows_np)),
    ]:
        if not np.allclose(result, expected, rtol=1e-4):
            raise SystemExit(f"{name} does not compute the adder convolution")
    return calls


def elements(layer, images):
    _, size, channels, out_channels, kernel, stride = layer
    return images * (size // stride) ** 2 * out_channels * channels * kernel * kernel


def rate(layer, images, call, seconds):
    start, calls = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds or calls == 0:
        call()
        calls += 1
    return calls * elements(layer, images) / elapsed / 1e9


def main():
    options = arguments()
    if "ADDERNET_PEERS_INSIDE" not in os.environ:
        enter_environment(options.venv)

    import faiss
    import torch

    binary = build("addernet-kernels", "kernel_throughput")
    peers = [contenders(layer, options.batch) for layer in LAYERS]
    rates = {}  # (layer's index, contender, way) -> one rate per round
    report = None
    for round in range(options.rounds + 1):
        print(f"round {round} of {options.rounds}" + " (warm-up)" * (round == 0), file=sys.stderr)
        for at, layer in enumerate(LAYERS):
            for name, ways in peers[at].items():
                for way, (images, call) in enumerate(ways):
                    value = rate(layer, images, call, options.seconds)
                    if round > 0:
                        rates.setdefault((at, name, way), []).append(value)
        report = run_example(binary, str(options.seconds), str(options.batch))
        for at, layer in enumerate(report["layers"]):
            if (layer["name"], layer["elements"]) != (LAYERS[at][0], elements(LAYERS[at], options.batch)):
                raise SystemExit(f"{layer['name']} is another layer here than in the Rust example")
            for kernel, value in layer["gelem_per_s"].items():
                if round > 0:
                    rates.setdefault((at, f"addernet {kernel}", 0), []).append(value)

    best = f"addernet {report['best']}"
    names = list(dict.fromkeys(name for _, name, _ in rates))
    medians = {
        name: [
            max(statistics.median(values) for (i, n, _), values in rates.items() if (i, n) == (at, name))
            for at in range(len(LAYERS))
        ]
        for name in names
    }
    layers = []
    for at, layer in enumerate(LAYERS):
        values = {name: medians[name][at] for name in names}
        layers.append(
            {
                "name": layer[0],
                "gelem_per_s": {name: round_3(value) for name, value in values.items()},
                "ratio": {name: round_3(values[best] / value) for name, value in values.items() if "addernet" not in name},
            }
        )
    work = [elements(layer, 1) * count for layer, count in zip(LAYERS, OCCURRENCES)]
    network = {name: sum(work) / sum(w / r for w, r in zip(work, medians[name])) for name in names}
    result = {
        "threads": 1,
        "batch": options.batch,
        "rounds": options.rounds,
        "versions": {"torch": torch.__version__, "faiss": faiss.__version__, "python": sys.version.split()[0]},
        "cpu": cpu_name(),
        "ours": best,
        "peak_gelem_per_s": report["peak_gelem_per_s"],
        "layers": layers,
        "whole_network": {
            "gelem_per_s": {name: round_3(value) for name, value in network.items()},
            "ratio": {
                name: round_3(network[best] / value) for name, value in network.items() if "addernet" not in name
            },
        },
    }
    json.dump(result, sys.stdout, indent=1)
    print()


def round_3(value):
    return float(f"{value:.3g}")


def cpu_name():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "unknown"


if __name__ == "__main__":
    main()
