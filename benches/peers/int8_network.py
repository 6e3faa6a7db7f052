#!/usr/bin/env python3
"""This project's u8 adder ResNet-20 against the same ordinary CNN in int8 in ONNX Runtime and OpenVINO.

The peers run ResNet-20 (3x32x32; 16, 32, 64 channels; 1x1 convolution shortcuts) with random weights, per-channel s8
weights, batch normalization folded in and ReLU fused. The script checks in each engine's own account of the optimized
network that all 21 convolutions run in int8; of the ways to write the network that pass, the fastest in a short trial
is used, for each engine and batch on its own.

All contenders take turns within a round, in an order that rotates, and the ratio of a round is ours / the peer's images
per second; the median of the rounds counts. One thread each.

What is timed: from an image in memory to its ten logits. Ours takes u8 HWC pixels as a decoder gives them, and its
time includes normalization. The peers never pay for normalization: their u8 inputs carry it in scale and zero point,
f32 inputs are normalized outside the time; an NCHW input is also laid out outside the time. Decoding and resizing are
left out on both sides. Inputs and outputs of the peers are bound once, before the time, and OpenVINO is called past its
Python class: that leaves next to nothing of Python in their times. `usual_calls` has the ratios to the same networks called
as their documentation does, an array in and arrays out: session.run(None, {"input": x}) and request.infer({0: x}).
`fastest_turns` has the ratios of everybody's fastest turn, for machines whose cores are shared.
"""

import argparse
import functools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BATCHES = (100, 1)
TRIAL_ROUNDS, TRIAL_SECONDS = 5, 0.1
PEERS = {"ort_int8": "ONNX Runtime", "openvino_int8": "OpenVINO"}
INCLUDED = {
    "ours": "u8 HWC pixels in memory to logits, normalization included",
    "peers": "input bound once to logits; normalization costs nothing (u8: part of the input's scale and zero point; "
    "f32: done before), NCHW layout done before",
    "both": "no decoding, no resizing",
}

try:
    import numpy as np
    import onnx
    import onnxruntime
    import openvino

    import int8_onnx

    MISSING = None
except ImportError as error:  # said after the options, so that --help works without the packages
    MISSING = error.name or str(error)


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  int8_network.py                          the five figures, about a minute after the build
  int8_network.py --layers --scaling       everything, about three minutes
  int8_network.py --model resnet20.safetensors    a quantized model of your own, which has to be a ResNet-20
  int8_network.py --model 2bit.safetensors --layers --largest-code 3    the same at 2 bits
  int8_network.py --rounds 5 --seconds 0.1 a quick look, not to be quoted

Prints one JSON object; progress goes to stderr. Run it on otherwise idle cores: load_average in the result says whether
they were, quartiles say how far the rounds differ.""",
    )
    parser.add_argument("--model", metavar="FILE", help="our quantized ResNet-20 (default: one with made-up weights)")
    parser.add_argument("--rounds", type=at_least(1), default=15, help="rounds that count (default 15)")
    parser.add_argument("--seconds", type=seconds, default=0.3, help="length of a contender's turn (default 0.3)")
    parser.add_argument(
        "--layers",
        action="store_true",
        help="also ResNet-18's four 3x3 layer shapes alone, batch 1, against ONNX Runtime's int8 convolution",
    )
    parser.add_argument(
        "--largest-code",
        metavar="N",
        type=code,
        default=255,
        help="largest code of our layers with --layers: 255 (the default) is 8 bits, 3 is 2 bits",
    )
    parser.add_argument("--scaling", action="store_true", help="also our engine with 2 threads, which needs two idle cores")
    parser.add_argument(
        "--worker",
        metavar="PATH",
        type=pathlib.Path,
        help="a built `throughput` example of addernet-engine (default: build it in release mode)",
    )
    return parser.parse_args()


def at_least(low):
    def number(text):
        value = int(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"{value} is less than {low}")
        return value

    return number


def code(text):
    value = int(text)
    if not 1 <= value <= 255:
        raise argparse.ArgumentTypeError(f"{text} is not from 1 to 255")
    return value


def seconds(text):
    value = float(text)
    if not 0 < value <= 60:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 60")
    return value


def say(text):
    print(text, file=sys.stderr, flush=True)


def fail(text):
    sys.exit(f"int8_network.py: {text}")


# Our side.


def build():
    command = ["cargo", "build", "--release", "-q", "-p", "addernet-engine", "--example", "throughput"]
    say(" ".join(command))
    try:
        subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
        # Cargo knows about CARGO_TARGET_DIR and every other way to place the target directory.
        metadata = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
        target = json.loads(subprocess.run(metadata, cwd=ROOT, check=True, capture_output=True).stdout)
    except FileNotFoundError:
        fail("cargo is not on the PATH; install Rust, or give a built worker with --worker")
    except subprocess.CalledProcessError as error:
        fail(f"`{' '.join(error.cmd)}` failed with status {error.returncode}")
    return pathlib.Path(target["target_directory"]) / "release" / "examples" / "throughput"


class Worker:
    """Our engine in a process of its own, which measures on request."""

    def __init__(self, path, model, threads):
        network = [model] if model else ["--random", "resnet20"]
        self.command = [str(path), *network, "--threads", str(threads)]
        try:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
            )
        except OSError as error:
            fail(f"the worker {path} does not start: {error}")

    def ask(self, *request):
        line = " ".join(map(str, request))
        try:
            self.process.stdin.write(f"{line}\n")
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            fail(f"the worker `{' '.join(self.command)}` ended at `{line}` with status {self.process.wait()}")
        return json.loads(answer)

    def images_per_second(self, batch, length):
        return self.ask("run", batch, length)["images_per_second"]

    def terms_per_second(self, *request):
        return self.ask(*request)["elements_per_second"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


# The peers: each opens a model for one thread and gives (a call without arguments, the last call's logits, the same as the
# peer's documentation calls it), or raises NotInt8 with the reason.


class NotInt8(Exception):
    pass


def ort_session(model, optimized=None, int8_pairs=False):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3  # without the note that an optimized model fits this CPU only
    if int8_pairs:
        # On x86 ONNX Runtime fuses s8 pairs only when told to.
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    if optimized:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def open_ort(model, value, convolutions, int8_pairs=False):
    with tempfile.TemporaryDirectory() as directory:
        optimized = pathlib.Path(directory) / "optimized.onnx"
        session = ort_session(model, optimized, int8_pairs)
        operators = [node.op_type for node in onnx.load(optimized).graph.node]
    if operators.count("QLinearConv") != convolutions:
        others = sorted({name for name in operators if "Conv" in name and name != "QLinearConv"})
        raise NotInt8(
            f"the optimized model has {operators.count('QLinearConv')} QLinearConv instead of {convolutions}"
            + (f", beside {', '.join(others)}" if others else "")
        )
    output = session.get_outputs()[0]
    kind = np.uint8 if output.type == "tensor(uint8)" else np.float32
    result = onnxruntime.OrtValue.ortvalue_from_shape_and_type(output.shape, kind, "cpu")
    binding = session.io_binding()
    binding.bind_ortvalue_input("input", onnxruntime.OrtValue.ortvalue_from_numpy(value))
    binding.bind_ortvalue_output(output.name, result)
    usual = functools.partial(session.run, None, {"input": value})
    return functools.partial(session.run_with_iobinding, binding), result.numpy, usual


def open_openvino(model, value, convolutions):
    core = openvino.Core()
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "model.onnx"
        onnx.save(model, path)
        options = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
        # Not tied to one core, as nobody here is: another process on that core would stop only OpenVINO.
        compiled = core.compile_model(core.read_model(path), "CPU", options | {"ENABLE_CPU_PINNING": False})
    precisions = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        if "layerType" in info and info["layerType"].astype(str) == "Convolution":
            precisions.append(info["runtimePrecision"].astype(str))
    others = [precision for precision in precisions if precision not in ("u8", "i8")]
    if others or len(precisions) != convolutions:
        raise NotInt8(f"it executes {len(precisions)} of {convolutions} convolutions, {len(others)} of them in {set(others)}")
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(value, shared_memory=True))
    # Past the Python class's own handling of inputs, a percent or two at batch 1; no inputs: the bound one stays.
    infer = super(openvino.InferRequest, request).infer
    call = functools.partial(infer, {}, share_outputs=True, decode_strings=False)
    usual = functools.partial(compiled.create_infer_request().infer, {0: value})
    return call, lambda: request.get_output_tensor().data, usual


def forms(peer):
    form = int8_onnx.Form
    pairs = [form("QDQ", "u8", kind) for kind in ("u8 NCHW", "u8 NHWC", "f32 NCHW")]
    pairs += [form("QDQ", "s8", kind) for kind in ("u8 NCHW", "f32 NCHW")]
    if peer == "openvino_int8":  # which reads no QLinearConv
        return pairs
    # QLinearConv wants input and output codes of one type, so with s8 the input is f32.
    operators = [form("QOperator", "u8", kind) for kind in ("u8 NCHW", "u8 NHWC", "f32 NCHW")]
    return [*pairs, *operators, form("QOperator", "s8", "f32 NCHW")]


def calibrate():
    """The range of every tensor on random images."""
    model, names = int8_onnx.with_calibration_outputs(int8_onnx.resnet20(64))
    values = ort_session(model).run(names, {"input": int8_onnx.as_input(int8_onnx.random_pixels(64, 1), "f32 NCHW")})
    return {name: (float(value.min()), float(value.max())) for name, value in zip(names, values)}


def rate(call, images, length):
    """Images per second, after one call to warm up, as our worker measures."""
    call()
    start, calls = time.perf_counter(), 0
    while True:
        call()
        calls += 1
        elapsed = time.perf_counter() - start
        if elapsed >= length:
            return calls * images / elapsed


def fastest(calls, images):
    """{name: median rate} of a trial of several ways to do the same, and the best one's name."""
    rates = {name: [] for name in calls}
    for _ in range(TRIAL_ROUNDS):
        for name, call in calls.items():
            rates[name].append(rate(call, images, TRIAL_SECONDS))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return medians, max(medians, key=medians.get)


def open_peer(peer, batch, ranges):
    """A peer's fastest call for a batch, the usual call of the same network, and an account of the choice."""
    pixels = int8_onnx.random_pixels(batch, 2)
    f32 = int8_onnx.as_input(pixels, "f32 NCHW")
    expected = ort_session(int8_onnx.resnet20(batch)).run(None, {"input": f32})[0]
    calls, usual, rejected = {}, {}, {}
    for form in forms(peer):
        model = int8_onnx.resnet20(batch, form, ranges)
        value = int8_onnx.as_input(pixels, form.input)
        convolutions = len(int8_onnx.CONVOLUTIONS)
        try:
            if peer == "ort_int8":
                call, logits, plain = open_ort(model, value, convolutions, form.activations == "s8")
            else:
                call, logits, plain = open_openvino(model, value, convolutions)
        except NotInt8 as reason:
            rejected[str(form)] = str(reason)
            continue
        call()
        if np.corrcoef(logits().ravel(), expected.ravel())[0, 1] < 0.99:
            fail(f"{PEERS[peer]} does not compute the network ({form}, batch {batch}): its logits differ from those in f32")
        calls[str(form)], usual[str(form)] = call, plain
    if not calls:
        reasons = "\n".join(f"  {form}: {reason}" for form, reason in rejected.items())
        fail(f"{PEERS[peer]} does not run all convolutions of ResNet-20 in int8 on this CPU:\n{reasons}")
    medians, best = fastest(calls, batch)
    say(f"{PEERS[peer]}, batch {batch}: {best}, {medians[best]:.0f} images/s")
    account = {"chosen": best, "trial_images_per_second": {name: figure(value) for name, value in medians.items()}}
    return calls[best], usual[best], account | ({"rejected": rejected} if rejected else {})


# Rounds and figures.


def take_turns(contenders, rounds, title):
    """{contender: one rate per round} of callables; every round starts with another contender."""
    rates = {name: [] for name in contenders}
    names = list(contenders)
    for round in range(rounds):
        say(f"{title}, round {round + 1} of {rounds}")
        start = round % len(names)
        for name in names[start:] + names[:start]:
            rates[name].append(contenders[name]())
    return rates


def ratios(ours, theirs):
    return [a / b for a, b in zip(ours, theirs)]


def quartiles(values):
    return [figure(value) for value in np.percentile(values, (25, 75))]


def figure(value):
    return float(f"{value:.4g}")


def measure_network(worker, options):
    ranges = calibrate()
    turns = {"peak": lambda: worker.terms_per_second("peak", options.seconds)}
    chosen = {peer: {} for peer in PEERS}
    for batch in BATCHES:
        turns["ours", batch] = functools.partial(worker.images_per_second, batch, options.seconds)
        for peer in PEERS:
            call, usual, chosen[peer][f"batch{batch}"] = open_peer(peer, batch, ranges)
            turns[peer, batch] = functools.partial(rate, call, batch, options.seconds)
            turns[peer, batch, "usual"] = functools.partial(rate, usual, batch, options.seconds)
    rates = take_turns(turns, options.rounds, "ResNet-20")

    figures, usual, spread = {}, {}, {}
    for peer in PEERS:
        for batch in BATCHES:
            key, values = f"ratio_{peer}_batch{batch}", ratios(rates["ours", batch], rates[peer, batch])
            figures[key], spread[key] = figure(statistics.median(values)), quartiles(values)
            usual[key] = figure(statistics.median(ratios(rates["ours", batch], rates[peer, batch, "usual"])))
    terms = sum(layer.products() for layer in int8_onnx.ADDER_LAYERS)
    peak = statistics.median(rates["peak"])
    share = terms * statistics.median(rates["ours", BATCHES[0]]) / peak
    # Where cores are shared, whoever computes beside us slows a network down more than a loop on registers.
    fastest = {
        f"ratio_{peer}_batch{batch}": figure(max(rates["ours", batch]) / max(rates[peer, batch]))
        for peer in PEERS
        for batch in BATCHES
    }
    fastest["share_of_peak"] = figure(terms * max(rates["ours", BATCHES[0]]) / max(rates["peak"]))
    return figures | {
        "share_of_peak": figure(share),
        "fastest_turns": fastest,
        "usual_calls": usual,
        "quartiles": spread,
        "images_per_second": {
            name: {f"batch{batch}": figure(statistics.median(rates[name, batch])) for batch in BATCHES}
            for name in ("ours", *PEERS)
        },
        "adder_terms_per_image": terms,
        "peak_terms_per_second": figure(peak),
        "forms": chosen,
    }


def measure_layers(worker, options):
    """ResNet-18's layer shapes: ours takes codes already padded, ONNX Runtime pads by itself; codes in, codes out."""
    turns, chosen = {}, {}
    layers = [
        int8_onnx.Conv(f"{channels}x{size}x{size}", size, channels, channels, 3, 1)
        for channels, size in ((64, 56), (128, 28), (256, 14), (512, 7))
    ]
    for layer in layers:
        calls = {}
        for name, channels_last in (("NHWC", True), ("NCHW", False)):
            shape = (layer.size, layer.size, layer.channels) if channels_last else (layer.channels, layer.size, layer.size)
            value = np.random.default_rng(2).integers(0, 256, (1, *shape), dtype=np.uint8)
            try:
                calls[name], *_ = open_ort(int8_onnx.single_convolution(layer, channels_last), value, 1)
            except NotInt8 as reason:
                fail(f"{PEERS['ort_int8']} does not run the {layer.name} convolution in int8: {reason}")
        _, best = fastest(calls, 1)
        chosen[layer.name] = best
        request = ("layer", layer.size, layer.size, layer.channels, layer.kernels, 3, 1, options.seconds, options.largest_code)
        turns["ours", layer.name] = functools.partial(worker.terms_per_second, *request)
        turns["ort_int8", layer.name] = functools.partial(rate, calls[best], layer.products(), options.seconds)
    rates = take_turns(turns, options.rounds, "layers")
    results = []
    for layer in layers:
        ours, ort = rates["ours", layer.name], rates["ort_int8", layer.name]
        results.append(
            {
                "name": layer.name,
                "ratio_ort_int8": figure(statistics.median(ratios(ours, ort))),
                "quartiles": quartiles(ratios(ours, ort)),
                "ours_terms_per_second": figure(statistics.median(ours)),
                "ort_int8_products_per_second": figure(statistics.median(ort)),
                "ort_int8_form": chosen[layer.name],
            }
        )
    return results


def usable_cpus():
    # macOS has no affinity.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def measure_scaling(worker, path, options):
    if usable_cpus() < 2:
        fail("--scaling needs two CPUs, this process may use only one")
    both = Worker(path, options.model, 2)
    turns = {
        threads: functools.partial(process.images_per_second, BATCHES[0], options.seconds)
        for threads, process in ((1, worker), (2, both))
    }
    rates = take_turns(turns, options.rounds, "two threads")
    both.close()
    values = ratios(rates[2], rates[1])
    return {
        "two_threads_scaling": figure(statistics.median(values)),
        "two_threads": {
            "quartiles": quartiles(values),
            "images_per_second": {f"threads{n}": figure(statistics.median(rates[n])) for n in rates},
        },
    }


def cpu_name():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "unknown"


def main():
    options = arguments()
    if MISSING:
        fail(
            f"the Python package `{MISSING}` is missing; make an environment for it and use that:\n"
            f"  python3 -m venv {HERE / '.venv'}\n"
            f"  {HERE / '.venv/bin/pip'} install -r {HERE / 'requirements-int8.txt'}\n"
            f"  {HERE / '.venv/bin/python'} {pathlib.Path(__file__).resolve()}"
        )
    path = options.worker or build()
    worker = Worker(path, options.model, 1)
    worker.images_per_second(1, 0.01)  # a worker or model that does not work says so now, not after the trials
    load_before = os.getloadavg()[0]
    result = measure_network(worker, options)
    if options.layers:
        result["layers"] = measure_layers(worker, options)
    if options.scaling:
        result |= measure_scaling(worker, path, options)
    worker.close()
    result |= {
        "threads": 1,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "model": options.model or "random resnet20",
        "included": INCLUDED,
        "versions": {
            "onnxruntime": onnxruntime.__version__,
            "openvino": openvino.__version__,
            "onnx": onnx.__version__,
            "numpy": np.__version__,
            "python": sys.version.split()[0],
        },
        "cpu": cpu_name(),
        "cpus": usable_cpus(),
        "load_average": {"before": load_before, "after": os.getloadavg()[0]},
    }
    json.dump(result, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
