"""The bucketed tree against a dumb twin that hashes everything, and its proofs."""

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prsm.consensus.ledger.tree import Tree
from prsm.protocol import merkle
from prsm.protocol.codec import encode
from prsm.protocol.ids import Digest
from prsm.protocol.proofs import BadProof, StateProof, bucket_index, proven_value
from prsm.protocol.signing import sha256

BITS = 3
KEYS = st.binary(min_size=1, max_size=3)
CHANGES = st.dictionaries(KEYS, st.none() | st.binary(max_size=4), max_size=12)


def dumb_root(state: dict[bytes, bytes], bits: int = BITS) -> Digest:
    """The definition: all buckets in order, a plain Merkle tree over them."""
    leaves = []
    for index in range(2**bits):
        pairs = sorted((k, v) for k, v in state.items() if bucket_index(k, bits) == index)
        leaves.append(sha256(b"\x00", encode(tuple(pairs))))
    return merkle.root_of_leaves(leaves)


def write(state: dict[bytes, bytes], changes: dict[bytes, bytes | None]) -> None:
    for key, value in changes.items():
        if value is None:
            state.pop(key, None)
        else:
            state[key] = value


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(KEYS, st.binary(max_size=4)), st.lists(CHANGES, max_size=4), KEYS)
def test_root_and_proofs_are_those_of_the_dumb_twin(
    first: dict[bytes, bytes], blocks: list[dict[bytes, bytes | None]], absent: bytes
) -> None:
    tree, state = Tree(BITS, first.items()), dict(first)
    assert tree.root == dumb_root(state)
    for changes in blocks:
        before, root_before = dict(state), tree.root
        write(state, changes)
        tree.update(sorted(changes.items()))
        assert tree.root == dumb_root(state)
        for key in {absent, *list(changes)[:3]}:
            assert proven_value(tree.prove(key), tree.root) == state.get(key)
            assert proven_value(tree.prove_before(key), root_before) == before.get(key)


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
