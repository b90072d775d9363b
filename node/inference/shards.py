"""Loaded shards: one session for each, shared by the units that need it, least used one dropped.

Knows which shards are in memory and who uses them. Must not know jobs or peers.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import trio

from prsm.node.inference.gauges import Averages
from prsm.node.inference.interface import Models, Runner
from prsm.node.inference.joining import Joiner, has_rows, read_golden
from prsm.node.inference.line import Line
from prsm.node.inference.runner import Adaptable, Session
from prsm.node.net.interface import Busy
from prsm.node.telemetry import metrics
from prsm.protocol.errors import PrsmError, Unsupported, WireError
from prsm.protocol.messages.models import Compute, Shard, rows_touch
from prsm.protocol.messages.work import CAPACITY_CLASSES_MAX, ShardClass, StageTime

log = logging.getLogger(__name__)

SHARDS_MAX: Final = 12  # children; MiniLM whole takes 166 MB, a third of it 60-100 MB

ShardKey = tuple[bytes, int, int]  # manifest, stages, index


@dataclass(slots=True, eq=False)
class _Held:
    users: int = 0
    last_use: int = 0
    session: Line | None = None
    error: PrsmError | None = None
    ready: trio.Event = field(default_factory=trio.Event)
    closing: trio.Event = field(default_factory=trio.Event)


class ShardCache:
    """Keeps sessions open between units of work.

    Args:
        runner: opens shards.
        models: has their files.
        shards_max: loaded at one time.
        is_joining: may rows of several requests stand in one run, where that is proved?
        provider: who computes, for the metrics.

    Invariant: a session in use is never closed here; `shards_max` counts those in use and idle.
    """

    def __init__(
        self,
        runner: Runner,
        models: Models,
        *,
        shards_max: int = SHARDS_MAX,
        is_joining: bool = False,
        provider: str = "cpu",
    ) -> None:
        self._runner, self._models, self._shards_max = runner, models, shards_max
        self._is_joining, self._provider = is_joining, provider
        self._held: dict[ShardKey, _Held] = {}
        self._row_us: Averages[ShardKey] = Averages(kept_max=CAPACITY_CLASSES_MAX)
        self._uses = 0
        self._nursery: trio.Nursery | None = None

    @property
    def runtime(self) -> str:
        """Of the runner; empty while it is away."""
        return self._runner.runtime

    def classes(self) -> tuple[ShardClass, ...]:
        """The loaded shards and the classes they proved here."""
        return tuple(
            ShardClass(model, stages, index, held.session.class_id)
            for (model, stages, index), held in sorted(self._held.items())
            if held.session is not None
        )

    def times(self) -> tuple[StageTime, ...]:
        """Processor time of a row, by shard, of those that ran here."""
        return tuple(
            StageTime(model, stages, index, round(us))
            for (model, stages, index), us in sorted(self._row_us.items())
        )

    async def compute(self, model: bytes) -> Compute:
        """How a model computes, by its manifest.

        Raises:
            PrsmError: the manifest cannot be had.
        """
        return (await self._models.manifest(model)).compute

    @property
    def waiting_ms(self) -> int:
        """How long all that waits here will take."""
        lines = [held.session for held in self._held.values() if held.session is not None]
        return sum(line.waiting_ms for line in lines)

    def note(self, model: bytes, shard: Shard, *, rows: int, cpu_us: int) -> None:
        """So many rows of a shard took so long."""
        self._row_us.note((model, shard.stages, shard.index), cpu_us / max(1, rows))
        metrics.observe("prsm_shard_compute_seconds", cpu_us / 1_000_000, self._provider)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold sessions until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None

    @asynccontextmanager
    async def use(self, model: bytes, shard: Shard) -> AsyncIterator[Line]:
        """The line before a shard, which is loaded when it is not.

        Raises:
            Busy: every place is in use.
            PrsmError: the files cannot be had, or the shard does not load.
        """
        key = (model, shard.stages, shard.index)
        held = self._held.get(key) or self._load(key, shard)
        held.users += 1
        try:
            await held.ready.wait()
            if held.session is None:
                raise held.error or Busy("the shard was dropped while it was loaded")
            yield held.session
        finally:
            held.users -= 1
            self._uses += 1
            held.last_use = self._uses

    def _load(self, key: ShardKey, shard: Shard) -> _Held:
        if self._nursery is None:
            raise Busy("the executor is not running")
        if len(self._held) >= self._shards_max:
            self._drop_idle()
        held = self._held[key] = _Held()
        self._nursery.start_soon(self._hold, key, shard, held)
        return held

    def _drop_idle(self) -> None:
        idle = [(held.last_use, key) for key, held in self._held.items() if not held.users]
        if not idle:
            raise Busy(f"{len(self._held)} shards are in use, at most {self._shards_max}")
        self._held.pop(min(idle)[1]).closing.set()

    async def _hold(self, key: ShardKey, shard: Shard, held: _Held) -> None:
        try:
            using = partial(self._models.using, key[0], holder=f"shard {shard.index}")
            async with AsyncExitStack() as stack:
                path, golden, *weights = [
                    await stack.enter_async_context(using(index))
                    for index in (shard.file, shard.golden, *shard.weights)
                ]
                adapter = await stack.enter_async_context(self._adapter(key[0]))
                session = await stack.enter_async_context(
                    self._runner.open(path, golden=golden, weights=weights)
                )
                if adapter is not None:
                    await _adapt(session, adapter)
                line = Line(session, joiner=await self._joiner(key[0], shard, golden))
                async with trio.open_nursery() as nursery:
                    held.session = line
                    nursery.start_soon(line.work)
                    held.ready.set()
                    await held.closing.wait()
                    nursery.cancel_scope.cancel()
        except PrsmError as error:
            held.error = error
        finally:
            held.session = None
            held.ready.set()
            if self._held.get(key) is held:
                del self._held[key]

    @asynccontextmanager
    async def _adapter(self, model: bytes) -> AsyncIterator[Path | None]:
        """The adapter's file, if the model is an adapted one; a child that dies needs it again."""
        index = (await self._models.manifest(model)).adapter
        if index is None:
            yield None
            return
        async with self._models.using(model, index, holder="adapter") as path:
            yield path

    async def _joiner(self, model: bytes, shard: Shard, golden: Path) -> Joiner | None:
        """None where rows must not, or cannot, be joined."""
        if not self._is_joining or not has_rows(shard):
            return None
        manifest = await self._models.manifest(model)
        if rows_touch(manifest.compute):
            return None
        try:
            return Joiner(await trio.to_thread.run_sync(read_golden, golden))
        except (OSError, WireError) as error:
            log.warning("golden rows cannot be read, rows are not joined: %s", error)
            return None


async def _adapt(session: Session, adapter: Path) -> None:
    if not isinstance(session, Adaptable):
        raise Unsupported("the runner of this node takes no adapters")
    await session.adapt(adapter)
