"""A worker that lies: the node's own fork server, composed with a computation that corrupts.

`python -m prsm.testnet.liar_worker` stands in for `prsm.node.worker` in a pool's command. Golden
rows are computed honestly (a liar wants to be given work), answers to runs are not: one element
of each output differs. The node itself has no such switch.
"""

import sys
from collections.abc import Mapping

from prsm.node.worker.__main__ import main
from prsm.node.worker.job import Program
from prsm.node.worker.pipe import Array
from prsm.node.worker.session import Model, RunOptions, compute


def lie(model: Model, feeds: Mapping[str, Array], options: RunOptions) -> dict[str, Array]:
    """Compute, then change the first element of every output a little."""
    answers = compute(model, feeds, options)
    return {name: _corrupt(array) for name, array in answers.items()}


def _corrupt(array: Array) -> Array:
    if array.size == 0:
        return array
    corrupted = array.copy()
    first = corrupted.reshape(-1)[:1]
    # A thousandth: far above the noise between machines, far below what a person would notice.
    step = 0.001 if array.dtype.kind == "f" else 1
    first[...] = ~first if array.dtype.kind == "b" else first + step
    return corrupted


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Program(compute=lie)))
