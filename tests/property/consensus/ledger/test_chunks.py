"""Chunks of any state: they are the whole of it, each is checked alone, no bit of one is free."""

from collections import Counter

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from prsm.consensus.ledger.chunks import Chunk, Pair, cut, firsts, open_chunk, root_of
from prsm.consensus.ledger.tree import Tree
from prsm.protocol.codec import encode
from prsm.protocol.limits import SNAPSHOT_CHUNKS_MAX
from prsm.protocol.merkle import node_hash
from prsm.protocol.messages.sync import ChunkHead
from prsm.protocol.proofs import KEY_BYTES_MAX, BadProof, bucket_index, pairs_hash

STATES = st.dictionaries(st.binary(min_size=1, max_size=40), st.binary(max_size=60), max_size=60)
BITS = st.integers(1, 9)
SIZES = st.integers(1, 3_000)


def ordered(state: dict[bytes, bytes], bits: int) -> list[Pair]:
    return sorted(state.items(), key=lambda pair: (bucket_index(pair[0], bits), pair[0]))


def chunks_of(state: dict[bytes, bytes], bits: int, size_max: int) -> list[Chunk]:
    found = cut(ordered(state, bits), bits=bits, size_max=size_max)
    return sorted(found, key=lambda chunk: chunk.first)


def size_of(pairs: list[Pair]) -> int:
    return sum(len(key) + len(value) + 8 for key, value in pairs)


def twin(state: dict[bytes, bytes], bits: int, size_max: int) -> list[tuple[int, int]]:
    """Which subtrees, by looking at the whole state again for each (first bucket, level)."""

    def split(first: int, level: int) -> list[tuple[int, int]]:
        last = first + (1 << level)
        inside = [pair for pair in state.items() if first <= bucket_index(pair[0], bits) < last]
        if level == 0 or size_of(inside) <= size_max:
            return [(first, level)]
        return split(first, level - 1) + split(first + (1 << (level - 1)), level - 1)

    return split(0, bits)


@given(STATES, BITS, SIZES)
@settings(deadline=None)
def test_chunks_are_the_state_and_lead_to_its_root(
    state: dict[bytes, bytes], bits: int, size_max: int
) -> None:
    """Cut as the dumb twin cuts; opened one by one they are the state; their roots are its root."""
    chunks = chunks_of(state, bits, size_max)
    heads = [chunk.head for chunk in chunks]
    assert [(chunk.first, chunk.level) for chunk in chunks] == twin(state, bits, size_max)
    assert firsts(heads) == [chunk.first for chunk in chunks]
    assert root_of(heads, bits=bits) == Tree(bits, state.items()).root
    opened = [
        pair
        for chunk in chunks
        for pair in open_chunk(chunk.raw, chunk.head, first=chunk.first, bits=bits)
    ]
    assert opened == ordered(state, bits)
    crowds = Counter(bucket_index(key, bits) for key in state)
    assert max(chunk.bucket_entries for chunk in chunks) == max(crowds.values(), default=0)


@given(STATES, BITS, SIZES, st.data())
@settings(deadline=None)
def test_no_bit_of_a_chunk_is_free(
    state: dict[bytes, bytes], bits: int, size_max: int, data: st.DataObject
) -> None:
    """Any flipped bit, any lost or added byte, another place, another chunk: refused."""
    chunks = chunks_of(state, bits, size_max)
    chunk = data.draw(st.sampled_from(chunks))
    bit = data.draw(st.integers(0, 8 * len(chunk.raw) - 1))
    flipped = bytearray(chunk.raw)
    flipped[bit // 8] ^= 1 << bit % 8
    wrong = [bytes(flipped), chunk.raw[:-1], chunk.raw + b"\0", b"", b"\xc0"]
    for raw in wrong:
        with pytest.raises(BadProof):
            open_chunk(raw, chunk.head, first=chunk.first, bits=bits)
    for other in chunks:
        if other.root != chunk.root:
            with pytest.raises(BadProof):
                open_chunk(other.raw, chunk.head, first=chunk.first, bits=bits)
    if msgspec.msgpack.decode(chunk.raw) and chunk.level < bits:
        with pytest.raises(BadProof):
            open_chunk(chunk.raw, chunk.head, first=chunk.first ^ (1 << chunk.level), bits=bits)


@given(STATES, BITS, SIZES, st.data())
@settings(deadline=None)
def test_a_list_of_chunks_that_is_not_all_buckets_is_refused(
    state: dict[bytes, bytes], bits: int, size_max: int, data: st.DataObject
) -> None:
    """One left out, one twice, two exchanged, another level: refused, or another root."""
    heads = [chunk.head for chunk in chunks_of(state, bits, size_max)]
    root = Tree(bits, state.items()).root
    at = data.draw(st.integers(0, len(heads) - 1))
    for wrong in (heads[:at] + heads[at + 1 :], [*heads, heads[at]]):
        with pytest.raises(BadProof):
            root_of(wrong, bits=bits)
    other = [*heads]
    other[at] = ChunkHead(level=heads[at].level, root=bytes(32))
    assert root_of(other, bits=bits) != root
    level = data.draw(st.integers(0, 20))
    assume(level != heads[at].level)
    other[at] = ChunkHead(level=level, root=heads[at].root)
    with pytest.raises(BadProof):
        root_of(other, bits=bits)


def test_entries_of_one_bucket_stay_together_however_many() -> None:
    """A bucket above the bound is a chunk of its own; its empty neighbours are chunks too."""
    bits, index = 4, bucket_index(b"k0", 4)
    keys = [b"k%d" % n for n in range(400)]
    state = {key: bytes(50) for key in keys if bucket_index(key, bits) == index}
    chunks = chunks_of(state, bits, 500)
    (full,) = (chunk for chunk in chunks if len(chunk.raw) > 1)
    assert (full.first, full.level) == (index, 0)
    assert len(full.raw) > 500
    assert len(chunks) == bits + 1
    assert root_of([chunk.head for chunk in chunks], bits=bits) == Tree(bits, state.items()).root


def test_a_bucket_that_is_split_in_the_tree_is_one_chunk_and_opens() -> None:
    """Many pairs, and two that are too large for one leaf."""
    bits, index = 2, bucket_index(b"k0", 2)
    keys = [b"k%d" % n for n in range(2_000)]
    state = {key: bytes(50) for key in keys if bucket_index(key, bits) == index}
    state |= dict.fromkeys(list(state)[:2], bytes(9_000))
    chunks = chunks_of(state, bits, 500)
    root = Tree(bits, state.items()).root
    assert root_of([chunk.head for chunk in chunks], bits=bits) == root
    (full,) = (chunk for chunk in chunks if len(chunk.raw) > 1)
    assert dict(open_chunk(full.raw, full.head, first=full.first, bits=bits)) == state


def led_to(pairs: list[Pair]) -> ChunkHead:
    """The head of a whole tree of two buckets that holds just these entries, in this order."""
    leaves: dict[int, list[Pair]] = {0: [], 1: []}
    for pair in pairs:
        leaves[bucket_index(pair[0], 1)].append(pair)
    left, right = (pairs_hash(tuple(leaves[index])) for index in (0, 1))
    return ChunkHead(level=1, root=node_hash(left, right))


def test_entries_in_any_other_order_are_refused_though_they_lead_to_the_root() -> None:
    keys = [b"k%d" % n for n in range(9)]
    low = [key for key in keys if bucket_index(key, 1) == 0][:2]
    high = [key for key in keys if bucket_index(key, 1) == 1][:1]
    good = [(key, b"v") for key in (*low, *high)]
    assert open_chunk(_flat(good), led_to(good), first=0, bits=1) == good
    twice = [good[0], (low[0], b"w"), *good[2:]]
    falling = [good[1], good[0], good[2]]
    later_first = [good[2], good[0], good[1]]
    overlong = next(key for n in range(9) if bucket_index(key := b"k" * (257 + n), 1) == 0)
    for wrong in (twice, falling, later_first, [(overlong, b"v")], [(b"", b"v")]):
        with pytest.raises(BadProof, match="out of place") as caught:
            open_chunk(_flat(wrong), led_to(wrong), first=0, bits=1)
        assert caught.value.penalty == 100, "no honest peer sends that: not asked again"
    alone = ChunkHead(level=0, root=pairs_hash((good[2],)))
    assert open_chunk(_flat(good[2:]), alone, first=1, bits=1) == good[2:]
    with pytest.raises(BadProof, match="out of place"):  # of a bucket that is not in this chunk
        open_chunk(_flat(good[2:]), alone, first=0, bits=1)


def test_a_list_may_have_as_many_chunks_as_the_wire_carries_and_is_read_no_further() -> None:
    bits = SNAPSHOT_CHUNKS_MAX.bit_length() - 1
    leaf = ChunkHead(level=0, root=pairs_hash(()))
    assert root_of([leaf] * SNAPSHOT_CHUNKS_MAX, bits=bits) == Tree(bits, []).root
    for more, deep, what in (
        (1, bits, "chunk of level 0 at bucket"),
        (9, bits + 1, f"chunks of {SNAPSHOT_CHUNKS_MAX + 1} buckets"),
    ):
        with pytest.raises(BadProof, match=what) as caught:
            root_of([leaf] * (SNAPSHOT_CHUNKS_MAX + more), bits=deep)
        assert caught.value.penalty == 100


def test_longest_key_there_can_be_is_one() -> None:
    pairs = [(b"k" * KEY_BYTES_MAX, b"v")]
    assert open_chunk(_flat(pairs), led_to(pairs), first=0, bits=1) == pairs


def _flat(pairs: list[Pair]) -> bytes:
    return encode([each for pair in pairs for each in pair])


def test_chunk_with_keys_no_ledger_has_is_refused() -> None:
    """An odd number of items, an empty key, an overlong key, a text: typed, never a crash."""
    head = ChunkHead(level=1, root=bytes(32))
    for flat in ([b"k"], [b"", b"v"], [b"k" * 257, b"v"], [b"k", b"v", b"k", b"w"]):
        with pytest.raises(BadProof):
            open_chunk(encode(flat), head, first=0, bits=1)
    for raw in (encode(["text", "v"]), encode([1, 2]), b"\x81\x01\x02", b"\x90" * 5):
        with pytest.raises(BadProof):
            open_chunk(raw, head, first=0, bits=1)
