"""Pin a graph: optimise it once, so that everybody runs the same operators in the same order.

Rule R1: one session at ENABLE_EXTENDED on the CPU provider writes the optimised graph; the sha256
of that file is the model's compute identity. The file is the same on every CPU, so anybody can
check a pin by deriving it again. This is the one step that writes a file, because the runtime
offers no other way.
"""

import os
from pathlib import Path
from typing import Final

from prsm.node.worker.files import read_all
from prsm.node.worker.scan import MODEL_BYTES_MAX
from prsm.node.worker.session import load, session_options

_FILE: Final = "pinned.onnx"


def pin(raw: bytes, folder: Path) -> bytes:
    """Return the pinned graph of a scanned model.

    Args:
        raw: the model file.
        folder: a writable directory of this job's own; the file in it is left empty.

    Raises:
        ModelRefused: the runtime does not accept the graph.
        OutOfMemory: optimising needs more memory than this process may have.
    """
    path = folder / _FILE
    options = session_options(is_pinning=True)
    options.optimized_model_filepath = str(path)
    load(raw, options=options)
    fd = os.open(path, os.O_RDWR)
    try:
        pinned = read_all(fd, size_max=MODEL_BYTES_MAX)
        os.ftruncate(fd, 0)  # a pinning child cannot remove it; the daemon does
    finally:
        os.close(fd)
    return pinned
