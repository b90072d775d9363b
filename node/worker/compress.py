"""Smaller weights: int8 per channel, 8- and 4-bit blocks, fp16 for storage.

Knows the ONNX message and what each form costs. Must not know files or pipes. The product's rule
stays: what is verified runs in fp32; `int8` quantises activations by the whole batch at run time,
so the rows of a batch change one another (`rows_touch`), and bits differ between kinds of CPU.

Sources: onnxruntime's dynamic quantisation (its own `ONNXQuantizer`, which writes no file);
`MatMulNBits` of com.microsoft as its operator documentation lays the blocks out.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from prsm.node.worker.session import OPTIONS
from prsm.protocol.messages.forms import Form
from prsm.protocol.messages.models import CLASSES_APART, ROWS_TOUCHING
from prsm.protocol.messages.pipe import ModelRefused

_BLOCK: Final = 32  # weights that share a scale; the smallest the operator takes above 16
_HALF_ELEMENTS_MIN: Final = 256  # below it, a Cast node is longer than what it saves
_HALF_MAX: Final = 65504.0
_HALF_SUFFIX: Final = ".f16"
_INT8_ACTIVATIONS: Final = 4  # MatMulNBits: each row's activations in int8, by blocks of that row
_TOUCHING: Final = frozenset(("DynamicQuantizeLinear", "DynamicQuantizeMatMul"))
_INTEGER: Final = _TOUCHING | {
    *("ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "MatMulNBits", "QAttention"),
    *("QLinearConv", "QLinearMatMul", "QuantizeLinear"),
}
_GEMM: Final = frozenset(("transA", "transB", "alpha", "beta"))
_F32: Final = onnx.TensorProto.FLOAT
_Floats = npt.NDArray[np.float32]


def warm_up() -> None:
    """Import what quantising needs; a sealed process can open no file any more."""
    from onnxruntime.quantization import onnx_quantizer  # noqa: PLC0415 - 56 modules, few need it

    # The library infers shapes through a directory of its own, which a sealed process cannot make.
    onnx_quantizer.save_and_reload_model_with_shape_infer = onnx.shape_inference.infer_shapes


def compress(model: onnx.ModelProto, form: Form) -> onnx.ModelProto:
    """Return the same network with smaller weights.

    Raises:
        ModelRefused: it has no weights of the kind this form makes smaller.
    """
    forms: Mapping[Form, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
        Form.INT8: _int8,
        Form.W8: lambda one: _blocks(one, 8),
        Form.W4: lambda one: _blocks(one, 4),
        Form.FP16: _halves,
    }
    return forms[form](model)


def rows_touch(graph: onnx.GraphProto) -> bool:
    """Do the rows of a batch change one another, because a scale is taken over all of them?"""
    return any(node.op_type in _TOUCHING for node in graph.node)


def options_of(graph: onnx.GraphProto) -> str:
    """`Compute.options` of a pinned graph: the session's, and what its operators need said."""
    words = [OPTIONS]
    if rows_touch(graph):
        words.append(ROWS_TOUCHING)
    if any(node.op_type in _INTEGER for node in graph.node):
        words.append(CLASSES_APART)
    return "; ".join(words)


def has_halves(graph: onnx.GraphProto) -> bool:
    """Are weights stored in fp16, to be widened when the graph is loaded?"""
    return bool(_half_casts(graph))


def narrowed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store in fp16 each fp32 weight that loses nothing by it; `widened` is the way back."""
    return _narrow(model, is_lossless=True)[0]


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """Turn weights stored in fp16 into fp32 ones; the Cast nodes before them go."""
    casts = _half_casts(model.graph)
    if not casts:
        return model
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    halves = {tensor.name: tensor for tensor in wide.graph.initializer if tensor.name in casts}
    for name, tensor in halves.items():
        array = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(array, casts[name]))
    kept = [node for node in wide.graph.node if not _is_half_cast(node, casts)]
    del wide.graph.node[:]
    wide.graph.node.extend(kept)
    return wide


def wide_bytes(raw: bytes, model: onnx.ModelProto) -> bytes:
    """The bytes a session is made from: as stored, or widened where weights are in fp16."""
    if not has_halves(model.graph):
        return raw
    return bytes(widened(model).SerializeToString(deterministic=True))


def _int8(model: onnx.ModelProto) -> onnx.ModelProto:
    warm_up()
    from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer  # noqa: PLC0415 - see warm_up
    from onnxruntime.quantization.quant_utils import (  # noqa: PLC0415 - as above
        QuantizationMode,
        QuantType,
        add_infer_metadata,
    )
    from onnxruntime.quantization.registry import IntegerOpsRegistry  # noqa: PLC0415 - as above

    inferred = onnx.shape_inference.infer_shapes(_unfused(model))
    add_infer_metadata(inferred)  # its mark for shapes that are known
    quantizer = ONNXQuantizer(
        inferred,
        per_channel=True,  # by tensor, the library's default, MiniLM's cosine falls to .957
        reduce_range=False,
        mode=QuantizationMode.IntegerOps,
        static=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=None,
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=list(IntegerOpsRegistry),
        # A pinned graph names no types of its inner tensors.
        extra_options={"MatMulConstBOnly": True, "DefaultTensorType": _F32},
    )
    quantizer.quantize_model()
    small: onnx.ModelProto = quantizer.model.model
    del small.metadata_props[:]
    if not any(_is_small(tensor) for tensor in small.graph.initializer):
        raise ModelRefused("this graph has no weights that int8 makes smaller")
    return small


def _unfused(model: onnx.ModelProto) -> onnx.ModelProto:
    """Undo what pinning made of product, bias and activation; quantisers know the parts alone."""
    parts = onnx.ModelProto()
    parts.CopyFrom(model)
    nodes = []
    for node in parts.graph.node:
        fused = {one.name: one for one in node.attribute}
        if node.op_type != "FusedGemm" or not set(fused) <= _GEMM | {"activation"}:
            nodes.append(node)
            continue
        middle = f"{node.output[0]}.sum"
        gemm = helper.make_node("Gemm", list(node.input), [middle], name=node.name)
        gemm.attribute.extend(fused[name] for name in sorted(_GEMM & set(fused)))
        activation = fused["activation"].s.decode()
        after = helper.make_node(activation, [middle], list(node.output), name=f"{node.name}.after")
        nodes += [gemm, after]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del parts.graph.node[:]
    parts.graph.node.extend(copies)
    return parts


def _is_small(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8) and bool(tensor.dims)


def _blocks(model: onnx.ModelProto, bits: int) -> onnx.ModelProto:
    """Replace each product by a weight with MatMulNBits; other weights stay as they are."""
    from onnxruntime.quantization.onnx_model import ONNXModel  # noqa: PLC0415 - see warm_up

    small = _unfused(model)
    ONNXModel(small).replace_gemm_with_matmul()
    graph = small.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    done: set[str] = set()
    for node in graph.node:
        if node.op_type != "MatMul" or node.domain not in ("", "ai.onnx"):
            continue
        tensor = weights.get(node.input[1])
        if tensor is None or tensor.data_type != _F32 or len(tensor.dims) != 2:
            continue
        name = tensor.name
        if name not in done:
            packed, scales = pack(numpy_helper.to_array(tensor), bits)
            graph.initializer.append(numpy_helper.from_array(packed, f"{name}.q{bits}"))
            graph.initializer.append(numpy_helper.from_array(scales, f"{name}.scales"))
            done.add(name)
        rows, columns = tensor.dims
        inputs = [node.input[0], f"{name}.q{bits}", f"{name}.scales"]
        node.CopyFrom(
            helper.make_node(
                "MatMulNBits",
                inputs,
                list(node.output),
                name=node.name,
                domain="com.microsoft",
                K=rows,
                N=columns,
                bits=bits,
                block_size=_BLOCK,
                accuracy_level=_INT8_ACTIVATIONS,
            )
        )
    if not done:
        raise ModelRefused("this graph has no products with weights, which blocks make smaller")
    _drop_unused(graph, done)
    if all(one.domain != "com.microsoft" for one in small.opset_import):
        small.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return small


def pack(weight: _Floats, bits: int) -> tuple[npt.NDArray[np.uint8], _Floats]:
    """Quantise a weight (in, out) by blocks of 32 along `in`, symmetric about the middle.

    Returns:
        Packed uint8 (out, blocks, 32 * bits / 8), low nibble first; scales float32 (out * blocks).
    """
    inside, outside = weight.shape
    count = -(-inside // _BLOCK)
    padded = np.zeros((outside, count * _BLOCK), np.float32)
    padded[:, :inside] = weight.T
    blocks = padded.reshape(outside, count, _BLOCK)
    middle = 1 << (bits - 1)
    # The extreme of each block becomes the one value that has no opposite: -8 or -128.
    places = np.abs(blocks).argmax(axis=2, keepdims=True)
    scales = np.take_along_axis(blocks, places, axis=2) / np.float32(-middle)
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.where(scales == 0, np.float32(0), blocks / scales)
    levels = np.clip(np.rint(steps) + middle, 0, 2 * middle - 1).astype(np.uint8)
    if bits == 4:
        levels = levels[:, :, 0::2] | (levels[:, :, 1::2] << 4)
    return np.ascontiguousarray(levels), scales.reshape(-1).astype(np.float32)


def _halves(model: onnx.ModelProto) -> onnx.ModelProto:
    small, count = _narrow(model, is_lossless=False)
    if not count:
        raise ModelRefused("this graph has no fp32 weights that fp16 makes smaller")
    return small


def _narrow(model: onnx.ModelProto, *, is_lossless: bool) -> tuple[onnx.ModelProto, int]:
    small = onnx.ModelProto()
    small.CopyFrom(model)
    casts = []
    named = {value.name for value in small.graph.input}
    for tensor in small.graph.initializer:
        if tensor.name in named or not _is_worth_it(tensor):
            continue
        array = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):  # what is too large stays as it is, below
            half = array.astype(np.float16)
        is_same = is_lossless and np.array_equal(half.astype(np.float32), array)
        if not is_same and (is_lossless or np.abs(array).max() > _HALF_MAX):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, name + _HALF_SUFFIX))
        casts.append(helper.make_node("Cast", [tensor.name], [name], name=f"wide {name}", to=_F32))
    nodes = list(small.graph.node)
    del small.graph.node[:]
    small.graph.node.extend([*casts, *nodes])
    return small, len(casts)


def _is_worth_it(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type == _F32 and int(np.prod(tensor.dims)) >= _HALF_ELEMENTS_MIN


def _half_casts(graph: onnx.GraphProto) -> dict[str, str]:
    """Stored name -> name after the Cast, of each weight that is only stored in fp16."""
    halves = {
        tensor.name
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT16 and tensor.name.endswith(_HALF_SUFFIX)
    }
    casts = {node.input[0]: node.output[0] for node in graph.node if _is_half_cast(node, halves)}
    # Counted in one pass: a small file may have 20,000 of them, and each session asks twice.
    used = Counter(name for node in graph.node for name in node.input if name in casts)
    return {name: wide for name, wide in casts.items() if used[name] == 1}


def _is_half_cast(node: onnx.NodeProto, halves: Mapping[str, str] | set[str]) -> bool:
    return (
        node.op_type == "Cast"
        and node.domain in ("", "ai.onnx")
        and len(node.input) == len(node.output) == 1
        and node.input[0] in halves
        and all(one.i == _F32 for one in node.attribute if one.name == "to")
    )


def _drop_unused(graph: onnx.GraphProto, names: set[str]) -> None:
    """Remove weights that nothing reads any more."""
    used = {name for node in graph.node for name in node.input}
    kept = [t for t in graph.initializer if t.name not in names or t.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
