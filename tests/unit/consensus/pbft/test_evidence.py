"""Two votes for one place, and a prepared block that a VIEW_CHANGE hides: who is accused, who not.

Method: a `Bench` of four cores with keyed signatures; a test signs for validators 0, 1 and 2,
hands messages to core 3 and reads whom it accuses.
"""

import msgspec

from prsm.consensus.pbft.config import HEIGHTS_PAST_MAX
from prsm.consensus.pbft.effects import Accuse, Effect
from prsm.protocol.codec import encode
from prsm.protocol.headers import block_hash
from prsm.protocol.messages.consensus import NewView, Prepared, ViewChange
from prsm.protocol.signing import Kind
from prsm.testnet.sim.stage import Bench

HASH, OTHER = bytes([9]) * 32, bytes([8]) * 32


def accused(effects: list[Effect]) -> list[tuple[Kind, int, Kind, int]]:
    """Kinds and views of the messages of each accusation, all of signer 0."""
    found = [effect for effect in effects if isinstance(effect, Accuse)]
    assert all(each.first.signer == each.second.signer == 0 for each in found)
    return [(e.first.kind, e.first.view, e.second.kind, e.second.view) for e in found]


def _prepared(bench: Bench, view: int) -> Prepared:
    return Prepared(view, HASH, bench.certificate(Kind.PREPARE, HASH, view=view))


def test_view_change_that_hides_a_commit_is_accused_in_either_order() -> None:
    """COMMIT in view 1, then VIEW_CHANGE for 2 that shows nothing, or only view 0."""
    for shown in (None, 0):
        for commit_first in (True, False):
            bench = Bench()
            commit = bench.sign(Kind.COMMIT, 0, HASH, view=1)
            held = None if shown is None else _prepared(bench, shown)
            messages = [commit, bench.change(0, 2, held)]
            if not commit_first:
                messages.reverse()
            assert accused(bench.hear(messages[0])) == []
            first, second = messages
            expected = [(first.kind, first.view, second.kind, second.view)]
            assert accused(bench.hear(messages[1])) == expected
            # It is said again every 250 ms: whoever keeps evidence keeps it once.
            assert accused(bench.hear(messages[1])) == expected


def test_honest_view_change_is_never_accused() -> None:
    """It shows the view it committed in, or a later one, or committed only after it."""
    for commit_view, change_view, shown in ((1, 2, 1), (0, 2, 1), (2, 2, None), (3, 2, None)):
        for commit_first in (True, False):
            bench = Bench()
            held = None if shown is None else _prepared(bench, shown)
            messages = [
                bench.sign(Kind.COMMIT, 0, HASH, view=commit_view),
                bench.change(0, change_view, held),
            ]
            for message in messages if commit_first else reversed(messages):
                assert accused(bench.hear(message)) == []


def test_view_change_that_proves_nothing_is_no_evidence() -> None:
    """Its claims do not hold, so nobody counts it; others may not even have received it so."""
    bench = Bench()
    bench.hear(bench.sign(Kind.COMMIT, 0, HASH, view=1))
    forged = Prepared(0, HASH, bench.certificate(Kind.PREPARE, HASH, signers=(0, 1)))
    assert accused(bench.hear(bench.change(0, 2, forged))) == []


def test_view_change_shown_to_the_proposer_alone_is_found_in_its_new_view() -> None:
    bench = Bench()
    bench.hear(bench.sign(Kind.COMMIT, 0, HASH, view=0))
    changes = [bench.change(signer, 1) for signer in (0, 1, 2)]
    # By another than the view's proposer, or of too few: nobody has checked its parts.
    assert accused(bench.hear(bench.new_view(1, changes, signer=2))) == []
    assert accused(bench.hear(bench.new_view(1, changes[:2]))) == []
    forged = msgspec.structs.replace(changes[0], signature=bytes(64))
    assert accused(bench.hear(bench.new_view(1, [forged, *changes[1:]]))) == []
    found = accused(bench.hear(bench.new_view(1, changes)))
    assert found == [(Kind.COMMIT, 0, Kind.VIEW_CHANGE, 1)]
    # One that is not entered proves nothing here.
    assert accused(bench.hear(bench.new_view(1, changes))) == []


def test_votes_that_come_after_the_decision_still_convict() -> None:
    """Kept for two heights: a second PREPARE, a second COMMIT, a VIEW_CHANGE that hides one."""
    bench = Bench()
    for _ in range(HEIGHTS_PAST_MAX + 1):
        bench.decide()
    assert bench.state.tip.height == HEIGHTS_PAST_MAX + 1
    for height in range(1, HEIGHTS_PAST_MAX + 2):
        is_kept = height > 1
        for kind in (Kind.PREPARE, Kind.COMMIT):
            twice = bench.sign(kind, 0, OTHER, height=height)
            assert accused(bench.hear(twice)) == ([(kind, 0, kind, 0)] if is_kept else [])
        body = encode(ViewChange(None, None))
        change = bench.sign(Kind.VIEW_CHANGE, 0, body, view=1, height=height)
        hidden = [(Kind.COMMIT, 0, Kind.VIEW_CHANGE, 1)]
        assert accused(bench.hear(change)) == (hidden if is_kept else [])
        many = bench.sign(Kind.NEW_VIEW, 0, encode(NewView((change,))), view=1, height=height)
        assert accused(bench.hear(many)) == []


def test_what_was_said_while_the_ledger_executes_still_convicts() -> None:
    bench = Bench()
    block = bench.block()
    digest = block_hash(block.header)
    bench.propose(block)
    bench.votes(Kind.COMMIT, digest)
    assert accused(bench.hear(bench.sign(Kind.COMMIT, 0, OTHER))) == [(Kind.COMMIT, 0) * 2]
    assert accused(bench.hear(bench.sign(Kind.COMMIT, 0, digest))) == []
