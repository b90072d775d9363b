"""What a peer shows of this core's own NEW_VIEW, held against the log, of any height.

Source: docs/spec/pbft.md, "Start". Other votes: test_catchup. Method: a `Bench`.
"""

import msgspec
import pytest

from prsm.consensus.pbft import replica
from prsm.consensus.pbft.effects import Effect, Observe
from prsm.consensus.pbft.events import Heard
from prsm.consensus.pbft.probation import Probation
from prsm.consensus.pbft.records import Entered, pack
from prsm.protocol.codec import encode
from prsm.protocol.messages.consensus import NewView, SignedMessage
from prsm.protocol.signing import Kind, sha256
from prsm.testnet.sim.stage import Bench

HEIGHT = 5  # of the votes in the log; the ledger lost what lies below


def led(bench: Bench, view: int, parts: int) -> SignedMessage:
    """A NEW_VIEW of the core under test."""
    changes = tuple(bench.change(signer, view) for signer in range(parts))
    moved = tuple(msgspec.structs.replace(change, height=HEIGHT) for change in changes)
    return bench.sign(Kind.NEW_VIEW, 3, encode(NewView(moved)), view=view, height=HEIGHT)


def observed(effects: list[Effect]) -> bool:
    """Does it sign nothing from here on?"""
    return any(isinstance(effect, Observe) for effect in effects)


@pytest.mark.parametrize(
    ("view", "parts", "is_lost"), [(3, 3, False), (3, 2, True), (2, 3, False), (7, 3, True)]
)
def test_new_view_of_a_later_height_is_known_by_the_log(
    view: int, parts: int, is_lost: bool
) -> None:
    """The log ends with the NEW_VIEW of view 3: another one of it, or of a later view, was lost."""
    bench = Bench(greeted=False)
    records = [pack(Entered(led(bench, 3, 3)))]
    bench.state = replica.start(bench.config, bench.ledger.tip, records, None)
    said = led(bench, view, parts)
    shown = msgspec.structs.replace(said, body=sha256(said.body))
    assert observed(bench.take(Heard("peer0", bench.status(highest=shown)))) is is_lost
    expected = Probation(HEIGHT, {"peer0": 0}) if is_lost else None
    assert bench.state.probation == expected


def test_new_view_that_was_entered_is_known() -> None:
    bench = Bench()
    for signer in (0, 1, 2):
        bench.hear(bench.change(signer, 3))
    said = bench.state.instance.sent[Kind.NEW_VIEW, 3].message
    shown = msgspec.structs.replace(said, body=sha256(said.body))
    assert not observed(bench.take(Heard("peer0", bench.status(highest=shown))))


def test_observer_that_may_not_end_is_shown_more_and_stays_as_it_is() -> None:
    bench = Bench()
    bench.state = replica.start(bench.config, bench.ledger.tip, (), "the guard is gone")
    vote = bench.sign(Kind.COMMIT, 3, bytes(32))
    assert not observed(bench.take(Heard("peer0", bench.status(highest=vote))))
    assert (bench.state.observer, bench.state.probation) == ("the guard is gone", None)
