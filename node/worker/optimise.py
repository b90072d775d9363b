"""Pin a graph: optimise it once, so that everybody runs the same operators in the same order.

Rule R1: one session at ENABLE_EXTENDED on the CPU provider writes the optimised graph; the sha256
of that file is the model's compute identity. The file is the same on every CPU, so anybody can
check a pin by deriving it again. This is the one step that writes a file, because the runtime
offers no other way.
"""

from pathlib import Path
from typing import Final

from prsm.node.worker.session import load, session_options

_FILE: Final = "pinned.onnx"


def pin(raw: bytes, folder: Path) -> bytes:
    """Return the pinned graph of a scanned model.

    Args:
        raw: the model file.
        folder: a writable directory of this job's own; the file in it is removed again.

    Raises:
        ModelRefused: the runtime does not accept the graph.
        OutOfMemory: optimising needs more memory than this process may have.
    """
    path = folder / _FILE
    options = session_options(is_pinning=True)
    options.optimized_model_filepath = str(path)
    load(raw, options=options)
    pinned = path.read_bytes()
    # Emptied, not removed: a pinning child may make and cut files in its folder, not delete them.
    path.write_bytes(b"")
    return pinned
