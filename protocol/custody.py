"""Which cells of a file a holder must show, and what shows them: integers and hashes alone.

A file is cut into cells of 128 bytes; the tree of RFC 6962 over all of them is its commitment.
A round asks for 92 cells that nobody chose; the answer is those cells and the hashes that lead
from them to the root. Knows the arithmetic; must not know the ledger, files or who asks.

Why cells and not the blocks of a CID: a block of 1 MiB is checked whole or not at all, and 92 of
them are 92 MiB. What finds a missing part is the number of samples, not their size, so they are
as small as their paths: 92 x (128 + 32 x 17) bytes fit one transaction for files of 2 GiB; with
samples of 4,096 bytes an answer would be 0.4 MB. Source: docs/spec/ledger.md, "Custody".
"""

from collections.abc import Callable, Sequence
from typing import Final

from prsm.protocol.ids import Digest
from prsm.protocol.limits import CELL_BYTES, CELLS_ASKED, DEAL_BYTES_MAX, PROOF_NODES_MAX
from prsm.protocol.merkle import leaf_hash, node_hash
from prsm.protocol.signing import CUSTODY_TAG, sha256

_DRAW_BYTES: Final = 8  # of 2^24 cells: a draw is off by 2^-40 at most

# Of level and place: the node beside one that is known.
Beside = Callable[[int, int], bytes]


def cells_of(size: int) -> int:
    """Return how many cells a file of `size` bytes has; the last one may be shorter."""
    assert 0 < size <= DEAL_BYTES_MAX
    return -(-size // CELL_BYTES)


def shown_bytes(size: int, places: Sequence[int]) -> int:
    """Return how many bytes the cells at these places have together."""
    return sum(min(CELL_BYTES, size - place * CELL_BYTES) for place in places)


def round_seed(chain_id: bytes, number: int, parent: bytes) -> Digest:
    """Return what a round's samples are drawn from.

    Args:
        chain_id: 8 bytes that name the network.
        number: of the round.
        parent: hash of the block before the first one of the round.
    """
    return sha256(CUSTODY_TAG, chain_id, number.to_bytes(8, "big"), parent)


def asked(seed: bytes, deal: bytes, size: int) -> tuple[int, ...]:
    """Return the places of the cells a round asks of a deal, ascending, each once.

    The first `CELLS_ASKED` steps of a Fisher-Yates shuffle over all cells; all of them for a
    small file.

    Args:
        seed: of the round.
        deal: its id, so that no two holders of one file are asked for the same.
        size: of the file, in bytes.
    """
    count = cells_of(size)
    moved: dict[int, int] = {}
    drawn = []
    for step in range(min(count, CELLS_ASKED)):
        draw = sha256(seed, deal, step.to_bytes(4, "big"))[:_DRAW_BYTES]
        place = step + int.from_bytes(draw, "big") % (count - step)
        drawn.append(moved.get(place, place))
        moved[place] = moved.get(step, step)
    return tuple(sorted(drawn))


def climb(row: Sequence[tuple[int, bytes]], count: int, beside: Beside) -> bytes:
    """Return the root above some leaves.

    Args:
        row: place and hash of each known leaf, ascending, at least one.
        count: of all leaves.
        beside: called for each node that is needed and not known, level by level from the
            leaves (level 0), in each from the left.
    """
    known, level = list(row), 0
    while count > 1:
        upper: list[tuple[int, bytes]] = []
        waiting = iter(known)
        entry = next(waiting, None)
        while entry is not None:
            (place, node), entry = entry, next(waiting, None)
            if place & 1:
                node = node_hash(beside(level, place - 1), node)
            elif entry is not None and entry[0] == place + 1:
                node, entry = node_hash(node, entry[1]), next(waiting, None)
            elif place + 1 < count:
                node = node_hash(node, beside(level, place + 1))
            upper.append((place // 2, node))
        known, level, count = upper, level + 1, (count + 1) // 2
    return known[0][1]


def nodes_needed(places: Sequence[int], count: int) -> tuple[tuple[int, int], ...]:
    """Return level and place of each hash an answer brings, in its order."""
    needed: list[tuple[int, int]] = []

    def note(level: int, place: int) -> bytes:
        needed.append((level, place))
        return b""

    climb([(place, b"") for place in places], count, note)
    return tuple(needed)


def is_shown(tree: bytes, *, size: int, places: Sequence[int], cells: bytes, nodes: bytes) -> bool:
    """Do these cells stand at these places of the file with this commitment?

    Total: any bytes give True or False.

    Args:
        tree: root over all cells of the file.
        size: of the file, in bytes.
        places: ascending, within the file, at least one.
        cells: those of the places, one after the other.
        nodes: the hashes of `nodes_needed`, 32 bytes each, one after the other.
    """
    if len(cells) != shown_bytes(size, places) or len(nodes) % 32:
        return False
    row = [
        (place, leaf_hash(cells[index * CELL_BYTES : (index + 1) * CELL_BYTES]))
        for index, place in enumerate(places)
    ]
    given = (nodes[start : start + 32] for start in range(0, len(nodes), 32))
    # A node too few is an empty hash, which leads nowhere; one too many is left over.
    root = climb(row, cells_of(size), lambda _level, _place: next(given, b""))
    return root == tree and next(given, None) is None


def _nodes_max() -> int:
    """Return the most hashes an answer can need: samples as far apart as they can be."""
    depth = (cells_of(DEAL_BYTES_MAX) - 1).bit_length()
    alone = (CELLS_ASKED - 1).bit_length()
    return CELLS_ASKED * (depth - alone) + (1 << alone) - CELLS_ASKED


assert _nodes_max() == PROOF_NODES_MAX
