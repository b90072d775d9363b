"""Small models of every family, built in milliseconds: what an exporter may hand to a node.

Each entry names the family, makes the model, and says how many stages it can be cut into at least.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto
from typing_extensions import override

from prsm.node.worker.recipes.graph import GraphBuilder
from tests.tools import graphs

_FLOAT: Final = TensorProto.FLOAT
_HALF: Final = TensorProto.FLOAT16
_INT64: Final = TensorProto.INT64


@dataclass(frozen=True, slots=True)
class Kept:
    """A model of the zoo."""

    make: Callable[[], onnx.ModelProto]
    stages: int  # at least so many exist


class Builder(GraphBuilder):
    """A graph with its own dice, so that every model is the same each time."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._dice = np.random.default_rng(len(name))
        self._drawn = 0

    @override
    def model(self, *, opset: int = 18) -> onnx.ModelProto:
        """The finished model in the words of an opset."""
        model = super().model()
        model.opset_import[0].version = opset
        return model

    def last(self) -> onnx.NodeProto:
        """The node added last."""
        return self._nodes[-1]

    def drawn(self, *shape: int, dtype: npt.DTypeLike = np.float32) -> str:
        """A weight of that shape, scaled so that values neither grow nor vanish."""
        self._drawn += 1
        scale = np.sqrt(np.prod(shape[1:]) if len(shape) > 1 else shape[0])
        values = (self._dice.standard_normal(shape) / scale).astype(dtype)
        return self.weight(f"w{self._drawn}", values)

    def bytes_drawn(self, *shape: int, dtype: npt.DTypeLike = np.int8) -> str:
        """A weight of small whole numbers."""
        self._drawn += 1
        return self.weight(f"w{self._drawn}", self._dice.integers(-40, 40, shape).astype(dtype))

    def conv(self, x: str, inside: int, outside: int, size: int = 3, group: int = 1) -> str:
        """A convolution that keeps height and width, and its activation."""
        pads = [size // 2] * 4
        weight, bias = self.drawn(outside, inside, size, size), self.drawn(outside)
        return self.node("Relu", [self.node("Conv", [x, weight, bias], pads=pads, group=group)])


def _cnn() -> onnx.ModelProto:
    """Batch normalisation, pooling, a free batch; classes at the end."""
    graph = Builder("cnn")
    here = graph.input("image", _FLOAT, ["batch", 3, 16, 16])
    inside = 3
    for outside in (16, 24, 32, 32, 40):
        here = graph.conv(here, inside, outside)
        statistics = [graph.drawn(outside) for _ in range(3)]
        ones = graph.weight(f"ones{outside}", np.ones(outside, np.float32))
        here = graph.node("BatchNormalization", [here, *statistics, ones])
        inside = outside
    here = graph.node("MaxPool", [here], kernel_shape=[2, 2], strides=[2, 2])
    here = graph.node("Flatten", [graph.node("GlobalAveragePool", [here])])
    graph.node("Gemm", [here, graph.drawn(inside, 10), graph.drawn(10)], to_name="scores")
    graph.output("scores", _FLOAT, ["batch", 10])
    return graph.model()


def _residual() -> onnx.ModelProto:
    """Blocks with a way around, groups, a stride; height and width are free and have no names."""
    graph = Builder("residual")
    here = graph.conv(graph.input("image", _FLOAT, ["batch", 3, "height", "width"]), 3, 16)
    for _ in range(5):
        inner = graph.conv(here, 16, 16)
        inner = graph.conv(inner, 4, 16, group=4)
        here = graph.node("Relu", [graph.node("Add", [here, inner])])
    graph.node("ReduceMean", [here, graph.ints("sides", [2, 3])], to_name="y", keepdims=0)
    graph.output("y", _FLOAT, ["batch", 16])
    model = graph.model()
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            dim.ClearField("dim_param")
    return model


def _unet() -> onnx.ModelProto:
    """Down twice, up twice, joined across: height and width must be multiples of four."""
    graph = Builder("unet")
    first = graph.conv(graph.input("image", _FLOAT, ["batch", 1, "height", "width"]), 1, 8)
    halves = graph.conv(graph.node("MaxPool", [first], kernel_shape=[2, 2], strides=[2, 2]), 8, 16)
    here = graph.conv(graph.node("MaxPool", [halves], kernel_shape=[2, 2], strides=[2, 2]), 16, 16)
    double = graph.weight("double", np.array([1, 1, 2, 2], np.float32))
    for beside, inside, outside in ((halves, 32, 8), (first, 16, 8)):
        up = graph.node("Resize", [here, "", double], mode="nearest")
        here = graph.conv(graph.node("Concat", [up, beside], axis=1), inside, outside)
    here = graph.conv(graph.conv(here, 8, 8), 8, 8)
    graph.node("Conv", [here, graph.drawn(1, 8, 1, 1)], to_name="mask")
    graph.output("mask", _FLOAT, ["batch", 1, "height", "width"])
    return graph.model()


def _half_cnn() -> onnx.ModelProto:
    """Everything in 16 bits, inputs and outputs too."""
    graph = Builder("half cnn")
    here = graph.input("image", _HALF, ["batch", 4, 8, 8])
    for _ in range(6):
        weight = graph.drawn(4, 4, 3, 3, dtype=np.float16)
        here = graph.node("Relu", [graph.node("Conv", [here, weight], pads=[1] * 4)])
    graph.node("Flatten", [graph.node("GlobalAveragePool", [here])], to_name="y")
    graph.output("y", _HALF, ["batch", 4])
    return graph.model()


def _half_mlp() -> onnx.ModelProto:
    """Weights stored in 16 bits and widened before each product; sums in 32."""
    graph = Builder("half mlp")
    here = graph.input("x", _FLOAT, ["batch", 48])
    for _ in range(7):
        wide = graph.node("Cast", [graph.drawn(48, 48, dtype=np.float16)], to=_FLOAT)
        here = graph.node("Tanh", [graph.node("MatMul", [here, wide])])
    graph.node("Identity", [here], to_name="y")
    graph.output("y", _FLOAT, ["batch", 48])
    return graph.model()


def _dynamic_int8() -> onnx.ModelProto:
    """Products of bytes; the scale of a layer's input is found while it runs."""
    graph = Builder("dynamic int8")
    here = graph.input("x", _FLOAT, ["batch", 64])
    zero = graph.weight("zero", np.array(0, np.int8))
    for layer in range(7):
        names = [f"q{layer}", f"s{layer}", f"z{layer}"]
        graph.node("DynamicQuantizeLinear", [here], to_name=names[0])
        graph.last().output.extend(names[1:])
        inputs = [names[0], graph.bytes_drawn(64, 64), names[2], zero]
        whole = graph.node("Cast", [graph.node("MatMulInteger", inputs)], to=_FLOAT)
        scale = graph.node("Mul", [names[1], graph.scalar("weight_scale", 0.01)])
        here = graph.node("Tanh", [graph.node("Mul", [whole, scale])])
    graph.node("Identity", [here], to_name="y")
    graph.output("y", _FLOAT, ["batch", 64])
    return graph.model()


def _qdq() -> onnx.ModelProto:
    """Quantised by pairs of QuantizeLinear and DequantizeLinear around float operators."""
    graph = Builder("qdq")
    here = graph.input("image", _FLOAT, ["batch", 4, 8, 8])
    step, zero = graph.scalar("step", 0.05), graph.weight("zero", np.array(0, np.int8))
    for _ in range(6):
        stored = graph.bytes_drawn(4, 4, 3, 3)
        weight = graph.node("DequantizeLinear", [stored, graph.scalar("fine", 0.01), zero])
        here = graph.node("Relu", [graph.node("Conv", [here, weight], pads=[1] * 4)])
        rounded = graph.node("QuantizeLinear", [here, step, zero])
        here = graph.node("DequantizeLinear", [rounded, step, zero])
    graph.node("Flatten", [here], to_name="y")
    graph.output("y", _FLOAT, ["batch", 256])
    return graph.model()


def _qlinear() -> onnx.ModelProto:
    """Bytes in, bytes out, bytes between."""
    graph = Builder("qlinear")
    here = graph.input("image", TensorProto.UINT8, ["batch", 4, 8, 8])
    step, zero = graph.scalar("step", 0.1), graph.weight("zero", np.array(128, np.uint8))
    signed = graph.weight("signed", np.array(0, np.int8))
    for _ in range(6):
        weight = [graph.bytes_drawn(4, 4, 3, 3), graph.scalar("fine", 0.02), signed]
        here = graph.node("QLinearConv", [here, step, zero, *weight, step, zero], pads=[1] * 4)
    graph.node("Identity", [here], to_name="y")
    graph.output("y", TensorProto.UINT8, ["batch", 4, 8, 8])
    return graph.model()


def _blocks() -> onnx.ModelProto:
    """Weights in blocks of 4 bits (com.microsoft)."""
    graph = Builder("blocks")
    here = graph.input("x", _FLOAT, ["batch", 64])
    for layer in range(6):
        packed = np.random.default_rng(layer).integers(0, 256, (64, 2, 16), dtype=np.uint8)
        inputs = [here, graph.weight(f"b{layer}", packed), graph.drawn(128)]
        made = graph.node("MatMulNBits", inputs, K=64, N=64, bits=4, block_size=32)
        graph.last().domain = "com.microsoft"
        here = graph.node("Tanh", [made])
    graph.node("Identity", [here], to_name="y")
    graph.output("y", _FLOAT, ["batch", 64])
    model = graph.model()
    model.opset_import.add(domain="com.microsoft", version=1)
    return model


def _lstm() -> onnx.ModelProto:
    """Three recurrent layers over a free length, the first in both directions."""
    graph = Builder("lstm")
    here = graph.input("x", _FLOAT, ["length", "batch", 12])
    inside = 12
    for layer, ways in enumerate((2, 1, 1)):
        weights = [graph.drawn(ways, 64, inside), graph.drawn(ways, 64, 16)]
        direction = "bidirectional" if ways == 2 else "forward"
        here = graph.node(
            "LSTM", [here, *weights], to_name=f"h{layer}", hidden_size=16, direction=direction
        )
        here = graph.node("Transpose", [here], perm=[0, 2, 1, 3])
        here = graph.node("Reshape", [here, graph.ints(f"flat{layer}", [0, 0, -1])])
        inside = 16 * ways
    graph.node("ReduceMean", [here, graph.ints("time", [0])], to_name="y", keepdims=0)
    graph.output("y", _FLOAT, ["batch", 16])
    return graph.model()


def _towers() -> onnx.ModelProto:
    """Three inputs of three types and no common axis name, three outputs."""
    graph = Builder("towers")
    ids = graph.input("words", TensorProto.INT32, ["rows", 5])
    image = graph.input("picture", _FLOAT, ["pictures", 32])
    known = graph.input("known", TensorProto.BOOL, ["flags", 1])
    text = graph.node(
        "ReduceMean",
        [graph.node("Gather", [graph.drawn(50, 32), ids]), graph.ints("words_axis", [1])],
        keepdims=0,
    )
    for _ in range(2):
        text = graph.node("Tanh", [graph.node("MatMul", [text, graph.drawn(32, 32)])])
        image = graph.node("Tanh", [graph.node("MatMul", [image, graph.drawn(32, 32)])])
    graph.node("Identity", [text], to_name="of_words")
    both = graph.node("Where", [known, graph.node("Add", [text, image]), image])
    for _ in range(4):
        both = graph.node("Tanh", [graph.node("MatMul", [both, graph.drawn(32, 32)])])
    graph.node("MatMul", [both, graph.drawn(32, 3)], to_name="scores")
    graph.node("ArgMax", ["scores"], to_name="label", axis=1)
    graph.output("scores", _FLOAT, ["rows", 3])
    graph.output("label", _INT64, ["rows", 1])
    graph.output("of_words", _FLOAT, ["rows", 32])
    return graph.model()


def _late_outputs() -> onnx.ModelProto:
    """Two outputs near the end: cuts before both of them exist."""
    graph = Builder("late outputs")
    here = graph.input("x", _FLOAT, ["batch", 32])
    for _ in range(8):
        here = graph.node("Tanh", [graph.node("MatMul", [here, graph.drawn(32, 32)])])
    graph.node("Identity", [here], to_name="features")
    graph.node("Softmax", [graph.node("MatMul", ["features", graph.drawn(32, 4)])], to_name="p")
    graph.output("features", _FLOAT, ["batch", 32])
    graph.output("p", _FLOAT, ["batch", 4])
    return graph.model()


def _tied() -> onnx.ModelProto:
    """One table at both ends, as language models share it, and a cache of a named total length."""
    graph = Builder("tied")
    ids = graph.input("ids", _INT64, ["batch", "tokens"])
    mask = graph.input("mask", _INT64, ["batch", "past + tokens"])
    past = graph.input("past", _FLOAT, ["batch", "past", 24])
    table = graph.drawn(60, 24)
    here = graph.node("Gather", [table, ids])
    graph.node("Concat", [past, here], to_name="present", axis=1)
    weight = graph.node("Cast", [graph.node("Unsqueeze", [mask, graph.ints("last", [2])])], to=1)
    seen = graph.node("Mul", ["present", weight])
    summary = graph.node("ReduceMean", [seen, graph.ints("one", [1])], keepdims=1)
    here = graph.node("Add", [here, summary])
    for _ in range(6):
        here = graph.node("Tanh", [graph.node("MatMul", [here, graph.drawn(24, 24)])])
    turned = graph.node("Transpose", [table], perm=[1, 0])
    graph.node("MatMul", [here, turned], to_name="logits")
    graph.output("logits", _FLOAT, ["batch", "tokens", 60])
    graph.output("present", _FLOAT, ["batch", "past + tokens", 24])
    return graph.model()


def _fixed() -> onnx.ModelProto:
    """No free axis at all, and a scalar beside the tensor."""
    graph = Builder("fixed")
    here = graph.node("Mul", [graph.input("x", _FLOAT, [1, 40]), graph.input("s", _FLOAT, [])])
    for _ in range(6):
        here = graph.node("Gelu", [graph.node("MatMul", [here, graph.drawn(40, 40)])])
    graph.node("Identity", [here], to_name="y")
    graph.output("y", _FLOAT, [1, 40])
    return graph.model(opset=20)


def _linear() -> onnx.ModelProto:
    """One product: there is nothing to cut."""
    graph = Builder("linear")
    graph.input("x", _FLOAT, ["batch", 64])
    graph.node("Gemm", ["x", graph.drawn(64, 10), graph.drawn(10)], to_name="y")
    graph.output("y", _FLOAT, ["batch", 10])
    return graph.model()


def _old() -> onnx.ModelProto:
    """The oldest opset that is accepted."""
    graph = Builder("old")
    here = graph.input("x", _FLOAT, ["batch", 32])
    for _ in range(7):
        here = graph.node("Tanh", [graph.node("MatMul", [here, graph.drawn(32, 32)])])
    graph.node("Softmax", [here], to_name="y", axis=-1)
    graph.output("y", _FLOAT, ["batch", 32])
    return graph.model(opset=13)


ZOO: Final[dict[str, Kept]] = {
    "mlp": Kept(lambda: graphs.mlp(7), 6),
    "cnn": Kept(_cnn, 6),
    "residual": Kept(_residual, 6),
    "unet": Kept(_unet, 3),
    "encoder": Kept(graphs.encoder, 6),
    "decoder": Kept(graphs.cached_decoder, 3),
    "half cnn": Kept(_half_cnn, 6),
    "half mlp": Kept(_half_mlp, 6),
    "dynamic int8": Kept(_dynamic_int8, 6),
    "qdq": Kept(_qdq, 6),
    "qlinear": Kept(_qlinear, 6),
    "blocks": Kept(_blocks, 6),
    "lstm": Kept(_lstm, 3),
    "towers": Kept(_towers, 2),
    "late outputs": Kept(_late_outputs, 6),
    "tied": Kept(_tied, 3),
    "fixed": Kept(_fixed, 6),
    "old": Kept(_old, 6),
    "linear": Kept(_linear, 1),
}
