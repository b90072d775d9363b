"""The bucketed Merkle tree over the whole state; only touched paths are computed again.

Invariants: `_buckets` holds exactly the state's pairs; a node without an entry in `_levels` is
the root of empty buckets; nobody sees an update half done, since what is read is computed first.
The tree before the last update stays readable, since the header of
the tip commits to the state *before* its own block: old buckets are kept, and the nodes over them
are computed when such a proof is wanted, not with each block.
Source: docs/spec/ledger.md, "Proofs".
"""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Final, final

from prsm.consensus.ledger.buckets import Bucket, bucket_root, leaf_of, write
from prsm.consensus.ledger.state import Change
from prsm.protocol.ids import Digest
from prsm.protocol.limits import TREE_BITS_MAX
from prsm.protocol.merkle import node_hash
from prsm.protocol.proofs import StateProof, bucket_index

# As in `merkle`, written out: a block computes ten thousand of them.
_NODE = b"\x01"
_PART: Final = 128  # buckets: about a millisecond
_BUCKET: Final = 8  # nodes that cost what a bucket does


@final
class Tree:
    """Root and proofs of a state of at most 2^20 buckets."""

    def __init__(self, bits: int, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        assert 1 <= bits <= TREE_BITS_MAX
        self._bits = bits
        empty: list[bytes] = [bucket_root(())]
        for _ in range(bits):
            empty.append(node_hash(empty[-1], empty[-1]))
        self._empty = empty  # by level, leaves first
        self._levels: list[dict[int, bytes]] = [{} for _ in range(bits + 1)]
        self._buckets: dict[int, Bucket] = {}
        self._levels_before: list[dict[int, bytes]] | None  # of touched nodes
        self._rest: Iterator[int] = iter(())  # what is left of the last update
        self.update(pairs)
        self._settle()
        self._buckets_before: dict[int, Bucket] = {}

    @property
    def root(self) -> Digest:
        """Root over all buckets."""
        self._settle()
        return Digest(self._node(self._bits, 0))

    def update(self, changes: Iterable[Change]) -> None:
        """Write changes; the touched paths are computed by `settling`, or when they are read."""
        self._settle()
        self._rest = self._updating(changes)

    def settling(self) -> Iterator[int]:
        """Compute what is left of the last update in parts, each told by its cost in nodes.

        A block of 500 transfers takes ten milliseconds, in which a loop could do nothing else.
        Whoever reads between two parts computes the rest.
        """
        yield from self._rest

    def _settle(self) -> None:
        for _ in self._rest:
            pass

    def _updating(self, changes: Iterable[Change]) -> Iterator[int]:
        bits, written = self._bits, dict[int, dict[bytes, bytes | None]]()
        for key, value in changes:
            index = bucket_index(key, bits)
            if index in written:
                written[index][key] = value
            else:
                written[index] = {key: value}
        buckets, leaves = self._buckets, self._levels[0]
        yield 2 * len(written)  # a key is hashed and sorted in
        self._levels_before = None
        self._buckets_before = {index: buckets.get(index, ()) for index in written}
        for count, (index, values) in enumerate(written.items(), 1):
            buckets[index], leaves[index] = write(buckets.get(index, ()), values, bits)
            if not count % _PART:
                yield _PART * _BUCKET
        touched = set(written)
        for level in range(1, bits + 1):
            touched = {index >> 1 for index in touched}
            self._combine(level, touched)
            yield len(touched)

    def _combine(self, level: int, touched: Iterable[int]) -> None:
        """Compute nodes of a level from those below: 14 of them for each account of a block."""
        below, nothing = self._levels[level - 1].get, self._empty[level - 1]
        here = self._levels[level]
        for index in touched:
            left = 2 * index
            pair = below(left, nothing) + below(left + 1, nothing)
            here[index] = sha256(_NODE + pair).digest()

    def prove(self, key: bytes) -> StateProof:
        """Proof of a key's value, or of its absence, under `root`."""
        self._settle()
        index = bucket_index(key, self._bits)
        pairs, path = leaf_of(self._buckets.get(index, ()), key, self._bits)
        above = tuple(self._node(level, (index >> level) ^ 1) for level in range(self._bits))
        return StateProof(key=key, bucket=pairs, path=path + above)

    def prove_before(self, key: bytes) -> StateProof:
        """The same under the root before the last update."""
        self._settle()
        index = bucket_index(key, self._bits)
        bucket = self._buckets_before.get(index)
        if bucket is None:
            bucket = self._buckets.get(index, ())
        pairs, path = leaf_of(bucket, key, self._bits)
        before = self._before()
        above = tuple(
            self._node_before(before, level, (index >> level) ^ 1) for level in range(self._bits)
        )
        return StateProof(key=key, bucket=pairs, path=path + above)

    def _before(self) -> list[dict[int, bytes]]:
        """Nodes as they were, of those that the last update touched."""
        before = self._levels_before
        if before is None:
            before = [{i: bucket_root(bucket) for i, bucket in self._buckets_before.items()}]
            for below in range(self._bits):
                before.append(
                    {
                        index: node_hash(
                            self._node_before(before, below, 2 * index),
                            self._node_before(before, below, 2 * index + 1),
                        )
                        for index in {index >> 1 for index in before[below]}
                    }
                )
            self._levels_before = before
        return before

    def _node_before(self, before: list[dict[int, bytes]], level: int, index: int) -> bytes:
        return before[level].get(index) or self._node(level, index)

    def _node(self, level: int, index: int) -> bytes:
        return self._levels[level].get(index, self._empty[level])
