"""Two certificates at one height: whoever sees both stops, however the second one came.

Method: a `Bench` of four cores with keyed signatures; the test plays three validators that all lie.
"""

import msgspec
import pytest

from prsm.consensus.pbft.effects import Effect, Observe, SetTimer
from prsm.consensus.pbft.events import Decided
from prsm.protocol.headers import Block, block_hash
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


@pytest.mark.parametrize(
    ("field", "what"),
    [
        ("prev_hash", "parent"),
        ("state_root", "state root"),
        ("receipts_root", "receipts root"),
        ("validators_hash", "validator set"),
        ("next_validators_hash", "next validator set"),
    ],
)
def test_certified_block_on_another_chain_is_said_by_what_differs(field: str, what: str) -> None:
    """Whoever reads it knows which part of this node's state is wrong."""
    bench = Bench()
    block = bench.block()
    wrong = Block(msgspec.structs.replace(block.header, **{field: HASH}), block.body)
    bench.propose(wrong)
    (effect,) = bench.votes(Kind.COMMIT, block_hash(wrong.header))
    assert effect == Observe(f"block 1 is certified, but my {what} differs")


def test_two_certified_blocks_at_a_height_halt() -> None:
    bench = Bench()
    bench.votes(Kind.COMMIT, HASH)
    block = bench.block()
    certificate = bench.certificate(Kind.COMMIT, block_hash(block.header), view=1)
    (effect,) = bench.take(Decided(block, certificate))
    assert effect == Observe("two blocks are certified at height 1")
