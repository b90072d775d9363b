"""A worker that lies: the node's own fork server, composed with a computation that corrupts.

`python -m prsm.testnet.liar_worker [--cheat NAME]` stands in for `prsm.node.worker` in a pool's
command. Golden rows are computed honestly (a liar wants to be given work), answers to runs are
not. The node itself has no such switch. `NAME` is one of `CHEATS`; without it one element of each
output differs by a thousandth. Cheats with weights are made in the shard's file instead.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from prsm.node.worker.__main__ import main
from prsm.node.worker.job import Program
from prsm.node.worker.pipe import Array
from prsm.node.worker.session import Compute, Model, RunOptions, compute

_Answers = dict[str, Array]
_past: dict[tuple[tuple[str, tuple[int, ...]], ...], _Answers] = {}
_dice = np.random.default_rng(11)


def lie(model: Model, feeds: Mapping[str, Array], options: RunOptions) -> _Answers:
    """Compute, then change the first element of every output a little."""
    answers = compute(model, feeds, options)
    return {name: _corrupt(array) for name, array in answers.items()}


def skip(model: Model, feeds: Mapping[str, Array], options: RunOptions) -> _Answers:
    """Pass on what came in, where it has the shape of what goes out, else zeros."""
    answers = compute(model, feeds, options)  # for the shapes alone
    floats = [array for array in feeds.values() if array.dtype.kind == "f"]
    return {
        name: next((f.copy() for f in floats if f.shape == array.shape), np.zeros_like(array))
        for name, array in answers.items()
    }


def random(model: Model, feeds: Mapping[str, Array], options: RunOptions) -> _Answers:
    """Numbers of the right shapes and of the usual size."""
    answers = compute(model, feeds, options)  # for the shapes alone
    return {
        name: _dice.standard_normal(array.shape).astype(array.dtype)
        if array.dtype.kind == "f"
        else np.roll(array, 1) + 1
        for name, array in answers.items()
    }


def stale(model: Model, feeds: Mapping[str, Array], options: RunOptions) -> _Answers:
    """The first answer to a batch of these shapes, for ever."""
    key = tuple((name, array.shape) for name, array in sorted(feeds.items()))
    if key not in _past:
        _past[key] = compute(model, feeds, options)
    return _past[key]


CHEATS: Final[Mapping[str, Compute]] = {
    "lie": lie,
    "skip": skip,
    "random": random,
    "stale": stale,
}


def _corrupt(array: Array) -> Array:
    if array.size == 0:
        return array
    corrupted = array.copy()
    first = corrupted.reshape(-1)[:1]
    # A thousandth: far above the noise between machines, far below what a person would notice.
    step = 0.001 if array.dtype.kind == "f" else 1
    first[...] = ~first if array.dtype.kind == "b" else first + step
    return corrupted


def run(argv: Sequence[str]) -> int:
    """Serve with the chosen cheat."""
    name = "lie"
    if argv[:1] == ["--cheat"]:
        name, argv = argv[1], argv[2:]
    return main(argv, Program(compute=CHEATS[name]))


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
