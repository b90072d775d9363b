"""The battery every runner of shards passes: the pool on this machine, a cluster later.

Knows the port alone (`node/inference/runner`). Each check is given a bench: two shards, inputs that
fit the first, inputs that do not, a tokenizer, and how a worker of it is killed.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from prsm.node.inference.runner import Runner, Session
from prsm.protocol.errors import LocalError
from prsm.protocol.messages.pipe import InputMismatch, ModelRefused, WorkerFailed
from prsm.protocol.tensors import Tensor

Tensors = tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Bench:
    """A runner that runs, and what it can be tried with; `shards_max` of it is small."""

    runner: Runner
    shard: tuple[Path, Path]  # with its golden rows
    other: tuple[Path, Path]  # another graph
    broken: tuple[Path, Path]  # no graph at all
    inputs: tuple[Tensors, Tensors]  # of the first shard, with different answers
    misfits: Sequence[Tensors]
    tokenizer: Path
    kill: Callable[[Session], Awaitable[None]]  # the worker, as a crash would


async def check_runner(bench: Bench) -> None:
    """Run the battery."""
    assert bench.runner.runtime
    limits = bench.runner.limits
    assert limits.shards_max >= 2
    assert limits.memory_bytes_max > 0
    assert limits.run_seconds > 0
    await check_same_bits(bench)
    await check_misfits(bench)
    await check_side_by_side(bench)
    await check_cancel(bench)
    await check_death(bench)
    await check_room(bench)
    await check_texts(bench)


async def check_same_bits(bench: Bench) -> None:
    """Equal inputs give equal bits, in one worker and in two; the class says so."""
    first, second = bench.inputs
    runner = bench.runner
    async with _open(runner, bench.shard) as session:
        assert len(session.class_id) == 32
        answer = await session.run(first)
        assert await session.run(second) != answer
        assert await session.run(first) == answer
        spent, class_id = session.cpu_us, session.class_id
        assert spent > 0
        await session.run(first)
        assert session.cpu_us >= spent
        assert await session.compare(answer, answer) == 0
    async with _open(runner, bench.shard) as again, _open(runner, bench.other) as other:
        assert await again.run(first) == answer
        assert again.class_id == class_id != other.class_id


async def check_misfits(bench: Bench) -> None:
    """Inputs that do not fit are refused, and nothing else happens."""
    async with _open(bench.runner, bench.shard) as session:
        answer = await session.run(bench.inputs[0])
        for misfit in bench.misfits:
            with pytest.raises(InputMismatch):
                await session.run(misfit)
        assert await session.run(bench.inputs[0]) == answer


async def check_side_by_side(bench: Bench) -> None:
    """Callers of one session each get their own answer."""
    async with _open(bench.runner, bench.shard) as session:
        expected = [await session.run(each) for each in bench.inputs]
        found: dict[int, Tensors] = {}

        async def ask(place: int) -> None:
            found[place] = await session.run(bench.inputs[place % 2])

        async with trio.open_nursery() as nursery:
            for place in range(6):
                nursery.start_soon(ask, place)
        assert [found[place] for place in range(6)] == expected * 3


async def check_cancel(bench: Bench) -> None:
    """A caller that gives up leaves a session that answers right, and one that waits its turn."""
    async with _open(bench.runner, bench.shard) as session:
        answer = await session.run(bench.inputs[0])
        found: list[Tensors] = []

        async def give_up(scope: trio.CancelScope) -> None:
            with scope:
                await session.run(bench.inputs[1])

        async def wait_turn() -> None:
            found.append(await session.run(bench.inputs[0]))

        scopes = [trio.CancelScope() for _ in range(2)]
        async with trio.open_nursery() as nursery:
            for scope in scopes:
                nursery.start_soon(give_up, scope)
            nursery.start_soon(wait_turn)
            await wait_all_tasks_blocked()
            for scope in scopes:
                scope.cancel()
        assert found == [answer]
        assert await session.run(bench.inputs[0]) == answer


async def check_death(bench: Bench) -> None:
    """A worker that dies costs at most the run it had; the class stays what it was."""
    async with _open(bench.runner, bench.shard) as session:
        answer, class_id = await session.run(bench.inputs[0]), session.class_id
        await bench.kill(session)
        try:
            assert await session.run(bench.inputs[0]) == answer
        except WorkerFailed:
            assert await session.run(bench.inputs[0]) == answer
        assert session.class_id == class_id


async def check_room(bench: Bench) -> None:
    """No more shards than said; what is refused or ended takes no room."""
    most = bench.runner.limits.shards_max
    for _ in range(most + 1):
        with pytest.raises(ModelRefused):
            async with _open(bench.runner, bench.broken):
                pytest.fail("a shard that is none was opened")
    async with AsyncExitStack() as stack:
        for _ in range(most):
            await stack.enter_async_context(_open(bench.runner, bench.shard))
        with pytest.raises(LocalError):
            await stack.enter_async_context(_open(bench.runner, bench.shard))
    async with _open(bench.runner, bench.shard) as session:
        await session.run(bench.inputs[0])


async def check_texts(bench: Bench) -> None:
    """Every text is in one row of one batch, and twice the same texts are the same batches."""
    runner, texts = bench.runner, ["a", "three words here", "two words", "a", ""]
    made = await runner.tokenise(bench.tokenizer, texts, rows_per_batch=2)
    assert sorted(row for batch in made.batches for row in batch.rows) == list(range(5))
    for batch in made.batches:
        assert 1 <= len(batch.rows) <= 2
        assert all(tensor.head.shape[0] == len(batch.rows) for tensor in batch.tensors)
        assert all(len(tensor.data) == tensor.head.nbytes for tensor in batch.tensors)
    assert await runner.tokenise(bench.tokenizer, texts, rows_per_batch=2) == made
    with pytest.raises(InputMismatch):
        await runner.tokenise(bench.tokenizer, [], rows_per_batch=2)


def _open(runner: Runner, paths: tuple[Path, Path]) -> AbstractAsyncContextManager[Session]:
    shard, golden = paths
    return runner.open(shard, golden=golden)
