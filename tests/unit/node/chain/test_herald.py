"""Who hears where this node stands, and when."""

from prsm.node.chain.herald import Herald
from prsm.node.chain.tidings import MOVING_EVERY_MS
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.consensus import Status
from prsm.testnet.sim.stage import Bench
from tests.tools.wires import Wire

CLIENT, FOLLOWER, VALIDATOR = PeerId("client"), PeerId("follower"), PeerId("peer1")


def test_block_is_told_at_once_to_who_follows_and_not_to_who_watches() -> None:
    """A client has its notices; like a validator it hears STATUS in its time."""
    bench, wire = Bench(), Wire(live=[CLIENT, FOLLOWER, VALIDATOR])
    herald = Herald(wire, lambda: None)
    herald.is_client = CLIENT.__eq__

    def told(now_ms: int, *, has_block: bool) -> list[PeerId]:
        wire.sent.clear()
        herald.tell(bench.state, (0, 1), now_ms=now_ms, has_block=has_block)
        assert all(isinstance(message, Status) for _, message in wire.sent)
        return [peer for peer, _ in wire.sent]

    assert told(1, has_block=False) == [CLIENT, FOLLOWER, VALIDATOR]
    assert told(2, has_block=True) == [FOLLOWER]
    assert told(3, has_block=False) == []
    assert set(told(3 + MOVING_EVERY_MS, has_block=True)) == {CLIENT, FOLLOWER, VALIDATOR}
