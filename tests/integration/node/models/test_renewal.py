"""A child that takes another one's place: whole, or nobody is served by it."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from prsm.node.inference.forkserver import Child
from prsm.node.inference.session import Session
from prsm.protocol.messages.forms import Adapt
from prsm.protocol.messages.pipe import Load, Loaded, WorkerFailed
from tests.integration.node.models.test_forms import adapter, opened, rows
from tests.tools.model_rooms import wanted

pytestmark = pytest.mark.slow


@asynccontextmanager
async def adaptable(folder: Path) -> AsyncIterator[Session]:
    """A session of a model that takes an adapter and has none."""
    async with opened(folder) as (room, pool):
        out = folder / "adaptable.onnx"
        await room.models.forms.make_adaptable(folder / "raw.onnx", out)
        base, _ = await room.models.add(wanted(out))
        shard = base.manifest.shards[0]
        graph, golden = [
            await room.models.file(base.cid.raw, i) for i in (shard.file, shard.golden)
        ]
        async with pool.open(graph, golden=golden) as session:
            yield session


async def kill(session: Session) -> None:
    """Have the child die, as after a run that had to be killed."""
    child = session._child
    assert child is not None
    os.kill(session.pid, signal.SIGKILL)
    await child.exited.wait()


async def answer(session: Session) -> bytes:
    return bytes((await session.run(rows()))[0].data)


@contextmanager
def cutting(patches: pytest.MonkeyPatch, scope: trio.CancelScope, record: type) -> Iterator[None]:
    """Have a scope cancelled in the moment a child is sent this record."""
    real = Child.exchange

    async def exchange(child: Child, body: object, *args: object, **more: object) -> object:
        if isinstance(body, record):
            scope.cancel()
        return await real(child, body, *args, **more)  # type: ignore[arg-type]  # passed on as it came

    with patches.context() as patch:
        patch.setattr(Child, "exchange", exchange)
        yield


@pytest.mark.parametrize("record", [Load, Adapt])
async def test_cancelled_renewal_leaves_no_child_without_its_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: type
) -> None:
    """Who asked takes the batch back while the fresh child loads; the next one gets its bits."""
    async with adaptable(tmp_path) as session:
        plain = await answer(session)
        await session.adapt(adapter(tmp_path))
        adapted = await answer(session)
        await kill(session)
        scope = trio.CancelScope()
        with cutting(monkeypatch, scope, record), scope:
            await session.run(rows())
        assert scope.cancelled_caught
        assert await answer(session) == adapted != plain


async def test_cancelled_adapter_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child may have taken it: it serves nobody under the class without one."""
    async with adaptable(tmp_path) as session:
        plain, before = await answer(session), session.class_id
        for asks_next in (True, False):
            scope = trio.CancelScope()
            with cutting(monkeypatch, scope, Adapt), scope:
                await session.adapt(adapter(tmp_path))
            assert scope.cancelled_caught
            assert session.class_id == before
            if asks_next:
                assert await answer(session) == plain
        assert await session.adapt(adapter(tmp_path)) == 12  # in a fresh child
        assert session.class_id != before
        assert await answer(session) != plain


async def test_child_of_another_class_serves_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It computes other bits for the golden rows: refused each time, not the first time only."""
    async with adaptable(tmp_path) as session:
        before = await answer(session)
        await kill(session)
        real = Child.call

        async def call(child: Child, body: object, want: object, **more: object) -> object:
            found: object = await real(child, body, want, **more)  # type: ignore[arg-type]  # passed on as it came
            if isinstance(found, Loaded):
                found = msgspec.structs.replace(found, output_root=b"x" * 32)
            return found

        with monkeypatch.context() as patch:
            patch.setattr(Child, "call", call)
            for _ in range(2):
                with pytest.raises(WorkerFailed, match="other bits"):
                    await session.run(rows())
        assert await answer(session) == before
