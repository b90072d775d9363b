"""Rules of Castro and Liskov, "Practical Byzantine Fault Tolerance", OSDI 1999, by section.

Each where one core shows it. Where this protocol departs from the text, the test says so.
"""

from prsm.consensus.pbft.effects import Broadcast, Effect, Execute, Persist
from prsm.consensus.pbft.events import Tick, Verdict, Waiting
from prsm.consensus.pbft.transitions import Phase
from prsm.protocol.headers import block_hash
from prsm.protocol.messages.consensus import Prepared
from prsm.protocol.signing import Kind
from prsm.testnet.sim.stage import Bench


def _said(effects: list[Effect]) -> list[Kind]:
    return [effect.message.kind for effect in effects if isinstance(effect, Broadcast)]


def test_osdi_4_2_a_backup_accepts_one_pre_prepare_for_a_view_and_number() -> None:
    """Not one "containing a different digest" for the same view and number."""
    bench = Bench()
    first, second = bench.block(), bench.block(transactions=(b"t other",))
    bench.propose(first)
    bench.propose(second)
    assert bench.state.instance.block == first
    assert _said(bench.take(Verdict(block_hash(second.header), ok=True))) == []


def test_osdi_4_2_prepared_needs_a_quorum_and_the_pre_prepare() -> None:
    """PREPAREs of a quorum without the block prepare nothing."""
    bench = Bench()
    block = bench.block()
    digest = block_hash(block.header)
    assert _said(bench.votes(Kind.PREPARE, digest)) == []
    assert _said(bench.propose(block)) == [Kind.COMMIT]


def test_osdi_4_2_committed_local_does_not_depend_on_the_present_view() -> None:
    """A certificate of an earlier view decides: commits are kept across a view change."""
    bench = Bench()
    block = bench.block()
    digest = block_hash(block.header)
    bench.propose(block)
    bench.votes(Kind.COMMIT, digest, signers=(0, 1))
    for signer in (0, 1):
        bench.hear(bench.change(signer, 1))
    assert bench.state.instance.phase is Phase.CHANGING
    effects = bench.votes(Kind.COMMIT, digest, signers=(2,))
    assert [effect for effect in effects if isinstance(effect, Execute)]


def test_osdi_4_4_a_replica_stops_accepting_in_the_view_it_leaves() -> None:
    bench = Bench()
    block = bench.block()
    bench.propose(block)
    bench.take(Verdict(block_hash(block.header), ok=True))
    for signer in (0, 1):
        bench.hear(bench.change(signer, 1))
    assert _said(bench.votes(Kind.PREPARE, block_hash(block.header))) == []


def test_osdi_4_4_view_change_carries_what_is_prepared() -> None:
    """Here with the certificate itself, not with the messages behind it; durable before it."""
    bench = Bench()
    block = bench.block()
    digest = block_hash(block.header)
    bench.propose(block)
    effects = bench.votes(Kind.PREPARE, digest)
    place = [type(effect) for effect in effects].index(Persist)
    assert _said(effects[:place]) == []
    for signer in (0, 1):
        bench.hear(bench.change(signer, 1))
    own = bench.state.instance.view_changes[3].view_change
    assert own is not None
    assert own.prepared is not None
    assert (own.prepared.view, own.prepared.block_hash) == (0, digest)


def test_osdi_4_4_the_new_view_takes_the_highest_prepared_view() -> None:
    bench = Bench()
    old, new = bytes([1]) * 32, bytes([2]) * 32
    parts = [
        bench.change(0, 2, Prepared(0, old, bench.certificate(Kind.PREPARE, old))),
        bench.change(1, 2, Prepared(1, new, bench.certificate(Kind.PREPARE, new, view=1))),
        bench.change(2, 2),
    ]
    bench.hear(bench.new_view(2, parts))
    demanded = bench.state.instance.demanded
    assert demanded is not None
    assert demanded.block_hash == new


def test_osdi_4_5_2_more_than_a_third_in_later_views_are_joined_before_the_timer() -> None:
    """The paper joins the smallest of their views, this protocol the largest they all reached."""
    bench = Bench()
    bench.hear(bench.change(0, 3))
    assert _said(bench.hear(bench.change(1, 5))) == [Kind.VIEW_CHANGE]
    assert bench.state.instance.view == 3


def test_osdi_4_5_2_the_timer_of_a_new_view_waits_for_a_quorum_of_view_changes() -> None:
    bench = Bench()
    bench.take(Waiting(transactions=True))
    assert _said(bench.take(Tick(), 400)) == [Kind.VIEW_CHANGE]
    for _ in range(40):
        bench.take(Tick(), 250)
    assert bench.state.instance.view == 1
    bench.hear(bench.change(0, 1))
    bench.hear(bench.change(2, 1))
    assert Kind.VIEW_CHANGE in _said(bench.take(Tick(), 600))
    assert bench.state.instance.view == 2
