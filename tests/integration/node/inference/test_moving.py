"""Stages of a generation whose workers go away: moved in time, with the same tokens."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock

from prsm.node.inference.generate.course import Replay
from prsm.node.inference.generate.generation import GenerateRequest, Generation
from prsm.node.inference.generate.moving import MOVES_MAX
from prsm.node.net.interface import Channel
from prsm.protocol.messages.serving import Draining
from prsm.protocol.transactions.payloads import SETTLE
from tests.tools.generating import (
    CONTEXT,
    Maker,
    Makers,
    make_makers,
    settled,
    text_of,
    tokens_of,
)
from tests.tools.work import MODEL

PROMPT = "Once upon a time"
COUNT = 100
TEXT = text_of(tokens_of(PROMPT, COUNT))
STEP_S = 0.1
LOAD_S = 4.0
GRACE_S = 10.0  # less than what is left of the text takes, more than a load and a replay
assert len(PROMPT) + COUNT <= CONTEXT


@dataclass
class Reading:
    """A text as it comes, and the longest wait for a token."""

    makers: Makers
    one: Generation
    text: str = ""
    waits_s: list[float] = field(default_factory=list)

    async def read(self, count: int = 10_000) -> None:
        """Read on until there are so many tokens, or to the end."""
        asker = self.makers.makers[0]
        while len(self.text) < count:
            began = trio.current_time()
            part = await asker.generations.read(self.one.id, wait_ms=60_000)
            self.waits_s.append(trio.current_time() - began)
            self.text += part.text
            if part.is_over:
                return

    def worker(self, stage: int) -> Maker:
        """Who does a stage now."""
        name = self.one.stages[stage]
        return next(m for m in self.makers.makers if str(m.node.network.peer_id) == name)


async def begun(
    nursery: trio.Nursery,
    *,
    size: int = 6,
    stages: int = 2,
    price_per_row: int = 0,
    replay: Replay = Replay.STEPS,
    tokens: int = 10,
) -> Reading:
    """A slow generation over shards that take long to load, with some tokens read."""
    makers = make_makers(size, price_per_row=price_per_row)
    for maker in makers.makers:
        maker.runner.step_s, maker.runner.load_s = STEP_S, LOAD_S
    await makers.start(nursery)
    request = GenerateRequest(MODEL, PROMPT, COUNT, stages=stages, replay=replay)
    asker = makers.makers[0]
    reading = Reading(makers, asker.generations.get(asker.generations.start(request)))
    await reading.read(tokens)
    reading.waits_s.clear()
    return reading


async def seconds_until_over(maker: Maker) -> float:
    began = trio.current_time()
    with trio.fail_after(3600):
        await maker.node.drain.wait_over()
    return trio.current_time() - began


@pytest.mark.parametrize("replay", list(Replay))
@pytest.mark.parametrize("stage", [0, 1])
async def test_stage_of_a_worker_that_goes_is_moved_and_no_token_waits_for_the_load(
    stage: int, replay: Replay, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Nothing is lost, the longest wait is some steps, and the worker may go before its end."""
    reading = await begun(nursery, replay=replay)
    old = reading.worker(stage)
    old.node.drain.begin(GRACE_S)
    assert await seconds_until_over(old) < GRACE_S - 1
    assert reading.worker(stage) is not old
    assert old.sessions.count == 0
    old.kill()
    await reading.read()
    assert reading.text == TEXT
    assert reading.one.recoveries == []
    assert max(reading.waits_s) < LOAD_S / 2


async def test_worker_that_went_is_paid_for_what_it_did(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """It went at the end of a batch, and its receipt was shown before: nothing is needed of it."""
    reading = await begun(nursery, price_per_row=10, tokens=18)
    old = reading.worker(1)
    before = reading.makers.cluster.world.balance(old.node.address)
    old.node.drain.begin(GRACE_S)
    await seconds_until_over(old)
    done = old.runner.steps
    old.kill()
    await reading.read()
    assert reading.text == TEXT
    one = await settled(reading.one)
    assert (one.recoveries, len(one.receipts)) == ([], 3)
    [receipt] = [each for each in one.receipts if each.worker == old.node.address]
    rows = receipt.measured.rows
    assert rows == sum(batch.rows for batch in receipt.batches) == len(PROMPT) + done - 1
    chain = reading.makers.makers[0].node.chain
    job = chain.job(receipt.job)
    assert job is not None
    assert [batch.rows for batch in receipt.batches] == list(job.batch_rows[: len(receipt.batches)])
    verdict = job.verdicts[receipt.unit]
    assert verdict is not None
    [opinion] = verdict.opinions
    share = rows * 10 * 95 // 100  # the rest is the treasury's
    assert (opinion.worker, opinion.paid) == (old.node.address, share)
    assert reading.makers.cluster.world.balance(old.node.address) == before + share


@pytest.mark.parametrize("stage", [0, 1])
async def test_batch_that_was_left_in_the_middle_is_paid_for_to_both(
    stage: int, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The worker goes too soon for the end of its batch: a short one breaks no chain of stages."""
    reading = await begun(nursery, price_per_row=10, tokens=18)
    old = reading.worker(stage)
    old.node.drain.begin(LOAD_S + 1)
    await seconds_until_over(old)
    old.kill()
    await reading.read()
    one = reading.one
    with trio.fail_after(300):
        await settled(one)
    assert (reading.text, one.recoveries, len(one.receipts)) == (TEXT, [], 3)
    [receipt] = [each for each in one.receipts if each.worker == old.node.address]
    short = receipt.batches[-1]
    job = reading.makers.makers[0].node.chain.job(receipt.job)
    assert job is not None
    assert short.rows < job.batch_rows[short.index]
    assert all(verdict is not None for verdict in job.verdicts)


@pytest.mark.parametrize("stage", [0, 1])
async def test_workers_of_a_moved_stage_are_paid_without_their_requester(
    stage: int, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """It never settles: each worker does, and shows what it was fed where the batches differ."""
    reading = await begun(nursery, price_per_row=10, tokens=18)
    chain = reading.makers.makers[0].node.chain
    chain.mutes.add(SETTLE)
    reading.worker(stage).node.drain.begin(LOAD_S + 1)
    await reading.read()
    while not reading.one.receipts:
        await chain.wait_height(chain.height() + 1)
    jobs = {receipt.job for receipt in reading.one.receipts}
    units = [(receipt.job, receipt.unit) for receipt in reading.one.receipts]
    assert (len(jobs), len(units)) == (2, 3)
    with trio.fail_after(600):
        for job, unit in units:
            while (found := chain.job(job)) is None or found.verdicts[unit] is None:
                await chain.wait_height(chain.height() + 1)


async def test_what_is_done_before_the_worker_goes_is_not_moved(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    reading = await begun(nursery)
    old = reading.worker(1)
    old.node.drain.begin(600)
    await reading.read()
    assert (reading.text, reading.worker(1) is old, reading.one.recoveries) == (TEXT, True, [])
    loads = sum(len(maker.runner.opened) for maker in reading.makers.makers)
    assert loads == 2
    assert await seconds_until_over(old) < 60


async def test_worker_that_is_lost_before_its_successor_is_ready_is_replaced_by_that_one(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    reading = await begun(nursery)
    old = reading.worker(1)
    old.node.drain.begin(GRACE_S)
    await trio.sleep(LOAD_S / 2)
    old.kill()
    await reading.read()
    assert reading.text == TEXT
    [recovery] = reading.one.recoveries
    assert recovery.lost == str(old.node.network.peer_id)
    assert recovery.lost_ms < LOAD_S * 1000  # half of the load was behind it
    assert sum(len(maker.runner.opened) for maker in reading.makers.makers) == 3


async def test_successor_that_fails_is_followed_by_another(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """While they try, tokens come from the worker that goes."""
    reading = await begun(nursery)
    old = reading.worker(1)
    spare = reading.makers.makers[0].node.chain.job(reading.one.jobs[1])
    assert spare is not None
    [account] = spare.units[1].workers
    victim = next(m for m in reading.makers.makers if m.node.address == account)
    old.node.drain.begin(GRACE_S + LOAD_S)
    await trio.sleep(LOAD_S / 2)
    victim.kill()
    await reading.read()
    assert (reading.text, reading.one.recoveries) == (TEXT, [])
    assert reading.worker(1) not in (old, victim)
    assert max(reading.waits_s) < LOAD_S / 2


async def test_with_nobody_else_the_worker_goes_on_to_its_end(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """One worker in all: the text is ended by its hard end, not by its word."""
    reading = await begun(nursery, size=2, stages=1)
    old = reading.worker(0)
    old.node.drain.begin(GRACE_S / 2)
    await trio.sleep(GRACE_S / 2 - 1)
    counted = len(reading.one.tokens)
    assert counted > 20
    assert reading.one.recoveries == []
    assert reading.one.error is None


async def test_liar_that_says_so_again_and_again_moves_a_stage_a_bounded_number_of_times(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Whoever holds the stage says that it goes, and stays: never back, and not for ever."""
    reading = await begun(nursery, size=7)
    asker = reading.makers.makers[0].node.network.peer_id
    held: list[Maker] = []

    async def lie() -> None:
        while True:
            liar = reading.worker(1)
            if liar not in held:
                held.append(liar)
            liar.node.network.send_nowait(asker, Draining(left_ms=1_000), channel=Channel.CTL)
            await trio.sleep(0.5)

    async with trio.open_nursery() as lying:
        lying.start_soon(lie)
        await reading.read()
        lying.cancel_scope.cancel()
    assert (reading.text, reading.one.recoveries) == (TEXT, [])
    assert len(held) == 1 + MOVES_MAX
    one = await settled(reading.one)
    assert {maker.node.address for maker in held} <= {each.worker for each in one.receipts}


async def test_word_that_is_taken_back_in_time_moves_nothing(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    reading = await begun(nursery)
    old = reading.worker(1)
    old.node.drain.begin(GRACE_S)
    await trio.sleep(LOAD_S / 2)
    old.node.drain.resume()
    await reading.read()
    assert (reading.text, reading.worker(1) is old) == (TEXT, True)
