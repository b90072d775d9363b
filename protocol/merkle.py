"""Merkle trees as in RFC 6962: roots, inclusion proofs, and the check of a proof.

Leaf = sha256(0x00 | item), node = sha256(0x01 | left | right). An odd leaf is never doubled:
a tree of n leaves splits at the largest power of two below n.
"""

from collections.abc import Sequence
from hashlib import sha256 as hash_of
from typing import Final

from prsm.protocol.ids import Digest
from prsm.protocol.signing import sha256

# The two hashes of a tree are a tenth of a block's CPU, so they call the library themselves.
EMPTY_ROOT: Final = sha256(b"")


def leaf_hash(item: bytes) -> Digest:
    """Hash of a leaf."""
    return Digest(hash_of(b"\x00" + item).digest())


def node_hash(left: bytes, right: bytes) -> Digest:
    """Hash of an inner node."""
    return Digest(hash_of(b"\x01" + left + right).digest())


def root(items: Sequence[bytes]) -> Digest:
    """Root over items in their order; `EMPTY_ROOT` for none."""
    return root_of_leaves([leaf_hash(item) for item in items])


def root_of_leaves(leaves: Sequence[Digest]) -> Digest:
    """Root over leaf hashes in their order; `EMPTY_ROOT` for none."""
    if not leaves:
        return EMPTY_ROOT
    level = list(leaves)
    # Pairing from the left with the odd one carried up gives the tree of RFC 6962.
    while len(level) > 1:
        paired = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = paired + level[len(level) & ~1 :]
    return level[0]


def proof(items: Sequence[bytes], index: int) -> tuple[Digest, ...]:
    """Audit path of `items[index]`, from the leaf upwards."""
    assert 0 <= index < len(items)
    level = [leaf_hash(item) for item in items]
    path = []
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        paired = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = paired + level[len(level) & ~1 :]
        index //= 2
    return tuple(path)


def is_included(
    item: bytes, *, index: int, count: int, path: Sequence[bytes], expected: bytes
) -> bool:
    """Does the path lead from `item` at `index` of `count` leaves to the expected root?

    Total: any integers and bytes give True or False.
    """
    if not 0 <= index < count:
        return False
    node: bytes = leaf_hash(item)
    steps = iter(path)
    while count > 1:
        if index ^ 1 < count:
            sibling = next(steps, None)
            if sibling is None or len(sibling) != 32:
                return False
            node = node_hash(sibling, node) if index & 1 else node_hash(node, sibling)
        index //= 2
        count = (count + 1) // 2
    return node == expected and next(steps, None) is None
