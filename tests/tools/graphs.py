"""Small graphs in milliseconds: honest ones to compute with, and ones with a known vice."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from prsm.node.worker.recipes import decoder
from prsm.node.worker.recipes.graph import GraphBuilder

TINY: Final = decoder.Config(layers=2, width=64, heads=2, positions=64)
_FLOAT: Final = TensorProto.FLOAT
_INT64: Final = TensorProto.INT64


def mlp(layers: int = 4, width: int = 72) -> onnx.ModelProto:
    """`x` float32 (batch, width) through dense layers to `y` float32 (batch, width)."""
    dice = np.random.default_rng(7)
    graph = GraphBuilder("mlp")
    here = graph.input("x", _FLOAT, ["batch", width])
    for layer in range(layers):
        weight = (dice.standard_normal((width, width)) / np.sqrt(width)).astype(np.float32)
        bias = dice.standard_normal(width).astype(np.float32)
        here = graph.node("Tanh", [graph.linear(f"l{layer}.", here, weight, bias)])
    graph.node("Identity", [here], to_name="y")
    graph.output("y", _FLOAT, ["batch", width])
    return graph.model()


def encoder() -> onnx.ModelProto:
    """A transformer of 2 layers and width 64, with MiniLM's inputs and outputs."""
    return decoder.build_encoder(TINY)


def cached_decoder() -> onnx.ModelProto:
    """A generating transformer of 2 layers and width 64 with its key/value cache."""
    return decoder.build_decoder(TINY)


def squares() -> onnx.ModelProto:
    """`n` int64 (1) to the sum of (1…1) · (1…1) of n x n: memory and one long kernel on demand."""
    graph = GraphBuilder("squares")
    graph.input("n", _INT64, [1])
    shape = graph.node("Concat", ["n", "n"], axis=0)
    value = numpy_helper.from_array(np.ones(1, np.float32))
    ones = graph.node("ConstantOfShape", [shape], value=value)
    graph.node("ReduceSum", [graph.node("MatMul", [ones, ones])], to_name="y", keepdims=0)
    graph.output("y", _FLOAT, [])
    return graph.model()


def loop() -> onnx.ModelProto:
    """`n` int64 (1): count to n in a Loop; with a large n it never ends."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["sum_in", "one_"], ["sum_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", _INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum_in", _FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum_out", _FLOAT, []),
        ],
        [numpy_helper.from_array(np.array(1.0, np.float32), "one_")],
    )
    graph = GraphBuilder("loop")
    graph.input("n", _INT64, [1])
    count = graph.node("Squeeze", ["n", graph.ints("axis0", [0])])
    yes = graph.weight("yes", np.array(True))
    graph.node("Loop", [count, yes, graph.scalar("zero", 0.0)], to_name="y", body=body)
    graph.output("y", _FLOAT, [])
    return graph.model()


def _changed(change: Callable[[onnx.ModelProto], object]) -> bytes:
    model = mlp(layers=1)
    change(model)
    return model.SerializeToString()


def _weight(change: Callable[[TensorProto], object]) -> bytes:
    return _changed(lambda model: change(model.graph.initializer[0]))


def _node(
    kind: str,
    domain: str = "",
    **attributes: Any,  # noqa: ANN401 - as onnx.helper takes them
) -> bytes:
    def add(model: onnx.ModelProto) -> None:
        node = helper.make_node(kind, ["x"], ["extra"], domain=domain, **attributes)
        model.graph.node.append(node)

    return _changed(add)


def _external(tensor: TensorProto) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def _external_tensor() -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "far")
    _external(tensor)
    return tensor


def _sparse(*, is_external: bool) -> onnx.SparseTensorProto:
    values = _external_tensor() if is_external else numpy_helper.from_array(np.ones(1, np.float32))
    values.name = "thin"
    indices = numpy_helper.from_array(np.zeros(1, np.int64))
    return helper.make_sparse_tensor(values, indices, [4])


def _subgraph(*, tensor: TensorProto | None = None, depth: int = 0) -> onnx.GraphProto:
    output = helper.make_tensor_value_info("o", _FLOAT, None)
    if depth:
        inner = _subgraph(depth=depth - 1)
        node = helper.make_node("If", ["c"], ["o"], then_branch=inner, else_branch=inner)
    else:
        value = tensor or numpy_helper.from_array(np.zeros(4, np.float32), "near")
        node = helper.make_node("Constant", [], ["o"], value=value)
    return helper.make_graph([node], "inner", [], [output])


def _if(graph: onnx.GraphProto) -> bytes:
    return _node("If", then_branch=graph, else_branch=graph)


def _dims(*dims: int) -> bytes:
    def change(tensor: TensorProto) -> None:
        del tensor.dims[:]
        tensor.dims.extend(dims)

    return _weight(change)


def _many_weights(model: onnx.ModelProto) -> None:
    for place in range(20_001):
        model.graph.initializer.append(TensorProto(name=f"w{place}", data_type=_FLOAT, dims=[0]))


def _many_nodes(model: onnx.ModelProto) -> None:
    model.graph.node.extend(
        onnx.NodeProto(op_type="Identity", input=["x"], output=[f"o{place}"])
        for place in range(100_001)
    )


def _cycle(model: onnx.ModelProto) -> None:
    first, *_, last = model.graph.node
    first.input[0] = last.output[0]


def _rename_output(model: onnx.ModelProto, name: str) -> None:
    model.graph.node[-1].output[0] = name
    model.graph.output[0].name = name


def _bomb(kind: str) -> bytes:
    """A graph that asks for 64 GiB from a few bytes."""
    graph = GraphBuilder("bomb")
    graph.input("x", _FLOAT, ["batch", 1])
    shape = graph.ints("shape", [2**17, 2**17])
    if kind == "Expand":
        big = graph.node("Expand", [graph.node("ReduceSum", ["x"], keepdims=0), shape])
    else:
        big = graph.node("ConstantOfShape", [shape])
    grown = graph.node("Add", [big, graph.node("ReduceSum", ["x"], keepdims=0)])
    graph.node("ReduceSum", [grown], to_name="y", keepdims=0)
    graph.output("y", _FLOAT, [])
    return graph.model().SerializeToString()


def _out_of_range() -> bytes:
    graph = GraphBuilder("range")
    graph.input("x", _FLOAT, ["batch", 4])
    graph.node("Gather", ["x", graph.ints("far", [2**40])], to_name="y", axis=1)
    graph.output("y", _FLOAT, ["batch", 1])
    return graph.model().SerializeToString()


def _not_a_number() -> bytes:
    graph = GraphBuilder("nan")
    graph.input("x", _FLOAT, ["batch", 4])
    graph.node("Log", [graph.node("Neg", [graph.node("Abs", ["x"])])], to_name="y")
    graph.output("y", _FLOAT, ["batch", 4])
    return graph.model().SerializeToString()


def _io(shape: list[int | str] | None, dtype: int = _FLOAT) -> bytes:
    value = helper.make_tensor_value_info("x", dtype, shape)
    return _changed(lambda model: model.graph.input[0].CopyFrom(value))


# What the static gate refuses by itself.
REFUSED: Final[dict[str, Callable[[], bytes]]] = {
    "empty file": lambda: b"",
    "junk": lambda: bytes(range(256)) * 400,
    "text": lambda: b"#!/bin/sh\nrm -rf /\n" * 40,
    "truncated": lambda: mlp(layers=1).SerializeToString()[:-2000],
    "no graph": lambda: onnx.ModelProto(ir_version=9).SerializeToString(),
    "external weights": lambda: _weight(_external),
    "external fields only": lambda: _weight(
        lambda t: t.external_data.add(key="location", value="a")
    ),
    "external in a constant": lambda: _node("Constant", value=_external_tensor()),
    "external in a subgraph": lambda: _if(_subgraph(tensor=_external_tensor())),
    "external in a sparse weight": lambda: _changed(
        lambda m: m.graph.sparse_initializer.append(_sparse(is_external=True))
    ),
    "sparse weight": lambda: _changed(
        lambda m: m.graph.sparse_initializer.append(_sparse(is_external=False))
    ),
    "sparse attribute": lambda: _node("Constant", sparse_value=_sparse(is_external=True)),
    "custom domain": lambda: _node("Relu", domain="com.evil"),
    "unknown operator": lambda: _node("Detonate"),
    "unlisted contrib operator": lambda: _node("Tokenizer", domain="com.microsoft"),
    "random operator": lambda: _node("RandomNormalLike"),
    "sequence operator": lambda: _node("SequenceConstruct"),
    "if": lambda: _if(_subgraph()),
    "nested ifs": lambda: _if(_subgraph(depth=12)),
    "loop": lambda: loop().SerializeToString(),
    "scan": lambda: _node("Scan", body=_subgraph(), num_scan_inputs=1),
    "functions": lambda: _changed(
        lambda m: m.functions.append(helper.make_function("f", "F", ["a"], ["a"], [], []))
    ),
    "training graphs": lambda: _changed(lambda m: m.training_info.add()),
    "8.8 TB weight": lambda: _dims(2**20, 2**21),
    "negative dimension": lambda: _dims(-72, -72),
    "overflowing product": lambda: _dims(2**31 - 1, 2**31 - 1, 2**31 - 1),
    "dimension over the limit": lambda: _dims(2**40),
    "rank 9": lambda: _dims(*[1] * 9),
    "fewer raw bytes than announced": lambda: _weight(lambda t: t.ClearField("raw_data")),
    "string weight": lambda: _weight(lambda t: setattr(t, "data_type", TensorProto.STRING)),
    "complex weight": lambda: _weight(lambda t: setattr(t, "data_type", TensorProto.COMPLEX128)),
    "segmented weight": lambda: _weight(lambda t: t.segment.CopyFrom(TensorProto.Segment(begin=1))),
    "too many weights": lambda: _changed(_many_weights),
    "too many nodes": lambda: _changed(_many_nodes),
    "attribute of a function": lambda: _changed(
        lambda m: m.graph.node[0].attribute.add(name="a", ref_attr_name="b")
    ),
    "type attribute": lambda: _node("Relu", t=helper.make_tensor_type_proto(_FLOAT, [1])),
    "sequence input": lambda: _changed(
        lambda m: m.graph.input[0].type.CopyFrom(
            helper.make_sequence_type_proto(helper.make_tensor_type_proto(_FLOAT, [1]))
        )
    ),
    "string input": lambda: _io(["batch", 72], TensorProto.STRING),
    "double input": lambda: _io(["batch", 72], TensorProto.DOUBLE),
    "input without rank": lambda: _io(None),
    "input of rank 9": lambda: _io([1] * 9),
    "no outputs": lambda: _changed(lambda m: m.graph.ClearField("output")),
    "an output twice": lambda: _changed(lambda m: m.graph.output.append(m.graph.output[0])),
    "name of 300 letters": lambda: _changed(lambda m: _rename_output(m, "y" * 300)),
}

# What only the runtime, the memory bound or the golden rows find.
REFUSED_LATER: Final[dict[str, Callable[[], bytes]]] = {
    "cycle": lambda: _changed(_cycle),
    "missing tensor": lambda: _changed(lambda m: m.graph.initializer.pop()),
    "shapes that do not fit": lambda: _dims(36, 144),
    "wrong attribute": lambda: _changed(
        lambda m: m.graph.node[0].attribute.append(helper.make_attribute("beta", 1.0))
    ),
    "unknown opset": lambda: _changed(lambda m: setattr(m.opset_import[0], "version", 9999)),
    "index out of range": _out_of_range,
    "not a number": _not_a_number,
    "64 GiB constant": lambda: _bomb("ConstantOfShape"),
    "64 GiB expansion": lambda: _bomb("Expand"),
}
