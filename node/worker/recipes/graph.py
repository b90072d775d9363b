"""A small hand for writing ONNX graphs: weights, nodes, and the parts transformers share.

Knows `onnx.helper` and nothing of any one model. Opset 18, IR 9: old enough for every runtime of
the last years, new enough for LayerNormalization and Shape with bounds.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

_OPSET: Final = 18
_IR_VERSION: Final = 9


class GraphBuilder:
    """Collects nodes and weights; methods return names of tensors."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, dtype: int, shape: Sequence[int | str]) -> str:
        """Declare a graph input."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))
        return name

    def output(self, name: str, dtype: int, shape: Sequence[int | str]) -> None:
        """Declare a graph output; a node must make it."""
        self._outputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))

    def weight(self, name: str, array: npt.NDArray[Any]) -> str:
        """Add a weight; the same name twice is the same weight."""
        if name not in self._weights:
            packed = np.asarray(array, order="C")  # ascontiguousarray would give rank 0 an axis
            self._weights[name] = numpy_helper.from_array(packed, name)
        return name

    def scalar(self, name: str, value: float) -> str:
        """Add a float32 constant of rank 0."""
        return self.weight(name, np.array(value, dtype=np.float32))

    def ints(self, name: str, values: Sequence[int]) -> str:
        """Add an int64 constant of rank 1."""
        return self.weight(name, np.array(values, dtype=np.int64))

    def node(
        self,
        kind: str,
        inputs: Sequence[str],
        *,
        to_name: str = "",
        **attributes: Any,  # noqa: ANN401 - as onnx.helper takes them
    ) -> str:
        """Add a node with one output and return the output's name."""
        output = to_name or f"{kind.lower()}_{len(self._nodes)}"
        name = f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [output], name=name, **attributes))
        return output

    def linear(self, name: str, x: str, weight: npt.NDArray[Any], bias: npt.NDArray[Any]) -> str:
        """Return x · weight + bias; weight is (in, out)."""
        product = self.node("MatMul", [x, self.weight(name + "w", weight)])
        return self.node("Add", [product, self.weight(name + "b", bias)])

    def norm(
        self,
        name: str,
        x: str,
        scale: npt.NDArray[Any],
        shift: npt.NDArray[Any],
        epsilon: float,
    ) -> str:
        """Layer normalisation over the last axis."""
        names = [x, self.weight(name + "scale", scale), self.weight(name + "shift", shift)]
        return self.node("LayerNormalization", names, axis=-1, epsilon=epsilon)

    def gelu(self, x: str) -> str:
        """Return x/2 · (1 + erf(x / √2))."""
        scaled = self.node("Div", [x, self.scalar("sqrt2", float(np.sqrt(2.0)))])
        erf = self.node("Add", [self.node("Erf", [scaled]), self.scalar("one", 1.0)])
        return self.node("Mul", [self.node("Mul", [x, erf]), self.scalar("half", 0.5)])

    def mask_bias(self, mask: str) -> str:
        """(1 - mask) · -6e4, shape (batch, 1, 1, tokens); -1e9 would become infinite in fp16."""
        kept = self.node("Cast", [mask], to=onnx.TensorProto.FLOAT)
        absent = self.node("Sub", [self.scalar("one", 1.0), kept])
        bias = self.node("Mul", [absent, self.scalar("far", -6e4)])
        return self.node("Unsqueeze", [bias, self.ints("axes12", [1, 2])])

    def split_heads(self, x: str, *, heads: int, width: int) -> str:
        """(batch, tokens, width) to (batch, heads, tokens, width / heads)."""
        shape = self.ints(f"shape{heads}x{width}", [0, -1, heads, width // heads])
        return self.node("Transpose", [self.node("Reshape", [x, shape])], perm=[0, 2, 1, 3])

    def attention(self, parts: tuple[str, str, str], bias: str, *, heads: int, width: int) -> str:
        """Softmax(q · k / √d + bias) · v over `heads`, all (batch, tokens, width)."""
        query, key, value = (self.split_heads(x, heads=heads, width=width) for x in parts)
        return self.attend((query, key, value), bias, heads=heads, width=width)

    def attend(self, parts: tuple[str, str, str], bias: str, *, heads: int, width: int) -> str:
        """Attention over parts already split into heads; joins the heads again."""
        query, key, value = parts
        turned = self.node("Transpose", [key], perm=[0, 1, 3, 2])
        scale = self.scalar(f"scale{width // heads}", float(np.sqrt(width // heads)))
        scores = self.node("Div", [self.node("MatMul", [query, turned]), scale])
        weights = self.node("Softmax", [self.node("Add", [scores, bias])], axis=-1)
        mixed = self.node("MatMul", [weights, value])
        joined = self.node("Transpose", [mixed], perm=[0, 2, 1, 3])
        return self.node("Reshape", [joined, self.ints(f"shape{width}", [0, -1, width])])

    def mean_pool(self, hidden: str, mask: str, output: str, width: int) -> None:
        """Mean over the places the mask keeps, scaled to unit length; a graph output."""
        kept = self.node("Cast", [mask], to=onnx.TensorProto.FLOAT)
        kept = self.node("Unsqueeze", [kept, self.ints("axis2", [2])])
        axis = self.ints("axis1", [1])
        summed = self.node("ReduceSum", [self.node("Mul", [hidden, kept]), axis], keepdims=0)
        count = self.node("ReduceSum", [kept, axis], keepdims=0)
        count = self.node("Max", [count, self.scalar("tiny", 1e-9)])
        mean = self.node("Div", [summed, count])
        length = self.node("ReduceL2", [mean, axis], keepdims=1)
        length = self.node("Max", [length, self.scalar("tiny12", 1e-12)])
        self.node("Div", [mean, length], to_name=output)
        self.output(output, onnx.TensorProto.FLOAT, ["batch", width])

    def model(self) -> onnx.ModelProto:
        """Return the finished model."""
        graph = helper.make_graph(
            self._nodes, self._name, self._inputs, self._outputs, list(self._weights.values())
        )
        opset = [helper.make_opsetid("", _OPSET)]
        return helper.make_model(
            graph, opset_imports=opset, ir_version=_IR_VERSION, producer_name="prsm"
        )
