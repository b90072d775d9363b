"""Generation over workers: the same tokens by any way, sessions apart, stages lost, the bill."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import random
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from prsm.node.api.generation import GenerationApi
from prsm.node.inference.generate.course import Replay
from prsm.node.inference.generate.generation import GenerateRequest, Generation, ReaderTooSlow
from prsm.node.inference.generate.held import Room
from prsm.node.inference.generate.service import Generations
from prsm.node.inference.interface import MemoryReceipts
from prsm.node.inference.jobs import NotFinished
from prsm.node.rpc.methods.generation import GenerationParams
from prsm.protocol.generating import Sampling
from prsm.protocol.ids import address_text
from tests.tools.generating import (
    CONTEXT,
    Maker,
    Makers,
    make_makers,
    refusal_of,
    settled,
    speaking_bytes,
    text_of,
    tokens_of,
)
from tests.tools.rpc_node import ANYBODY
from tests.tools.work import MODEL

PROMPT = "Once upon a time"
COUNT = 40
TEXT = text_of(tokens_of(PROMPT, COUNT))


def wish(
    *, prompt: str = PROMPT, tokens: int = COUNT, stages: int = 2, home: int = 0, seed: int = 0
) -> GenerateRequest:
    return GenerateRequest(
        MODEL, prompt, tokens, Sampling(0, 0, 1000, seed), stages=stages, home=home
    )


@pytest.mark.parametrize(("stages", "home"), [(1, 1), (1, 0), (2, 0), (2, 1), (3, 0), (3, 3)])
async def test_tokens_are_the_same_by_every_way(
    stages: int, home: int, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    makers = make_makers()
    await makers.start(nursery)
    text, one = await makers.makers[0].generate(wish(stages=stages, home=home))
    assert text == TEXT
    assert one.finish == "length"
    assert one.tokens == tokens_of(PROMPT, COUNT)
    assert len(one.jobs) == (0 if home == stages else 2)


async def test_sessions_of_four_peers_side_by_side_cross_no_token(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Four requesters, three prompts each, all over the workers of one another at once."""
    makers = make_makers(4)
    await makers.start(nursery)
    texts: dict[tuple[int, int], str] = {}

    async def ask(place: int, turn: int, maker: Maker) -> None:
        prompt = f"peer {place} asks {turn}"
        texts[place, turn], _ = await maker.generate(wish(prompt=prompt, seed=turn))

    async with trio.open_nursery() as asking:
        for place, maker in enumerate(makers.makers):
            for turn in range(3):
                asking.start_soon(ask, place, turn, maker)
    assert texts == {
        (place, turn): text_of(tokens_of(f"peer {place} asks {turn}", COUNT, seed=turn))
        for place in range(4)
        for turn in range(3)
    }


async def started(maker: Maker, request: GenerateRequest, tokens: int) -> tuple[Generation, str]:
    """A generation that has given so many tokens, and their text."""
    name = maker.generations.start(request)
    text = ""
    while len(text) < tokens:
        text += (await maker.generations.read(name, wait_ms=60_000)).text
    return maker.generations.get(name), text


async def rest(maker: Maker, one: Generation) -> str:
    text = ""
    while True:
        part = await maker.generations.read(one.id, wait_ms=60_000)
        text += part.text
        if part.is_over:
            return text


def worker_of(makers: Makers, one: Generation, stage: int) -> Maker:
    """Who was named for a stage by the main route."""
    job = makers.makers[0].node.chain.job(one.jobs[0])
    assert job is not None
    [account] = job.units[stage].workers
    return next(maker for maker in makers.makers if maker.node.address == account)


@pytest.mark.parametrize("replay", list(Replay))
@pytest.mark.parametrize("stage", [0, 1])
async def test_stage_that_dies_is_taken_over_with_the_same_tokens(
    stage: int, replay: Replay, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    makers = make_makers(5)
    await makers.start(nursery)
    request = GenerateRequest(MODEL, PROMPT, COUNT, stages=2, replay=replay)
    one, text = await started(makers.makers[0], request, 10)
    worker_of(makers, one, stage).kill()
    assert text + await rest(makers.makers[0], one) == TEXT
    [recovery] = one.recoveries
    assert recovery.stage == stage
    assert one.stages[stage] == recovery.taken_by != recovery.lost
    assert recovery.positions >= len(PROMPT) + 9
    assert "unreachable" in recovery.why
    await settled(one)
    assert len(one.receipts) == 2
    await told_by_its_trace(makers.makers[0], one)


async def told_by_its_trace(maker: Maker, one: Generation) -> None:
    """Three workers were asked, one was lost and its successor began after it."""
    api = GenerationApi(None, maker.generations)  # type: ignore[arg-type]  # no model is looked up
    trace = await api.trace(GenerationParams(address_text(one.id)), ANYBODY)
    [recovery] = one.recoveries
    whole = {step.step: step for step in trace.steps if step.stage is None}
    assert whole.keys() == {"plan", "lock", "run", "receipt", "settle"}
    assert all(step.ended_ms is not None for step in trace.steps)
    asked = [step for step in trace.steps if step.step == "work"]
    assert len(asked) == len([step for step in trace.steps if step.step == "open"]) == 3
    [lost] = [step for step in asked if step.why]
    [taken] = [step for step in asked if step.peer == recovery.taken_by]
    assert (lost.stage, lost.peer, taken.stage) == (recovery.stage, recovery.lost, recovery.stage)
    assert lost.ended_ms is not None
    assert lost.began_ms < lost.ended_ms <= taken.began_ms
    began = [step.began_ms for step in trace.steps]
    assert began == sorted(began)


@pytest.mark.long
@pytest.mark.parametrize("trial", range(50))
async def test_kills_at_any_place_leave_the_tokens(
    trial: int, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Stage, place, way of the replay and who else dies are drawn; every trial is another seed."""
    dice = random.Random(trial)
    makers = make_makers(6)
    await makers.start(nursery)
    stages, replay = dice.choice((2, 3)), dice.choice(list(Replay))
    request = GenerateRequest(MODEL, PROMPT, 130, stages=stages, replay=replay)
    one, text = await started(makers.makers[0], request, dice.randrange(1, 50))
    hit = dice.sample(range(stages), dice.choice((1, 2)))
    for victim in (worker_of(makers, one, stage) for stage in hit):
        victim.kill()
    assert text + await rest(makers.makers[0], one) == text_of(tokens_of(PROMPT, 130))
    assert {recovery.stage for recovery in one.recoveries} == set(hit)


async def test_stage_that_dies_again_and_again_is_locked_anew(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Main route, spare, then a new lock; with nobody left it ends with a typed reason."""
    makers = make_makers(4)
    await makers.start(nursery)
    one, text = await started(makers.makers[0], wish(stages=1), 5)
    victims = [worker_of(makers, one, 0)]
    victims[0].kill()
    while len(text) < 15:
        text += (await makers.makers[0].generations.read(one.id, wait_ms=60_000)).text
    names = {str(maker.node.network.peer_id): maker for maker in makers.makers}
    names[one.recoveries[0].taken_by].kill()
    while len(one.recoveries) < 2:
        text += (await makers.makers[0].generations.read(one.id, wait_ms=60_000)).text
    assert len(one.jobs) == 2
    names[one.recoveries[1].taken_by].kill()
    with pytest.raises(Exception, match="nobody takes it over"):
        await rest(makers.makers[0], one)
    assert one.error is not None
    assert one.error.reason == "too_few_peers"


@pytest.mark.parametrize(
    ("tokens", "price", "replay"),
    [
        (1, 0, Replay.STEPS),
        (10, 0, Replay.PREFILL),
        (30, 0, Replay.PREFILL),
        (30, 0, Replay.STEPS),
        (30, 10, Replay.STEPS),
    ],
)
async def test_child_that_dies_is_replaced_at_the_same_worker(
    tokens: int,
    price: int,
    replay: Replay,
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is one receipt for what was done before and after, and nobody is blamed for it."""
    makers = make_makers(price_per_row=price)
    await makers.start(nursery)
    blamed: list[object] = []
    links = makers.makers[0].node.links
    monkeypatch.setattr(links.network, "penalise", lambda *what: blamed.append(what))
    one, text = await started(makers.makers[0], replace(wish(), replay=replay), tokens)
    worker = worker_of(makers, one, 1)
    worker.runner.opened[-1].is_dead = True
    assert text + await rest(makers.makers[0], one) == TEXT
    [recovery] = one.recoveries
    assert recovery.lost == recovery.taken_by == str(worker.node.network.peer_id)
    await settled(one)
    assert [receipt.worker for receipt in one.receipts].count(worker.node.address) == 1
    assert blamed == []


async def test_end_token_ends_the_answer_and_the_last_batch_is_short(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    makers = make_makers(price_per_row=10)
    await makers.start(nursery)
    tokens = tokens_of(PROMPT, COUNT)
    place = max(i for i in range(COUNT) if tokens[i] not in tokens[:i])
    assert place > 20
    for maker in makers.makers:
        maker.runner.end_at = tokens[place]
    text, one = await makers.makers[0].generate(wish())
    assert (text, one.finish) == (text_of(tokens[:place]), "stop")
    await settled(one)
    assert sum(batch.rows for batch in one.receipts[0].batches) == len(PROMPT) + place


async def test_model_without_more_positions_ends_the_answer(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    makers = make_makers()
    await makers.start(nursery)
    _, one = await makers.makers[0].generate(wish(tokens=CONTEXT))
    assert one.finish == "context"
    assert len(one.tokens) == CONTEXT - len(PROMPT) + 1


async def test_reader_that_stays_behind_stops_the_steps_and_is_hung_up_on(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    makers = make_makers()
    await makers.start(nursery)
    one, _ = await started(makers.makers[0], wish(tokens=130), 1)
    await trio.sleep(20)
    behind = len(one.tokens)
    assert behind < 100
    await trio.sleep(5)
    assert len(one.tokens) == behind
    await trio.sleep(20)
    assert isinstance(one.error, ReaderTooSlow)
    assert [maker.sessions.count for maker in makers.makers] == [0] * 4


async def test_reader_that_comes_back_in_time_gets_all_of_the_text(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The steps wait meanwhile; nothing overflows behind its back."""
    makers = make_makers()
    await makers.start(nursery)
    one, text = await started(makers.makers[0], wish(tokens=130), 1)
    await trio.sleep(20)
    waited = len(one.tokens)
    text += await rest(makers.makers[0], one)
    assert one.error is None
    assert waited < len(one.tokens) == 130
    assert text == text_of(tokens_of(PROMPT, 130))


async def test_cancelled_generation_ends_the_sessions_of_all_stages(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    makers = make_makers()
    await makers.start(nursery)
    one, _ = await started(makers.makers[0], wish(tokens=130), 5)
    assert sum(maker.sessions.count for maker in makers.makers) == 2
    makers.makers[0].generations.cancel(one.id)
    await trio.sleep(1)
    assert sum(maker.sessions.count for maker in makers.makers) == 0
    assert isinstance(one.error, NotFinished)
    held = [stepper.caches for maker in makers.makers for stepper in maker.runner.opened]
    assert not any(held)


async def test_full_quota_of_all_workers_is_told_before_anything_is_computed(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    makers = make_makers(room=Room(bytes_max=200))
    await makers.start(nursery)
    error = await refusal_of(makers.makers[0], wish())
    assert "quota_full" in error.what
    assert sum(maker.runner.steps for maker in makers.makers) == 0


async def test_a_worker_that_had_no_room_is_not_named_again(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The first in the order of all refuses each session; it loses the first text, not the next."""
    makers = make_makers(5)
    await makers.start(nursery)
    full = makers.workers[0]
    full.sessions._room = Room(bytes_max=0)
    asker = makers.makers[0]
    text, first = await asker.generate(wish())
    assert text == TEXT
    [recovery] = first.recoveries
    assert "quota_full" in recovery.why
    assert recovery.lost == str(full.node.network.peer_id)
    text, second = await asker.generate(wish())
    assert (text, second.recoveries) == (TEXT, [])
    assert full is not worker_of(makers, second, 0)


async def test_workers_are_paid_for_the_positions_they_did_and_the_rest_returns(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    makers = make_makers(price_per_row=10)
    await makers.start(nursery)
    world, asker = makers.cluster.world, makers.makers[0]
    before = world.balance(asker.node.address)
    request = replace(wish(prompt="abc", tokens=20), deadline_ms=30_000)
    text, one = await asker.generate(request)
    assert len(text) == 20
    assert one.locked == 2 * 2 * (3 + 19) * 10  # both routes, both stages
    await settled(one)
    rows = 3 + 19
    assert [sum(b.rows for b in receipt.batches) for receipt in one.receipts] == [rows, rows]
    assert [len(receipt.batches) for receipt in one.receipts] == [3, 3]
    chain = asker.node.chain
    with trio.fail_after(3600):
        while any((job := chain.job(name)) and job.is_open for name in one.jobs):
            await chain.wait_height(chain.height() + 1)
    paid = before - world.balance(asker.node.address)
    assert paid == 2 * rows * 10


async def test_escrows_of_an_earlier_process_are_fetched_back(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The asking node ends in mid-answer; the next one of its home finds what it had locked."""
    makers, notes = make_makers(price_per_row=10), MemoryReceipts()
    asker = makers.makers[0]
    asker.generations._notes = notes
    await makers.start(nursery)
    world = makers.cluster.world
    before = world.balance(asker.node.address)
    one, _ = await started(asker, replace(wish(), deadline_ms=30_000), 5)
    asker.scope.cancel()
    assert set(await notes.load()) == set(one.jobs)
    again = Generations(asker.generations._requester, speaking_bytes, notes=notes)
    await nursery.start(again.run)
    chain = asker.node.chain
    with trio.fail_after(3600):
        while await notes.load():
            await chain.wait_height(chain.height() + 1)
    assert before - world.balance(asker.node.address) <= 2 * sum((16, 16)) * 10
    assert all((job := chain.job(name)) and not job.is_open for name in one.jobs)
