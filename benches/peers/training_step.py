#!/usr/bin/env python3
"""A ResNet-20 training step, forward and backward, on one thread: this project, the PyTorch formula of the adder layer,
and PyTorch's ordinary convolutions.

Needs the packages of requirements.txt, builds this project's example with `cargo build --release`, lets the contenders
take turns for several rounds and prints one JSON object with the median times and their ratios. See README.md beside
this file.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import time

from f32_operator import HERE, build, cpu_name, enter_environment, run_example

ETA = 0.2


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", type=pathlib.Path, default=HERE / ".venv", help="environment, made if missing")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender (default 3)")
    parser.add_argument("--batch", type=int, default=32, help="images per step (default 32)")
    return parser.parse_args()


def adder_layer():
    """The adder layer as framework code has to write it: all differences in one tensor, and again on the way back."""
    import torch
    from torch.nn.functional import fold, unfold

    class L1(torch.autograd.Function):
        @staticmethod
        def forward(context, columns, weight):
            # columns (taps, places), weight (kernels, taps)
            context.save_for_backward(columns, weight)
            return -(columns.unsqueeze(0) - weight.unsqueeze(2)).abs().sum(1)

        @staticmethod
        def backward(context, grad):
            columns, weight = context.saved_tensors
            difference = columns.unsqueeze(0) - weight.unsqueeze(2)
            grad = grad.unsqueeze(1)
            grad_weight = (difference * grad).sum(2)
            grad_weight *= ETA * grad_weight.numel() ** 0.5 / grad_weight.norm().clamp(min=1e-12)
            grad_columns = (-difference.clamp(-1, 1) * grad).sum(0)
            return grad_columns, grad_weight

    class Adder(torch.nn.Module):
        def __init__(self, inputs, outputs, kernel, stride, padding):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
            self.options = {"kernel_size": kernel, "stride": stride, "padding": padding}

        def forward(self, x):
            images, _, height, _ = x.shape
            size = (height + 2 * self.options["padding"] - self.options["kernel_size"]) // self.options["stride"] + 1
            columns = unfold(x, **self.options)
            taps = columns.shape[1]
            flat = columns.permute(1, 2, 0).reshape(taps, -1)
            y = L1.apply(flat, self.weight.flatten(1))
            return y.reshape(-1, size, size, images).permute(3, 0, 1, 2)

    return Adder


def resnet20(layer):
    """ResNet-20 of `layer(inputs, outputs, kernel, stride, padding)`, its first layer and its classifier ordinary."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.main = nn.Sequential(
                layer(inputs, outputs, 3, stride, 1),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
                layer(outputs, outputs, 3, 1, 1),
                nn.BatchNorm2d(outputs),
            )
            self.shortcut = nn.Sequential()
            if stride > 1:
                self.shortcut = nn.Sequential(layer(inputs, outputs, 1, stride, 0), nn.BatchNorm2d(outputs))

        def forward(self, x):
            return torch.relu(self.main(x) + self.shortcut(x))

    layers = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    inputs = 16
    for outputs in (16, 32, 64):
        for block in range(3):
            layers.append(Block(inputs, outputs, 2 if block == 0 and outputs > 16 else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def step_time(network, batch):
    """Seconds of one step, without the optimizer."""
    import torch

    images, labels = torch.randn(batch, 3, 32, 32), torch.zeros(batch, dtype=torch.long)
    start = time.perf_counter()
    torch.nn.functional.cross_entropy(network(images), labels).backward()
    seconds = time.perf_counter() - start
    network.zero_grad()
    return seconds


def main():
    options = arguments()
    if "ADDERNET_PEERS_INSIDE" not in os.environ:
        enter_environment(options.venv, __file__)

    import torch

    torch.manual_seed(1)
    torch.set_num_threads(1)
    binary = build("addernet-train", "step_time")

    def convolution(inputs, outputs, kernel, stride, padding):
        return torch.nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)

    networks = {"pytorch formula": resnet20(adder_layer()), "pytorch cnn": resnet20(convolution)}
    milliseconds = {}
    ours = None
    for round in range(options.rounds + 1):
        print(f"round {round} of {options.rounds}" + " (warm-up)" * (round == 0), file=sys.stderr)
        for name, network in networks.items():
            value = 1e3 * step_time(network, options.batch)
            if round > 0:
                milliseconds.setdefault(name, []).append(value)
        ours = run_example(binary, "resnet20", str(options.batch), "1", "--json")
        if round > 0:
            milliseconds.setdefault("addernet", []).append(ours["step_ms"])
    medians = {name: statistics.median(values) for name, values in milliseconds.items()}
    result = {
        "threads": 1,
        "batch": options.batch,
        "rounds": options.rounds,
        "versions": {"torch": torch.__version__, "python": sys.version.split()[0]},
        "cpu": cpu_name(),
        "step_ms": {name: round_1(value) for name, value in medians.items()},
        "all_ms": {name: [round_1(value) for value in values] for name, values in milliseconds.items()},
        "ours": ours,
        "ratio_pytorch_formula": round_1(medians["pytorch formula"] / medians["addernet"]),
        "times_of_pytorch_cnn": round_1(medians["addernet"] / medians["pytorch cnn"]),
    }
    print(json.dumps(result, indent=2))


def round_1(value):
    return float(f"{value:.3g}")


if __name__ == "__main__":
    main()
