"""Quorum arithmetic by brute force, and sets of validators."""

import pytest

from prsm.protocol.validators import (
    Members,
    Validator,
    ValidatorSet,
    quorum_of,
    weak_quorum_of,
)


def members(*stakes: int, epoch: int = 0) -> ValidatorSet:
    return ValidatorSet(
        Members(
            epoch=epoch,
            validators=tuple(
                Validator(
                    operator=bytes([i]) * 32, consensus=bytes([i]) * 32, peer_id="p", stake=stake
                )
                for i, stake in enumerate(stakes)
            ),
        )
    )


def test_quorums_overlap_in_an_honest_signer_for_every_total() -> None:
    """CONSENSUS, quorum arithmetic: T = 1..300 against what the words say."""
    for total in range(1, 301):
        byzantine = max(stake for stake in range(total) if 3 * stake < total)
        quorum, weak = quorum_of(total), weak_quorum_of(total)
        assert quorum <= total - byzantine, "the honest alone reach it"
        assert 2 * quorum - total > byzantine, "two quorums share an honest signer"
        assert weak > byzantine, "a weak quorum holds an honest signer"
        assert weak - 1 <= byzantine + 1
        assert quorum == min(q for q in range(total + 2) if 3 * q > 2 * total)
        assert weak == min(w for w in range(total + 2) if 3 * w > total)


def test_weight_counts_distinct_members_by_stake() -> None:
    found = members(3, 2, 2, 2)
    assert (found.total, found.quorum, found.weak_quorum) == (9, 7, 4)
    assert found.weight([0, 0, 0]) == 3
    assert found.weight([0, 1, 9, -1]) == 5
    assert found.is_quorum([0, 1, 2])
    assert not found.is_quorum([1, 2, 3])
    assert not found.is_quorum([1, 1, 2, 2, 3, 3])
    assert len(found) == 4


def test_index_of_names_members_only() -> None:
    found = members(1, 1)
    assert found.index_of(bytes([1]) * 32) == 1
    assert found.index_of(bytes([2]) * 32) is None


def test_digest_depends_on_epoch_order_and_stake() -> None:
    digests = {members(1, 2).digest, members(2, 1).digest, members(1, 2, epoch=1).digest}
    assert len(digests) == 3


def test_two_validators_of_one_key_are_a_bug() -> None:
    twin = members(1).validators[0]
    with pytest.raises(AssertionError, match="share a key"):
        ValidatorSet(Members(epoch=0, validators=(twin, twin)))
