#!/usr/bin/env python3
"""ResNet-20 on integers: this project's AdderNet engine against int8 CNN engines, in one run.

The peers, ONNX Runtime and OpenVINO, run the ordinary CNN ResNet-20 for 32x32 images (widths 16/32/64, three blocks per
stage, 1x1 convolutions as stride-2 shortcuts, a classifier of 10), with random weights, BN folded, quantized statically to 8
bits with one scale per kernel by onnxruntime.quantization. Ours runs the AdderNet of the same shape. All run on one thread of
the same machine and take turns; a ratio is the median over the rounds of ours / theirs (images per second).

Preprocessing: the peers get images that are normalised already, as float32 NCHW in a tensor that is allocated once, and only
quantize them; ours gets 8-bit pixels and does everything from there. Each peer runs the form of the quantized model (QDQ or
QOperator, u8 or s8 activations) that is the fastest for it.

Prints one JSON object. Example:

    python3 benches/peers/int8_network.py --layers --scaling > int8.json
"""

import argparse
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = "python3 -m pip install -r benches/peers/requirements-int8.txt"


def fail(message):
    sys.exit(f"int8_network.py: error: {message}")


try:
    import numpy as np
    import onnx
    import onnxruntime as ort
    import openvino as ov
    from onnx import TensorProto, helper, numpy_helper
    from onnxruntime import quantization
except ImportError as error:
    fail(f"{error}; install the peers with: {PACKAGES}")


# Its advice to run a shape inference that these graphs do not need.
logging.disable(logging.WARNING)


def say(text):
    print(text, file=sys.stderr, flush=True)


def convolutions():
    """(name, input channels, output channels, kernel, stride, output size) of ResNet-20."""
    layers = [("conv1", 3, 16, 3, 1, 32)]
    size, channels = 32, 16
    for stage, width in enumerate((16, 32, 64), 1):
        for block in range(3):
            stride = 2 if stage > 1 and block == 0 else 1
            size //= stride
            name = f"layer{stage}.{block}"
            layers.append((f"{name}.conv1", channels, width, 3, stride, size))
            layers.append((f"{name}.conv2", width, width, 3, 1, size))
            if channels != width:
                layers.append((f"{name}.shortcut", channels, width, 1, stride, size))
            channels = width
    return layers


# Terms |x - w| of an image: all layers but the first, which is an ordinary one.
TERMS = sum(i * o * k * k * s * s for _, i, o, k, _, s in convolutions()[1:])


class Network:
    """An ONNX graph in the making, with random weights."""

    def __init__(self):
        self.random = np.random.default_rng(0)
        self.nodes, self.weights = [], []

    def constant(self, name, values):
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def node(self, op, inputs, output, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def convolution(self, name, x, inputs, outputs, kernel, stride, relu):
        w = self.random.standard_normal((outputs, inputs, kernel, kernel)) * np.sqrt(2 / (inputs * kernel**2))
        weights = [self.constant(f"{name}.w", w), self.constant(f"{name}.b", self.random.standard_normal(outputs) * 0.1)]
        pads, shape = [kernel // 2] * 4, [kernel, kernel]
        y = self.node("Conv", [x, *weights], f"{name}.sum", kernel_shape=shape, strides=[stride] * 2, pads=pads)
        return self.node("Relu", [y], name) if relu else y

    def model(self, input_shape, output, output_shape):
        value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        graph = helper.make_graph(
            self.nodes, "network", [value("input", input_shape)], [value(output, output_shape)], self.weights
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 9
        onnx.checker.check_model(model)
        return model


def resnet20(batch):
    net = Network()
    layers = {name: shape for name, *shape in convolutions()}

    def convolution(name, x, relu):
        inputs, outputs, kernel, stride, _ = layers[name]
        return net.convolution(name, x, inputs, outputs, kernel, stride, relu)

    x = convolution("conv1", "input", True)
    for stage in (1, 2, 3):
        for block in range(3):
            name = f"layer{stage}.{block}"
            y = convolution(f"{name}.conv1", x, True)
            y = convolution(f"{name}.conv2", y, False)
            if f"{name}.shortcut" in layers:
                x = convolution(f"{name}.shortcut", x, False)
            x = net.node("Relu", [net.node("Add", [y, x], f"{name}.add")], f"{name}.out")
    x = net.node("Flatten", [net.node("GlobalAveragePool", [x], "pool")], "flat")
    fc = [net.constant("fc.w", net.random.standard_normal((10, 64)) * 0.1), net.constant("fc.b", np.zeros(10))]
    return net.model([batch, 3, 32, 32], net.node("Gemm", [x, *fc], "logits", transB=1), [batch, 10])


def layer_network(size, channels):
    """One 3x3 convolution between maps of codes: its input and output stay quantized."""
    net = Network()
    x = net.node("Relu", ["input"], "x")
    y = net.convolution("conv", x, channels, channels, 3, 1, True)
    return net.model([1, channels, size, size], y, [1, channels, size, size])


class Images(quantization.CalibrationDataReader):
    def __init__(self, shape):
        random = np.random.default_rng(1)
        self.left = [{"input": random.uniform(-2, 2, shape).astype(np.float32)} for _ in range(2)]

    def get_next(self):
        return self.left.pop() if self.left else None


FORMS = [(form, act) for form in ("QDQ", "QOperator") for act in ("QUInt8", "QInt8")]


def quantized(model, shape, form, activations, folder):
    source, target = str(folder / "float.onnx"), str(folder / f"{form}-{activations}.onnx")
    onnx.save(model, source)
    quantization.quantize_static(
        source,
        target,
        Images(shape),
        quant_format=quantization.QuantFormat[form],
        per_channel=True,
        activation_type=quantization.QuantType[activations],
        weight_type=quantization.QuantType.QInt8,
    )
    return target


def ort_session(path, folder=None):
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if folder:
        options.optimized_model_filepath = str(folder / "optimised.onnx")
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    if folder:
        ops = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
        if "Conv" in ops or "QLinearConv" not in ops:
            raise ValueError("not all convolutions would run in int8")
    return session


def ort_runner(path, shape, folder):
    session = ort_session(path, folder)
    binding = session.io_binding()
    binding.bind_cpu_input("input", np.random.default_rng(2).uniform(-2, 2, shape).astype(np.float32))
    binding.bind_output(session.get_outputs()[0].name, "cpu")
    return lambda: session.run_with_iobinding(binding)


def openvino_runner(path, shape):
    config = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": "1", "PERFORMANCE_HINT": "LATENCY"}
    compiled = ov.Core().compile_model(path, "CPU", config)
    for op in compiled.get_runtime_model().get_ordered_ops():
        info = op.get_rt_info()
        if info["layerType"].astype(str) == "Convolution":
            precision = info["runtimePrecision"].astype(str)
            if precision not in ("u8", "i8"):
                raise ValueError(f"a convolution would run in {precision}")
    request = compiled.create_infer_request()
    images = np.random.default_rng(2).uniform(-2, 2, shape).astype(np.float32)
    request.set_input_tensor(ov.Tensor(images, shared_memory=True))
    return lambda: request.infer(share_outputs=True)


def rate(call, seconds, images):
    """Images per second of `call`, over at least so many seconds."""
    start, calls = time.perf_counter(), 0
    while True:
        call()
        calls += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return calls * images / elapsed


def fastest(name, make, model, shape, folder, images):
    """The fastest form of a quantized model for one engine."""
    best = None
    for form, activations in FORMS:
        try:
            call = make(quantized(model, shape, form, activations, folder))
        except Exception as error:
            say(f"  {name}: {form} with {activations} is refused ({str(error).splitlines()[0][:100]})")
            continue
        call()
        speed = statistics.median(rate(call, 0.15, images) for _ in range(3))
        say(f"  {name}, {images} image(s), {form} {activations}: {speed:.0f}/s")
        if best is None or speed > best[1]:
            best = (call, speed, f"{form} {activations}")
    if best is None:
        fail(f"{name} runs no form of the quantized model")
    return best[0], best[2]


class Worker:
    """Our engine as a process that answers requests: crates/addernet-engine/examples/throughput.rs."""

    def __init__(self, path, model, threads):
        arguments = [model] if model else ["--random", "resnet20"]
        self.process = subprocess.Popen(
            [path, *arguments, "--threads", str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            fail("the engine's process has ended; its message is above")
        answer = json.loads(line)
        return answer.get("images_per_second") or answer.get("elements_per_second")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def build():
    command = ["cargo", "build", "--release", "-p", "addernet-engine", "--example", "throughput"]
    say(" ".join(command))
    if subprocess.run(command, cwd=ROOT).returncode:
        fail("the engine does not build")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return str(target / "release" / "examples" / "throughput")


def median_ratio(ours, theirs):
    return statistics.median(a / b for a, b in zip(ours, theirs))


def networks(worker, arguments, report, folder):
    for batch in (100, 1):
        shape = [batch, 3, 32, 32]
        model = resnet20(batch)
        peers = {
            "ort": fastest("ONNX Runtime", lambda path: ort_runner(path, shape, folder), model, shape, folder, batch),
            "openvino": fastest("OpenVINO", lambda path: openvino_runner(path, shape), model, shape, folder, batch),
        }
        rates = {name: [] for name in ("ours", "peak", *peers)}
        for turn in range(arguments.rounds + 1):
            now = {"ours": worker.ask("run", batch, arguments.seconds), "peak": worker.ask("peak", arguments.seconds)}
            for name, (call, _) in peers.items():
                now[name] = rate(call, arguments.seconds, batch)
            if turn:  # The first one warms up.
                for name, value in now.items():
                    rates[name].append(value)
        for name, (_, form) in peers.items():
            report[f"ratio_{name}_int8_batch{batch}"] = median_ratio(rates["ours"], rates[name])
            report[f"{name}_form_batch{batch}"] = form
        for name in ("ours", *peers):
            report[f"{name}_images_per_second_batch{batch}"] = statistics.median(rates[name])
        if batch == 100:
            report["peak_elements_per_second"] = statistics.median(rates["peak"])
            report["share_of_peak"] = median_ratio([r * TERMS for r in rates["ours"]], rates["peak"])
        say(f"batch {batch}: " + ", ".join(f"{name} {statistics.median(r):.4g}/s" for name, r in rates.items()))


def layers(worker, arguments, report, folder):
    report["layers"] = {}
    for size, channels in ((56, 64), (28, 128), (14, 256), (7, 512)):
        shape = [1, channels, size, size]
        call, form = fastest(
            "ONNX Runtime", lambda path: ort_runner(path, shape, folder), layer_network(size, channels), shape, folder, 1
        )
        terms = channels * channels * 9 * size * size
        ours, theirs = [], []
        for turn in range(arguments.rounds + 1):
            own = worker.ask("layer", size, size, channels, channels, 3, 1, arguments.seconds)
            peer = rate(call, arguments.seconds, 1) * terms
            if turn:
                ours.append(own)
                theirs.append(peer)
        ratio = median_ratio(ours, theirs)
        name = f"{channels}x{size}x{size}"
        report["layers"][name] = {
            "ratio_ort_int8": ratio,
            "ours_elements_per_second": statistics.median(ours),
            "ort_products_per_second": statistics.median(theirs),
            "ort_form": form,
        }
        say(f"layer {name}: {ratio:.2f}")


def scaling(path, arguments, report):
    workers = [Worker(path, arguments.model, threads) for threads in (1, 2)]
    ratios = []
    for turn in range(arguments.rounds + 1):
        one, two = (worker.ask("run", 100, arguments.seconds) for worker in workers)
        if turn:
            ratios.append(two / one)
    for worker in workers:
        worker.close()
    report["two_threads_scaling"] = statistics.median(ratios)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="FILE", help="quantized model file of ours [default: random weights, 8 bits]")
    parser.add_argument("--worker", metavar="PATH", help="the built example `throughput` [default: build it]")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of which medians are taken [default: 15]")
    parser.add_argument("--seconds", type=float, default=0.3, help="seconds per contestant and round [default: 0.3]")
    parser.add_argument("--layers", action="store_true", help="also each 3x3 layer of ResNet-18, against ONNX Runtime")
    parser.add_argument("--scaling", action="store_true", help="also ours on two threads against one")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.seconds <= 0:
        parser.error("rounds and seconds must be positive")
    path = arguments.worker or build()
    report = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        worker = Worker(path, arguments.model, 1)
        networks(worker, arguments, report, folder)
        if arguments.layers:
            layers(worker, arguments, report, folder)
        worker.close()
        if arguments.scaling:
            scaling(path, arguments, report)
    report["preprocessing"] = "peers: excluded (normalised float32 given); ours: included (8-bit pixels given)"
    report["threads"] = 1
    report["terms_per_image"] = TERMS
    report["versions"] = {"onnxruntime": ort.__version__, "openvino": ov.__version__, "python": platform.python_version()}
    cpus = Path("/proc/cpuinfo")
    if cpus.exists():
        names = [line.split(":")[1].strip() for line in cpus.read_text().splitlines() if line.startswith("model name")]
        report["cpu"] = names[0] if names else platform.processor()
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
