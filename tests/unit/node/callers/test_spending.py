"""Limits of tokens around calls, and what jobs came to by the ledger's own rules."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import trio

from prsm.node.callers.costs import Costs
from prsm.node.callers.halves import start_then_wait
from prsm.node.callers.prices import FREE, PRICES, Fees
from prsm.node.callers.spending import LimitExceeded, Spending
from prsm.node.chain.wallet import VALID_MS
from prsm.node.inference.job import JobRequest, JobState
from prsm.node.rpc.dispatch import Dispatcher, bind
from prsm.node.rpc.errors import BadParams, CallTimeout, Forbidden
from prsm.node.rpc.methods import work as work_api
from prsm.node.rpc.methods.evaluations import EvaluateParams
from prsm.node.rpc.methods.generation import GenerateParams
from prsm.node.rpc.methods.plans import SubmitParams as PlanParams
from prsm.node.rpc.methods.serving import ServedRows, ServeParams
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.methods.wallet import SubmitParams, TransferParams, Transferred
from prsm.node.rpc.methods.work import RunParams
from prsm.node.rpc.spec import ALL_SCOPES, Caller, Scope
from prsm.protocol.errors import LocalError
from prsm.protocol.ids import address_text
from prsm.protocol.transactions.payloads import Refund, Transfer
from prsm.storage.database import Database
from prsm.storage.errors import NotFound
from prsm.storage.outlays import Limits, Outlays
from prsm.storage.tenancy import open_database
from tests.tools.clocks import SetClock
from tests.tools.rpc_node import FakeNode, sample
from tests.tools.work import MODEL, Cluster, corrupt, given_rows, make_cluster
from tests.tools.work_chain import FUNDS

LAB: Final = Caller("token lab", ALL_SCOPES, "trace-1", token_id="t1")
OPERATOR: Final = Caller("cookie", ALL_SCOPES, "trace-1")
TO: Final = "0x" + "07" * 32
FEE: Final = 500
FEES: Final = Fees(lambda _size: FEE, lambda _size, _wish: FEE)
ROWS, PRICE = 12, 10
RESERVE: Final = 3 * PRICE * ROWS  # one stage, three workers


@dataclass
class Shop:
    """A fake node behind the layer; jobs are real where a test says so."""

    database: Database
    limits: dict[str, Limits] = field(default_factory=lambda: {"t1": Limits(1_000)})
    clock: SetClock = field(default_factory=SetClock)
    node: FakeNode = field(default_factory=FakeNode)
    cluster: Cluster = field(default_factory=make_cluster)

    def __post_init__(self) -> None:
        chain, jobs = self.cluster.requester.chain, self.cluster.requester.jobs
        self.costs = Costs(chain.job, self.clock, jobs, Absent(), Absent())  # type: ignore[arg-type]  # has none
        self.outlays = Outlays(self.database)
        self.spending = Spending(self.outlays, self.limits.get, self.costs, self.clock, FEES)
        self.dispatcher = self.bind({})

    def bind(self, handlers: dict[str, Any]) -> Dispatcher:
        layers = (start_then_wait, self.spending.layer)
        return bind(self.node.handlers() | handlers, layers=layers)

    async def call(self, name: str, params: Any, caller: Caller = LAB) -> Any:  # noqa: ANN401 - as the table says
        return await self.dispatcher.call(name, params, caller)

    async def spent(self) -> tuple[int, int]:
        sums, _ = await self.spending.sums("t1")
        return sums.spent, sums.held

    def serve_jobs(self) -> None:
        """Let infer_run and job_get be those of a requester that works.

        In real time: a clock that jumps would jump while a thread writes to the disk.
        """
        self.cluster.world.block_s = 0.005
        jobs = self.cluster.requester.jobs

        async def run(params: RunParams, _caller: Caller) -> work_api.Job:
            cap = None if params.max_price is None else int(params.max_price)
            inputs = given_rows(ROWS)
            return shown(jobs.submit(JobRequest(MODEL, inputs, stages=1, price_cap=cap)))

        async def get(params: work_api.JobParams, _caller: Caller) -> work_api.Job:
            await jobs.wait(bytes.fromhex(params.job_id[2:]))
            return shown(bytes.fromhex(params.job_id[2:]))

        self.dispatcher = self.bind({"infer_run": run, "job_get": get})

    async def make_blocks(self) -> None:
        """One after the other, until cancelled."""
        world = self.cluster.world
        while True:
            world.time_ms += 50
            world.make_block()
            await trio.sleep(0.005)


class Absent:
    """Runs no plans and no generations."""

    def get(self, name: bytes) -> None:
        raise NotFound(name.hex())


def shown(job: bytes) -> work_api.Job:
    whole: work_api.Job = sample(work_api.Job)
    return msgspec.structs.replace(whole, job_id=address_text(job))


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    database = await open_database(tmp_path / "tenancy.db")
    try:
        yield Shop(database)
    finally:
        await database.close()  # noqa: ASYNC102 - close() shields itself


def refused(reason: str, spent: int | None) -> LocalError:
    made: LocalError = type("Refused", (LocalError,), {"reason": reason})("no")
    made.spent = spent
    return made


def paid(amount: str) -> TransferParams:
    return TransferParams(TO, amount)


async def test_transfers_count_amount_and_fee(shop: Shop) -> None:
    """400 and 500 of fee reserved; 400 and the real fee of 30 counted; then no room for more."""
    answer: Transferred = sample(Transferred)
    shop.node.answers["wallet_transfer"] = msgspec.structs.replace(answer, amount="400", fee="30")
    await shop.call("wallet_transfer", paid("400"))
    assert await shop.spent() == (430, 0)
    with pytest.raises(LimitExceeded, match=r"0\.00057 FTNS"):
        await shop.call("wallet_transfer", paid("400"))
    assert len(shop.node.calls) == 1
    await shop.call("wallet_transfer", paid("400"), OPERATOR)
    assert await shop.spent() == (430, 0)


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        (LocalError("no funds"), 0),
        (CallTimeout("late"), 10 + FEE),
        (ValueError("ours"), 10 + FEE),
        (ExceptionGroup("wrapped", [LocalError("no funds")]), 0),
    ],
)
async def test_refused_call_costs_nothing_unclear_one_counts(
    error: Exception, counted: int, shop: Shop
) -> None:
    """A typed refusal gives the reservation back; a deadline or a fault of ours keeps it."""
    shop.node.answers["wallet_transfer"] = error
    with pytest.raises(type(error)):
        await shop.call("wallet_transfer", paid("10"))
    assert await shop.spent() == (counted, 0)


async def test_highest_price_is_put_in(shop: Shop) -> None:
    """No max_price: what is left; one that is given stays; above what is left: refused."""
    params = GenerateParams("tiny@1.0.0", "x")
    await shop.call("infer_generate", params)
    assert shop.node.calls[-1][1].max_price == str(1_000 - FEE)
    with pytest.raises(LimitExceeded):
        await shop.call("infer_generate", params)
    shop.limits["t1"] = Limits(9_000, 1_000 + 400 + FEE + 100 + FEE)
    await shop.call("infer_generate", msgspec.structs.replace(params, max_price="400"))
    assert shop.node.calls[-1][1].max_price == "400"
    with pytest.raises(LimitExceeded):
        await shop.call("infer_generate", msgspec.structs.replace(params, max_price="101"))
    await shop.call("infer_generate", msgspec.structs.replace(params, max_price="0"))
    with pytest.raises(LimitExceeded):  # what is left would pay its fees and nothing else
        await shop.call("infer_generate", params)
    await shop.call("infer_generate", msgspec.structs.replace(params, local=True))
    assert shop.node.calls[-1][1].max_price is None


async def test_budgets_cached_answers_and_kinds(shop: Shop) -> None:
    """A plan's budget; a cached answer is free; a kind that has no price is refused."""
    plan = METHODS["job_submit"].example
    assert isinstance(plan, PlanParams)
    with pytest.raises(LimitExceeded):
        await shop.call("job_submit", plan)
    served: ServedRows = sample(ServedRows)
    request = ServeParams("minilm@stable", texts=("x",), max_price="300")
    shop.node.answers["serve_run"] = msgspec.structs.replace(served, tabs=())
    await shop.call("serve_run", request)
    assert await shop.spent() == (0, 0)
    shop.node.answers["serve_run"] = served
    await shop.call("serve_run", request)
    assert await shop.spent() == (300, 0)
    hold = {"amount": 100, "branches": []}
    await shop.call("wallet_submit", SubmitParams("Hold", hold))
    assert await shop.spent() == (900, 0)
    bad: list[dict[str, object]] = [{"amount": "-5"}, {"amount": 1.5}, {"amount": True}, {}]
    for payload in bad:
        with pytest.raises(BadParams):
            await shop.call("wallet_submit", SubmitParams("Transfer", payload))
    with pytest.raises(BadParams, match="Stake"):
        await shop.call("wallet_submit", SubmitParams("Stake", {"target": 1}))


@pytest.mark.parametrize(
    ("reason", "spent", "counted"),
    [
        ("price_over_cap", 40, 40),  # seven micro-batches were paid, the eighth is too dear
        ("worker_lost", 0, 0),
        ("busy", None, 0),
        ("worker_lost", None, 300),
        ("deadline_passed", 40, 300),
    ],
)
async def test_refusal_behind_the_first_payment_counts_what_was_spent(
    reason: str, spent: int | None, counted: int, shop: Shop
) -> None:
    shop.node.answers["serve_run"] = refused(reason, spent)
    with pytest.raises(LocalError):
        await shop.call("serve_run", ServeParams("minilm", texts=("x",), max_price="300"))
    assert await shop.spent() == (counted, 0)


@pytest.mark.parametrize(("spent", "counted"), [(None, 0), (0, FEE), (70, 70 + FEE)])
async def test_evaluation_that_is_refused_behind_its_draw_counts_the_fee(
    spent: int | None, counted: int, shop: Shop
) -> None:
    shop.node.answers["model_evaluate"] = refused("price_over_cap", spent)
    with pytest.raises(LocalError):
        await shop.call("model_evaluate", EvaluateParams("m", "d", max_price="100"))
    assert await shop.spent() == (counted, 0)


async def test_every_method_that_writes_is_priced_free_or_refused(shop: Shop) -> None:
    """Walk the table: a limited token reaches no handler whose cost nobody knows."""
    for method in METHODS.values():
        if method.scope is Scope.READ or method.name in PRICES:
            continue
        before = len(shop.node.calls)
        params = method.example or method.params()
        if method.name in FREE:
            await shop.call(method.name, params)
            assert len(shop.node.calls) == before + 1
        else:
            with pytest.raises(Forbidden, match="cannot be told"):
                await shop.call(method.name, params)
            assert len(shop.node.calls) == before
    shop.limits["t1"] = Limits()
    await shop.call("node_stop", METHODS["node_stop"].params())


async def test_token_that_is_gone_may_spend_nothing(shop: Shop) -> None:
    """Revoked while its connection is open: no record, no money."""
    del shop.limits["t1"]
    with pytest.raises(LimitExceeded):
        await shop.call("wallet_transfer", paid("1"))


@pytest.mark.parametrize("lies", [False, True])
async def test_job_is_counted_as_the_ledger_paid_it(
    lies: bool, shop: Shop, nursery: trio.Nursery
) -> None:
    """Reserved at the limit, locked for less, settled for what left the requester's account."""
    if lies:
        shop.cluster.workers[0].runner.hook = corrupt
    shop.serve_jobs()
    await shop.cluster.start(nursery)
    run = RunParams("adder", texts=("x",), wait_ms=60_000)
    with trio.fail_after(60):
        job = await shop.call("infer_run", run)
    view = shop.cluster.requester.jobs.get(bytes.fromhex(job.job_id[2:]))
    assert view.state is JobState.DONE
    cost = FUNDS - shop.cluster.world.balance(shop.cluster.requester.address)
    assert 0 < cost < RESERVE
    assert await shop.spent() == (cost, 0)
    nursery.cancel_scope.cancel()


async def test_running_job_holds_its_price(shop: Shop, nursery: trio.Nursery) -> None:
    """While it runs all of its price is held: a second one finds no room until it is over."""
    shop.serve_jobs()
    shop.cluster.world.block_s = 3_600  # no block, so no lock, until the test makes them
    await shop.cluster.start(nursery)
    run = RunParams("adder", texts=("x",), max_price="450")
    shop.limits["t1"] = Limits(1_300)
    first = await shop.call("infer_run", run)
    assert await shop.spent() == (950, 950)
    with pytest.raises(LimitExceeded):
        await shop.call("infer_run", run)
    nursery.start_soon(shop.make_blocks)
    with trio.fail_after(60):
        await shop.cluster.requester.jobs.wait(bytes.fromhex(first.job_id[2:]))
        assert (await shop.spent())[1] == 0
        await shop.call("infer_run", run)
    nursery.cancel_scope.cancel()


async def test_job_that_locked_nothing_gives_all_back(shop: Shop, nursery: trio.Nursery) -> None:
    """The peers ask more than is left: the job fails before a lock, and nothing is counted."""
    shop.serve_jobs()
    shop.limits["t1"] = Limits(RESERVE // 2 + FEE)
    await shop.cluster.start(nursery)
    with trio.fail_after(60):
        await shop.call("infer_run", RunParams("adder", texts=("x",), wait_ms=60_000))
    assert await shop.spent() == (0, 0)
    nursery.cancel_scope.cancel()


async def test_fees_of_a_job_count_with_it(shop: Shop, nursery: trio.Nursery) -> None:
    """What the wallet paid to lock and settle it; fees of other jobs do not."""
    shop.serve_jobs()
    await shop.cluster.start(nursery)
    with trio.fail_after(60):
        job = await shop.call("infer_run", RunParams("adder", texts=("x",), wait_ms=60_000))
        name = bytes.fromhex(job.job_id[2:])
        for payload, fee in ((Refund(job=name), 30), (Refund(job=b"o" * 32), 7)):
            shop.costs.note_sent(payload, fee)
        shop.costs.note_sent(Transfer(asset=0, to=b"t" * 32, amount=1, memo=b""), 9)
    cost = FUNDS - shop.cluster.world.balance(shop.cluster.requester.address)
    assert await shop.spent() == (cost + 30, 0)
    nursery.cancel_scope.cancel()


async def test_unknown_job_counts_as_reserved(shop: Shop) -> None:
    """Nobody knows it, here or on the ledger: held while a lock may come, then spent."""
    await shop.call("infer_run", RunParams("adder", texts=("x",), max_price="250"))
    assert await shop.spent() == (750, 750)
    shop.clock.now_ms += 2 * VALID_MS + 1
    assert await shop.spent() == (750, 0)


async def test_caller_that_hangs_up_while_waiting_leaves_a_settled_job(shop: Shop) -> None:
    """Cancelled in the wait: the reservation is bound to the job already."""
    shop.node.before["job_get"] = trio.sleep_forever
    run = RunParams("adder", texts=("x",), wait_ms=60_000, max_price="250")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shop.call, "infer_run", run)
        await shop.node.wait_calls(2)
        nursery.cancel_scope.cancel()
    rows = await shop.outlays.unfinished()
    assert [(row.kind, row.amount) for row in rows] == [("job", 750)]
