"""The commitment of a file to its cells, and answers from it: what a holder of a deal keeps.

Knows: a file, read in pieces of 1 MiB; one hash of each piece is kept, the rest is hashed again
for an answer (about 8 ms of CPU for each cell asked). Must not know: the ledger, rounds, where
the file lies. All of it is synchronous: call it in a thread.

A commitment is made from the same bytes as the CID, in one pass over them (`check` recomputes
it), because nothing in a CID says what its cells are: who makes a deal and who accepts it each
hash the file themselves. Source: docs/spec/ledger.md, "Custody".
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from prsm.protocol.custody import cells_of, climb
from prsm.protocol.errors import LocalError
from prsm.protocol.ids import Digest
from prsm.protocol.limits import CELL_BYTES, DEAL_BYTES_MAX, LEAF_BYTES
from prsm.protocol.merkle import leaf_hash, node_hash, root_of_leaves
from prsm.storage.cid import Cid
from prsm.storage.dag.unixfs import UNIXFS_V1_2025, Importer
from prsm.storage.errors import Corrupt, NotFound

PIECE_BYTES: Final = LEAF_BYTES
PIECE_LEVEL: Final = (PIECE_BYTES // CELL_BYTES - 1).bit_length()
_PIECE_CELLS: Final = PIECE_BYTES // CELL_BYTES
assert _PIECE_CELLS == 1 << PIECE_LEVEL


@dataclass(frozen=True, slots=True)
class PieceTree:
    """The commitment of one file.

    Attributes:
        file: its CID, from the same bytes.
        root: over all cells.
        size: of the file, in bytes.
        pieces: hash of each piece of 1 MiB; the last one may be of fewer cells.
    """

    file: Cid
    root: Digest
    size: int
    pieces: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """An answer: the cells, and the hashes that lead from them to the root."""

    cells: bytes
    nodes: bytes


def commit_file(path: Path) -> PieceTree:
    """Hash a file for a deal, and its CID with it.

    Raises:
        LocalError: it is empty, or larger than one deal may be.
        NotFound: it cannot be read.
    """
    importer = Importer(UNIXFS_V1_2025, lambda _cid, _raw: None)
    pieces: list[Digest] = []
    size = 0
    for raw in _pieces(path):
        size += len(raw)
        if size > DEAL_BYTES_MAX:
            break
        importer.add(raw)
        pieces.append(root_of_leaves(_cell_hashes(raw)))
    if not 0 < size <= DEAL_BYTES_MAX:
        raise LocalError(
            f"{path.name} has {size or 'no'} bytes or more, a deal is about 1 to {DEAL_BYTES_MAX}",
            hint="split the model into shards",
        )
    dag = importer.finish()
    return PieceTree(dag.root, root_of_leaves(pieces), size, tuple(pieces))


def answer(path: Path, tree: PieceTree, places: Sequence[int]) -> Shown:
    """Show the cells at these places, with what leads from them to the root.

    Args:
        path: of the file.
        tree: its commitment.
        places: ascending, as `protocol.custody.asked` gives them.

    Raises:
        NotFound: the file cannot be read.
        Corrupt: a piece of it is not what was committed to.
    """
    cells: list[bytes] = []
    nodes: list[bytes] = []
    levels: dict[int, list[list[Digest]]] = {}
    row: list[tuple[int, bytes]] = []
    with _opened(path) as file:
        for place in places:
            piece = place // _PIECE_CELLS
            file.seek(piece * PIECE_BYTES)
            raw = file.read(PIECE_BYTES)
            if piece not in levels:
                levels[piece] = _levels(_cell_hashes(raw))
                if levels[piece][-1] != [tree.pieces[piece]]:
                    raise Corrupt(
                        f"{path.name}: piece {piece} of {len(tree.pieces)} has changed on disk",
                        hint="fetch it again: prsm model verify",
                    )
            start = place * CELL_BYTES - piece * PIECE_BYTES
            cell = raw[start : start + CELL_BYTES]
            cells.append(cell)
            row.append((place, leaf_hash(cell)))
    upper = _levels(list(tree.pieces))

    def beside(level: int, place: int) -> bytes:
        if level >= PIECE_LEVEL:
            node = upper[level - PIECE_LEVEL][place]
        else:
            width = PIECE_LEVEL - level
            node = levels[place >> width][level][place & ((1 << width) - 1)]
        nodes.append(node)
        return node

    climb(row, cells_of(tree.size), beside)
    return Shown(b"".join(cells), b"".join(nodes))


def encode_tree(tree: PieceTree) -> bytes:
    """Write a commitment down: 32 bytes for each MiB of the file."""
    return b"".join((tree.file.raw, tree.size.to_bytes(8, "big"), *tree.pieces))


def decode_tree(raw: bytes, *, file: Cid, root: bytes) -> PieceTree | None:
    """Read a commitment back; None if it is not that of this file and root."""
    head = len(file.raw)
    pieces = tuple(Digest(raw[at : at + 32]) for at in range(head + 8, len(raw), 32))
    if raw[:head] != file.raw or len(raw) < head + 8 + 32 or root_of_leaves(pieces) != root:
        return None
    return PieceTree(file, Digest(root), int.from_bytes(raw[head : head + 8], "big"), pieces)


def _cell_hashes(raw: bytes) -> list[Digest]:
    hash_of, view = hashlib.sha256, memoryview(raw)
    return [
        Digest(hash_of(b"\x00" + view[at : at + CELL_BYTES]).digest())
        for at in range(0, len(raw), CELL_BYTES)
    ]


def _levels(leaves: list[Digest]) -> list[list[Digest]]:
    """All levels of a tree from its leaves to its root; an odd node is carried up."""
    levels = [leaves]
    while len(levels[-1]) > 1:
        row = levels[-1]
        paired = [node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)]
        levels.append(paired + row[len(row) & ~1 :])
    return levels


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise NotFound(f"{path.name} cannot be read: {error.strerror}") from error


def _pieces(path: Path) -> Iterator[bytes]:
    with _opened(path) as file:
        while raw := file.read(PIECE_BYTES):
            yield raw
