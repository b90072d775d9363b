"""The static gate: refuse a hostile graph before any session sees it.

Knows the ONNX message and nothing of runtimes. `onnx.checker` is no gate: it accepts external
data, custom domains and dimension bombs. Only nodes are judged by domain, since a pinned file
declares nine opset domains it does not use. The gate is cheap in memory: it trusts no announced
size, it compares it with the bytes that are there.

Source: docs/spec/work.md, "Determinism and sandbox".
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Final

import onnx
from google.protobuf.message import DecodeError

from prsm.protocol.limits import TENSOR_RANK_MAX, TENSORS_PER_MESSAGE_MAX
from prsm.protocol.messages.pipe import ModelRefused
from prsm.protocol.tensors import Dtype

MODEL_BYTES_MAX: Final = 2**31 - 1  # what one protobuf message can hold
_NODES_MAX: Final = 100_000
_INITIALISERS_MAX: Final = 20_000
_NESTING_MAX: Final = 4
_DIM_MAX: Final = 2**31 - 1
_NAME_CHARS_MAX: Final = 256

# Pure functions of their inputs. Absent: random ones, control flow, sequences, optionals, strings,
# decoders of image formats.
_STANDARD_NAMES: Final = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization
    BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu Clip Compress
    Concat Constant ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh CumSum DepthToSpace
    DequantizeLinear Div Dropout DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike
    Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool
    Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Hardmax Identity
    InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log
    LogSoftmax LpNormalization LpPool MatMul MatMulInteger Max MaxPool Mean
    MeanVarianceNormalization Min Mish Mod Mul Neg NonZero Not OneHot Or PRelu Pad Pow
    QLinearConv QLinearMatMul QuantizeLinear RNN Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum
    ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu
    Reshape Resize Round ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign
    SimplifiedLayerNormalization Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth
    Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze
    Upsample Where Xor
"""
_STANDARD: Final = frozenset(_STANDARD_NAMES.split())
_MICROSOFT_NAMES: Final = """
    Attention BiasGelu DynamicQuantizeMatMul EmbedLayerNormalization FastGelu FusedConv
    FusedGemm FusedMatMul Gelu GroupQueryAttention MatMulIntegerToFloat MatMulNBits
    MultiHeadAttention QAttention QuickGelu RotaryEmbedding SkipLayerNormalization
    SkipSimplifiedLayerNormalization
"""
_MICROSOFT: Final = frozenset(_MICROSOFT_NAMES.split())
CONTROL_FLOW: Final = frozenset(("If", "Loop", "Scan"))

# Bytes of one element, and which field holds one element each when raw_data is not used.
_ELEMENT: Final[dict[int, tuple[int, str]]] = {
    onnx.TensorProto.FLOAT: (4, "float_data"),
    onnx.TensorProto.DOUBLE: (8, "double_data"),
    onnx.TensorProto.INT64: (8, "int64_data"),
    onnx.TensorProto.UINT64: (8, "uint64_data"),
    onnx.TensorProto.UINT32: (4, "uint64_data"),
    onnx.TensorProto.INT32: (4, "int32_data"),
    onnx.TensorProto.INT16: (2, "int32_data"),
    onnx.TensorProto.INT8: (1, "int32_data"),
    onnx.TensorProto.UINT16: (2, "int32_data"),
    onnx.TensorProto.UINT8: (1, "int32_data"),
    onnx.TensorProto.BOOL: (1, "int32_data"),
    onnx.TensorProto.FLOAT16: (2, "int32_data"),
    onnx.TensorProto.BFLOAT16: (2, "int32_data"),
}


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator of this machine lets through.

    Attributes:
        allows_control_flow: accept If, Loop and Scan, whose time no gate can bound.
    """

    allows_control_flow: bool = False


@dataclass(slots=True)
class _Counts:
    nodes: int = 0
    tensors: int = 0


def scan(raw: bytes, policy: Policy) -> onnx.ModelProto:
    """Parse and judge a model.

    Raises:
        ModelRefused: what was found, where, and the limit.
    """
    if len(raw) > MODEL_BYTES_MAX:
        raise ModelRefused(f"model of {len(raw)} bytes, at most {MODEL_BYTES_MAX}")
    try:
        model = onnx.ModelProto.FromString(raw)
    except (DecodeError, RuntimeError) as error:
        raise ModelRefused("the file is no ONNX model: its bytes do not parse") from error
    if not model.graph.node:
        raise ModelRefused("the file is no ONNX model: it has no graph")
    if model.functions:
        raise ModelRefused("the model brings functions of its own; inline them when exporting")
    if model.training_info:
        raise ModelRefused("the model carries training graphs; export it for inference")
    _graph(model.graph, policy, _Counts(), depth=0)
    _io(model.graph)
    return model


def _graph(graph: onnx.GraphProto, policy: Policy, counts: _Counts, *, depth: int) -> None:
    if depth > _NESTING_MAX:
        raise ModelRefused(f"graphs nested deeper than {_NESTING_MAX}")
    if graph.sparse_initializer:
        raise ModelRefused("the graph has sparse weights; store them dense")
    counts.nodes += len(graph.node)
    counts.tensors += len(graph.initializer)
    if counts.nodes > _NODES_MAX:
        raise ModelRefused(f"{counts.nodes} nodes, at most {_NODES_MAX}")
    if counts.tensors > _INITIALISERS_MAX:
        raise ModelRefused(f"{counts.tensors} weights, at most {_INITIALISERS_MAX}")
    for tensor in graph.initializer:
        _tensor(tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        _value(value)
    for node in graph.node:
        _operator(node, policy)
        for attribute in node.attribute:
            _attribute(attribute, policy, counts, depth)


def _operator(node: onnx.NodeProto, policy: Policy) -> None:
    if node.domain in ("", "ai.onnx"):
        known = node.op_type in _STANDARD
        if node.op_type in CONTROL_FLOW:
            if not policy.allows_control_flow:
                raise ModelRefused(f"operator {node.op_type}: control flow is not accepted")
            known = True
    else:
        known = node.domain == "com.microsoft" and node.op_type in _MICROSOFT
    if not known:
        name = f"{node.domain or 'ai.onnx'}.{node.op_type}"
        raise ModelRefused(f"operator {name[:120]!r} is not on the list of accepted operators")


def _attribute(attribute: onnx.AttributeProto, policy: Policy, counts: _Counts, depth: int) -> None:
    if attribute.ref_attr_name:
        raise ModelRefused("an attribute refers to a function's parameter")
    if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
        raise ModelRefused("a node has a sparse tensor; store it dense")
    if attribute.HasField("tp") or attribute.type_protos:
        raise ModelRefused("a node has a type as its attribute")
    if attribute.HasField("t"):
        _tensor(attribute.t)
    for tensor in attribute.tensors:
        _tensor(tensor)
    graphs = [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
    for graph in graphs:
        _graph(graph, policy, counts, depth=depth + 1)


def _tensor(tensor: onnx.TensorProto) -> None:
    where = f"weight {tensor.name[:80]!r}"
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        raise ModelRefused(f"{where} lies in another file; put all weights into the model file")
    if tensor.HasField("segment"):
        raise ModelRefused(f"{where} is in segments")
    if tensor.data_type not in _ELEMENT:
        raise ModelRefused(f"{where} has element type {tensor.data_type}, which is not accepted")
    _dims(tensor.dims, where)
    item, field = _ELEMENT[tensor.data_type]
    elements = prod(tensor.dims)
    if tensor.HasField("raw_data"):
        found = len(tensor.raw_data)
        if found != elements * item:
            raise ModelRefused(f"{where} announces {elements * item} bytes and has {found}")
    elif len(getattr(tensor, field)) != elements:
        found = len(getattr(tensor, field))
        raise ModelRefused(f"{where} announces {elements} elements and has {found}")


def _dims(dims: Iterable[int], where: str) -> None:
    sizes = list(dims)
    if len(sizes) > TENSOR_RANK_MAX:
        raise ModelRefused(f"{where} has rank {len(sizes)}, at most {TENSOR_RANK_MAX}")
    if any(not 0 <= size <= _DIM_MAX for size in sizes):
        raise ModelRefused(f"{where} has shape {sizes}, dimensions are 0 to {_DIM_MAX}")


def _value(value: onnx.ValueInfoProto) -> None:
    kind = value.type.WhichOneof("value")
    if kind not in (None, "tensor_type"):
        raise ModelRefused(f"value {value.name[:80]!r} is a {kind}, only tensors are accepted")
    shape = value.type.tensor_type.shape
    _dims((d.dim_value for d in shape.dim), f"value {value.name[:80]!r}")


def _io(graph: onnx.GraphProto) -> None:
    """Judge the graph's own inputs and outputs: they become a wire contract."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    for what, values in (("inputs", inputs), ("outputs", list(graph.output))):
        names = [value.name for value in values]
        if not 1 <= len(names) <= TENSORS_PER_MESSAGE_MAX:
            raise ModelRefused(f"{len(names)} {what}, 1 to {TENSORS_PER_MESSAGE_MAX} are accepted")
        if len(set(names)) != len(names):
            raise ModelRefused(f"two {what} have one name")
        if any(not 1 <= len(name.encode()) <= _NAME_CHARS_MAX for name in names):
            raise ModelRefused(f"the names of {what} have 1 to {_NAME_CHARS_MAX} bytes")
        for value in values:
            _io_type(value)


def _io_type(value: onnx.ValueInfoProto) -> None:
    dtype = value.type.tensor_type.elem_type
    if dtype not in set(Dtype):
        raise ModelRefused(f"{value.name!r} has element type {dtype}; no boundary carries that")
    if not value.type.tensor_type.HasField("shape"):
        raise ModelRefused(f"{value.name!r} does not declare its rank")
