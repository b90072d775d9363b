"""Plans on a whole network in memory: run, killed between steps and within one, gone on with."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from prsm.node.clock import TrioClock
from prsm.node.inference.interface import Runner
from prsm.node.inference.job import JobState
from prsm.node.inference.jobs import Jobs
from prsm.node.retrieval.search import FoundModel
from prsm.node.workplans.checkpoints import Checkpoints
from prsm.node.workplans.graph import Embed, Infer, PlanCycle, Search, Step, UnknownStep, Workplan
from prsm.node.workplans.plans import Plans
from prsm.node.workplans.progress import PlanState, PlanTooLarge
from prsm.node.workplans.steps import Bench
from prsm.protocol.errors import PrsmError
from prsm.protocol.messages.models import ModelManifest, TensorSpec
from prsm.protocol.tensors import Dtype
from prsm.protocol.transactions.payloads import LOCK, REFUND, Lock
from prsm.storage.errors import Full
from prsm.storage.jobs import JobStore
from prsm.storage.store.model_store import ModelStore
from tests.tools.memory_jobs import MemoryJobs
from tests.tools.work import (
    MODEL,
    AdderRunner,
    Cluster,
    MemoryModels,
    as_floats,
    given_rows,
    make_cluster,
    make_manifest,
)
from tests.tools.work_chain import FUNDS

BUDGET = 5_000
CARD = FoundModel(
    cid=MODEL,
    name="adder",
    semver="1.0.0",
    subject="model",
    score=0.5,
    summary="adds",
    task="",
    licence="MIT",
    size_bytes=1,
    price_per_row=None,
    has_card=True,
)


@dataclass
class SlowFinder:
    """The index of cards: one card, told when the test lets it."""

    may_answer: trio.Event = field(default_factory=trio.Event)
    asked: trio.Event = field(default_factory=trio.Event)
    vectors: list[bytes] = field(default_factory=list)

    async def nearest(
        self, vectors: Sequence[bytes], *, limit: int
    ) -> list[tuple[FoundModel, ...]]:
        self.asked.set()
        await self.may_answer.wait()
        self.vectors += vectors
        return [(CARD,)[:limit] for _ in vectors]


def manifest() -> ModelManifest:
    """The adder, its last output as float32: vectors."""
    made = make_manifest()
    spec = TensorSpec("y", Dtype.F32, ("batch", "width"))
    shards = tuple(
        msgspec.structs.replace(shard, outputs=(spec,)) if shard.stages == 1 else shard
        for shard in made.shards
    )
    return msgspec.structs.replace(made, shards=shards)


@dataclass
class Lab:
    """What outlives a process of the requester: network, ledger, disk."""

    cluster: Cluster
    store: ModelStore
    folder: Path
    jobs: MemoryJobs = field(default_factory=MemoryJobs)
    plans: MemoryJobs = field(default_factory=MemoryJobs)
    ids: int = 0

    def new_id(self) -> bytes:
        self.ids += 1
        return self.ids.to_bytes(32, "little")  # told apart by their first bytes, as real ones

    def children(self, plan_id: bytes) -> list[bytes]:
        locks = [p for _, p, result in self.cluster.world.executed if result.ok]
        return [p.job for p in locks if isinstance(p, Lock) and p.parent == plan_id]

    def paid(self, job: bytes) -> int:
        found = self.cluster.requester.chain.job(job)
        verdicts = [] if found is None else [verdict for verdict in found.verdicts if verdict]
        return sum(opinion.paid for verdict in verdicts for opinion in verdict.opinions)

    async def closed(self, plan_id: bytes, *, after_ms: int = 0) -> bool:
        """Wait until the escrow of a plan is closed."""
        self.cluster.world.time_ms += after_ms
        chain = self.cluster.requester.chain
        while (found := chain.job(plan_id)) is None or found.is_open:
            await chain.wait_height(chain.height() + 1)
        return True

    @asynccontextmanager
    async def process(self, finder: SlowFinder) -> AsyncIterator[tuple[Plans, Jobs]]:
        """Jobs and plans of one process of the requester's node; leaving is kill -9."""
        node = self.cluster.requester
        jobs = Jobs(node.jobs._requester, keep=lambda: opened(self.jobs))
        checkpoints = Checkpoints(self.store, self.folder)
        bench = Bench(jobs, node.chain, checkpoints, finder, TrioClock(), self.new_id)
        plans = Plans(bench, keep=lambda: opened(self.plans))
        async with trio.open_nursery() as nursery:
            await nursery.start(jobs.run)
            await nursery.start(plans.run)
            yield plans, jobs
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def opened(store: JobStore) -> AsyncIterator[JobStore]:
    await trio.lowlevel.checkpoint()
    yield store


@pytest.fixture
async def lab(nursery: trio.Nursery, tmp_path: Path) -> AsyncIterator[Lab]:
    runners: dict[int, Runner] = {}

    def runner(index: int) -> Runner:
        return runners.setdefault(index, AdderRunner(manifest(), hook=as_floats))

    cluster = make_cluster(runner=runner, models=MemoryModels(manifest()))
    store = await ModelStore.open(tmp_path / "store", quota=10_000_000)
    await cluster.start(nursery)
    yield Lab(cluster, store, tmp_path)
    await store.close()


def a_plan(*, budget: int = BUDGET) -> Workplan:
    return Workplan(
        (
            Step("read", Embed(MODEL, ("one", "two words"))),
            Step("find", Search("read", limit=3)),
            Step("calc", Infer(MODEL, inputs=given_rows(3)), price_cap=1_000, after=("find",)),
        ),
        budget,
        # The clock runs ahead while the store's threads work; the test moves it past this.
        deadline_ms=36_000_000,
    )


@pytest.mark.slow
async def test_a_plan_killed_between_steps_and_within_one_goes_on(
    lab: Lab, autojump_clock: MockClock
) -> None:
    """Goal: no finished step is run again, every output is read by its CID, no money is lost."""
    world, first = lab.cluster.world, SlowFinder()
    async with lab.process(first) as (plans, _):
        plan_id = await plans.submit(a_plan())
        await first.asked.wait()  # read is done, find is at work
        output = plans.get(plan_id).steps["read"].output
    assert output is not None
    assert await lab.store.has(output)
    [reading] = lab.children(plan_id)

    second = SlowFinder()
    second.may_answer.set()
    async with lab.process(second) as (plans, jobs):
        run = plans.get(plan_id)
        assert run.steps["read"].output == output
        while not run.steps["calc"].jobs:
            await lab.cluster.requester.chain.wait_height(world.height + 1)
        (cut_short,) = run.steps["calc"].jobs
        view = await jobs.wait(cut_short, until=JobState.RUNNING)
        assert view.state is JobState.RUNNING, view.error
    assert len(second.vectors) == 2
    assert lab.children(plan_id) == [reading, cut_short]

    third = SlowFinder()
    async with lab.process(third) as (plans, _):
        assert (await plans.wait(plan_id)).state is PlanState.DONE
        assert not third.asked.is_set()
        steps = plans.get(plan_id).steps
        assert steps["read"].jobs == (reading,)
        assert lab.children(plan_id) == [reading, *steps["calc"].jobs]
        assert steps["calc"].jobs[0] == cut_short
        assert len(steps["calc"].jobs) == 2
        await check_outputs(plans, plan_id)
        # What the job that was cut short had locked comes back after its deadline.
        assert await lab.closed(plan_id, after_ms=40_000_000)
    paid = lab.paid(reading) + lab.paid(steps["calc"].jobs[1])
    assert lab.paid(cut_short) == 0
    assert 0 < paid <= FUNDS - world.balance(lab.cluster.requester.address) <= 2 * paid


async def check_outputs(plans: Plans, plan_id: bytes) -> None:
    """Of every step, read by CID."""
    (hits,) = await plans.result(plan_id, "find")
    named = [[hit["ref"] for hit in row] for row in json.loads(hits.data)]
    assert named == [["adder@1.0.0"], ["adder@1.0.0"]]
    (calculated,) = await plans.result(plan_id)
    assert calculated.head.shape == (3, 5)
    with pytest.raises(UnknownStep):
        await plans.result(plan_id, "none")


async def test_a_plan_is_refused_before_money_moves(lab: Lab, autojump_clock: MockClock) -> None:
    circle = Step("a", Embed(MODEL, ("x",)), after=("a",))
    large = Step("a", Embed(MODEL, ("x" * 60_000,) * 20))
    async with lab.process(SlowFinder()) as (plans, _):
        for step, fault in ((circle, PlanCycle), (large, PlanTooLarge)):
            with pytest.raises(fault):
                await plans.submit(Workplan((step,), BUDGET))
        assert plans.list() == ()
    assert lab.plans.rows == {}
    assert lab.cluster.world.executed == []


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (Workplan((Step("a", Embed(MODEL, ("x",))),), 1, 36_000_000), "price_over_cap"),
        (
            Workplan((Step("a", Infer(MODEL, inputs=given_rows(1)[:1])),), BUDGET, 36_000_000),
            "input_mismatch",
        ),
        (
            Workplan((Step("a", Embed(b"\x01\x55\x12\x20" + bytes(32), ("x",))),), 9),
            "worker_failed",
        ),
    ],
)
async def test_a_step_that_fails_ends_the_plan_and_its_budget_returns(
    plan: Workplan, reason: str, lab: Lab, autojump_clock: MockClock
) -> None:
    async with lab.process(SlowFinder()) as (plans, _):
        run = await plans.wait(await plans.submit(plan))
        assert run.state is PlanState.FAILED
        assert run.error is not None
        assert run.error.reason == reason
        assert await lab.closed(run.id)
        with pytest.raises(PrsmError) as again:
            await plans.result(run.id, plan.steps[0].id)
        assert again.value.reason == reason
    assert lab.cluster.world.balance(lab.cluster.requester.address) == FUNDS


async def test_a_cancelled_plan_keeps_what_was_done(lab: Lab, autojump_clock: MockClock) -> None:
    finder = SlowFinder()
    async with lab.process(finder) as (plans, _):
        plan_id = await plans.submit(a_plan())
        await finder.asked.wait()
        plans.cancel(plan_id)
        run = await plans.wait(plan_id)
        assert run.state is PlanState.CANCELLED
        (vectors,) = await plans.result(plan_id, "read")
        assert vectors.head.dtype is Dtype.F32
        assert await lab.closed(plan_id)
    async with lab.process(SlowFinder()) as (plans, _):
        assert plans.get(plan_id).state is PlanState.CANCELLED
        assert (await plans.result(plan_id, "read"))[0] == vectors


async def test_a_lock_on_its_way_when_the_process_ended_is_found(
    lab: Lab, autojump_clock: MockClock
) -> None:
    plan = Workplan((Step("read", Embed(MODEL, ("one",))),), BUDGET, 36_000_000)
    async with lab.process(SlowFinder()) as (plans, _):
        while (
            not plans._is_compared
        ):  # else its end waits for a thread, and a block comes meanwhile
            await trio.lowlevel.checkpoint()
        plan_id = await plans.submit(plan)
        while not lab.cluster.world._queue:
            await trio.lowlevel.checkpoint()
    assert lab.cluster.requester.chain.job(plan_id) is None
    async with lab.process(SlowFinder()) as (plans, _):
        assert (await plans.wait(plan_id)).state is PlanState.DONE
        assert await lab.closed(plan_id)
    refused = [result.code for _, p, result in lab.cluster.world.executed if not result.ok]
    assert refused == ["JOB_EXISTS"]


async def test_a_plan_begins_before_the_first_block_after_a_long_rest(
    lab: Lab, autojump_clock: MockClock
) -> None:
    lab.cluster.world.rested_ms = 40_000_000
    plan = Workplan((Step("read", Embed(MODEL, ("one",))),), BUDGET, 36_000_000)
    async with lab.process(SlowFinder()) as (plans, _):
        assert (await plans.wait(await plans.submit(plan))).error is None


@pytest.mark.parametrize("ends", ["cancelled", "waits no more", "next process"])
async def test_a_lock_that_lands_after_the_plan_ended_comes_back(
    ends: str, lab: Lab, autojump_clock: MockClock
) -> None:
    plan = Workplan((Step("read", Embed(MODEL, ("one",))),), BUDGET, 36_000_000)
    world, chain = lab.cluster.world, lab.cluster.requester.chain
    world.late.add(LOCK)
    async with AsyncExitStack() as stack:
        plans, _ = await stack.enter_async_context(lab.process(SlowFinder()))
        plan_id = await plans.submit(plan)
        while not world._queue:
            await trio.lowlevel.checkpoint()
        if ends != "waits no more":
            plans.cancel(plan_id)
        assert (await plans.wait(plan_id)).error is not None
        if ends == "next process":
            await stack.aclose()
            await stack.enter_async_context(lab.process(SlowFinder()))
        await trio.sleep(5)
        assert chain.job(plan_id) is None
        world.late.clear()
        with trio.fail_after(1_000):
            assert await lab.closed(plan_id)
        assert world.balance(chain.address) == FUNDS
        await chain.wait_height(world.height + 2)
        assert lab.plans.rows[plan_id].is_over


@pytest.mark.slow
async def test_steps_wait_for_their_turn_where_many_jobs_are_at_work(
    lab: Lab, autojump_clock: MockClock
) -> None:
    """Two plans of 9 steps beside each other: 18 jobs at once, 16 go."""
    steps = tuple(Step(f"s{i}", Embed(MODEL, (f"text {i}",)), price_cap=200) for i in range(9))
    plan = Workplan(steps, 9 * 200, 36_000_000)
    async with lab.process(SlowFinder()) as (plans, _):
        both = [await plans.submit(plan), await plans.submit(plan)]
        for plan_id in both:
            run = await plans.wait(plan_id)
            assert run.error is None
            assert [len(step.jobs) for step in run.steps.values()] == [1] * 9


async def test_the_row_of_a_plan_stays_until_its_escrow_is_closed(
    lab: Lab, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was pruned when 64 newer plans were kept, and nobody fetched its budget back."""
    monkeypatch.setattr("prsm.node.workplans.plans.PLANS_KEPT", 1)
    chain = lab.cluster.requester.chain
    plan = Workplan((Step("a", Embed(MODEL, ("x",))),), 1, 36_000_000)  # too little for the step
    async with lab.process(SlowFinder()) as (plans, _):
        chain.mutes.add(REFUND)
        owing = await plans.submit(plan)
        await plans.wait(owing)
        ids = [await plans.submit(replace(plan, budget=0)) for _ in range(2)]
        for plan_id in ids:
            await plans.wait(plan_id)
        with trio.fail_after(10_000):
            await lab.plans.wait_rows({owing, ids[-1]})
    chain.mutes.clear()
    async with lab.process(SlowFinder()):
        with trio.fail_after(1_000):
            assert await lab.closed(owing)
        with trio.fail_after(10_000):
            await lab.plans.wait_rows({ids[-1]})
    assert lab.cluster.world.balance(chain.address) == FUNDS


async def test_neither_a_full_disk_nor_another_plan_that_forgets_old_ones_ends_the_service(
    lab: Lab, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one plan could not tidy the next one does."""

    async def full(_keep: int) -> int:
        await trio.lowlevel.checkpoint()
        raise Full("the disk is full")

    plan = Workplan((Step("a", Embed(MODEL, ("x",))),), 0, 36_000_000)  # nothing pays the step
    async with lab.process(SlowFinder()) as (plans, _):
        monkeypatch.setattr(lab.plans, "prune", full)
        await plans.wait(await plans.submit(plan))
        await wait_all_tasks_blocked()
        assert (await plans.wait(await plans.submit(plan))).is_over
        monkeypatch.undo()
        monkeypatch.setattr("prsm.node.workplans.plans.PLANS_KEPT", 0)
        async with trio.open_nursery() as nursery:
            for _ in range(2):  # as two plans that end together: both saw the same old ones
                nursery.start_soon(plans._forget_old)
        assert (plans.list(), lab.plans.rows) == ((), {})
