"""Two certificates at one height: whoever sees both stops, however the second one came.

Method: a `Bench` of four cores with keyed signatures; the test plays three validators that all lie.
"""

from prsm.consensus.pbft.effects import Effect, SetTimer
from prsm.consensus.pbft.events import Decided
from prsm.protocol.headers import block_hash
from prsm.protocol.signing import Kind
from prsm.testnet.sim.stage import Bench

HASH = bytes([9]) * 32


def kinds(effects: list[Effect]) -> list[str]:
    return [type(effect).__name__ for effect in effects if not isinstance(effect, SetTimer)]


def test_two_blocks_that_votes_certify_halt() -> None:
    """Counted here, in two views, while the first block is on its way."""
    bench = Bench()
    assert kinds(bench.votes(Kind.COMMIT, HASH)) == ["Persist", "Fetch"]
    assert bench.votes(Kind.COMMIT, HASH, view=1) == []
    effects = bench.votes(Kind.COMMIT, bytes(32), view=2)
    assert kinds(effects) == ["Observe"]
    assert "two blocks are certified" in str(effects[0])


def test_two_certified_blocks_at_a_height_halt() -> None:
    bench = Bench()
    bench.votes(Kind.COMMIT, HASH)
    block = bench.block()
    certificate = bench.certificate(Kind.COMMIT, block_hash(block.header), view=1)
    assert kinds(bench.take(Decided(block, certificate))) == ["Observe"]
