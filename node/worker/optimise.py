"""Pin a graph: optimise it once, so that everybody runs the same operators in the same order.

Rule R1: one session at ENABLE_EXTENDED on the CPU provider writes the optimised graph; the sha256
of that file is the model's compute identity. The file is the same on every CPU, so anybody can
check a pin by deriving it again. This is the one step that writes a file, because the runtime
offers no other way.
"""

import os
from pathlib import Path
from typing import Final

from prsm.node.worker.beside import APART_BYTES_MIN, Beside
from prsm.node.worker.files import mapped, read_all
from prsm.node.worker.scan import MODEL_BYTES_MAX
from prsm.node.worker.session import load, session_options

_FILE: Final = "pinned.onnx"
_WEIGHTS: Final = "pinned.weights"
_OUTSIDE: Final = "session.optimized_model_external_initializers_file_name"
_OUTSIDE_MIN: Final = "session.optimized_model_external_initializers_min_size_in_bytes"


def pin(raw: bytes, folder: Path) -> bytes:
    """Return the pinned graph of a scanned model with its weights inside.

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
    return _taken(path)


def pin_apart(raw: bytes, folder: Path, beside: Beside) -> tuple[bytes, Beside]:
    """Return the pinned graph of a scanned model, and the file that has its large weights, mapped.

    Args:
        raw: the model file.
        folder: as for `pin`; the weights stay in it until `drop_weights`.
        beside: the files that weights of `raw` lie in.

    Raises:
        ModelRefused, OutOfMemory: as `pin`.
    """
    path = folder / _FILE
    options = session_options(is_pinning=True)
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry(_OUTSIDE, _WEIGHTS)
    options.add_session_config_entry(_OUTSIDE_MIN, str(APART_BYTES_MIN))
    load(raw, options=options, beside=beside)
    fd = os.open(folder / _WEIGHTS, os.O_RDONLY)
    try:
        return _taken(path), {_WEIGHTS: mapped(fd)}
    finally:
        os.close(fd)


def drop_weights(folder: Path) -> None:
    """Empty the file `pin_apart` mapped, once nothing reads it."""
    fd = os.open(folder / _WEIGHTS, os.O_RDWR)
    try:
        os.ftruncate(fd, 0)
    finally:
        os.close(fd)


def _taken(path: Path) -> bytes:
    fd = os.open(path, os.O_RDWR)
    try:
        pinned = read_all(fd, size_max=MODEL_BYTES_MAX)
        os.ftruncate(fd, 0)  # a pinning child cannot remove it; the daemon does
    finally:
        os.close(fd)
    return pinned
