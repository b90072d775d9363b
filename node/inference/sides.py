"""Files beside a model that its weights lie in: which may be read, and how they are opened.

A model names these files itself, and a stranger may have made it: what this node reads for it is
published as its weights. So a name must be plain, of the model's own folder, and begin as the
model's file does or be one the caller has named; and it must lead to a file and not to a link.
Must not know what is in them.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from prsm.protocol.messages.pipe import ModelRefused

_HINT: Final = "name it if it belongs to the model: --weights NAME, which may have * in it"


@contextmanager
def opened_sides(
    source: Path, names: Sequence[str], patterns: Sequence[str]
) -> Iterator[list[int]]:
    """Open the files a model says its weights lie in, read-only.

    Args:
        source: the model file.
        names: as the model gives them.
        patterns: names the caller accepts beside those that begin as the model's file does.

    Raises:
        ModelRefused: a name that is not accepted, or what it leads to.
    """
    fds: list[int] = []
    folder = _open_folder(source.parent)
    try:
        for name in names:
            fds.append(_open(folder, _accepted(source, name, patterns)))  # noqa: PERF401 - closed below
        yield fds
    finally:
        for fd in (*fds, folder):
            os.close(fd)


def _accepted(source: Path, name: str, patterns: Sequence[str]) -> str:
    """Return the plain name of a file in the model's folder."""
    plain = name.removeprefix("./")
    is_plain = plain.isprintable() and not plain.startswith(".") and not set(plain) & set("/\\:")
    if not plain or not is_plain:
        raise ModelRefused(
            f"its weights lie in {name[:80]!r}; only plain names in its own folder are read",
            hint="export it again, or write it anew with onnx.save_model",
        )
    if not plain.startswith(source.stem) and not any(fnmatchcase(plain, p) for p in patterns):
        raise ModelRefused(
            f"its weights lie in {plain[:80]!r}, which does not begin with {source.stem[:80]!r}",
            hint=_HINT,
        )
    return plain


def _open_folder(folder: Path) -> int:
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ModelRefused(f"{folder} cannot be read: {error.strerror}") from error


def _open(folder: int, name: str) -> int:
    # Without O_NONBLOCK a pipe of that name would hold this node up.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = os.open(name, flags, dir_fd=folder)
    except OSError as error:
        raise ModelRefused(
            f"its weights lie in {name[:80]!r}, which cannot be read: {error.strerror}",
            hint="put the file beside the model; a link is not followed, copy what it leads to",
        ) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ModelRefused(f"its weights lie in {name[:80]!r}, which is no file")
    return fd
