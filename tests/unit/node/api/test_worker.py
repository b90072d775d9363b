"""The operator's side of work for others: what is offered, what it came to, what is refused."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from prsm.node.api.worker import Bench, WorkerApi
from prsm.node.config.schema import WorkerConfig
from prsm.node.inference.capacity import Standing
from prsm.node.inference.drain import Drain
from prsm.node.inference.earned import Earnings
from prsm.node.inference.interface import AllowAll
from prsm.node.inference.terms import Terms
from prsm.node.inference.workoffer import WorkOffer
from prsm.node.rpc.errors import BadParams
from prsm.node.rpc.methods.worker import DrainParams, EarningsParams, SetOfferParams
from prsm.node.rpc.spec import Caller, NoParams, Scope
from prsm.protocol.errors import Unsupported
from prsm.storage.cid import decode_cid
from prsm.storage.earnings import Ended
from tests.tools.clocks import SetClock
from tests.tools.wires import Wire

CALLER = Caller("test", frozenset(Scope))
NONE = NoParams()
CID = b"\x01\x55\x12\x20" + bytes(32)
DAY_MS = 86_400_000


class Rooms:
    """The handlers over an offer of two units at once, with one receipt that is not paid."""

    def __init__(self, folder: Path, *, is_off: bool = False) -> None:
        terms = Terms(price_per_row=7, units_max=2)
        self.offer = WorkOffer(terms, AllowAll(), folder / "worker.json")
        executor = SimpleNamespace(at_work=1, standing=lambda: Standing(7, "rt", 1, (), 5, 30))
        self.drain = Drain(Wire(), lambda: 0)
        bench = Bench(self.offer, cast("Any", executor), None, self.drain)
        receipt = SimpleNamespace(price_per_row=7, measured=SimpleNamespace(rows=4))
        self.earnings = Earnings(folder / "earnings.db")
        self.api = WorkerApi(
            None if is_off else bench,
            cast("Any", SimpleNamespace(unpaid=(receipt,))),
            self.earnings,
            WorkerConfig(price="7", bond="100"),
            SetClock(100 * DAY_MS),
        )


def ended(number: int, **fields: Any) -> Ended:  # noqa: ANN401 - of the record
    usual = {"paid": 20, "wrong": 0, "is_counted": True, "requester": b"r" * 32}
    return Ended(
        job=number.to_bytes(32, "big"),
        unit=0,
        model=CID,
        kind="infer",
        rows=4,
        price_per_row=7,
        height=number,
        time_ms=DAY_MS * number,
        **{**usual, **fields},
    )


async def test_offer_says_what_is_taken_and_what_is_owed(tmp_path: Path) -> None:
    api = Rooms(tmp_path).api
    info = await api.offer(NONE, CALLER)
    assert (info.state, info.why, info.price, info.units_max) == ("open", "", "7", 2)
    assert (info.at_work, info.waiting_ms, info.bond) == (1, 30, "100")
    assert (info.unpaid_units, info.unpaid) == (1, "28")


async def test_pause_resume_and_another_price_answer_with_what_holds(tmp_path: Path) -> None:
    api = Rooms(tmp_path).api
    assert (await api.pause(NONE, CALLER)).state == "paused"
    changed = await api.set_offer(SetOfferParams(price="9", units_max=1), CALLER)
    assert (changed.state, changed.price, changed.price_configured) == ("paused", "9", "7")
    kept = await api.set_offer(SetOfferParams(units_max=2), CALLER)
    assert (kept.price, kept.units_max) == ("9", 2)
    assert (await api.resume(NONE, CALLER)).state == "open"
    back = await api.set_offer(SetOfferParams(as_configured=True), CALLER)
    assert (back.price, back.units_max) == ("7", 2)


async def test_drain_is_shown_with_its_end_and_ends_with_a_resume(tmp_path: Path) -> None:
    api = Rooms(tmp_path).api
    info = await api.drain(DrainParams(), CALLER)
    assert info.state == "draining"
    assert 9_000 < info.left_ms <= 10_000
    assert (await api.drain(DrainParams(grace_s=2), CALLER)).left_ms <= 2_000
    resumed = await api.resume(NONE, CALLER)
    assert (resumed.state, resumed.held, resumed.left_ms) == ("open", 0, 0)


async def test_node_without_a_worker_says_so_and_refuses_to_change(tmp_path: Path) -> None:
    api = Rooms(tmp_path, is_off=True).api
    info = await api.offer(NONE, CALLER)
    assert (info.state, info.why) == ("off", "executor.enabled is false")
    for call in (api.pause, api.resume):
        with pytest.raises(Unsupported):
            await call(NONE, CALLER)
    with pytest.raises(Unsupported):
        await api.drain(DrainParams(), CALLER)
    with pytest.raises(Unsupported):
        await api.set_offer(SetOfferParams(price="1"), CALLER)


async def test_earnings_go_by_pages_and_by_days(tmp_path: Path, nursery: trio.Nursery) -> None:
    rooms = Rooms(tmp_path)
    await nursery.start(rooms.earnings.run)
    await rooms.earnings.note(ended(1))
    await rooms.earnings.note(ended(98, wrong=1, paid=0))
    await rooms.earnings.note(ended(99, is_counted=False, paid=0, requester=b""))
    first = await rooms.api.earned(EarningsParams(limit=2), CALLER)
    assert [(one.state, one.requester is None) for one in first.items] == [
        ("unpaid", True),
        ("wrong", False),
    ]
    assert first.items[0].model == str(decode_cid(CID))
    assert (first.sums.units, first.sums.paid, first.sums.wrong, first.sums.unpaid) == (
        *(3, "20", 1),
        1,
    )
    rest = await rooms.api.earned(EarningsParams(cursor=first.next_cursor or ""), CALLER)
    assert [one.height for one in rest.items] == [1]
    assert rest.next_cursor is None
    week = await rooms.api.earned(EarningsParams(days=7), CALLER)
    assert (week.sums.units, week.sums.paid) == (2, "0")


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "²"])
async def test_cursor_of_another_list_is_refused(tmp_path: Path, cursor: str) -> None:
    with pytest.raises(BadParams):
        await Rooms(tmp_path).api.earned(EarningsParams(cursor=cursor), CALLER)
