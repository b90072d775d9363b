"""Books of a run: files of a network's folder with one JSON record a line, added to as it goes.

Knows: lines. Must not know: what they say. A process that is killed while it writes leaves a torn
line behind, which readers leave out.
"""

from pathlib import Path
from typing import TypeVar

import msgspec

Line = TypeVar("Line", bound=msgspec.Struct)


def add(path: Path, line: msgspec.Struct) -> None:
    """Write a record behind those that are there."""
    with path.open("ab") as file:
        file.write(msgspec.json.encode(line) + b"\n")


def read(path: Path, kind: type[Line]) -> list[Line]:
    """Every whole record, in the order they were written; none without a file."""
    found = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            found.append(msgspec.json.decode(line, type=kind))
        except msgspec.DecodeError:
            continue
    return found
