"""Serving over the memory network: tabs, their money, what is refused, what moves over."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from prsm.consensus.ledger.records import JobStatus
from prsm.node.inference.interface import MemoryReceipts, NoBond, TransactionFailed
from prsm.node.inference.links import WorkerLost
from prsm.node.inference.planner import PriceOverCap, TooFewPeers
from prsm.node.inference.serving.service import ServeRequest, Serving
from prsm.node.inference.serving.tab import Tab, TabRules, TabState
from prsm.node.inference.serving.tabs import ServingRules, UnknownTab
from prsm.node.models.records import UnknownModel
from prsm.protocol.errors import PrsmError
from prsm.protocol.genesis import TREASURY
from prsm.protocol.tensors import Tensor
from prsm.protocol.transactions.payloads import HALT, Halt
from tests.tools.work import (
    MODEL,
    NAN_BYTE,
    WIDTH,
    Cluster,
    corrupt,
    make_cluster,
    tensor,
)
from tests.tools.work_chain import FUNDS

PRICE = 10
RULES = ServingRules(idle_s=30.0, tab=TabRules(life_ms=200_000, spare_ms=100_000))


@dataclass
class Names:
    """What names mean now."""

    meanings: dict[str, bytes] = field(default_factory=lambda: {"adder": MODEL})

    async def resolve(self, ref: str) -> bytes:
        await trio.lowlevel.checkpoint()
        if ref not in self.meanings:
            raise UnknownModel(f"no model is called {ref!r}")
        return self.meanings[ref]


def one_row(first: int = 1) -> tuple[Tensor, ...]:
    """One row of `x` and `mask`."""
    row = bytes((first + column) % 100 for column in range(WIDTH))
    return tensor("x", [row]), tensor("mask", [bytes(WIDTH)])


def due(tensors: tuple[Tensor, ...]) -> bytes:
    return bytes((b + 6) % 251 for b in tensors[0].data)


def asked(first: int = 1, **changes: object) -> ServeRequest:
    terms = {"ref": "adder", "inputs": one_row(first), **changes}
    return ServeRequest(**terms)  # type: ignore[arg-type]  # keyword by keyword in each test


async def serve(nursery: trio.Nursery, cluster: Cluster, *, names: Names | None = None) -> Serving:
    await cluster.start(nursery)
    ids = iter(range(1, 1000))
    made = Serving(
        cluster.requester.jobs._requester,
        (names or Names()).resolve,
        rules=RULES,
        new_id=lambda: next(ids).to_bytes(32, "big"),
    )
    await nursery.start(made.run)
    return made


async def settled(serving: Serving, tab: Tab) -> None:
    with trio.fail_after(3000):
        while not tab.is_over:  # noqa: ASYNC110 - a mock clock, nothing to wait on
            await trio.sleep(1)


async def test_many_requests_stand_under_one_lock_and_are_paid_when_it_closes(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster(2)
    serving = await serve(nursery, cluster)
    worker = cluster.workers[0]
    for first in range(20):
        served = await serving.ask(asked(first))
        assert served.outputs[0].data == due(one_row(first))
        assert served.workers == (worker.address,)
    [newer, tab] = serving.tabs.list()  # half of the first was used: the second is open already
    assert (tab.state, newer.state, newer.used) == (TabState.OPEN, TabState.OPEN, 1)
    await settled(serving, tab)  # nobody asks any more
    await settled(serving, newer)
    assert (tab.state, newer.state) == (TabState.SETTLED, TabState.SETTLED)
    spent = 20 * PRICE
    assert cluster.world.balance(cluster.requester.address) == FUNDS - spent
    assert cluster.world.balance(worker.address) == FUNDS + spent * 95 // 100
    assert cluster.world.balance(TREASURY) == spent * 5 // 100
    job = worker.chain.job(tab.job)
    assert job is not None
    assert job.status is JobStatus.SETTLED
    assert not serving.tabs.kinds_of(MODEL)
    assert (tab.inputs, newer.inputs) == ({}, {})  # kept for audits until then, no longer


async def test_rows_of_a_request_take_a_slot_that_holds_them(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Five rows stand in a slot of eight, and five are paid."""
    cluster = make_cluster(2)
    serving = await serve(nursery, cluster)
    rows = [bytes([row] * WIDTH) for row in range(5)]
    inputs = (tensor("x", rows), tensor("mask", [bytes(WIDTH)] * 5))
    served = await serving.ask(ServeRequest("adder", inputs=inputs))
    assert served.outputs[0].data == due(inputs)
    assert (served.price, served.tokens) == (5 * PRICE, 0)
    [tab] = serving.tabs.list()
    assert tab.kind.rows == 8
    serving.tabs.close(tab.job)
    await settled(serving, tab)
    assert cluster.world.balance(cluster.requester.address) == FUNDS - 5 * PRICE


async def test_answer_that_was_given_is_kept(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster(2)
    serving = await serve(nursery, cluster)
    first = await serving.ask(asked())
    again = await serving.ask(asked())
    assert (first.price, again.price) == (PRICE, 0)
    assert (first.cached, again.cached, again.tabs) == (0, 1, ())
    assert first.outputs == again.outputs
    assert (await serving.ask(asked(is_fresh=True))).cached == 0
    assert (await serving.ask(asked(2))).cached == 0
    [tab] = serving.tabs.list()
    assert len(tab.answered) == 3


async def test_liar_among_three_is_outvoted(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster(4)
    liar = cluster.workers[0]
    liar.runner.hook = corrupt
    serving = await serve(nursery, cluster)
    for first in range(5):
        served = await serving.ask(asked(first, opinions=3))
        assert served.outputs[0].data == due(one_row(first))
        assert liar.address not in served.workers
    [tab] = serving.tabs.list()
    serving.tabs.close(tab.job)
    await settled(serving, tab)
    assert tab.state is TabState.SETTLED
    assert cluster.world.balance(liar.address) == FUNDS
    assert cluster.world.balance(cluster.requester.address) == FUNDS - 2 * 5 * PRICE


async def test_lost_worker_is_replaced_and_the_request_answered(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster(3)
    serving = await serve(nursery, cluster)
    first = await serving.ask(asked())
    victim = next(node for node in cluster.workers if node.address in first.workers)
    victim.kill()
    again = await serving.ask(asked(2))
    assert again.outputs[0].data == due(one_row(2))
    assert again.workers != first.workers
    lost = serving.health.of(MODEL, victim.address)
    assert (lost.done, lost.failed, len(lost.errors)) == (1, 1, 1)


async def test_request_given_up_ends_at_the_worker_and_is_not_paid(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster(2)
    serving = await serve(nursery, cluster)
    await serving.ask(asked())
    worker = cluster.workers[0]
    worker.runner.run_s = 15.0
    async with trio.open_nursery() as asking:
        asking.start_soon(serving.ask, asked(2))
        await trio.sleep(1)
        asking.cancel_scope.cancel()
    await trio.sleep(0.1)
    began = trio.current_time()
    await serving.ask(asked(3))
    assert trio.current_time() - began < 16  # the run given up was ended, not finished
    [tab] = serving.tabs.list()
    assert (tab.under_way, sorted(tab.answered)) == (0, [1, 3])
    serving.tabs.close(tab.job)
    await settled(serving, tab)
    assert cluster.world.balance(cluster.requester.address) == FUNDS - 2 * PRICE


async def test_name_that_means_another_version_moves_what_is_served(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """A channel is set back on the ledger: the tabs of the version before close by themselves."""
    cluster, names = make_cluster(2), Names({"adder": MODEL, "other": MODEL})
    serving = await serve(nursery, cluster, names=names)
    await serving.ask(asked())
    [tab] = serving.tabs.list()
    names.meanings["adder"] = other = b"\x01\x55\x12\x20" + b"o" * 32
    await cluster.requester.chain.wait_height(cluster.world.height + 2)
    await wait_all_tasks_blocked()
    assert tab.state is not TabState.OPEN
    with pytest.raises(PrsmError, match="no such model"):
        await serving.ask(asked(2))  # the new one is nowhere in this test
    assert other not in {each.kind.model for each in serving.tabs.list()}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ref": "nobody"}, "model_not_found"),
        ({"inputs": (), "texts": ()}, "input_mismatch"),
        ({"inputs": one_row()[:1]}, "input_mismatch"),
        ({"inputs": (tensor("z", [bytes(WIDTH)]), one_row()[1])}, "input_mismatch"),
        ({"inputs": (tensor("x", [bytes(WIDTH)] * 2), one_row()[1])}, "input_mismatch"),
        ({"inputs": (tensor("x", [bytes(WIDTH - 1)]), one_row()[1])}, "input_mismatch"),
        (
            {"inputs": tuple(tensor(n, [bytes(WIDTH)] * 257) for n in ("x", "mask"))},
            "input_mismatch",
        ),
        (
            {"inputs": tuple(tensor(n, [bytes(2**26 + 1)]) for n in ("x", "mask"))},
            "batch_too_large",
        ),
        ({"price_cap": PRICE - 1}, "price_over_cap"),
        ({"opinions": 3}, "too_few_peers"),
    ],
)
async def test_what_cannot_be_served_is_refused_before_anything_is_locked(
    nursery: trio.Nursery, autojump_clock: MockClock, changes: dict[str, object], reason: str
) -> None:
    cluster = make_cluster(3)
    serving = await serve(nursery, cluster)
    with trio.fail_after(30), pytest.raises(PrsmError) as caught:
        await serving.ask(asked(1, **changes))
    assert caught.value.reason == reason
    assert serving.tabs.list() == ()
    assert cluster.world.executed == []
    assert cluster.world.balance(cluster.requester.address) == FUNDS
    assert serving.turnstile.inside == 0


async def test_rows_with_nan_are_refused_and_the_tab_goes_on(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster(2)
    serving = await serve(nursery, cluster)
    bad = (tensor("x", [bytes([NAN_BYTE] * WIDTH)]), one_row()[1])
    with pytest.raises(PrsmError) as caught:
        await serving.ask(ServeRequest("adder", inputs=bad))
    assert caught.value.reason == "input_mismatch"
    assert (await serving.ask(asked())).outputs[0].data == due(one_row())
    [tab] = serving.tabs.list()
    serving.tabs.close(tab.job)
    await settled(serving, tab)
    assert cluster.world.balance(cluster.requester.address) == FUNDS - PRICE


async def test_halted_model_is_not_served(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    cluster = make_cluster(2)
    serving = await serve(nursery, cluster)
    cluster.world.submit(b"o" * 32, HALT, Halt(MODEL, lift=False, reason="a test"))
    cluster.world.make_block()
    with pytest.raises(PrsmError) as caught:
        await serving.ask(asked())
    assert caught.value.reason == "halted"


async def test_nobody_there_is_told_at_once_and_tabs_are_found_by_name(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster(1)
    serving = await serve(nursery, cluster)
    with pytest.raises(TooFewPeers):
        await serving.ask(asked())
    with pytest.raises(UnknownTab):
        serving.tabs.close(b"?" * 32)


async def test_all_workers_lost_is_said(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    cluster = make_cluster(2)
    serving = await serve(nursery, cluster)
    await serving.ask(asked())
    cluster.workers[0].kill()
    with trio.fail_after(300), pytest.raises((WorkerLost, TooFewPeers)):
        await serving.ask(asked(2))
    [tab] = serving.tabs.list()
    await settled(serving, tab)
    job = cluster.requester.chain.job(tab.job)
    assert job is not None
    assert job.status is JobStatus.REFUNDED  # nobody showed a receipt
    assert cluster.world.balance(cluster.requester.address) == FUNDS


async def test_price_cap_of_one_does_not_refuse_another(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster(2)
    serving = await serve(nursery, cluster)
    ended: list[str] = []

    async def ask(first: int, cap: int) -> None:
        try:
            await serving.ask(asked(first, price_cap=cap))
            ended.append("done")
        except PriceOverCap as error:
            ended.append(error.reason)

    async with trio.open_nursery() as asking:
        asking.start_soon(ask, 1, PRICE - 1)
        asking.start_soon(ask, 2, PRICE)
    assert sorted(ended) == ["done", "price_over_cap"]


async def test_worker_with_too_little_pledged_is_not_asked_alone(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Where two answer, none needs a bond."""
    cluster = make_cluster(3, price_per_row=10_000_000)
    serving = await serve(nursery, cluster)
    with pytest.raises(NoBond):
        await serving.ask(asked())
    assert cluster.world.executed == []
    assert (await serving.ask(asked(opinions=2))).outputs[0].data == due(one_row())


async def test_escrow_that_cannot_be_paid_is_refused_at_once_and_nothing_is_locked(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster(4, price_per_row=20_000_000)
    serving = await serve(nursery, cluster)
    with trio.fail_after(30), pytest.raises(TransactionFailed, match="refused the lock"):
        await serving.ask(asked(opinions=3))
    assert cluster.world.balance(cluster.requester.address) == FUNDS
    [tab] = serving.tabs.list()
    await settled(serving, tab)
    assert (serving.turnstile.inside, tab.answered) == (0, {})


async def test_tab_of_an_earlier_process_is_paid_and_the_rest_comes_back(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The requester's part dies with a tab open: its worker claims in time, the note goes."""
    cluster, notes = make_cluster(2), MemoryReceipts()
    await cluster.start(nursery)
    async with trio.open_nursery() as second:
        earlier = Serving(
            cluster.requester.jobs._requester, Names().resolve, rules=RULES, notes=notes
        )
        await second.start(earlier.run)
        await earlier.ask(asked())
        second.cancel_scope.cancel()
    [raw] = await notes.load()
    async with trio.open_nursery() as third:
        later = Serving(
            cluster.requester.jobs._requester, Names().resolve, rules=RULES, notes=notes
        )
        await third.start(later.run)
        with trio.fail_after(3000):
            while await notes.load():  # noqa: ASYNC110 - a mock clock, nothing to wait on
                await trio.sleep(10)
        third.cancel_scope.cancel()
    job = cluster.requester.chain.job(raw)
    assert job is not None
    assert job.status is JobStatus.SETTLED
    assert cluster.world.balance(cluster.requester.address) == FUNDS - PRICE


async def test_tab_of_a_worker_that_goes_is_closed_in_time_and_paid(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The tab was idle for a second; the worker need not wait for its sixty, nor the requester."""
    cluster = make_cluster(3)
    serving = await serve(nursery, cluster)
    first = await serving.ask(asked(1))
    [old] = [node for node in cluster.workers if node.address in first.workers]
    [tab] = serving.tabs.list()
    await trio.sleep(1)
    old.drain.begin(10)
    began = trio.current_time()
    await trio.sleep(0.2)
    second = await serving.ask(asked(2))
    assert second.workers != first.workers
    with trio.fail_after(9):
        await old.drain.wait_over()
    assert trio.current_time() - began < 5
    old.kill()
    await settled(serving, tab)
    assert tab.state is TabState.SETTLED
    assert cluster.world.balance(old.address) == FUNDS + PRICE
