"""A long range in pieces, each noted in a small file, so that it can be ended and taken up again.

The file names the code it speaks of: figures of two versions are never added.
Knows: files, summaries. Must not know: what a run does.
"""

import ast
import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import msgspec

import prsm
from prsm.protocol.errors import LocalError
from prsm.testnet.sim import batch
from prsm.testnet.sim.batch import Summary
from prsm.testnet.sim.plan import Wish

_PLAYER: Final = batch.__name__


class OtherRun(LocalError):
    """The file speaks of other code or of other options."""

    reason = "other_run"


@dataclass(slots=True)
class Piece:
    """A range that is done."""

    first: int
    last: int  # behind it
    summary: Summary


@dataclass(slots=True)
class Progress:
    """What a file of `--resume` holds."""

    code: str
    wish: Wish
    pieces: list[Piece] = field(default_factory=list)

    def total(self) -> Summary:
        """All pieces together."""
        summary = Summary()
        for piece in self.pieces:
            summary.merge(piece.summary)
        return summary

    def missing(self, seeds: range, size: int) -> list[range]:
        """The pieces of a range that are not done, of at most `size` seeds each."""
        done = sorted((piece.first, piece.last) for piece in self.pieces)
        found: list[range] = []
        at = seeds.start
        for first, last in [*done, (seeds.stop, seeds.stop)]:
            edge = min(first, seeds.stop)
            found.extend(range(a, min(a + size, edge)) for a in range(at, edge, size))
            at = max(at, last)
        return found


def run(
    path: Path, seeds: range, wish: Wish, play: Callable[[range], Summary], *, size: int
) -> Summary:
    """Play what a file does not hold yet, noting each piece; return all it holds then.

    Raises:
        OtherRun: the file was made by other code, or with other options.
    """
    progress = Progress(code_digest(), wish)
    if path.exists():
        found = msgspec.json.decode(path.read_bytes(), type=Progress)
        for what, theirs, mine in (
            ("code", found.code, progress.code),
            ("options", found.wish, progress.wish),
        ):
            if theirs != mine:
                raise OtherRun(f"{path} holds a run of other {what}", hint="name another file")
        progress = found
    for piece in progress.missing(seeds, size):
        progress.pieces.append(Piece(piece.start, piece.stop, play(piece)))
        _save(path, progress)
    return progress.total()


def code_digest() -> str:
    """Names the code that runs play: sha256 over the files of `played_modules`, 16 digits."""
    hasher = hashlib.sha256()
    for name, path in sorted(played_modules().items()):
        hasher.update(name.encode() + path.read_bytes())
    return hasher.hexdigest()[:16]


def played_modules() -> dict[str, Path]:
    """The modules of this package that a run can load: what `batch` imports, and so on from there.

    Others may change in the middle of a long range: no run can tell.
    """
    found: dict[str, Path] = {}
    ahead = [_PLAYER]
    while ahead:
        name = ahead.pop()
        path = _file(name)
        if name in found or path is None:
            continue
        found[name] = path
        if "." in name:
            ahead.append(name.rpartition(".")[0])
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                ahead.extend(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                ahead.append(node.module)
                ahead.extend(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def _file(name: str) -> Path | None:
    """Source of a module of this package; None if the name is of anything else."""
    first, *rest = name.split(".")
    if first != prsm.__name__:
        return None
    path = Path(next(iter(prsm.__path__)), *rest)
    places = (path / "__init__.py", path.with_suffix(".py"))
    return next((place for place in places if place.is_file()), None)


def _save(path: Path, progress: Progress) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(msgspec.json.format(msgspec.json.encode(asdict(progress)), indent=1))
    other.replace(path)
