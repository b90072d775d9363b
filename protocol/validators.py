"""The validator set of an epoch, and the arithmetic of quorums by stake.

T = sum of stakes. A quorum is q = 2T//3 + 1: two of them overlap in more than T/3. The weak
quorum is f+ = T//3 + 1: it holds an honest signer. Weight is summed over distinct indexes.
Source: docs/spec/pbft.md, "Quorums".
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Annotated, Final, final

import msgspec
from typing_extensions import override

from prsm.protocol.codec import Record, encode
from prsm.protocol.ids import Bytes32, Digest, Epoch, SignerIndex, Stake
from prsm.protocol.limits import INT_MAX, VALIDATORS_MAX
from prsm.protocol.signing import sha256

STAKE_TOTAL_MAX: Final = INT_MAX // 4  # 3·B and 2·T stay inside 63 bits


class Validator(Record, frozen=True):
    """One member: who owns the stake, which key signs, which peer to send to."""

    operator: Bytes32
    consensus: Bytes32
    peer_id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    stake: Annotated[int, msgspec.Meta(ge=1, le=STAKE_TOTAL_MAX)]


class Members(Record, frozen=True):
    """The hashed form of a set."""

    epoch: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
    validators: Annotated[
        tuple[Validator, ...], msgspec.Meta(min_length=1, max_length=VALIDATORS_MAX)
    ]


def quorum_of(total: int) -> int:
    """Smallest weight that is a quorum of total stake `total`."""
    return 2 * total // 3 + 1


def weak_quorum_of(total: int) -> int:
    """Smallest weight that must hold an honest signer."""
    return total // 3 + 1


@final
class ValidatorSet:
    """The validators of one epoch in the order of their signer indexes."""

    def __init__(self, members: Members) -> None:
        keys = {validator.consensus for validator in members.validators}
        assert len(keys) == len(members.validators), "two validators share a key"
        self.members = members
        self.epoch = Epoch(members.epoch)
        self.validators = members.validators
        self.total = Stake(sum(validator.stake for validator in members.validators))
        assert self.total <= STAKE_TOTAL_MAX
        self.quorum = Stake(quorum_of(self.total))
        self.weak_quorum = Stake(weak_quorum_of(self.total))
        self._index = {v.consensus: SignerIndex(i) for i, v in enumerate(members.validators)}

    def __len__(self) -> int:
        return len(self.validators)

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, ValidatorSet) and self.members == other.members

    @override
    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def digest(self) -> Digest:
        """`validators_hash` of headers."""
        return sha256(encode(self.members))

    @cached_property
    def keys_of(self) -> Mapping[str, tuple[bytes, ...]]:
        """Consensus keys by peer id, in the order of the set."""
        found: dict[str, tuple[bytes, ...]] = {}
        for member in self.validators:
            found[member.peer_id] = (*found.get(member.peer_id, ()), member.consensus)
        return found

    def index_of(self, consensus_key: bytes) -> SignerIndex | None:
        """Signer index of a consensus key, None for a stranger."""
        return self._index.get(consensus_key)

    def weight(self, signers: Iterable[int]) -> Stake:
        """Stake of distinct signer indexes; indexes outside the set weigh nothing."""
        size = len(self.validators)
        return Stake(sum(self.validators[i].stake for i in set(signers) if 0 <= i < size))

    def is_quorum(self, signers: Iterable[int]) -> bool:
        """Do these signers weigh a quorum?"""
        return self.weight(signers) >= self.quorum
