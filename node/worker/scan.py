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

from prsm.node.worker.beside import ELEMENT, Beside, check_apart, is_apart, size_of
from prsm.protocol.limits import TENSOR_RANK_MAX, TENSORS_PER_MESSAGE_MAX
from prsm.protocol.messages.pipe import ModelRefused
from prsm.protocol.tensors import Dtype

MODEL_BYTES_MAX: Final = 2**31 - 1  # what one protobuf message can hold
OPSET_MIN: Final = 13  # before it, axes and scales were attributes that now are inputs
_NOTHING: Final[Beside] = {}
_NODES_MAX: Final = 100_000
_INITIALISERS_MAX: Final = 20_000
_NESTING_MAX: Final = 4
_DIM_MAX: Final = 2**31 - 1
_NAME_CHARS_MAX: Final = 256

# Pure functions of their inputs. Absent: random ones, control flow, sequences, optionals, strings,
# decoders of image formats.
_STANDARD_NAMES: Final = """
    Abs Acos Acosh Add AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool
    BatchNormalization BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil
    Celu CenterCropPad Clip Col2Im Compress Concat Constant ConstantOfShape Conv ConvInteger
    ConvTranspose Cos Cosh CumSum DFT DepthToSpace DequantizeLinear Div Dropout
    DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather
    GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater
    GreaterOrEqual GridSample GroupNormalization HammingWindow HannWindow HardSigmoid HardSwish
    Hardmax Identity InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu
    Less LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul MatMulInteger Max MaxPool Mean
    MeanVarianceNormalization MelWeightMatrix Min Mish Mod Mul Neg NonMaxSuppression NonZero Not
    OneHot Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear RMSNormalization RNN Range
    Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
    ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign
    RotaryEmbedding Round STFT ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign
    SimplifiedLayerNormalization Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth
    Split Sqrt Squeeze Sub Sum Swish Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unique
    Unsqueeze Upsample Where Xor
"""
_STANDARD: Final = frozenset(_STANDARD_NAMES.split())
_MICROSOFT_NAMES: Final = """
    Attention BiasGelu BiasSoftmax DynamicQuantizeLSTM DynamicQuantizeMatMul
    EmbedLayerNormalization FastGelu FusedConv FusedGemm FusedMatMul FusedMatMulActivation
    GatherBlockQuantized Gelu GroupQueryAttention MatMulIntegerToFloat MatMulNBits
    MultiHeadAttention NhwcMaxPool QAttention QEmbedLayerNormalization QGemm QLinearAdd
    QLinearAveragePool QLinearConcat QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul
    QLinearReduceMean QLinearSigmoid QLinearSoftmax QLinearWhere QuickGelu RotaryEmbedding
    SkipLayerNormalization SkipSimplifiedLayerNormalization
"""
_MICROSOFT: Final = frozenset(_MICROSOFT_NAMES.split())
CONTROL_FLOW: Final = frozenset(("If", "Loop", "Scan"))


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


def scan(
    raw: bytes, policy: Policy, beside: Beside = _NOTHING, *, is_raw: bool = False
) -> onnx.ModelProto:
    """Parse and judge a model.

    Args:
        raw: the model file.
        policy: of this machine.
        beside: the files that weights of the main graph may lie in, by the name it gives them.
        is_raw: not pinned yet: outputs may leave dtype and rank to the pin, whose graph has what
            the runtime works out.

    Raises:
        ModelRefused: what was found, where, and the limit.
    """
    if len(raw) > MODEL_BYTES_MAX:
        raise ModelRefused(f"model of {len(raw)} bytes, at most {MODEL_BYTES_MAX}")
    model = parse(raw)
    if not model.graph.node:
        raise ModelRefused("the file is no ONNX model: it has no graph")
    if model.functions:
        raise ModelRefused("the model brings functions of its own; inline them when exporting")
    if model.training_info:
        raise ModelRefused("the model carries training graphs; export it for inference")
    _opset(model)
    _graph(model.graph, policy, _Counts(), depth=0, beside=beside)
    _io(model.graph, is_raw=is_raw)
    return model


def parse(raw: bytes) -> onnx.ModelProto:
    """Parse a model and judge nothing.

    Raises:
        ModelRefused: bytes that are no message of that kind.
    """
    try:
        return onnx.ModelProto.FromString(raw)
    except (DecodeError, RuntimeError) as error:
        raise ModelRefused("the file is no ONNX model: its bytes do not parse") from error


def _opset(model: onnx.ModelProto) -> None:
    versions = [opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    if versions and min(versions) < OPSET_MIN:
        raise ModelRefused(
            f"the graph is of opset {min(versions)}, at least {OPSET_MIN} is accepted"
        )


def _graph(
    graph: onnx.GraphProto,
    policy: Policy,
    counts: _Counts,
    *,
    depth: int,
    beside: Beside = _NOTHING,
) -> None:
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
        _tensor(tensor, beside)
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


def _tensor(tensor: onnx.TensorProto, beside: Beside = _NOTHING) -> None:
    where = f"weight {tensor.name[:80]!r}"
    if tensor.HasField("segment"):
        raise ModelRefused(f"{where} is in segments")
    if tensor.data_type not in ELEMENT:
        raise ModelRefused(f"{where} has element type {tensor.data_type}, which is not accepted")
    _dims(tensor.dims, where)
    if is_apart(tensor):
        check_apart(tensor, beside)
        return
    bits, field = ELEMENT[tensor.data_type]
    if tensor.HasField("raw_data"):
        found, announced = len(tensor.raw_data), size_of(tensor)
        if found != announced:
            raise ModelRefused(f"{where} announces {announced} bytes and has {found}")
        return
    # Two elements of 4 bits share one entry of the field.
    found, announced = len(getattr(tensor, field)), prod(tensor.dims)
    if found != (announced + 1) // 2 if bits == 4 else found != announced:
        raise ModelRefused(f"{where} announces {announced} elements and has {found}")


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


def _io(graph: onnx.GraphProto, *, is_raw: bool) -> None:
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
            _io_type(value, is_open=is_raw and what == "outputs")


def _io_type(value: onnx.ValueInfoProto, *, is_open: bool) -> None:
    has_rank = value.type.tensor_type.HasField("shape")
    if not is_open and not has_rank:
        raise ModelRefused(f"{value.name!r} does not declare its rank, and it cannot be worked out")
    dtype = value.type.tensor_type.elem_type
    if dtype not in set(Dtype) and not (is_open and not dtype):
        raise ModelRefused(f"{value.name!r} has element type {dtype}; no boundary carries that")
