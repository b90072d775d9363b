"""A model too large for one worker: residual blocks of one product each, weights in a file beside.

Made to be large, not to be good at anything: its weights are drawn from a seed, block by block, so
that writing them takes no more memory than one block. More than 2 GiB cannot lie in one ONNX file.

Run: python -m prsm.node.worker.recipes.giant OUT [MIB]
"""

import sys
from pathlib import Path
from typing import Final

import numpy as np
import onnx

from prsm.node.worker.recipes.files import keep
from prsm.node.worker.recipes.graph import GraphBuilder
from prsm.protocol.limits import MIB

WIDTH: Final = 4096
BLOCK_BYTES: Final = WIDTH * WIDTH * 4  # 64 MiB
DEFAULT_MIB: Final = 2304
_WEIGHTS: Final = "model.weights"
_FLOAT: Final = onnx.TensorProto.FLOAT


def write(out: Path, *, mib: int = DEFAULT_MIB, seed: int = 0) -> Path:
    """Write `model.onnx` and `model.weights`; input `x`, output `y`, float32 (batch, 4096).

    Args:
        out: made if absent.
        mib: size of the weights, rounded down to blocks of 64 MiB, at least one.
        seed: of the weights.

    Returns:
        The path of the graph.
    """
    out.mkdir(parents=True, exist_ok=True)
    blocks = max(1, mib * MIB // BLOCK_BYTES)
    graph = GraphBuilder("giant")
    here = graph.input("x", _FLOAT, ["batch", WIDTH])
    step = graph.scalar("step", 0.25)
    for block in range(blocks):
        moved = graph.node("Tanh", [graph.node("MatMul", [here, f"w{block}"])])
        here = graph.node("Add", [here, graph.node("Mul", [moved, step])])
    graph.node("Tanh", [here], to_name="y")
    graph.output("y", _FLOAT, ["batch", WIDTH])
    model = graph.model()
    dice = np.random.default_rng(seed)
    with (out / _WEIGHTS).open("wb") as file:
        for block in range(blocks):
            # Uniform is enough, and four times as quick to draw as normal.
            weight = dice.random((WIDTH, WIDTH), dtype=np.float32)
            weight -= np.float32(0.5)
            weight /= np.float32(WIDTH**0.5)
            file.write(weight.data)
            model.graph.initializer.append(_apart(f"w{block}", block * BLOCK_BYTES))
    path = out / "model.onnx"
    keep(path, model.SerializeToString(deterministic=True))
    return path


def _apart(name: str, offset: int) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name=name, data_type=_FLOAT, dims=[WIDTH, WIDTH])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    places = {"location": _WEIGHTS, "offset": str(offset), "length": str(BLOCK_BYTES)}
    for key, value in places.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def main() -> int:
    """Write the model into the directory given on the command line."""
    if len(sys.argv) not in (2, 3):
        print(__doc__, file=sys.stderr)  # noqa: T201 - a program's answer to its user
        return 2
    mib = int(sys.argv[2]) if len(sys.argv) == 3 else DEFAULT_MIB
    print(write(Path(sys.argv[1]), mib=mib))  # noqa: T201 - a program's answer to its user
    return 0


if __name__ == "__main__":
    sys.exit(main())
