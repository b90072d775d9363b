"""Low-rank adapters at run time: the graph takes them as inputs, a file brings them.

Beside each product x·W of an adaptable graph stands (x·A)·B; A and B are graph inputs with
initialisers of rank 0, so that without an adapter nothing is added and the bits are those of the
base. Products over (batch, tokens, width) only: beside one of rank 2 the runtime would no longer
fold the bias into the product, and the bits would change.

An adapter is a safetensors file: for each site `NAME.lora_a` float32 (in, rank) and `NAME.lora_b`
(rank, out), where NAME is the weight's; a factor such as alpha / rank is part of B.

Source: Hu et al. 2021 (LoRA), section 4.1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
from onnx import helper, numpy_helper
from safetensors import SafetensorError
from safetensors.numpy import load as read_safetensors

from prsm.node.worker.pipe import Array
from prsm.node.worker.session import Model
from prsm.protocol.messages.forms import ADAPTER_BYTES_MAX
from prsm.protocol.messages.pipe import InputMismatch, ModelRefused

DOWN: Final = ".lora_a"
UP: Final = ".lora_b"
_ELEMENTS_MIN: Final = 4096  # a smaller product is no heavier than its adapter
_RANK_MAX: Final = 1024
_FLOAT: Final = onnx.TensorProto.FLOAT


@dataclass(frozen=True, slots=True)
class Site:
    """A product that an adapter may change: its weight's name and shape."""

    name: str
    rows: int
    columns: int


def adaptable(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[Site]]:
    """Return the same network with inputs for an adapter, and where they are.

    Raises:
        ModelRefused: it has no product an adapter could stand beside, or has inputs for one.
    """
    ranks = _ranks(model)
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    graph = wide.graph
    if any(is_adapter_input(value.name) for value in graph.input):
        raise ModelRefused("this graph takes an adapter already")
    weights = {tensor.name: tensor for tensor in graph.initializer}
    sites: dict[str, Site] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        tensor = weights.get(node.input[1]) if len(node.input) > 1 else None
        if tensor is None or not _is_site(node, tensor, ranks):
            nodes.append(node)
            continue
        sites.setdefault(tensor.name, Site(tensor.name, *tensor.dims))
        nodes.extend(_beside(node, tensor.name))
    if not sites:
        raise ModelRefused("this graph has no product over (batch, tokens, width) to stand beside")
    for site in sites.values():
        _declare(graph, site.name + DOWN, (site.rows, 0))
        _declare(graph, site.name + UP, (0, site.columns))
    copies = [_copy(node) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    wide.ir_version = max(wide.ir_version, 4)  # before 4 every weight had to be an input
    return wide, list(sites.values())


def is_adapter_input(name: str) -> bool:
    """Is this the name of an input that an adapter fills?"""
    return name.endswith((DOWN, UP))


def read(raw: bytes) -> dict[str, Array]:
    """Read an adapter: arrays float32 by name, in pairs of one rank.

    Raises:
        InputMismatch: no safetensors file, another name, dtype or shape, NaN or infinity.
    """
    if len(raw) > ADAPTER_BYTES_MAX:
        raise InputMismatch(f"an adapter of {len(raw)} bytes, at most {ADAPTER_BYTES_MAX}")
    try:
        found = read_safetensors(raw)
    except KeyError as error:  # of its table of types
        what = f"its arrays are {str(error.args[0])[:40]}, an adapter has F32 or F16"
        raise InputMismatch(what) from error
    except (SafetensorError, ValueError, TypeError) as error:
        raise InputMismatch(f"this is no safetensors file: {str(error)[:200]}") from error
    arrays: dict[str, Array] = {}
    for name, array in found.items():
        if not is_adapter_input(name) or array.ndim != 2 or array.dtype.kind != "f":
            form = f"{array.dtype} {list(array.shape)}"
            raise InputMismatch(f"{name[:80]!r} is {form}, an adapter has NAME{DOWN} and NAME{UP}")
        arrays[name] = np.ascontiguousarray(array, dtype=np.float32)
        if not np.isfinite(arrays[name]).all():
            raise InputMismatch(f"{name[:80]!r} holds NaN or infinity")
    for name in arrays:
        _check_pair(arrays, name.removesuffix(DOWN).removesuffix(UP))
    return arrays


def feeds_for(model: Model, adapter: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays of an adapter that this shard takes; other stages take the others.

    Raises:
        InputMismatch: a shape that the product beside it does not have.
    """
    feeds: dict[str, Array] = {}
    for value in model.session.get_overridable_initializers():
        array = adapter.get(value.name) if is_adapter_input(value.name) else None
        if array is None:
            continue
        wanted = [size if isinstance(size, int) and size else None for size in value.shape]
        is_same_rank = len(wanted) == array.ndim  # a graph of another hand may declare any
        sizes = zip(wanted, array.shape, strict=False)
        if not is_same_rank or any(size not in (None, here) for size, here in sizes):
            raise InputMismatch(
                f"{value.name[:80]!r} has shape {list(array.shape)}, the graph takes {value.shape}"
            )
        feeds[value.name] = array
    return feeds


def _is_site(node: onnx.NodeProto, tensor: onnx.TensorProto, ranks: Mapping[str, int]) -> bool:
    return (
        node.op_type == "MatMul"
        and node.domain in ("", "ai.onnx")
        and tensor.data_type == _FLOAT
        and len(tensor.dims) == 2
        and int(np.prod(tensor.dims)) >= _ELEMENTS_MIN
        and ranks.get(node.output[0], 0) >= 3
    )


def _beside(node: onnx.NodeProto, weight: str) -> list[onnx.NodeProto]:
    """The product alone, what the adapter adds, and their sum under the product's old name."""
    x, total = node.input[0], node.output[0]
    alone, low, added = (f"{total}{end}" for end in (".base", ".low", ".added"))
    return [
        helper.make_node("MatMul", [x, weight], [alone], name=node.name),
        helper.make_node("MatMul", [x, weight + DOWN], [low], name=f"{node.name}{DOWN}"),
        helper.make_node("MatMul", [low, weight + UP], [added], name=f"{node.name}{UP}"),
        helper.make_node("Add", [alone, added], [total], name=f"{node.name}.lora"),
    ]


def _declare(graph: onnx.GraphProto, name: str, shape: tuple[int, int]) -> None:
    """Add an input whose value is empty unless an adapter gives it another."""
    axes = [size or f"{name}.rank" for size in shape]
    graph.input.append(helper.make_tensor_value_info(name, _FLOAT, axes))
    graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), name))


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }


def _check_pair(arrays: Mapping[str, Array], site: str) -> None:
    down, up = arrays.get(site + DOWN), arrays.get(site + UP)
    if down is None or up is None:
        missing = site + (DOWN if down is None else UP)
        raise InputMismatch(f"the adapter has no {missing[:80]!r}")
    if down.shape[1] != up.shape[0] or not 1 <= down.shape[1] <= _RANK_MAX:
        raise InputMismatch(
            f"{site[:80]!r} has {list(down.shape)} and {list(up.shape)}: "
            f"the rank is one number, 1 to {_RANK_MAX}"
        )
