"""Who is left behind at a decided height: who gets this replica's COMMIT, and who does not.

Method: a `Bench` of four cores; the test signs for validators 0, 1 and 2 and reads what core 3
sends. The whole exchange is in tests/scenarios/lost_commits.txt.
"""

from prsm.consensus.pbft.config import HEIGHTS_PAST_MAX
from prsm.consensus.pbft.effects import Effect, Send
from prsm.consensus.pbft.events import Event, Received, Tick
from prsm.consensus.pbft.opened import open_message
from prsm.protocol.codec import encode
from prsm.protocol.headers import block_hash
from prsm.protocol.messages.consensus import Proposal, ViewChange
from prsm.protocol.signing import Kind
from prsm.testnet.sim.stage import Bench


def sent(effects: list[Effect]) -> list[tuple[str, Kind, int]]:
    """Receiver, kind and height of each message to one peer."""
    found = [effect for effect in effects if isinstance(effect, Send)]
    return [(each.peer, each.message.kind, each.message.height) for each in found]


def test_prepare_said_again_at_a_decided_height_is_answered_with_my_commit() -> None:
    bench = Bench()
    bench.decide()
    digest = bench.state.tip.block_hash
    again = bench.sign(Kind.PREPARE, 1, digest, height=1)
    assert sent(bench.hear(again)) == [("peer1", Kind.COMMIT, 1)]
    # Each time: the answer may be lost as well, and it is no larger than the question.
    assert sent(bench.hear(again)) == [("peer1", Kind.COMMIT, 1)]


def test_commit_is_never_answered() -> None:
    """Or two replicas would answer each other for ever."""
    bench = Bench()
    bench.decide()
    again = bench.sign(Kind.COMMIT, 1, bench.state.tip.block_hash, height=1)
    assert sent(bench.hear(again)) == []


def test_who_leaves_a_view_of_a_decided_height_is_answered() -> None:
    bench = Bench()
    bench.decide()
    body = encode(ViewChange(None, None))
    change = bench.sign(Kind.VIEW_CHANGE, 2, body, view=1, height=1)
    assert sent(bench.hear(change)) == [("peer2", Kind.COMMIT, 1)]


def test_only_the_last_heights_are_answered() -> None:
    bench = Bench()
    hashes = []
    for _ in range(HEIGHTS_PAST_MAX + 1):
        bench.decide()
        hashes.append(bench.state.tip.block_hash)
    for height, digest in enumerate(hashes, start=1):
        again = bench.sign(Kind.PREPARE, 0, digest, height=height)
        is_kept = height > 1
        assert sent(bench.hear(again)) == ([("peer0", Kind.COMMIT, height)] if is_kept else [])


def play(bench: Bench, *events: Event) -> None:
    """Let the core take events and carry out what it orders."""
    actor = bench.stage.actors[3]
    actor.state = bench.state
    for event in events:
        bench.stage.now_ms = bench.now_ms
        bench.stage.take(actor, event)


def heard(bench: Bench, kind: Kind, digest: bytes, signers: tuple[int, ...]) -> list[Received]:
    """A vote of each signer, of height 1."""
    votes = (bench.sign(kind, signer, digest, height=1) for signer in signers)
    return [Received(open_message(vote)) for vote in votes]


def test_first_vote_of_a_signer_is_no_question() -> None:
    """The fourth PREPARE of a height comes after its block every time."""
    bench = Bench()
    block = bench.block()
    digest = block_hash(block.header)
    proposal = bench.sign(Kind.PROPOSE, 0, encode(Proposal(block, None)))
    play(bench, Received(open_message(proposal)), *heard(bench, Kind.PREPARE, digest, (0, 1)))
    play(bench, *heard(bench, Kind.COMMIT, digest, (0, 1)))
    assert bench.state.tip.height == 1
    assert sent(bench.hear(bench.sign(Kind.PREPARE, 2, digest, height=1))) == []
    # Nor is one for another block, which nobody needs an answer to.
    assert sent(bench.hear(bench.sign(Kind.PREPARE, 2, bytes(32), height=1))) == []


def test_view_that_was_left_is_not_spoken_of_again() -> None:
    """An honest replica says nothing in a view below its VIEW_CHANGE, not even once more."""
    bench = Bench()
    block = bench.block()
    digest = block_hash(block.header)
    proposal = bench.sign(Kind.PROPOSE, 0, encode(Proposal(block, None)))
    play(bench, Received(open_message(proposal)), *heard(bench, Kind.PREPARE, digest, (0, 1, 2)))
    bench.now_ms += bench.config.parameters.timeout_base_ms
    play(bench, Tick())
    assert bench.state.instance.view == 1
    play(bench, *heard(bench, Kind.COMMIT, digest, (0, 1, 2)))
    assert bench.state.tip.height == 1
    assert sent(bench.hear(bench.sign(Kind.PREPARE, 1, digest, height=1))) == []
