"""What proves a snapshot: every part of it that could be another one is refused."""

from collections.abc import Callable

import msgspec
import pytest

from prsm.node.chain.snapshots.evidence import Sets, check_snapshot, walk
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.headers import Block
from prsm.protocol.messages.sync import EpochProof, GetEpochHeaders, Snapshot
from prsm.protocol.proofs import BadProof
from prsm.protocol.transactions.payloads import Transfer
from prsm.protocol.validators import Members
from prsm.testnet.chain import FTNS, Chain, signer_of, small_genesis
from tests.tools.offers import Offer, chain_of, offer

replace = msgspec.structs.replace


def check(found: Snapshot, made: Offer, height: int | None = None) -> None:
    check_snapshot(found, made.height if height is None else height, made.sets, bits=made.bits)


def test_honest_snapshot_is_believed() -> None:
    made = offer()
    assert len(made.chunks) > 3
    check(made.found, made)


def one_height_lower(found: Snapshot, _made: Offer) -> Snapshot:
    """Header H instead of H + 1: its state root is the state *before* block H."""
    return replace(found, header=found.block.header, certificate=found.block_certificate)


def other_body(found: Snapshot, _made: Offer) -> Snapshot:
    body = replace(found.block.body, transactions=(b"stolen",))
    return replace(found, block=Block(found.block.header, body))


def other_block(found: Snapshot, _made: Offer) -> Snapshot:
    header = replace(found.block.header, time_ms=found.block.header.time_ms + 1)
    return replace(found, block=Block(header, found.block.body))


def weak(found: Snapshot, made: Offer) -> Snapshot:
    chain = Chain(made.genesis)
    return replace(found, certificate=chain.certify(found.header, signers=[0, 1]))


def weak_below(found: Snapshot, made: Offer) -> Snapshot:
    chain = Chain(made.genesis)
    return replace(found, block_certificate=chain.certify(found.block.header, signers=[0, 1]))


def strangers(found: Snapshot, made: Offer) -> Snapshot:
    chain = Chain(made.genesis)
    keys = made.genesis.validators
    chain.signers = {keys[i].consensus: signer_of(100 + i) for i in range(len(keys))}
    return replace(found, certificate=chain.certify(found.header))


def invented(found: Snapshot, _made: Offer) -> Snapshot:
    """A header of the liar's own, with the old certificate."""
    return replace(found, header=replace(found.header, state_root=bytes(32)))


def other_receipts(found: Snapshot, _made: Offer) -> Snapshot:
    return replace(found, receipts=(*found.receipts, b"one more"))


def other_chunks(found: Snapshot, _made: Offer) -> Snapshot:
    """The list of another snapshot of the same chain."""
    return replace(found, chunks=offer(4).found.chunks)


def fewer_chunks(found: Snapshot, _made: Offer) -> Snapshot:
    return replace(found, chunks=found.chunks[:-1])


def unknown_epoch(found: Snapshot, _made: Offer) -> Snapshot:
    return replace(found, header=replace(found.header, epoch=9))


LIES: list[Callable[[Snapshot, Offer], Snapshot]] = [
    one_height_lower,
    other_body,
    other_block,
    weak,
    weak_below,
    strangers,
    invented,
    other_receipts,
    other_chunks,
    fewer_chunks,
    unknown_epoch,
]


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_lie_about_a_snapshot_is_refused_and_bans(
    lie: Callable[[Snapshot, Offer], Snapshot],
) -> None:
    made = offer()
    with pytest.raises(BadProof) as caught:
        check(lie(made.found, made), made)
    assert caught.value.penalty == 100


def test_state_root_of_the_height_itself_is_the_wrong_one() -> None:
    """A snapshot of the state before block H under the header of H: certified, and refused.

    The header of height H carries the state after H - 1, so its root is honest and a taker that
    looked there would go on from a state without block H.
    """
    chain = chain_of(4)
    before = Offer.of(chain)  # the state after 4, and after the empty block 5
    chain.send(64, Transfer(asset=0, to=bytes(32), amount=1, memo=b""))
    after = Offer.of(chain)  # of height 6, which changed the state
    wrong = replace(after.found, chunks=before.found.chunks)
    assert after.found.block.header.state_root == before.found.header.state_root
    with pytest.raises(BadProof, match="not the state after height 6"):
        check(wrong, after)
    check(after.found, after)


def test_snapshot_of_another_height_than_asked_is_refused() -> None:
    made = offer()
    with pytest.raises(BadProof):
        check(made.found, made, made.height + 1)


def test_set_of_the_next_epoch_is_believed_when_announced() -> None:
    """The announced members join the known sets; other ones, or an uncertified header, do not."""
    made = offer()
    known = (made.genesis.first_validators(),)
    sets = Sets(made.genesis, Ed25519Verifier(), known)
    first = made.found.header
    announced = made.genesis.validators_of(1).members
    proof = EpochProof(first, made.found.certificate, made.genesis.first_validators().members)
    assert sets.trust(1) is None
    other = Members(1, announced.validators[:3])
    for lie in (other, Members(2, announced.validators), Members(1, announced.validators[:1] * 2)):
        with pytest.raises(BadProof):
            sets.learn(proof, lie)
    assert sets.trust(1) is None
    with pytest.raises(BadProof):
        sets.learn(replace(proof, header=replace(first, next_validators_hash=bytes(32))), other)
    sets.learn(proof, announced)
    trust = sets.trust(1)
    assert trust is not None
    assert trust.validators.members == announced
    assert sets.proofs == {0: proof}


def test_members_that_come_beside_a_header_are_those_of_its_own_epoch() -> None:
    """They are kept with it and shown to others: also those that no other header announced."""
    made = offer()
    own, following = (made.genesis.validators_of(epoch).members for epoch in (0, 1))
    honest = EpochProof(made.found.header, made.found.certificate, own)
    ask = GetEpochHeaders(first=0, count=64)
    richer = tuple(replace(member, stake=member.stake + 1) for member in own.validators)
    for lie in (Members(0, richer), Members(0, own.validators[:3]), following):
        sets = made.sets
        with pytest.raises(BadProof, match="other members of epoch 0") as caught:
            walk((replace(honest, members=lie),), ask, 0, sets)
        assert caught.value.penalty == 100
        assert sets.proofs == {}
    sets = made.sets
    assert walk((honest,), ask, 0, sets) == 0
    assert sets.proofs == {0: honest}


def test_sets_go_on_from_those_that_were_shown_and_from_no_others() -> None:
    """Of the own chain an epoch later; another one's sets, and epochs before, are refused."""
    genesis, verifier = small_genesis(), Ed25519Verifier()
    own, others = Chain(genesis).ledger.epoch, Chain(small_genesis(stakes=(7 * FTNS,) * 4))
    sets = Sets(genesis, verifier, (own.validators, own.following))
    stranger = others.ledger.epoch
    assert not sets.advance((stranger.following, stranger.following))
    assert sets.trust(0) is not None
    assert sets.advance((own.following, own.following))
    assert (sets.trust(0), sets.trust(1) is None) == (None, False)
    assert not sets.advance((own.validators, own.following))
