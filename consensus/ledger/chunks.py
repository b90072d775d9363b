"""A whole state in chunks: each is a subtree of the state's tree and is checked alone.

A chunk holds all entries of an aligned range of buckets, at most `CHUNK_BYTES_MAX` unless it is
a single bucket. The roots of all chunks lead to the state's root, so a wrong list is seen before
a chunk is fetched, and a wrong chunk before the next one. Knows: keys, values, buckets. Must not
know: what they mean, where chunks are kept. Source: docs/spec/storage.md, "Snapshots".
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final

import msgspec

from prsm.consensus.ledger.buckets import bucket_of
from prsm.protocol.codec import encode
from prsm.protocol.ids import Digest
from prsm.protocol.limits import CHUNK_BYTES_MAX, SNAPSHOT_CHUNKS_MAX
from prsm.protocol.merkle import node_hash
from prsm.protocol.messages.sync import ChunkHead
from prsm.protocol.proofs import KEY_BYTES_MAX, BadProof, bucket_index, pairs_hash

Pair = tuple[bytes, bytes]

# msgpack's prefixes of a key of at most 256 bytes (3) and of a value (5).
_PAIR_BYTES: Final = 8
_flat: Final = msgspec.msgpack.Decoder(list[bytes])


@dataclass(frozen=True, slots=True)
class Chunk:
    """The entries of buckets `first` to `first + 2^level - 1`."""

    first: int
    level: int
    root: Digest
    raw: bytes  # canonical array [key, value, key, value, …], by bucket, then by key
    bucket_entries: int  # of its largest bucket

    @property
    def head(self) -> ChunkHead:
        """What a snapshot's list says of it."""
        return ChunkHead(level=self.level, root=self.root)


@dataclass(frozen=True, slots=True)
class _Node:
    """A subtree on its way; without entries to add when it is cut already (`flat` is None)."""

    first: int
    level: int
    root: Digest
    flat: list[bytes] | None
    size: int
    entries: int  # of its largest bucket


def cut(pairs: Iterable[Pair], *, bits: int, size_max: int = CHUNK_BYTES_MAX) -> Iterator[Chunk]:
    """Cut a state into the largest subtrees that fit, holding about two chunks in memory.

    Args:
        pairs: all of it, ascending by bucket, then by key.
        bits: of the tree.
        size_max: bytes of a chunk of more than one bucket.

    Yields:
        Chunks in any order; sorted by `first` they are the whole state.
    """
    empty = _empty_roots(bits)
    stack: list[_Node] = []
    at = 0
    for index, group in groupby(pairs, key=lambda pair: bucket_index(pair[0], bits)):
        assert index >= at, "pairs are not in order of their buckets"
        yield from _fill(stack, at, index, empty, size_max)
        bucket = tuple(group)
        flat = [item for pair in bucket for item in pair]
        size = sum(map(len, flat)) + _PAIR_BYTES * len(bucket)
        node = _Node(index, 0, bucket_of(bucket, bits)[1], flat, size, len(bucket))
        yield from _push(stack, node, size_max)
        at = index + 1
    yield from _fill(stack, at, 1 << bits, empty, size_max)
    (top,) = stack
    yield from _done(top)


def root_of(heads: Sequence[ChunkHead], *, bits: int) -> Digest:
    """The state root that chunks in the order of their buckets lead to.

    Raises:
        BadProof: they are not exactly all buckets.
    """
    stack: list[tuple[int, Digest]] = []
    at = 0
    for head in heads[: SNAPSHOT_CHUNKS_MAX + 1]:
        if at % (1 << head.level) or at + (1 << head.level) > 1 << bits:
            raise BadProof(f"chunk of level {head.level} at bucket {at}", penalty=100)
        at += 1 << head.level
        node = (head.level, Digest(head.root))
        while stack and stack[-1][0] == node[0]:
            node = (node[0] + 1, node_hash(stack.pop()[1], node[1]))
        stack.append(node)
    if at != 1 << bits:
        raise BadProof(f"chunks of {at} buckets, the tree has {1 << bits}", penalty=100)
    return stack[0][1]


def firsts(heads: Iterable[ChunkHead]) -> list[int]:
    """The first bucket of each chunk, in order."""
    found = []
    at = 0
    for head in heads:
        found.append(at)
        at += 1 << head.level
    return found


def open_chunk(raw: bytes, head: ChunkHead, *, first: int, bits: int) -> list[Pair]:
    """Entries of a chunk, every one of them under its root; nothing else is needed to check it.

    Args:
        raw: as a peer or a file gave it; the caller bounds its length.
        head: what the snapshot's list says of it.
        first: its first bucket.
        bits: of the tree.

    Raises:
        BadProof: not this chunk, in any bit.
    """
    try:
        flat = _flat.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadProof(f"chunk at bucket {first}: {error}", penalty=100) from error
    if len(flat) % 2 or encode(flat) != raw:
        raise BadProof(f"chunk at bucket {first} in another spelling", penalty=100)
    pairs = list(zip(flat[::2], flat[1::2], strict=True))
    if _subtree(pairs, head, first=first, bits=bits) != head.root:
        raise BadProof(f"chunk at bucket {first} does not lead to its root", penalty=100)
    return pairs


def _subtree(pairs: list[Pair], head: ChunkHead, *, first: int, bits: int) -> Digest:
    level: dict[int, Digest] = {}
    before = -1
    for index, group in groupby(pairs, key=lambda pair: bucket_index(pair[0], bits)):
        bucket = tuple(group)
        keys = [key for key, _ in bucket]
        in_order = before < index and all(a < b for a, b in pairwise(keys))
        is_here = first <= index < first + (1 << head.level)
        if not in_order or not is_here or len(max(keys, key=len)) > KEY_BYTES_MAX or not keys[0]:
            raise BadProof(f"chunk at bucket {first} with keys out of place", penalty=100)
        before = index
        level[index] = bucket_of(bucket, bits)[1]
    empty = _empty_roots(head.level)
    for height in range(head.level):
        above = {}
        for index in {index >> 1 for index in level}:
            left = level.get(2 * index, empty[height])
            above[index] = node_hash(left, level.get(2 * index + 1, empty[height]))
        level = above
    return level.get(first >> head.level, empty[head.level])


def _fill(
    stack: list[_Node], at: int, end: int, empty: Sequence[Digest], size_max: int
) -> Iterator[Chunk]:
    """Push the empty buckets from `at` to `end` as the largest aligned subtrees."""
    while at < end:
        level = (at & -at).bit_length() - 1 if at else len(empty) - 1
        while at + (1 << level) > end:
            level -= 1
        yield from _push(stack, _Node(at, level, empty[level], [], 0, 0), size_max)
        at += 1 << level


def _push(stack: list[_Node], node: _Node, size_max: int) -> Iterator[Chunk]:
    """Put a subtree beside what is left of it and join what belongs together."""
    while stack and stack[-1].level == node.level:
        left = stack.pop()
        root, size = node_hash(left.root, node.root), left.size + node.size
        flat = None
        if left.flat is not None and node.flat is not None and size <= size_max:
            left.flat.extend(node.flat)
            flat = left.flat
        else:
            yield from _done(left)
            yield from _done(node)
        entries = max(left.entries, node.entries)
        node = _Node(left.first, left.level + 1, root, flat, size, entries)
    stack.append(node)


def _done(node: _Node) -> Iterator[Chunk]:
    if node.flat is not None:
        yield Chunk(node.first, node.level, node.root, encode(node.flat), node.entries)


def _empty_roots(bits: int) -> list[Digest]:
    """Roots of empty subtrees by level."""
    empty = [pairs_hash(())]
    for _ in range(bits):
        empty.append(node_hash(empty[-1], empty[-1]))
    return empty
