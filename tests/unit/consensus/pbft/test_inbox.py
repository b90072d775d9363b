"""What a core keeps of messages: those before their height, and the highest vote of each key.

Source: docs/spec/pbft.md, "Messages". Method: a `Bench` of four cores; the test signs for 0, 1, 2.
"""

from prsm.consensus.pbft import statuses
from prsm.consensus.pbft.state import load
from prsm.protocol.codec import encode
from prsm.protocol.messages.consensus import ViewChange
from prsm.protocol.signing import Kind
from prsm.testnet.sim.stage import Bench

HASH, OTHER = bytes([9]) * 32, bytes([8]) * 32


def test_member_that_says_anything_was_heard_now() -> None:
    bench = Bench()
    bench.hear(bench.sign(Kind.PREPARE, 2, HASH))
    assert bench.state.heard_at_ms["peer2"] == bench.now_ms


def test_message_of_a_later_height_waits_for_that_and_for_no_other() -> None:
    bench = Bench()
    early = bench.sign(Kind.PREPARE, 1, HASH, height=3)
    bench.hear(early)
    for height in (2, 3):
        assert list(bench.state.ahead) == [(3, 0, Kind.PREPARE, 0, 1)]
        bench.decide()
        assert bench.state.instance.height == height
    assert not bench.state.ahead
    tally = bench.state.instance.tallies[Kind.PREPARE, 0]
    assert tally.votes[1].message == early


def test_first_of_two_that_contradict_each_other_is_kept() -> None:
    """The second is no news: a liar that says more cannot hide what it said."""
    bench = Bench()
    first, second = (bench.sign(Kind.PREPARE, 0, digest) for digest in (HASH, OTHER))
    bench.hear(first)
    bench.hear(second)
    assert statuses.status_for(bench.state, "peer0").your_highest == first
    certificate = bench.certificate(Kind.COMMIT, HASH)
    bodies = [encode(ViewChange(known, None)) for known in (None, certificate)]
    first, second = (bench.sign(Kind.VIEW_CHANGE, 1, body, view=1, height=2) for body in bodies)
    bench.hear(first)
    bench.hear(second)
    (kept,) = bench.state.ahead.values()
    assert kept.message == first


def test_tables_that_peers_can_fill_are_named_for_who_bounds_them() -> None:
    sizes = load(Bench(greeted=False).state)
    assert set(sizes.values()) == {0}
    assert list(sizes) == [
        *("ahead", "bodies_ahead", "bodies", "tallies", "proposals", "view_changes"),
        *("checked", "memories", "claims", "probation", "heard", "highest"),
    ]
