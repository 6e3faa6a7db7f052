"""The ordinary CNN ResNet-20 and single convolutions as ONNX models, in f32 and in int8, with random weights.

The network has the shape of this project's adder ResNet-20: conv1, three stages of three blocks with 16, 32 and 64
channels, 1x1 convolutions of stride 2 as the shortcuts of the two blocks that halve the image, global mean, classifier.
Batch normalization is already folded into the convolutions, as every deployed int8 network has it.

Int8 means: weights of a convolution are s8 with a scale per output channel, its bias is s32, activations are u8 (or s8)
with a scale and a zero point per tensor, calibrated on random images. Pixels need no step of their own: (p/255 − mean)/std
is a scale and a zero point, which the u8 input carries.
"""

import dataclasses

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STD = 0.25
# Zero point of the pixels: a mean of 115/255.
PIXEL_ZERO = 115
SIZE, CLASSES = 32, 10
MICROSOFT = "com.microsoft"


@dataclasses.dataclass(frozen=True)
class Conv:
    """One convolution; `size` is the height and width of its input, padding is kernel // 2."""

    name: str
    size: int
    channels: int
    kernels: int
    kernel: int
    stride: int

    def products(self):
        """Products w·x (in an adder layer: terms |x − w|) of one image; taps on the padding count."""
        return (self.size // self.stride) ** 2 * self.kernels * self.channels * self.kernel**2

    def attributes(self):
        return {
            "kernel_shape": [self.kernel] * 2,
            "strides": [self.stride] * 2,
            "pads": [self.kernel // 2] * 4,
        }


@dataclasses.dataclass(frozen=True)
class Form:
    """How the int8 network is written down: engines take several ways, at different speeds."""

    style: str  # "QDQ": f32 operators between Quantize/DequantizeLinear; "QOperator": QLinearConv and its like
    activations: str  # "u8" or "s8"
    input: str  # "u8 NCHW", "u8 NHWC" (what a decoder gives; transposed in the graph) or "f32 NCHW" (normalized before)

    def __str__(self):
        return f"{self.style}, {self.activations} activations, {self.input} input"


def blocks():
    """The nine residual blocks as (first convolution, second convolution, shortcut convolution or None)."""
    size, channels = SIZE, 16
    for stage, width in enumerate((16, 32, 64), 1):
        for block in range(3):
            stride = 2 if stage > 1 and block == 0 else 1
            name = f"layer{stage}.{block}"
            first = Conv(f"{name}.conv1", size, channels, width, 3, stride)
            second = Conv(f"{name}.conv2", size // stride, width, width, 3, 1)
            shortcut = Conv(f"{name}.downsample", size, channels, width, 1, stride) if stride > 1 else None
            yield first, second, shortcut
            size, channels = size // stride, width


STEM = Conv("conv1", SIZE, 3, 16, 3, 1)
BLOCKS = list(blocks())
# The layers that are adder layers in this project's network.
ADDER_LAYERS = [conv for block in BLOCKS for conv in block if conv]
CONVOLUTIONS = [STEM, *ADDER_LAYERS]


def random_weights():
    """{layer: (weights, bias)} in f32; He's initialization, halved at the end of a block so that sums stay in range."""
    generator = np.random.default_rng(0)

    def normal(shape, scale):
        return (generator.standard_normal(shape) * scale).astype(np.float32)

    weights = {}
    for conv in CONVOLUTIONS:
        fan_in = conv.channels * conv.kernel**2
        scale = np.sqrt(2 / fan_in) * (0.5 if conv.name.endswith("conv2") else 1)
        shape = (conv.kernels, conv.channels, conv.kernel, conv.kernel)
        weights[conv.name] = normal(shape, scale), normal(conv.kernels, 0.1)
    weights["fc"] = normal((CLASSES, 64), 0.1), np.zeros(CLASSES, np.float32)
    return weights


def random_pixels(images, seed):
    """u8 images, NCHW."""
    return np.random.default_rng(seed).integers(0, 256, (images, 3, SIZE, SIZE), dtype=np.uint8)


def as_input(pixels, kind):
    """Pixels (u8 NCHW) as the input of a form."""
    if kind == "f32 NCHW":
        return (pixels.astype(np.float32) - PIXEL_ZERO) * np.float32(1 / (255 * STD))
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)) if kind == "u8 NHWC" else pixels


class FloatWriter:
    """Writes the network in f32, the form that calibration runs and the int8 forms are checked against."""

    def __init__(self, weights):
        self.weights = weights
        self.nodes, self.constants = [], []

    def node(self, operator, inputs, output, **attributes):
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name, value):
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def input(self, kind):
        return self.node("Transpose", ["input"], "input.nchw", perm=[0, 3, 1, 2]) if kind == "u8 NHWC" else "input"

    def conv(self, conv, x, relu):
        w, b = self.weights[conv.name]
        operands = [x, self.constant(f"{conv.name}.weight", w), self.constant(f"{conv.name}.bias", b)]
        return self.conv_relu(conv, operands, relu)

    def conv_relu(self, conv, operands, relu):
        y = self.node("Conv", operands, f"{conv.name}.sum" if relu else conv.name, **conv.attributes())
        return self.node("Relu", [y], conv.name) if relu else y

    def add_relu(self, a, b, name):
        return self.node("Relu", [self.node("Add", [a, b], f"{name}.sum")], name)

    def mean(self, x):
        return self.node("GlobalAveragePool", [x], "mean")

    def classifier(self, x):
        w, b = self.weights["fc"]
        x = self.node("Flatten", [x], "features")
        return self.node("Gemm", [x, self.constant("fc.weight", w), self.constant("fc.bias", b)], "logits", transB=1)


class QuantizedWriter(FloatWriter):
    """What the two int8 styles have in common: codes, scales and zero points."""

    def __init__(self, weights, ranges, form):
        super().__init__(weights)
        self.ranges = ranges
        self.codes = {"u8": np.uint8, "s8": np.int8}[form.activations]
        self.scales = {}  # tensor -> (scale, name of its constant, name of the zero point's constant)

    def scale(self, tensor, scale, zero, codes=None):
        """Sets a tensor's scale and its zero point, counted from the lowest code."""
        codes = codes or self.codes
        zero = codes(zero + np.iinfo(codes).min)
        names = self.constant(f"{tensor}.scale", np.float32(scale)), self.constant(f"{tensor}.zero", zero)
        self.scales[tensor] = (np.float32(scale), *names)
        return names

    def calibrated(self, tensor):
        """Sets a tensor's scale from the range seen in calibration."""
        low, high = self.ranges[tensor]
        low = min(low, 0.0)
        scale = (high - low) / 255
        return self.scale(tensor, scale, round(-low / scale))

    def pixels(self, tensor, codes):
        return self.scale(tensor, 1 / (255 * STD), PIXEL_ZERO, codes)

    def weight_codes(self, name, x_scale, per_channel):
        """A layer's weight codes, weight scale and bias codes for inputs of a scale."""
        w, b = self.weights[name]
        largest = np.abs(w).max(axis=(1, 2, 3)) if per_channel else np.abs(w).max()
        scale = np.asarray(largest / 127, np.float32)
        rows = scale.reshape(-1, *[1] * (w.ndim - 1))
        codes = np.clip(np.rint(w / rows), -127, 127).astype(np.int8)
        return codes, scale, np.rint(b / (x_scale * scale)).astype(np.int32)

    def weight_constants(self, name, x_scale, per_channel):
        codes, scale, bias = self.weight_codes(name, x_scale, per_channel)
        return (
            self.constant(f"{name}.weight", codes),
            self.constant(f"{name}.weight.scale", scale),
            self.constant(f"{name}.weight.zero", np.zeros(scale.shape, np.int8)),
            self.constant(f"{name}.bias", bias),
        )


class QdqWriter(QuantizedWriter):
    """f32 operators with a pair QuantizeLinear, DequantizeLinear on every tensor: engines fuse these to int8."""

    def quantized(self, tensor):
        scale, zero = self.calibrated(tensor)
        self.node("QuantizeLinear", [tensor, scale, zero], f"{tensor}.codes")
        return self.dequantized(f"{tensor}.codes", tensor)

    def dequantized(self, codes, tensor):
        _, scale, zero = self.scales[tensor]
        value = self.node("DequantizeLinear", [codes, scale, zero], f"{tensor}.value")
        self.scales[value] = self.scales[tensor]
        return value

    def input(self, kind):
        x = super().input(kind)
        if kind == "f32 NCHW":
            scale, zero = self.pixels("pixels", self.codes)
            x = self.node("QuantizeLinear", [x, scale, zero], "pixels.codes")
        else:
            self.pixels("pixels", np.uint8)
        return self.dequantized(x, "pixels")

    def weight_values(self, name, x, per_channel):
        """Weights and bias behind their DequantizeLinear."""
        x_scale = self.scales[x][0]
        codes, scale, zero, bias = self.weight_constants(name, x_scale, per_channel)
        axis = {"axis": 0} if per_channel else {}
        w_scale = numpy_helper.to_array(next(c for c in self.constants if c.name == scale))
        bias_scale = self.constant(f"{name}.bias.scale", np.asarray(x_scale * w_scale, np.float32))
        bias_zero = self.constant(f"{name}.bias.zero", np.zeros(w_scale.shape, np.int32))
        return (
            self.node("DequantizeLinear", [codes, scale, zero], f"{name}.weight.value", **axis),
            self.node("DequantizeLinear", [bias, bias_scale, bias_zero], f"{name}.bias.value", **axis),
        )

    def conv(self, conv, x, relu):
        return self.quantized(self.conv_relu(conv, [x, *self.weight_values(conv.name, x, True)], relu))

    def add_relu(self, a, b, name):
        return self.quantized(super().add_relu(a, b, name))

    def mean(self, x):
        return self.quantized(super().mean(x))

    def classifier(self, x):
        weights = self.weight_values("fc", x, False)
        return self.node("Gemm", [self.node("Flatten", [x], "features"), *weights], "logits", transB=1)


class QOperatorWriter(QuantizedWriter):
    """Integer operators, those of ONNX and of ONNX Runtime; ReLU is the clamp at the zero point."""

    def operand(self, tensor):
        return [tensor, *self.scales[tensor][1:]]

    def input(self, kind):
        x = super().input(kind)
        if kind == "f32 NCHW":
            return self.node("QuantizeLinear", [x, *self.pixels("pixels", self.codes)], "pixels")
        self.pixels(x, np.uint8)
        return x

    def conv(self, conv, x, relu):
        return self.q_linear_conv(conv, x, conv.attributes())

    def q_linear_conv(self, conv, x, attributes):
        codes, scale, zero, bias = self.weight_constants(conv.name, self.scales[x][0], True)
        inputs = [*self.operand(x), codes, scale, zero, *self.calibrated(conv.name), bias]
        return self.node("QLinearConv", inputs, conv.name, **attributes)

    def add_relu(self, a, b, name):
        inputs = [*self.operand(a), *self.operand(b), *self.calibrated(name)]
        return self.node("QLinearAdd", inputs, name, domain=MICROSOFT)

    def mean(self, x):
        inputs = [*self.operand(x), *self.calibrated("mean")]
        return self.node("QLinearGlobalAveragePool", inputs, "mean", domain=MICROSOFT, channels_last=0)

    def classifier(self, x):
        weights = self.weight_constants("fc", self.scales[x][0], False)
        inputs = [self.node("Flatten", [x], "features"), *self.scales[x][1:], *weights]
        return self.node("QGemm", inputs, "logits", domain=MICROSOFT, transB=1)


def model(writer, inputs, outputs):
    graph = helper.make_graph(writer.nodes, "peer", inputs, outputs, writer.constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
    made = helper.make_model(graph, opset_imports=opsets)
    made.ir_version = 9  # the one that came with opset 17
    onnx.checker.check_model(made)
    return made


def resnet20(batch, form=None, ranges=None):
    """The network for a fixed batch, in f32 without a form; `ranges` are those of `calibration_outputs`."""
    weights = random_weights()
    kind = form.input if form else "f32 NCHW"
    if form is None:
        writer = FloatWriter(weights)
    else:
        writer = {"QDQ": QdqWriter, "QOperator": QOperatorWriter}[form.style](weights, ranges, form)
    x = writer.conv(STEM, writer.input(kind), True)
    for first, second, shortcut in BLOCKS:
        y = writer.conv(second, writer.conv(first, x, True), False)
        x = writer.add_relu(y, writer.conv(shortcut, x, False) if shortcut else x, first.name.removesuffix(".conv1"))
    writer.classifier(writer.mean(x))
    shape = [batch, SIZE, SIZE, 3] if kind == "u8 NHWC" else [batch, 3, SIZE, SIZE]
    element = TensorProto.FLOAT if kind == "f32 NCHW" else TensorProto.UINT8
    return model(
        writer,
        [helper.make_tensor_value_info("input", element, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, CLASSES])],
    )


def with_calibration_outputs(made):
    """An f32 network that also gives every tensor whose range an int8 form needs, and their names."""
    names = [conv.name for conv in CONVOLUTIONS]
    names += [first.name.removesuffix(".conv1") for first, _, _ in BLOCKS] + ["mean"]
    made.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    return made, names


def single_convolution(conv, channels_last):
    """One int8 convolution, batch 1, codes in, codes out, u8 and QOperator.

    With `channels_last` it is ONNX Runtime's own operator on NHWC, the form its optimizer gives the layers inside a
    network: without it the layer alone would pay for a transposition before and after.
    """
    generator = np.random.default_rng(0)
    shape = (conv.kernels, conv.channels, conv.kernel, conv.kernel)
    weights = {conv.name: (generator.standard_normal(shape).astype(np.float32), np.zeros(conv.kernels, np.float32))}
    spread = float(np.sqrt(conv.channels * conv.kernel**2))
    writer = QOperatorWriter(weights, {conv.name: (0.0, 4 * spread)}, Form("QOperator", "u8", "u8 NCHW"))
    writer.scale("input", 1 / 64, 0)
    attributes = conv.attributes() | ({"domain": MICROSOFT, "channels_last": 1} if channels_last else {})
    writer.q_linear_conv(conv, "input", attributes)

    def info(name, channels, size):
        shape = [1, size, size, channels] if channels_last else [1, channels, size, size]
        return helper.make_tensor_value_info(name, TensorProto.UINT8, shape)

    inputs = [info("input", conv.channels, conv.size)]
    return model(writer, inputs, [info(conv.name, conv.kernels, conv.size // conv.stride)])
