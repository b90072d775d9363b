"""A requester runs a batch again: what it draws, what it finds, whom it names."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import msgspec
import pytest
import trio
from trio.testing import MockClock

from prsm.node.inference.checks import Checks, Sample
from prsm.node.inference.shards import ShardCache
from prsm.protocol.errors import Unsupported
from prsm.protocol.limits import TOLERANCE_PPB
from prsm.protocol.tensors import Dtype
from prsm.protocol.transactions.audits import Finding
from tests.tools.work import (
    MODEL,
    Adder,
    AdderRunner,
    MemoryModels,
    as_floats,
    corrupt,
    given_rows,
    make_manifest,
)


def thrown(*numbers: int) -> Callable[[int], int]:
    found: Iterator[int] = iter(numbers)
    return lambda _sides: next(found)


async def stages(runner: AdderRunner, wrong: int | None = None) -> list[Sample]:
    """Three stages of one batch, one of them answered wrongly."""
    shards = [shard for shard in runner.manifest.shards if shard.stages == 3]
    carried, mask = given_rows(4)
    found = []
    for place, shard in enumerate(shards):
        session = Adder(f"3-{place}", 2, shard.outputs[0].name, runner)
        inputs = (carried, mask)
        outputs = await session.run(inputs)
        if place == wrong:
            outputs = corrupt("", 0, outputs)
        found.append(Sample(MODEL, shard, inputs, outputs, session.class_id))
        carried = outputs[0]
    return found


async def float_stages(runner: AdderRunner, wrong: int) -> list[Sample]:
    """As `stages`, of a model whose outputs are floats; the runner makes such from now on."""
    shards = [shard for shard in make_manifest(made=Dtype.F32).shards if shard.stages == 3]
    samples = await stages(runner, wrong)
    runner.hook = as_floats
    return [
        replace(sample, shard=shards[place], outputs=as_floats("", 0, sample.outputs))
        for place, sample in enumerate(samples)
    ]


async def cache(nursery: trio.Nursery, runner: AdderRunner) -> ShardCache:
    shards = ShardCache(runner, MemoryModels(runner.manifest))
    await nursery.start(shards.run)
    return shards


async def test_the_first_wrong_stage_is_named(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Later stages computed rightly what they got, and are not blamed."""
    runner = AdderRunner(make_manifest())
    checks = Checks(await cache(nursery, runner), percent=100)
    assert await checks.first_wrong(await stages(runner)) is None
    for wrong in range(3):
        assert await checks.first_wrong(await stages(runner, wrong)) == wrong


async def test_another_class_is_judged_by_distance(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    runner = AdderRunner(make_manifest())
    samples = await float_stages(runner, wrong=1)
    runner.flavour = b"another class"
    checks = Checks(await cache(nursery, runner), percent=100)
    runner.gap_ppb = TOLERANCE_PPB
    assert await checks.check(samples[1]) is Finding.CLOSE
    runner.gap_ppb = TOLERANCE_PPB + 1
    assert await checks.check(samples[1]) is Finding.DIFFERENT
    assert await checks.check(samples[0]) is Finding.EQUAL


@pytest.mark.parametrize(("made", "options"), [(stages, ""), (float_stages, "cpu; classes=apart")])
async def test_integers_of_another_class_name_nobody(
    made: Callable[[AdderRunner, int], Awaitable[list[Sample]]],
    options: str,
    nursery: trio.Nursery,
    autojump_clock: MockClock,
) -> None:
    """Outputs of bytes, and of a model that computes in integers: an honest CPU may differ."""
    manifest = make_manifest()
    compute = msgspec.structs.replace(manifest.compute, options=options)
    runner = AdderRunner(msgspec.structs.replace(manifest, compute=compute))
    samples = await made(runner, 1)
    checks = Checks(await cache(nursery, runner), percent=100)
    assert await checks.first_wrong(samples) == 1
    runner.flavour = b"another class"
    with pytest.raises(Unsupported, match="inside a determinism class only"):
        await checks.check(samples[1])
    assert await checks.first_wrong(samples) is None


async def test_jobs_are_drawn_by_their_share(nursery: trio.Nursery) -> None:
    shards = await cache(nursery, AdderRunner(make_manifest()))
    assert Checks(shards, percent=25, dice=thrown(24, 2)).draw([4, 5, 6]) == 6
    assert Checks(shards, percent=25, dice=thrown(25)).draw([4, 5, 6]) is None
    assert Checks(shards, percent=25, dice=thrown()).draw([]) is None
    assert Checks(None, percent=100).draw([1]) is None
