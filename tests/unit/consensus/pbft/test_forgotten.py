"""Votes that were shown and that the log lacks: what must be durable before what."""

import pytest

from prsm.consensus.pbft import heights, replica
from prsm.consensus.pbft.effects import Broadcast, Effect, Observe, order
from prsm.consensus.pbft.events import Applied, Decided, Heard
from prsm.consensus.pbft.probation import Probation
from prsm.protocol.codec import encode
from prsm.protocol.headers import block_hash
from prsm.protocol.messages.consensus import SignedMessage, ViewChange
from prsm.protocol.signing import Kind
from prsm.testnet.sim.plan import peer_of
from prsm.testnet.sim.stage import Bench


def test_low_mark_of_a_certificate_does_not_hide_the_vote_in_it() -> None:
    """One turn has another record before: died behind its sync, the node is shown the vote again.

    Nobody asks for a vote at a height that the log has settled.
    """
    bench = Bench()
    out: list[Effect] = []
    for height, signers in ((2, (0, 1, 2)), (4, (0, 1, 3))):
        shown = bench.certificate(Kind.COMMIT, bytes([height]) * 32, height=height, signers=signers)
        body = encode(ViewChange(shown, None))
        out += bench.hear(bench.sign(Kind.VIEW_CHANGE, 0, body, view=1, height=height + 1))
    durable: list[bytes] = []
    for batch in order(out):
        durable += batch.records
        if any(isinstance(effect, Observe) and effect.forgot for effect in batch.effects):
            break
    assert replica.start(bench.config, bench.ledger.tip, durable, None).low == 2
    assert bench.state.low == 4


@pytest.mark.parametrize("restarts", [False, True])
def test_certificate_from_ahead_does_not_hide_votes_in_the_blocks_below_it(
    *, restarts: bool
) -> None:
    """All is lost, and the first thing heard is of the tip, by others: the blocks come after it."""
    bench = Bench(blocks=4)
    actor = bench.stage.actors[3]
    blocks = bench.stage.actors[0].ledger.blocks
    assert all(3 in certificate.signer_indexes() for _, certificate in blocks)
    digest = block_hash(blocks[-1][0].header)
    ahead = bench.certificate(Kind.COMMIT, digest, height=len(blocks), signers=(0, 1, 2))
    actor.ledger.forget(len(blocks))
    bench.state = replica.start(bench.config, actor.ledger.tip, (), None)
    body = encode(ViewChange(ahead, None))
    bench.hear(bench.sign(Kind.VIEW_CHANGE, 0, body, view=1, height=len(blocks) + 1))
    assert (bench.state.low, bench.state.observer) == (len(blocks), None)
    if restarts:
        kept = heights.checkpoint(bench.state)
        bench.state = replica.start(bench.config, actor.ledger.tip, kept, None)
    out = bench.take(Decided(*blocks[0]))
    assert [each.forgot for each in out if isinstance(each, Observe)] == [True]
    assert bench.state.probation == Probation(len(blocks))
    actor.ledger.apply(*blocks[0])
    tip = actor.ledger.tip
    roots = (tip.state_root, tip.receipts_root, tip.epoch)
    bench.take(Applied(1, tip.block_hash, *roots))
    assert bench.state.observer


def test_vote_that_a_segment_dropped_is_none_that_was_forgotten() -> None:
    """The ledger lost its last blocks; a certificate had raised the low mark above it before."""
    bench = Bench(blocks=4)
    actor = bench.stage.actors[3]
    ahead = bench.certificate(Kind.COMMIT, b"a" * 32, height=6, signers=(0, 1, 2))
    body = encode(ViewChange(ahead, None))
    bench.hear(bench.sign(Kind.VIEW_CHANGE, 0, body, view=1, height=7))
    kept = heights.surviving(bench.state, 4)
    actor.ledger.forget(2)
    behind = replica.start(bench.config, actor.ledger.tip, kept, None)
    replica.step(behind, Decided(*bench.stage.actors[0].ledger.blocks[2]), 0)
    assert (behind.low, behind.observer) == (6, None)


def _leads(bench: Bench) -> int:
    """A view that the core leads, for which a quorum asks."""
    return next(view for view in range(1, 9) if bench.state.instance.schedule.at(view) == 3)


def _own(out: list[Effect], kind: Kind) -> SignedMessage:
    said = (effect.message for effect in out if isinstance(effect, Broadcast))
    return next(message for message in said if message.kind is kind)


def _lose_all(bench: Bench) -> None:
    """Start with an empty log, among peers that started again, too: none shows a vote."""
    bench.state = replica.start(bench.config, bench.ledger.tip, (), None)
    for peer in (0, 1):
        bench.take(Heard(peer_of(peer), bench.status()))
    assert bench.state.observer is None


def test_own_new_view_that_comes_back_tells_of_a_lost_log() -> None:
    """Who is late is answered with it, from the logs of others; a second PROPOSE would follow."""
    bench = Bench()
    view = _leads(bench)
    out = bench.hear(bench.change(0, view)) + bench.hear(bench.change(1, view))
    new_view = _own(out, Kind.NEW_VIEW)
    assert not bench.hear(new_view)
    assert bench.state.observer is None, "the log has it"
    _lose_all(bench)
    out = bench.hear(new_view)
    assert [each.forgot for each in out if isinstance(each, Observe)] == [True]
    assert f"my NEW_VIEW of height 1, view {view} came back" in str(bench.state.observer)


def test_own_view_change_in_a_new_view_tells_of_a_lost_log() -> None:
    bench = Bench()
    view = 1 if _leads(bench) != 1 else 2
    out = bench.hear(bench.change(0, view)) + bench.hear(bench.change(1, view))
    mine = _own(out, Kind.VIEW_CHANGE)
    new_view = bench.new_view(view, [bench.change(0, view), bench.change(1, view), mine])
    _lose_all(bench)
    out = bench.hear(new_view)
    assert [each.forgot for each in out if isinstance(each, Observe)] == [True]
    assert "my VIEW_CHANGE" in str(bench.state.observer)


def test_own_view_change_in_a_new_view_is_no_news_to_a_whole_log() -> None:
    bench = Bench()
    view = 1 if _leads(bench) != 1 else 2
    out = bench.hear(bench.change(0, view)) + bench.hear(bench.change(1, view))
    mine = _own(out, Kind.VIEW_CHANGE)
    bench.hear(bench.new_view(view, [bench.change(0, view), bench.change(1, view), mine]))
    assert (bench.state.instance.view, bench.state.observer) == (view, None)
