"""The bucketed Merkle tree over the whole state; only touched paths are computed again.

Invariants: `_buckets` holds exactly the state's pairs; a node without an entry in `_levels` is
the root of empty buckets. The tree before the last update stays readable, since the header of
the tip commits to the state *before* its own block. Source: docs/spec/ledger.md, "Proofs".
"""

from collections.abc import Iterable
from typing import final

from prsm.consensus.ledger.state import Change
from prsm.protocol.ids import Digest
from prsm.protocol.limits import TREE_BITS_MAX
from prsm.protocol.merkle import node_hash
from prsm.protocol.proofs import StateProof, bucket_hash, bucket_index

_Pairs = tuple[tuple[bytes, bytes], ...]


@final
class Tree:
    """Root and proofs of a state of at most 2^20 buckets."""

    def __init__(self, bits: int, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        assert 1 <= bits <= TREE_BITS_MAX
        self._bits = bits
        empty = [bucket_hash(())]
        for _ in range(bits):
            empty.append(node_hash(empty[-1], empty[-1]))
        self._empty = empty  # by level, leaves first
        self._levels: list[dict[int, Digest]] = [{} for _ in range(bits + 1)]
        self._buckets: dict[int, dict[bytes, bytes]] = {}
        self._before: list[dict[int, Digest]] = [{} for _ in range(bits + 1)]
        self._buckets_before: dict[int, _Pairs] = {}
        self.update(pairs)
        self._forget()

    @property
    def root(self) -> Digest:
        """Root over all buckets."""
        return self._node(self._bits, 0)

    def update(self, changes: Iterable[Change]) -> None:
        """Write changes and compute the touched paths again."""
        self._forget()
        for key, value in changes:
            index = bucket_index(key, self._bits)
            if index not in self._buckets_before:
                self._buckets_before[index] = self._pairs(index)
            bucket = self._buckets.setdefault(index, {})
            if value is None:
                bucket.pop(key, None)
            else:
                bucket[key] = value
        touched = set(self._buckets_before)
        for index in touched:
            self._set(0, index, bucket_hash(self._pairs(index)))
        for level in range(1, self._bits + 1):
            touched = {index >> 1 for index in touched}
            self._combine(level, touched)

    def _combine(self, level: int, touched: set[int]) -> None:
        """Compute nodes of a level from those below: 14 of them for each account of a block."""
        below, nothing = self._levels[level - 1], self._empty[level - 1]
        here, empty, before = self._levels[level], self._empty[level], self._before[level]
        for index in touched:
            before[index] = here.get(index, empty)
            left = below.get(2 * index, nothing)
            here[index] = node_hash(left, below.get(2 * index + 1, nothing))

    def prove(self, key: bytes) -> StateProof:
        """Proof of a key's value, or of its absence, under `root`."""
        index = bucket_index(key, self._bits)
        path = tuple(self._node(level, (index >> level) ^ 1) for level in range(self._bits))
        return StateProof(key=key, bucket=self._pairs(index), path=path)

    def prove_before(self, key: bytes) -> StateProof:
        """The same under the root before the last update."""
        index = bucket_index(key, self._bits)
        pairs = self._buckets_before.get(index)
        return StateProof(
            key=key,
            bucket=self._pairs(index) if pairs is None else pairs,
            path=tuple(
                self._before[level].get((index >> level) ^ 1)
                or self._node(level, (index >> level) ^ 1)
                for level in range(self._bits)
            ),
        )

    def _forget(self) -> None:
        self._before = [{} for _ in range(self._bits + 1)]
        self._buckets_before = {}

    def _node(self, level: int, index: int) -> Digest:
        return self._levels[level].get(index, self._empty[level])

    def _set(self, level: int, index: int, digest: Digest) -> None:
        self._before[level][index] = self._node(level, index)
        self._levels[level][index] = digest

    def _pairs(self, index: int) -> _Pairs:
        return tuple(sorted(self._buckets.get(index, {}).items()))
