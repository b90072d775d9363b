"""The bucketed tree against a dumb twin that hashes everything, and its proofs."""

import itertools
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prsm.consensus.ledger.tree import Tree
from prsm.protocol import merkle
from prsm.protocol.codec import decode, encode
from prsm.protocol.errors import WireError
from prsm.protocol.ids import Digest
from prsm.protocol.limits import TRANSACTION_BYTES_MAX
from prsm.protocol.proofs import (
    LEAF_BYTES_MAX,
    PROOF_BYTES_MAX,
    BadProof,
    StateProof,
    bucket_index,
    proven_value,
)
from prsm.protocol.signing import sha256

BITS = 3
KEYS = st.binary(min_size=1, max_size=3)
VALUES = st.tuples(st.binary(max_size=4), st.sampled_from((0, 3_000, 5_000, 9_000)))
CHANGES = st.dictionaries(KEYS, st.none() | VALUES, max_size=12)

Value = tuple[bytes, int]


def filled(value: Value) -> bytes:
    """First bytes, and so many zeros; two or three of the larger ones are too many for a leaf."""
    return value[0] + bytes(value[1])


def dumb_subtree(pairs: list[tuple[bytes, bytes]], depth: int) -> Digest:
    """The definition: a leaf if it is small or of one pair, else two by the next bit."""
    raw = encode(tuple(sorted(pairs)))
    if len(raw) <= LEAF_BYTES_MAX or len(pairs) == 1:
        return sha256(b"\x00", raw)
    bits = {key: f"{int.from_bytes(sha256(key), 'big'):0256b}"[depth] for key, _ in pairs}
    left, right = ([pair for pair in pairs if bits[pair[0]] == bit] for bit in "01")
    return sha256(b"\x01", dumb_subtree(left, depth + 1), dumb_subtree(right, depth + 1))


def dumb_root(state: dict[bytes, bytes], bits: int = BITS) -> Digest:
    """The definition: all buckets in order, a plain Merkle tree over them."""
    leaves = []
    for index in range(2**bits):
        pairs = [(k, v) for k, v in state.items() if bucket_index(k, bits) == index]
        leaves.append(dumb_subtree(pairs, bits))
    return merkle.root_of_leaves(leaves)


def write(state: dict[bytes, bytes], changes: dict[bytes, bytes | None]) -> None:
    for key, value in changes.items():
        if value is None:
            state.pop(key, None)
        else:
            state[key] = value


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(KEYS, VALUES), st.lists(CHANGES, max_size=4), KEYS)
def test_root_and_proofs_are_those_of_the_dumb_twin(
    first: dict[bytes, Value], blocks: list[dict[bytes, Value | None]], absent: bytes
) -> None:
    state = {key: filled(value) for key, value in first.items()}
    tree = Tree(BITS, state.items())
    assert tree.root == dumb_root(state)
    for drawn in blocks:
        changes = {key: None if value is None else filled(value) for key, value in drawn.items()}
        before, root_before = dict(state), tree.root
        write(state, changes)
        tree.update(sorted(changes.items()))
        assert tree.root == dumb_root(state)
        for key in {absent, *list(changes)[:3]}:
            assert proven_value(tree.prove(key), tree.root) == state.get(key)
            assert proven_value(tree.prove_before(key), root_before) == before.get(key)


def ground(bits: int, index: int) -> Iterator[bytes]:
    """Keys of one bucket, without end."""
    keys = (b"a" + sha256(number.to_bytes(4, "big")) + bytes(4) for number in itertools.count())
    return (key for key in keys if bucket_index(key, bits) == index)


def test_keys_ground_into_one_bucket_make_nobody_unprovable() -> None:
    """1,025 accounts beside a victim's: each entry and absence has a small proof that decodes.

    Then all but the victim leave again, and the tree is as if they had never come.
    """
    keys = ground(2, 3)
    victim, absent = next(keys), next(keys)
    strangers = list(itertools.islice(keys, 1_025))
    tree = Tree(2, [(victim, b"mine")])
    alone = tree.root
    for at in range(0, len(strangers), 205):  # five blocks
        tree.update([(key, b"dust") for key in strangers[at : at + 205]])
    state = dict.fromkeys(strangers, b"dust") | {victim: b"mine"}
    assert tree.root == Tree(2, state.items()).root == dumb_root(state, 2)
    for key in (victim, absent, *strangers[::100]):
        raw = encode(tree.prove(key))
        assert len(raw) <= LEAF_BYTES_MAX + 34 * 12
        proof = decode(raw, StateProof, size_max=PROOF_BYTES_MAX)
        assert proven_value(proof, tree.root) == state.get(key)
    before = tree.root
    tree.update([(key, None) for key in strangers])
    assert tree.root == alone
    assert proven_value(tree.prove_before(strangers[0]), before) == b"dust"
    assert proven_value(tree.prove(strangers[0]), alone) is None


def test_a_large_record_stands_alone_and_the_largest_proof_decodes() -> None:
    """Two records of a transaction's size in one bucket: each has a leaf, whatever the other is."""
    keys = ground(1, 0)
    first, second, absent = next(keys), next(keys), next(keys)
    state = {first: bytes(TRANSACTION_BYTES_MAX), second: bytes(TRANSACTION_BYTES_MAX)}
    tree = Tree(1, state.items())
    assert tree.root == dumb_root(state, 1)
    for key in (first, second, absent):
        raw = encode(tree.prove(key))
        assert len(raw) < TRANSACTION_BYTES_MAX + LEAF_BYTES_MAX
        proof = decode(raw, StateProof, size_max=PROOF_BYTES_MAX)
        assert proven_value(proof, tree.root) == state.get(key)


def test_a_proof_is_as_deep_as_hashes_have_bits_and_no_deeper() -> None:
    """Deeper than anybody grinds, and still followed bit by bit."""
    key, node = b"deep", sha256(b"\x00", encode(((b"deep", b"v"),)))
    for bit in reversed(f"{int.from_bytes(sha256(key), 'big'):0256b}"):
        node = sha256(b"\x01", *((bytes(32), node) if bit == "1" else (node, bytes(32))))
    proof = StateProof(key=key, bucket=((key, b"v"),), path=(bytes(32),) * 256)
    assert proven_value(decode(encode(proof), StateProof, size_max=PROOF_BYTES_MAX), node) == b"v"
    longer = encode(msgspec.structs.replace(proof, path=(bytes(32),) * 257))
    with pytest.raises(WireError, match="<= 256"):
        decode(longer, StateProof, size_max=PROOF_BYTES_MAX)
    fuller = msgspec.structs.replace(
        proof, bucket=tuple((n.to_bytes(2, "big"), b"") for n in range(1_366))
    )
    with pytest.raises(WireError, match="<= 1365"):
        decode(encode(fuller), StateProof, size_max=PROOF_BYTES_MAX)


def test_bucket_index_takes_the_highest_bits() -> None:
    assert bucket_index(b"x", 4) == sha256(b"x")[0] >> 4
    assert bucket_index(b"x", 12) == int.from_bytes(sha256(b"x")[:2], "big") >> 4


@pytest.fixture
def proven() -> tuple[StateProof, Digest]:
    tree = Tree(2, [(bytes([i]), b"v" * i) for i in range(1, 30)])
    return tree.prove(b"\x05"), tree.root


def test_every_change_to_a_proof_is_seen(proven: tuple[StateProof, Digest]) -> None:
    proof, root = proven
    assert proven_value(proof, root) == b"v" * 5
    flipped = bytes([proof.path[0][0] ^ 1]) + proof.path[0][1:]
    for bad in (
        msgspec.structs.replace(proof, path=(flipped, *proof.path[1:])),
        msgspec.structs.replace(proof, path=proof.path[:-1]),
        msgspec.structs.replace(proof, path=(*proof.path, bytes(32))),
        msgspec.structs.replace(proof, bucket=proof.bucket[1:]),
        msgspec.structs.replace(proof, bucket=proof.bucket[::-1]),
        msgspec.structs.replace(proof, bucket=(*proof.bucket, proof.bucket[-1])),
        msgspec.structs.replace(
            proof, bucket=tuple((key, value + b"x") for key, value in proof.bucket)
        ),
    ):
        with pytest.raises(BadProof):
            proven_value(bad, root)
    with pytest.raises(BadProof):
        proven_value(proof, bytes(32))


def test_absence_is_of_the_keys_own_bucket(proven: tuple[StateProof, Digest]) -> None:
    """A bucket of another place says nothing about a key."""
    proof, root = proven
    elsewhere = next(
        bytes([i])
        for i in range(30, 256)
        if bucket_index(bytes([i]), 2) != bucket_index(b"\x05", 2)
    )
    with pytest.raises(BadProof):
        proven_value(msgspec.structs.replace(proof, key=elsewhere), root)
    beside = next(
        bytes([i])
        for i in range(30, 256)
        if bucket_index(bytes([i]), 2) == bucket_index(b"\x05", 2)
    )
    assert proven_value(msgspec.structs.replace(proof, key=beside), root) is None


@pytest.mark.parametrize("parts", [0, 1, 3, 100])
def test_an_update_half_done_is_seen_by_nobody(parts: int) -> None:
    """Whoever reads between two parts reads the whole, and the rest has nothing left to do."""
    first = {index.to_bytes(2, "big"): b"old" for index in range(600)}
    changes = [(name, b"new") for name in first]
    tree, whole = Tree(8, first.items()), Tree(8, changes)
    before, name = tree.root, bytes(2)
    tree.update(changes)
    rest = tree.settling()
    done = sum(1 for _ in itertools.islice(rest, parts))
    assert done == parts or done > 8  # each level is a part, and some of the buckets
    proof = tree.prove_before(name)
    assert proven_value(proof, before) == b"old"
    assert not list(rest)
    assert tree.root == whole.root
    assert proven_value(tree.prove(name), tree.root) == b"new"
    tree.update([(name, None)])
    tree.update([(name, b"new")])
    assert tree.root == whole.root


def test_only_touched_paths_are_computed() -> None:
    """20 levels and a million buckets: building and updating a small state stays small."""
    tree = Tree(20, [(bytes([i]), b"") for i in range(10)])
    assert sum(len(level) for level in tree._levels) <= 10 * 21
    tree.update([(b"\x01", b"new")])
    assert proven_value(tree.prove(b"\x01"), tree.root) == b"new"
