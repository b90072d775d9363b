"""Cut a pinned graph into stages that compute the same bits as the whole.

Knows the ONNX message only. A cut is a place between two nodes where exactly one heavy tensor is
live; heavy is what lies behind an operator with big weights. Everything else that crosses (masks,
shapes, positions) is light and computed again, so a stage takes the cut tensor and the graph's
own inputs. Without that rule liveness finds only the two ends of a transformer.

Own extractor: `onnx.utils.extract_model` needs value infos, which the optimiser does not leave.

Source: docs/spec/work.md, "Determinism and sandbox", rules R4 to R7.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Final

import onnx

from prsm.node.worker import lora
from prsm.node.worker.beside import size_of
from prsm.node.worker.golden import graph_inputs
from prsm.protocol.messages.pipe import ModelRefused, NoCut

# A weight above this makes its operator a heavy one; in a small graph a 16th of the largest does.
_HEAVY_ELEMENTS: Final = 4096
_HEAVY_SHARE: Final = 16
_PRODUCT_NAMES: Final = """
    Attention Conv ConvInteger ConvTranspose DynamicQuantizeLSTM DynamicQuantizeMatMul FusedConv
    FusedGemm FusedMatMul FusedMatMulActivation GRU Gemm LSTM MatMul MatMulInteger
    MatMulIntegerToFloat MatMulNBits MultiHeadAttention QAttention QGemm QLinearConv QLinearMatMul
    RNN
"""
_PRODUCTS: Final = frozenset(_PRODUCT_NAMES.split())
_HEAVY: Final = _PRODUCTS | {"Gather", "GatherBlockQuantized", "EmbedLayerNormalization"}
CONVOLUTIONS: Final = frozenset(
    ("Conv", "ConvInteger", "ConvTranspose", "FusedConv", "QLinearConv")
)
# How uneven a split may be for the sake of outputs that leave at the last stage only.
_UNEVEN_MAX: Final = 1.5


@dataclass(frozen=True, slots=True)
class Cut:
    """A place to cut: after node `position`, where `tensor` alone is live.

    `flops` and `weight_bytes` are sums over the nodes up to there.
    """

    position: int
    tensor: str
    flops: int
    weight_bytes: int


START: Final = Cut(-1, "", 0, 0)


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of a split: `inputs` and `outputs` are tensor names, the cut tensor first."""

    index: int
    cut_in: str | None
    cut_out: str | None
    outputs: tuple[str, ...]
    flops: int
    weight_bytes: int


def find_cuts(
    graph: onnx.GraphProto, positions: Mapping[str, int] | None = None
) -> tuple[list[Cut], Cut]:
    """Return all cuts in order, and the end of the graph with the sums over all nodes.

    Args:
        graph: a pinned graph.
        positions: for outputs of convolutions, at how many places each weight is used.

    Raises:
        ModelRefused: the nodes are not in topological order.
    """
    weights = _Weights(graph)
    last = _last_uses(graph)
    heavy: set[str] = set()
    live: set[str] = set()
    cuts: list[Cut] = []
    flops = weight_bytes = 0
    for place, node in enumerate(graph.node):
        uses = node_uses(node)
        if weights.is_made_of_them(node):
            continue
        big = weights.big(uses)
        if (big and node.op_type in _HEAVY) or any(name in heavy for name in uses):
            heavy.update(node.output)
            live.update(node.output)
        if node.op_type in _PRODUCTS:
            flops += sum(big) * (positions or {}).get(node.output[0], 1)
        weight_bytes += weights.bytes_first_used(uses)
        # Only what this node reads or makes can end here: looking at all would be a square.
        live.difference_update(n for n in (*uses, *node.output) if last.get(n, -1) <= place)
        if len(live) == 1:
            (tensor,) = live
            if not cuts or cuts[-1].tensor != tensor:
                cuts.append(Cut(place, tensor, flops, weight_bytes))
    return cuts, Cut(len(graph.node) - 1, "", flops, weight_bytes)


class _Weights:
    """The weights of a graph, and what its nodes make of nothing but weights."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._elements = {tensor.name: prod(tensor.dims) for tensor in graph.initializer}
        # What each is made of, one step back: sets of all weights behind it would be a square.
        self._parts: dict[str, list[str]] = {tensor.name: [] for tensor in graph.initializer}
        self._sizes = {tensor.name: size_of(tensor) for tensor in graph.initializer}
        self._seen: set[str] = set()
        products = [
            self._elements[name]
            for node in graph.node
            if node.op_type in _HEAVY
            for name in node.input
            if name in self._elements
        ]
        largest = max([*products, *self._elements.values()], default=0)
        self._heavy_min = min(_HEAVY_ELEMENTS, largest // _HEAVY_SHARE)

    def is_made_of_them(self, node: onnx.NodeProto) -> bool:
        """Is this a stored weight on its way, such as one that is widened before its product?"""
        uses = node_uses(node)
        if not uses or not all(name in self._parts for name in uses):
            return False
        for name in node.output:
            self._parts[name] = uses
            self._elements[name] = max(self._elements[use] for use in uses)
        return True

    def big(self, uses: Sequence[str]) -> list[int]:
        """Elements of each heavy weight among the tensors a node reads."""
        found = (self._elements.get(name, 0) for name in uses)
        return [count for count in found if count > self._heavy_min]

    def bytes_first_used(self, uses: Sequence[str]) -> int:
        """Bytes of the weights behind these tensors that no node before has read."""
        total = 0
        todo = list(uses)
        while todo:
            name = todo.pop()
            if name not in self._seen and name in self._parts:
                self._seen.add(name)
                total += self._sizes.get(name, 0)
                todo.extend(self._parts[name])
        return total


def choose(cuts: Sequence[Cut], end: Cut, stages: int, *, early: int | None = None) -> list[Cut]:
    """Choose the cuts of a split into `stages` of about equal work, never one twice.

    Args:
        cuts: all there are.
        end: the end of the graph.
        stages: how many parts.
        early: position of the first node that makes a graph output. A receipt's chain wants one
            tensor between stages, so cuts before it are taken unless they make a stage half as
            long again as it would be else.

    Raises:
        NoCut: the graph has too few cuts; the text names the counts that exist.
    """
    if stages > len(cuts) + 1:
        raise NoCut(f"no cut into {stages} stages; this graph can be cut into 1 to {len(cuts) + 1}")
    chosen = _nearest(cuts, end, stages)
    before = [cut for cut in cuts if early is not None and cut.position < early]
    if 0 < len(before) < len(cuts) and stages <= len(before) + 1:
        tidy = _nearest(before, end, stages)
        if _longest(tidy, end) <= _UNEVEN_MAX * _longest(chosen, end):
            return tidy
    return chosen


def _nearest(cuts: Sequence[Cut], end: Cut, stages: int) -> list[Cut]:
    chosen: list[Cut] = []
    first = 0
    for k in range(1, stages):
        reserve = stages - 1 - k  # cuts that must be left for the stages behind
        candidates = range(first, len(cuts) - reserve)
        goal = end.flops * k
        best = min(candidates, key=lambda i: (abs(cuts[i].flops * stages - goal), i))
        chosen.append(cuts[best])
        first = best + 1
    return chosen


def _longest(chosen: Sequence[Cut], end: Cut) -> int:
    marks = [0, *(cut.flops for cut in chosen), end.flops]
    return max(high - low for low, high in pairwise(marks))


def first_output(graph: onnx.GraphProto) -> int | None:
    """Return the position of the first node that makes a graph output."""
    outputs = {value.name for value in graph.output}
    made = (i for i, node in enumerate(graph.node) if not outputs.isdisjoint(node.output))
    return next(made, None)


def stages_of(graph: onnx.GraphProto, chosen: Sequence[Cut], end: Cut) -> list[Stage]:
    """Lay out the stages between chosen cuts; a graph output leaves where it is made (R7)."""
    made = {name: place for place, node in enumerate(graph.node) for name in node.output}
    bounds = [START, *chosen, end]
    stages = []
    for index, (low, high) in enumerate(pairwise(bounds)):
        is_last = high is end
        leaving = [
            value.name
            for value in graph.output
            if low.position < made.get(value.name, end.position) <= high.position
        ]
        cut_out = None if is_last else high.tensor
        outputs = leaving if cut_out is None or cut_out in leaving else [cut_out, *leaving]
        stages.append(
            Stage(
                index,
                low.tensor or None,
                cut_out,
                tuple(outputs),
                high.flops - low.flops,
                high.weight_bytes - low.weight_bytes,
            )
        )
    return stages


def extract(
    model: onnx.ModelProto,
    stage: Stage,
    boundaries: dict[str, onnx.ValueInfoProto],
) -> onnx.ModelProto:
    """Take the nodes of one stage out of the graph, walking back from its outputs.

    Args:
        model: the pinned model.
        stage: what to take.
        boundaries: declarations of the cut tensors, which the pinned graph does not have.

    Raises:
        ModelRefused: the stage depends on a tensor before its cut that is not light.
    """
    graph = model.graph
    producers = {name: place for place, node in enumerate(graph.node) for name in node.output}
    needed: set[int] = set()
    used: set[str] = set()
    todo = list(stage.outputs)
    while todo:
        name = todo.pop()
        if name in used:
            continue
        used.add(name)
        if name == stage.cut_in or name not in producers:
            continue
        place = producers[name]
        if place not in needed:
            needed.add(place)
            todo.extend(node_uses(graph.node[place]))
    shard = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    shard.graph.name = f"{graph.name or 'graph'} {stage.index}"
    shard.graph.node.extend(graph.node[place] for place in sorted(needed))
    shard.graph.initializer.extend(t for t in graph.initializer if t.name in used)
    if stage.cut_in is not None:
        if stage.cut_in not in used:
            raise ModelRefused(f"stage {stage.index} does not use the tensor before it")
        shard.graph.input.append(boundaries[stage.cut_in])
    shard.graph.input.extend(value for value in graph_inputs(graph) if value.name in used)
    # What an adapter may fill is an input and a weight; as a weight alone it would be fixed.
    filled = (value for value in graph.input if lora.is_adapter_input(value.name))
    shard.graph.input.extend(value for value in filled if value.name in used)
    declared = {value.name: value for value in graph.output} | boundaries
    shard.graph.output.extend(declared[name] for name in stage.outputs)
    return shard


def node_uses(node: onnx.NodeProto) -> list[str]:
    """Return every tensor a node reads, those its subgraphs take from outside included."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        graphs: Iterable[onnx.GraphProto] = [*attribute.graphs, attribute.g]
        for graph in graphs:
            for inner in graph.node:
                names.extend(node_uses(inner))
            names.extend(value.name for value in graph.output)
    return names


def _last_uses(graph: onnx.GraphProto) -> dict[str, int]:
    last: dict[str, int] = {}
    known = {tensor.name for tensor in graph.initializer} | {v.name for v in graph.input}
    for place, node in enumerate(graph.node):
        for name in node.input:
            if name and name not in known:
                raise ModelRefused(f"node {node.name[:80]!r} reads {name[:80]!r} before it is made")
        known.update(node.output)
        for name in node_uses(node):
            last[name] = place
    return last
