"""How much address space a child needs: for a shard, and for preparing a model.

Pure. The figures are measured ones with room for activations; a child that needs more after all
ends with a typed answer of its own. Source: docs/spec/work.md, "Weights beside the graph".
"""

from collections.abc import Sequence
from typing import Final

from prsm.protocol.limits import MIB, WEIGHTS_INSIDE_BYTES_MAX

# The program with its libraries takes 230 MiB of address space before it has a model.
_BASE_BYTES: Final = 512 * MIB
_ROOM_BYTES: Final = 1024 * MIB  # MiniLM (90 MB) takes 1.15 GB in all at 32 rows of 256 tokens
# While a graph is read it is there as a file, as a message, as tensors and repacked for products.
_GRAPH_COPIES: Final = 4
# Weights beside a graph are there mapped and copied; the largest once more while it is repacked.
_WEIGHT_COPIES: Final = 2


def needed(graph_bytes: int, weights: Sequence[int] = ()) -> int:
    """Return what loading takes at least; `weights` are sizes of the files beside the graph."""
    beside = _WEIGHT_COPIES * sum(weights) + max(weights, default=0)
    return _BASE_BYTES + _GRAPH_COPIES * graph_bytes + beside


def given(graph_bytes: int, weights: Sequence[int], memory_bytes_max: int) -> int:
    """Return the bound of a child that runs a shard: what loading takes, and room for rows."""
    roomy = needed(graph_bytes, weights) + _GRAPH_COPIES * graph_bytes + _ROOM_BYTES
    return min(memory_bytes_max, roomy)


def needed_to_prepare(size: int) -> int:
    """Return what scanning, pinning and cutting takes at least of a model with `size` bytes."""
    if size <= WEIGHTS_INSIDE_BYTES_MAX:
        return 0  # it is tried; what does not suffice is answered by the child
    return _ROOM_BYTES + _WEIGHT_COPIES * size + size // 4


def given_to_prepare(size: int, memory_bytes_max: int) -> int:
    """Return the bound of a child that prepares a model."""
    if size <= WEIGHTS_INSIDE_BYTES_MAX:
        return min(memory_bytes_max, _ROOM_BYTES + 16 * size)
    return min(memory_bytes_max, 2 * _ROOM_BYTES + (_WEIGHT_COPIES + 1) * size)


def in_words(size: int) -> str:
    """Write a size as MiB, for a message."""
    return f"{-(-size // MIB)} MiB"
