"""Who is asked for the stages of a generation: who may be believed alone, then the cheapest."""

import pytest

from prsm.node.inference.generate.routes import Wanted, lay_out
from prsm.node.inference.refusals import TooFewPeers
from prsm.node.inference.wishes import WorkerOffer
from prsm.protocol.generating import GREEDY
from prsm.protocol.ids import PeerId

WANTED = Wanted(
    model=b"m" * 36,
    runtime="r",
    stages=2,
    first=0,
    rows=(4, 16),
    shapes=(),
    sampling=GREEDY,
    price_cap=None,
    deadline_ms=600_000,
    tenant=b"",
)


def offer(name: str, price: int, bonded_for: int | None) -> WorkerOffer:
    return WorkerOffer(
        worker=name.encode() * 32,
        peer=PeerId(name),
        price_per_row=price,
        slots_free=1,
        runtime="r",
        models=frozenset(),
        bonded_for=bonded_for,
    )


def workers(*offers: WorkerOffer) -> list[bytes]:
    route = lay_out(offers, WANTED, shift=0, job=bytes(32), only=range(2))
    return [unit.workers[0][:1] for unit in route.units]


def test_workers_whose_pledge_does_not_cover_a_stage_are_left_out() -> None:
    """A lock that names them would be refused by themselves, after it was paid for."""
    assert workers(offer("a", 1, 19), offer("b", 2, 40), offer("c", 3, 60)) == [b"b", b"c"]
    assert workers(offer("a", 0, 0), offer("b", 2, 40)) == [b"a", b"b"], "free work needs none"
    assert workers(offer("a", 1, None), offer("b", 2, 40)) == [b"a", b"b"], "nobody asked"


def test_nobody_with_enough_pledged_is_said_with_the_figures() -> None:
    with pytest.raises(
        TooFewPeers, match=r"pledged enough for a stage of 0\.00002 FTNS"
    ) as refused:
        workers(offer("a", 1, 19), offer("b", 2, 0))
    assert (refused.value.value, refused.value.limit) == (19, 20)
