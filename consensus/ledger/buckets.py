"""A bucket of the state's tree: its pairs, or two halves of it while they are too many for a leaf.

Accounts, job ids and names are chosen freely, so keys can be ground into one bucket by the
thousand: one leaf over all of them would make each of them unprovable. What a bucket looks like
depends on its pairs alone, not on the order in which they came. Source: docs/spec/ledger.md,
"Proofs".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Union

from prsm.protocol.codec import encode
from prsm.protocol.ids import Digest
from prsm.protocol.merkle import leaf_hash, node_hash
from prsm.protocol.proofs import LEAF_BYTES_MAX
from prsm.protocol.signing import sha256

Pairs = tuple[tuple[bytes, bytes], ...]
Bucket = Union[Pairs, "Split"]


@dataclass(frozen=True, slots=True)
class Split:
    """Two halves by the next bit of the keys' hashes, of more pairs than a leaf may hold."""

    halves: tuple[Bucket, Bucket]
    roots: tuple[Digest, Digest]


def bucket_of(pairs: Pairs, depth: int) -> tuple[Bucket, Digest]:
    """The bucket of these pairs, and its root.

    Args:
        pairs: ascending by key, the first `depth` bits of the keys' hashes are the same.
        depth: bits of the tree, and one more for each half of a half.
    """
    root = _leaf_root(pairs)
    if root is not None:
        return pairs, root
    sides: tuple[list[tuple[bytes, bytes]], ...] = ([], [])
    for pair in pairs:
        sides[_side(pair[0], depth)].append(pair)
    return _split(*(bucket_of(tuple(side), depth + 1) for side in sides))


def write(
    bucket: Bucket, values: Mapping[bytes, bytes | None], depth: int
) -> tuple[Bucket, Digest]:
    """The bucket after changes of its pairs, and its root; costs what they touch of it."""
    if not isinstance(bucket, Split):
        kept = [pair for pair in bucket if pair[0] not in values]
        kept += [(key, value) for key, value in values.items() if value is not None]
        return bucket_of(tuple(sorted(kept)) if len(kept) > 1 else tuple(kept), depth)
    sides: tuple[dict[bytes, bytes | None], ...] = ({}, {})
    for key, value in values.items():
        sides[_side(key, depth)][key] = value
    left, right = (
        write(half, side, depth + 1) if side else (half, root)
        for half, root, side in zip(bucket.halves, bucket.roots, sides, strict=True)
    )
    if isinstance(left[0], Split) or isinstance(right[0], Split):
        return _split(left, right)
    joined = tuple(sorted(left[0] + right[0]))
    root = _leaf_root(joined)
    return _split(left, right) if root is None else (joined, root)


def bucket_root(bucket: Bucket) -> Digest:
    """Root of a bucket."""
    return node_hash(*bucket.roots) if isinstance(bucket, Split) else leaf_hash(encode(bucket))


def leaf_of(bucket: Bucket, key: bytes, depth: int) -> tuple[Pairs, tuple[Digest, ...]]:
    """The pairs among which a key would stand, and the path from them to the bucket's root."""
    path: list[Digest] = []
    while isinstance(bucket, Split):
        side = _side(key, depth)
        path.append(bucket.roots[1 - side])
        bucket, depth = bucket.halves[side], depth + 1
    return bucket, tuple(reversed(path))


def _leaf_root(pairs: Pairs) -> Digest | None:
    """Root of pairs in one leaf; None if they are too many for it."""
    raw = encode(pairs)
    return None if len(raw) > LEAF_BYTES_MAX and len(pairs) > 1 else leaf_hash(raw)


def _split(left: tuple[Bucket, Digest], right: tuple[Bucket, Digest]) -> tuple[Bucket, Digest]:
    made = Split((left[0], right[0]), (left[1], right[1]))
    return made, node_hash(left[1], right[1])


def _side(key: bytes, depth: int) -> int:
    """The bit of a key's hash after the first `depth` ones."""
    return sha256(key)[depth >> 3] >> (7 - (depth & 7)) & 1
