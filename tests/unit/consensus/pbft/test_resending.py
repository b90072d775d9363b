"""What a core says again, how soon, to whom; and that nothing else is slept through for it.

Source: docs/spec/pbft.md, "Timeouts". Method: a `Bench` of four cores, core 3 under test; the
size of what it said is changed by hand, as no small message has it.
"""

import msgspec
import pytest

from prsm.consensus.pbft.config import RESEND_FIRST_MS, RESEND_MS, RESEND_SOON_BYTES_MAX
from prsm.consensus.pbft.effects import Effect, Send, SetTimer
from prsm.consensus.pbft.events import Draft, Heard, Payload, Tick, Waiting
from prsm.consensus.pbft.opened import Opened
from prsm.protocol.signing import Kind
from prsm.testnet.sim.stage import Bench


def proposer() -> Bench:
    """Core 3 in view 3, which it leads, its proposal said."""
    bench = Bench()
    for signer in (0, 1, 2):
        bench.hear(bench.change(signer, 3))
    bench.take(Payload(1, 3, Draft((), (), 77)))
    return bench


def again(effects: list[Effect]) -> list[tuple[str, Kind]]:
    """Receiver and kind of each message to one peer."""
    return [(each.peer, each.message.kind) for each in effects if isinstance(each, Send)]


@pytest.mark.parametrize("large", [Kind.NEW_VIEW, Kind.PROPOSE])
def test_large_message_waits_for_the_second_time_and_keeps_back_no_other(large: Kind) -> None:
    both = (Kind.NEW_VIEW, Kind.PROPOSE)
    for size, first in (
        (RESEND_SOON_BYTES_MAX, both),
        (RESEND_SOON_BYTES_MAX + 1, tuple(kind for kind in both if kind is not large)),
    ):
        bench = proposer()
        sent = bench.state.instance.sent
        said = sent[large, 3]
        message = msgspec.structs.replace(said.message, body=bytes(size))
        sent[large, 3] = Opened(message, said.digest)
        for kinds, after_ms in ((first, RESEND_FIRST_MS), (both, 2 * RESEND_FIRST_MS)):
            assert again(bench.take(Tick(), after_ms)) == [
                (f"peer{peer}", kind) for kind in kinds for peer in (0, 1, 2)
            ]


def test_times_between_saying_it_again_double_up_to_their_bound() -> None:
    bench = proposer()
    for span_ms in (RESEND_FIRST_MS, 2 * RESEND_FIRST_MS, 4 * RESEND_FIRST_MS, RESEND_MS):
        assert again(bench.take(Tick(), span_ms - 1)) == []
        assert again(bench.take(Tick(), 1)) != []
    assert again(bench.take(Tick(), RESEND_MS)) != []


def test_what_is_due_now_keeps_no_later_time_back() -> None:
    """The driver hands out a tick for it anyway; the next to be waited for is the view's end."""
    bench = Bench()
    bench.take(Waiting(transactions=True))
    bench.state.instance.resend_at_ms = bench.now_ms + 60
    end_ms = bench.state.instance.deadline_ms
    assert end_ms is not None
    assert bench.take(Heard("peer0", bench.status()), 59) == [SetTimer(bench.now_ms + 1)]
    assert bench.take(Heard("peer0", bench.status()), 1) == [SetTimer(end_ms)]


def test_view_that_ends_before_it_is_said_again_ends_in_time() -> None:
    bench = Bench()
    (timer,) = bench.take(Waiting(transactions=True))
    assert isinstance(timer, SetTimer)
    bench.state.instance.resend_at_ms = timer.at_ms + 1
    assert bench.take(Heard("peer0", bench.status())) == []
