"""Rules of Castro and Liskov, "Practical Byzantine Fault Tolerance", OSDI 1999, by section.

Each where one core shows it. Where this protocol departs from the text, the test says so.
"""

import contextlib
from itertools import pairwise

from prsm.consensus.pbft import timeouts
from prsm.consensus.pbft.effects import Broadcast, Effect, Execute, Observe, Persist, Validate
from prsm.consensus.pbft.events import Heard, Tick, Verdict, Waiting
from prsm.consensus.pbft.transitions import Phase
from prsm.protocol.errors import RemoteError
from prsm.protocol.headers import block_hash
from prsm.protocol.messages.consensus import Prepared
from prsm.protocol.signing import Kind
from prsm.testnet.sim.plan import peer_of
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


def test_osdi_4_4_a_new_view_is_checked_before_it_is_entered() -> None:
    """Not by too few VIEW_CHANGE messages, and not by one who is not the view's primary."""
    bench = Bench()
    parts = [bench.change(signer, 1) for signer in (0, 1, 2)]
    wrong = next(each for each in (0, 1, 2) if each != bench.state.instance.schedule.at(1))
    for made in (
        bench.new_view(1, parts[:2]),
        bench.new_view(1, [parts[0], parts[0], parts[1]]),
        bench.new_view(1, parts, signer=wrong),
    ):
        with contextlib.suppress(RemoteError):
            bench.hear(made)
        assert bench.state.instance.new_view is None
    bench.hear(bench.new_view(1, parts))
    assert bench.state.instance.new_view is not None


def test_osdi_4_4_nothing_prepared_leaves_the_primary_free() -> None:
    """The paper fills gaps with null requests; here a height cannot be left out."""
    bench = Bench()
    bench.hear(bench.new_view(1, [bench.change(signer, 1) for signer in (0, 1, 2)]))
    assert bench.state.instance.view == 1
    assert bench.state.instance.demanded is None


def test_osdi_4_5_2_timeouts_grow_until_a_request_is_executed() -> None:
    """Twice as long in the paper; here half as long again, and never beyond a cap."""
    bench = Bench()
    spans = [timeouts.timeout_ms(bench.config.parameters, view) for view in range(8)]
    cap_ms = bench.config.parameters.timeout_cap_ms
    assert all(2 * later == 3 * earlier for earlier, later in pairwise(spans) if later < cap_ms)
    assert spans == sorted(spans)
    assert spans[-1] == cap_ms


def test_osdi_4_5_2_a_faulty_third_cannot_force_a_view_change() -> None:
    """Not more than f others in a later view: one of them is perhaps no honest one."""
    bench = Bench()
    assert _said(bench.hear(bench.change(0, 7))) == []
    assert bench.state.instance.view == 0


def test_osdi_4_6_the_primary_chooses_the_time_and_backups_judge_it() -> None:
    """The value is in the block; a backup votes only after its own ledger found it good."""
    bench = Bench()
    block = bench.block()
    digest = block_hash(block.header)
    assert _asked(bench.propose(block)) == [digest]
    assert _said(bench.take(Verdict(digest, ok=False))) == []
    assert bench.state.instance.voted == {}
    ledger = bench.ledger
    assert ledger.judge(block, bench.now_ms)
    assert not ledger.judge(block, bench.now_ms + 3_600_000)
    assert not ledger.judge(block, bench.now_ms - 3_600_000)


def test_osdi_4_6_a_proposal_that_must_be_carried_on_keeps_its_value() -> None:
    """Here as long as it is prepared: the new primary cannot choose another time for it."""
    bench = Bench()
    block = bench.block()
    digest = block_hash(block.header)
    held = Prepared(0, digest, bench.certificate(Kind.PREPARE, digest))
    parts = [bench.change(0, 1, held), bench.change(1, 1), bench.change(2, 1)]
    bench.hear(bench.new_view(1, parts))
    primary = bench.state.instance.schedule.at(1)
    bench.now_ms += 500
    later = bench.block(view=1, proposer=primary)
    assert later.header.time_ms > block.header.time_ms
    bench.propose(later, view=1, new_view=_entered(bench), signer=primary)
    assert Kind.PREPARE not in _said(bench.take(Verdict(block_hash(later.header), ok=True)))


def test_osdi_4_6_the_carried_value_is_agreed_on_in_the_new_view() -> None:
    """Without judging it again: a quorum found it good, and its time grows old meanwhile."""
    bench = Bench()
    block = bench.block()
    digest = block_hash(block.header)
    held = Prepared(0, digest, bench.certificate(Kind.PREPARE, digest))
    bench.hear(
        bench.new_view(1, [bench.change(0, 1, held), bench.change(1, 1), bench.change(2, 1)])
    )
    primary = bench.state.instance.schedule.at(1)
    effects = bench.propose(block, view=1, new_view=_entered(bench), signer=primary)
    assert Kind.PREPARE in _said([*effects, *bench.take(Verdict(digest, ok=True))])


def test_proactive_recovery_a_restarted_replica_says_nothing_before_it_heard_of_itself() -> None:
    """Castro's thesis, chapter 4, and OSDI 2000: it asks what the others hold of it.

    Here STATUS says it; a vote that its log does not know ends its signatures.
    """
    bench = Bench(greeted=False)
    bench.take(Waiting(transactions=True))
    assert _said(bench.take(Tick(), 400)) == []
    forgotten = bench.sign(Kind.PREPARE, 3, bytes([7]) * 32)
    effects = bench.take(Heard(peer_of(0), bench.status(highest=forgotten)))
    assert [effect for effect in effects if isinstance(effect, Observe)]
    bench.take(Heard(peer_of(1), bench.status()))
    assert _said(bench.take(Tick(), 4_000)) == []


def test_osdi_4_3_below_the_low_mark_nothing_is_signed() -> None:
    """A stable checkpoint is here every block: its commit certificate."""
    bench = Bench(blocks=4)
    height = bench.state.tip.height
    assert height >= 1
    assert bench.state.low >= height
    old = bench.sign(Kind.PREPARE, 0, bytes(32), height=height)
    assert _said(bench.hear(old)) == []


def _asked(effects: list[Effect]) -> list[bytes]:
    return [effect.block_hash for effect in effects if isinstance(effect, Validate)]


def _entered(bench: Bench) -> bytes:
    """What a PROPOSE names of the NEW_VIEW it follows."""
    entered = bench.state.instance.new_view
    assert entered is not None
    return entered.digest
