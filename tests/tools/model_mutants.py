"""Mutants of ONNX files, each made from its number alone: damaged bytes, and lies in the graph.

Damaged bytes mostly die in the parser; a graph changed in its structure reaches the gate, the
runtime and the golden rows.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from random import Random
from typing import Final

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from prsm.node.worker.recipes import decoder
from tests.tools import graphs

_SMALL: Final = decoder.Config(layers=1, width=16, heads=2, positions=32)
# Where a mutant sends a reader: the harness puts a file there and sees who opens it.
BAIT: Final = "bait.bin"
_EXTREMES: Final = (-(2**63), -1, 0, 1, 2, 127, 2**16, 2**31 - 1, 2**31, 2**40, 2**63 - 1)
_OPERATORS: Final = (
    *("Add", "Gather", "GatherND", "ScatterND", "Slice", "Concat", "Reshape", "Expand", "Tile"),
    *("Resize", "Upsample", "Pad", "Conv", "ConvTranspose", "MaxPool", "AveragePool", "Einsum"),
    *("TopK", "OneHot", "Range", "ConstantOfShape", "CumSum", "Split", "Transpose", "LSTM", "GRU"),
    *("MatMulInteger", "QLinearConv", "DequantizeLinear", "NonZero", "Compress", "Trilu", "Where"),
    *("LayerNormalization", "Softmax", "ReduceSum", "Squeeze", "Unsqueeze", "DepthToSpace", "LRN"),
    *("Loop", "If", "Scan", "SequenceAt", "StringNormalizer", "ImageDecoder", "RandomNormal"),
)
_ATTRIBUTES: Final = (
    *("axis", "axes", "perm", "pads", "strides", "dilations", "kernel_shape", "group", "to"),
    *("blocksize", "hidden_size", "keepdims", "batch_dims", "auto_pad", "mode", "num_heads"),
)


@lru_cache(maxsize=1)
def seeds() -> tuple[bytes, ...]:
    """Honest small models of every kind first, then the hostile classes."""
    honest = (
        *(graphs.mlp(layers=1, width=8), graphs.mlp(layers=3, width=8), graphs.squares()),
        *(decoder.build_encoder(_SMALL), decoder.build_decoder(_SMALL)),
    )
    hostile = [make() for name, make in graphs.REFUSED.items() if not name.startswith("too many")]
    return (*(model.SerializeToString() for model in honest), *hostile)


def mutant(number: int, *, bait: str = BAIT) -> bytes:
    """Return the mutant of that number; two of three are changed in their structure.

    Args:
        number: any; the same number is the same mutant.
        bait: path that external data point to.
    """
    dice = Random(number)
    sources = seeds()
    # Honest ones nine times in ten: a hostile class is refused before its mutation matters.
    source = sources[dice.randrange(5)] if dice.random() < 0.9 else dice.choice(sources)
    if number % 3 == 0:
        return _damaged(source, dice)
    try:
        model = onnx.ModelProto.FromString(source)
    except DecodeError:
        return _damaged(source, dice)
    for _ in range(dice.choice((1, 1, 1, 2, 3, 8))):
        change = dice.choice(_CHANGES)
        change(model, dice, bait)
    try:
        return bytes(model.SerializeToString())
    except (ValueError, UnicodeEncodeError):
        return _damaged(source, dice)


def _damaged(raw: bytes, dice: Random) -> bytes:
    data = bytearray(raw)
    for _ in range(dice.choice((1, 1, 2, 4, 16))):
        if not data:
            return b""
        # The structure is at both ends; the middle of a file is weights.
        end = len(data) if dice.random() < 0.3 else min(len(data), 4096)
        place = dice.randrange(end)
        match dice.randrange(6):
            case 0:
                data[place] ^= 1 << dice.randrange(8)
            case 1:
                data[place] = dice.randrange(256)
            case 2:
                del data[place : place + dice.choice((1, 2, 16, 4096))]
            case 3:
                data[place:place] = data[place : place + dice.choice((1, 8, 64, 1024))]
            case 4:
                data[place : place + 9] = b"\xff" * dice.randrange(1, 9) + b"\x7f"
            case _:
                del data[max(1, place) :]
    return bytes(data)


def _dims(tensor: TensorProto, dice: Random) -> None:
    if tensor.dims and dice.random() < 0.8:
        tensor.dims[dice.randrange(len(tensor.dims))] = dice.choice(_EXTREMES)
    else:
        tensor.dims.append(dice.choice(_EXTREMES))


def _weight(model: onnx.ModelProto, dice: Random) -> TensorProto:
    weights = model.graph.initializer
    return dice.choice(list(weights)) if weights else weights.add(name="w")


def _node(model: onnx.ModelProto, dice: Random) -> onnx.NodeProto:
    nodes = model.graph.node
    return dice.choice(list(nodes)) if nodes else nodes.add(op_type="Relu")


def _change_dims(model: onnx.ModelProto, dice: Random, _: str) -> None:
    _dims(_weight(model, dice), dice)


def _change_type(model: onnx.ModelProto, dice: Random, _: str) -> None:
    _weight(model, dice).data_type = dice.randrange(30)


def _change_values(model: onnx.ModelProto, dice: Random, _: str) -> None:
    tensor = _weight(model, dice)
    if tensor.data_type == TensorProto.INT64 and tensor.raw_data:
        count = len(tensor.raw_data) // 8
        values = [dice.choice(_EXTREMES) for _ in range(min(count, 64))]
        tensor.raw_data = b"".join(value.to_bytes(8, "little", signed=True) for value in values)
    else:
        tensor.raw_data = dice.randbytes(min(len(tensor.raw_data), 4096))


def _send_away(model: onnx.ModelProto, dice: Random, bait: str) -> None:
    tensor = _weight(model, dice)
    tensor.data_location = TensorProto.EXTERNAL
    where = dice.choice((bait, "../" * dice.randrange(1, 9) + bait.lstrip("/"), "/etc/passwd"))
    tensor.external_data.add(key="location", value=where)
    if dice.random() < 0.5:
        tensor.external_data.add(key="offset", value=str(dice.choice(_EXTREMES)))
        tensor.external_data.add(key="length", value=str(dice.choice(_EXTREMES)))
        tensor.ClearField("raw_data")


def _hide_away(model: onnx.ModelProto, dice: Random, bait: str) -> None:
    """External data in a constant, dense or sparse."""
    tensor = TensorProto(name="far", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=bait)
    node = helper.make_node("Constant", [], ["far"])
    if dice.random() < 0.5:
        node.attribute.append(helper.make_attribute("value", tensor))
    else:
        sparse = onnx.SparseTensorProto(values=tensor, dims=[4])
        node.attribute.add(
            name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR, sparse_tensor=sparse
        )
    model.graph.node.insert(0, node)


def _change_operator(model: onnx.ModelProto, dice: Random, _: str) -> None:
    _node(model, dice).op_type = dice.choice(_OPERATORS)


def _change_domain(model: onnx.ModelProto, dice: Random, _: str) -> None:
    domains = ("com.microsoft", "ai.onnx.ml", "com.microsoft.nchwc", "ai.onnx.training", "x" * 300)
    _node(model, dice).domain = dice.choice(domains)


def _change_attribute(model: onnx.ModelProto, dice: Random, _: str) -> None:
    node = _node(model, dice)
    if node.attribute and dice.random() < 0.6:
        attribute = dice.choice(list(node.attribute))
        attribute.i = dice.choice(_EXTREMES)
        attribute.ints.extend(dice.choice(_EXTREMES) for _ in range(dice.randrange(5)))
        kinds = onnx.AttributeProto
        attribute.type = dice.choice((kinds.FLOAT, kinds.INT, kinds.TENSOR, kinds.GRAPH))
    else:
        value = (
            dice.choice(_EXTREMES)
            if dice.random() < 0.5
            else [dice.choice(_EXTREMES) for _ in range(dice.randrange(1, 9))]
        )
        node.attribute.append(helper.make_attribute(dice.choice(_ATTRIBUTES), value))


def _rewire(model: onnx.ModelProto, dice: Random, _: str) -> None:
    """Read or write another tensor: cycles, names used twice, missing ones."""
    names = [name for node in model.graph.node for name in (*node.input, *node.output)]
    names += [tensor.name for tensor in model.graph.initializer] + ["", "nowhere"]
    node = _node(model, dice)
    side = node.input if dice.random() < 0.7 else node.output
    if side:
        side[dice.randrange(len(side))] = dice.choice(names)
    else:
        side.append(dice.choice(names))


def _shuffle(model: onnx.ModelProto, dice: Random, _: str) -> None:
    nodes = list(model.graph.node)
    match dice.randrange(3):
        case 0:
            dice.shuffle(nodes)
        case 1:
            nodes += nodes[: dice.randrange(1, 9)]
        case _:
            del nodes[: dice.randrange(len(nodes) + 1)]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def _change_io(model: onnx.ModelProto, dice: Random, _: str) -> None:
    values = [*model.graph.input, *model.graph.output]
    if not values:
        return
    value = dice.choice(values)
    kind = value.type.tensor_type
    match dice.randrange(4):
        case 0:
            kind.elem_type = dice.randrange(30)
        case 1 if kind.shape.dim:
            dim = dice.choice(list(kind.shape.dim))
            dim.dim_value = dice.choice(_EXTREMES)
        case 2:
            kind.shape.dim.add(dim_param="batch" if dice.random() < 0.5 else "z" * 70)
        case _:
            value.name = dice.choice(("", "x", "y", "\u202e", "n" * 5000))


def _change_versions(model: onnx.ModelProto, dice: Random, _: str) -> None:
    model.ir_version = dice.choice((0, 3, 8, 9, 12, 2**31))
    if model.opset_import:
        model.opset_import[0].version = dice.choice((1, 7, 12, 13, 18, 24, 2**31))


def _nest(model: onnx.ModelProto, dice: Random, _: str) -> None:
    inner = helper.make_graph([], "inner", [], [])
    for _depth in range(dice.choice((1, 3, 40))):
        node = helper.make_node("If", ["c"], ["o"], then_branch=inner, else_branch=inner)
        inner = helper.make_graph([node], "inner", [], [])
        if inner.ByteSize() > 2**14:
            break
    model.graph.node.append(inner.node[0] if inner.node else helper.make_node("If", ["c"], ["o"]))


def _bomb(model: onnx.ModelProto, dice: Random, _: str) -> None:
    """Grow on demand: a shape out of a weight, or a chain of doublings."""
    sizes = [dice.choice((2**10, 2**14, 2**20, 2**31 - 1)) for _ in range(dice.randrange(1, 4))]
    shape = numpy_helper.from_array(np.array(sizes, np.int64), "bomb_shape")
    model.graph.initializer.append(shape)
    kind = dice.choice(("ConstantOfShape", "Expand", "Tile"))
    inputs = ["bomb_shape"] if kind == "ConstantOfShape" else ["x", "bomb_shape"]
    model.graph.node.append(helper.make_node(kind, inputs, ["bomb"]))
    model.graph.output.add(name="bomb").type.tensor_type.elem_type = TensorProto.FLOAT


_CHANGES: Final[Sequence[Callable[[onnx.ModelProto, Random, str], None]]] = (
    *(_change_dims, _change_type, _change_values, _send_away, _hide_away, _change_operator),
    *(_change_domain, _change_attribute, _rewire, _shuffle, _change_io, _change_versions),
    *(_nest, _bomb),
)
