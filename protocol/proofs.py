"""Proofs that one node can show another: a state entry, a transaction, each under a header.

The state tree is a trie over sha256(key), complete for the first k bits, and below them as deep as
the pairs of a bucket need: a leaf is sha256(0x00 | canonical sorted pairs), a node
sha256(0x01 | left | right), so the depth of a proof is bound by its hashes and a key's absence is
shown by its leaf. Source: docs/spec/ledger.md, "Proofs".
"""

from itertools import pairwise
from typing import Annotated, Final

import msgspec

from prsm.protocol import merkle
from prsm.protocol.certificates import Certificate
from prsm.protocol.codec import Record, encode
from prsm.protocol.errors import RemoteError
from prsm.protocol.headers import Header
from prsm.protocol.ids import U32, Bytes32, Digest
from prsm.protocol.signing import sha256

KEY_BYTES_MAX: Final = 256
# Keys can be ground into one bucket, so a leaf is bounded, and a larger bucket split; but a record
# that is larger alone stays one leaf. Accounts, 60 bytes each, fill one a hundred to a bucket.
LEAF_BYTES_MAX: Final = 8 * 1024
# A leaf and its path of at most 9 kB. The largest record is a job's, below `TRANSACTION_BYTES_MAX`;
# four times as much in hex, record and proof, is one request.
PROOF_BYTES_MAX: Final = 1024 * 1024
_PAIR_BYTES_MIN: Final = 6  # an array, a key of one byte, an empty value
_HASH_BITS: Final = 256

StateKey = Annotated[bytes, msgspec.Meta(min_length=1, max_length=KEY_BYTES_MAX)]
Pairs = Annotated[
    tuple[tuple[StateKey, bytes], ...],
    msgspec.Meta(max_length=LEAF_BYTES_MAX // _PAIR_BYTES_MIN),
]


class BadProof(RemoteError):
    """A proof that does not lead to the root it claims."""

    reason = "bad_proof"


class StateProof(Record, frozen=True):
    """All entries of a key's leaf, and the audit path from the leaf upwards."""

    key: StateKey
    bucket: Pairs  # ascending by key
    path: Annotated[tuple[Bytes32, ...], msgspec.Meta(min_length=1, max_length=_HASH_BITS)]


class InclusionProof(Record, frozen=True):
    """An item's place under a Merkle root: a transaction of a block, a receipt of the next."""

    index: U32
    count: U32
    path: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=16)]


class ProvenState(Record, frozen=True):
    """A state entry one node suffices for: proof, the header whose root it meets, certificate."""

    proof: StateProof
    header: Header  # its state_root is the state after the block before it
    certificate: Certificate


class ProvenTransaction(Record, frozen=True):
    """A transaction and its place in a committed block."""

    transaction: bytes
    place: InclusionProof
    header: Header
    certificate: Certificate


def bucket_index(key: bytes, bits: int) -> int:
    """The first bits of a key's hash: the number of the bucket, or of the leaf, it lives in."""
    return int.from_bytes(sha256(key), "big") >> (_HASH_BITS - bits)


def pairs_hash(pairs: tuple[tuple[bytes, bytes], ...]) -> Digest:
    """A leaf: pairs in ascending order of their keys."""
    return merkle.leaf_hash(encode(pairs))


def proven_value(proof: StateProof, state_root: bytes) -> bytes | None:
    """Value of the proof's key under this root, None if the key is shown to be absent.

    Raises:
        BadProof: the proof leads to another root, or its leaf is not in order.
    """
    keys = [key for key, _ in proof.bucket]
    if any(left >= right for left, right in pairwise(keys)):
        raise BadProof("state proof whose leaf is not in ascending order", penalty=50)
    index = bucket_index(proof.key, len(proof.path))
    node = pairs_hash(proof.bucket)
    for sibling in proof.path:
        node = merkle.node_hash(sibling, node) if index & 1 else merkle.node_hash(node, sibling)
        index >>= 1
    if node != state_root:
        raise BadProof(f"state proof leads to {node.hex()[:16]}, not to the root", penalty=50)
    return dict(proof.bucket).get(proof.key)


def require_included(item: bytes, place: InclusionProof, expected: bytes) -> None:
    """Check that an item stands at its place under a root.

    Raises:
        BadProof: it does not.
    """
    if not merkle.is_included(
        item, index=place.index, count=place.count, path=place.path, expected=expected
    ):
        raise BadProof(f"item {place.index} of {place.count} is not under the root", penalty=50)
