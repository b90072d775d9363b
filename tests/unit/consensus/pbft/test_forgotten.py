"""Votes that were shown and that the log lacks: what must be durable before what."""

from prsm.consensus.pbft import replica
from prsm.consensus.pbft.effects import Effect, Observe, order
from prsm.protocol.codec import encode
from prsm.protocol.messages.consensus import ViewChange
from prsm.protocol.signing import Kind
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
