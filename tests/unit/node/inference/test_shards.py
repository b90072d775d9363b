"""Sessions between units: loaded once, shared, the least used one dropped, never one in use."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from prsm.node.inference.interface import Runner, Session
from prsm.node.inference.runner import Batches, Limits
from prsm.node.inference.shards import ShardCache
from prsm.node.net.interface import Busy
from prsm.protocol.messages.models import Shard
from prsm.protocol.messages.pipe import ModelRefused
from tests.tools.work import MODEL, ROOMY, RUNTIME, AdderRunner, MemoryModels, make_manifest

MANIFEST = make_manifest()
SHARDS = MANIFEST.shards  # 1-0, 2-0, 2-1, 3-0, 3-1, 3-2


@dataclass
class Refusing:
    """Refuses the first model it is asked to open."""

    inner: AdderRunner
    runtime: str = RUNTIME
    limits: Limits = ROOMY
    tries: int = 0

    def open(
        self, shard: Path, *, golden: Path, weights: Sequence[Path] = ()
    ) -> AbstractAsyncContextManager[Session]:
        assert not weights
        self.tries += 1
        if self.tries == 1:
            raise ModelRefused("a forbidden operator")
        return self.inner.open(shard, golden=golden)

    async def tokenise(
        self, tokenizer: Path, texts: Sequence[str], *, rows_per_batch: int
    ) -> Batches:
        return await self.inner.tokenise(tokenizer, texts, rows_per_batch=rows_per_batch)


async def cache(nursery: trio.Nursery, runner: Runner, *, shards_max: int = 2) -> ShardCache:
    made = ShardCache(runner, MemoryModels(MANIFEST), shards_max=shards_max)
    await nursery.start(made.run)
    return made


async def use(shards: ShardCache, shard: Shard) -> bytes:
    async with shards.use(MODEL, shard) as session:
        return session.class_id


async def test_shard_is_loaded_once_for_all_its_users(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    runner = AdderRunner(MANIFEST)
    shards = await cache(nursery, runner)
    async with trio.open_nursery() as users:
        for _ in range(5):
            users.start_soon(use, shards, SHARDS[0])
    assert runner.opened == ["1-0"]
    [loaded] = shards.classes()
    assert (loaded.model, loaded.stages, loaded.stage) == (MODEL, 1, 0)
    assert loaded.class_id == await use(shards, SHARDS[0])


async def test_least_recently_used_shard_goes(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    runner = AdderRunner(MANIFEST)
    shards = await cache(nursery, runner)
    for place in (0, 1, 0, 2, 0, 1):
        await use(shards, SHARDS[place])
    assert runner.opened == ["1-0", "2-0", "2-1", "2-0"]


async def test_shard_in_use_stays_and_the_next_is_told_to_wait(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    shards = await cache(nursery, AdderRunner(MANIFEST), shards_max=1)
    async with shards.use(MODEL, SHARDS[0]) as session:
        with pytest.raises(Busy, match="1 shards are in use, at most 1"):
            await use(shards, SHARDS[1])
        assert session.class_id
    await use(shards, SHARDS[1])


async def test_refused_shard_is_told_and_tried_again(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    shards = await cache(nursery, Refusing(AdderRunner(MANIFEST)))
    with pytest.raises(ModelRefused):
        await use(shards, SHARDS[0])
    assert shards.classes() == ()
    assert await use(shards, SHARDS[0])


async def test_cache_that_does_not_run_refuses() -> None:
    shards = ShardCache(AdderRunner(MANIFEST), MemoryModels(MANIFEST))
    with pytest.raises(Busy):
        await use(shards, SHARDS[0])
