"""Handlers of storage_: what the disk holds, how sound it is, what goes when room is needed.

Knows: models, the store behind them, the disk. Must not know: transports.
"""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal

import trio

from prsm.node.api.tasks import result_of, task_info
from prsm.node.models import Models, Task
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import storage as api
from prsm.node.rpc.methods.tasks import TaskInfo
from prsm.node.rpc.spec import Caller, NoParams
from prsm.protocol.errors import LocalError
from prsm.storage.cid import Cid, decode_cid, parse_cid
from prsm.storage.diskguard import DiskGuard, DiskState
from prsm.storage.sources.pool import Tier
from prsm.storage.store.eviction import Judged
from prsm.storage.store.model_store import ModelStore
from prsm.storage.store.pins import PinState
from prsm.storage.wholefile import regular_size

_Disk = Literal["ok", "low", "read_only"]
_DISKS: Final[dict[DiskState, _Disk]] = {
    DiskState.OK: "ok",
    DiskState.LOW: "low",
    DiskState.READ_ONLY: "read_only",
}
_Tier = Literal["peer", "bitswap", "daemon", "gateway"]
_TIERS: Final[dict[Tier, _Tier]] = {
    Tier.PEER: "peer",
    Tier.BITSWAP: "bitswap",
    Tier.DAEMON: "daemon",
    Tier.GATEWAY: "gateway",
}
_Pin = Literal["held", "fetching", "waiting", "failed"]
_PINS: Final[dict[PinState, _Pin]] = {
    PinState.HELD: "held",
    PinState.FETCHING: "fetching",
    PinState.WAITING: "waiting",
    PinState.FAILED: "failed",
}


class StorageApi:
    """Answers about the store.

    Args:
        models: of this node.
        store: behind them.
        guard: of the disk; None: it is not watched.
        extra: folders of the extra stores.
        waiting: how much waits in the outbox.
    """

    def __init__(
        self,
        models: Models,
        store: ModelStore,
        *,
        guard: DiskGuard | None = None,
        extra: tuple[str, ...] = (),
        waiting: Callable[[], int] = lambda: 0,
    ) -> None:
        self._models = models
        self._store = store
        self._guard = guard
        self._extra = extra
        self._waiting = waiting

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "storage_getStats": self.stats,
            "storage_listSources": self.sources,
            "storage_listPins": self.pins,
            "storage_gc": self.gc,
            "storage_scrub": self.scrub,
            "storage_startScrub": self.start_scrub,
            "storage_export": self.export_car,
            "storage_import": self.import_car,
            "storage_remove": self.remove_car,
        }

    async def export_car(self, params: api.ExportParams, _caller: Caller) -> api.ExportedCar:
        """Write a file or a directory of files as a CAR, which appears when it is whole."""
        root, path = parse_cid(params.cid), _absolute(params.path)
        done = await self._models.keeping.cars.export(root, path)
        return api.ExportedCar(str(done.root), params.path, done.size, done.blocks)

    async def import_car(self, params: api.ImportParams, _caller: Caller) -> api.ImportedCar:
        """Store the files of a CAR when all of it held; it goes on when its caller goes away."""
        path = _absolute(params.path)

        async def work(task: Task) -> object:
            told = task.counting(0, await trio.to_thread.run_sync(regular_size, path))
            taken = await self._models.keeping.cars.take(path, on_progress=told)
            files = [
                api.ImportedFile(one.path, str(one.cid), str(one.root), one.size, one.profile)
                for one in taken.files
            ]
            return api.ImportedCar(str(taken.root), taken.blocks, tuple(files))

        again = shlex.join(("prsm", "storage", "import", params.path))
        task = self._models.tasks.start("import", params.path, work, again=again)
        return await result_of(task, api.ImportedCar)

    async def remove_car(self, params: api.RemoveParams, _caller: Caller) -> api.RemovedCar:
        """Give up what a CAR brought."""
        root = parse_cid(params.cid)
        done = await self._models.keeping.cars.remove(root)
        return api.RemovedCar(str(root), done.files, done.freed_bytes, done.kept)

    async def stats(self, _params: NoParams, _caller: Caller) -> api.StorageStats:
        """What the store holds."""
        space = await self._store.space()
        return api.StorageStats(
            used_bytes=space.used_bytes,
            quota_bytes=space.quota_bytes,
            files=space.used.count,
            files_bytes=space.used.files,
            partial_bytes=space.used.partial,
            damaged_bytes=space.used.bad,
            block_bytes=space.used.blocks,
            reserved_bytes=space.reserved_bytes,
            pinned_bytes=space.pinned_bytes,
            leased_bytes=space.leased_bytes,
            models=len(self._models.held()),
            offline=self._models.offline,
            extra_stores=self._extra,
            sources=tuple(source.name for source in self._models.sources_for(b"")),
            disk=self._disk(),
            outbox=self._waiting(),
        )

    async def sources(self, _params: NoParams, _caller: Caller) -> api.Sources:
        """Whom this node may ask for blocks."""
        outside = self._models.outside
        if outside is None:
            return api.Sources(offline=self._models.offline, items=())
        self._models.sources_for(b"")  # peers that came or went since the last fetch
        return api.Sources(
            offline=self._models.offline,
            items=tuple(
                api.SourceRow(
                    name=row.name,
                    kind=_TIERS[row.tier],
                    state=row.state.value,
                    latency_ms=row.latency_ms,
                    rate_bytes_per_s=row.rate_bps,
                    bytes=row.bytes,
                    faults=row.faults,
                    last_error=row.last_error,
                    next_try_ms=row.next_try_ms,
                )
                for row in outside.rows()
            ),
        )

    async def pins(self, _params: NoParams, _caller: Caller) -> api.Pins:
        """Files somebody wants kept."""
        called = await self._names()
        return api.Pins(
            items=tuple(
                api.PinRow(
                    cid=str(pin.root),
                    of=called.get(pin.root, ""),
                    name=pin.name,
                    owner=pin.owner,
                    state=_PINS[pin.state],
                    why=pin.why,
                )
                for pin in await self._store.pins()
            )
        )

    async def gc(self, params: api.GcParams, _caller: Caller) -> api.Collected:
        """Remove what is used least, or say what would go."""
        called = await self._names()  # before: afterwards nobody knows what was removed
        done = await self._models.collect(dry_run=params.dry_run, partials=params.partials)
        rows = [
            *(_row(one, called, goes=True) for one in done.gone),
            *(_row(one, called, goes=False) for one in done.kept),
        ]
        return api.Collected(
            dry_run=params.dry_run,
            freed_bytes=done.freed_bytes,
            used_bytes=done.used_bytes,
            quota_bytes=done.quota_bytes,
            items=tuple(rows),
        )

    async def scrub(self, params: api.ScrubParams, _caller: Caller) -> api.Scrubbed:
        """Hash every leaf of every file."""
        task = self._scrub() if params.task is None else self._models.tasks.get(params.task)
        return await result_of(task, api.Scrubbed)

    async def start_scrub(self, _params: api.ScrubParams, _caller: Caller) -> TaskInfo:
        """The same, with the task at once."""
        return task_info(self._scrub())

    def _scrub(self) -> Task:
        async def work(task: Task) -> object:
            done = await self._models.scrub(task=task)
            called = await self._names()
            return api.Scrubbed(
                ok=not done.damaged,
                files=done.files,
                checked_bytes=done.checked_bytes,
                items=tuple(
                    api.Damage(str(one.root), called.get(one.root, ""), one.leaves)
                    for one in done.damaged
                ),
            )

        return self._models.tasks.start("scrub", "all files", work, again="prsm storage scrub")

    def _disk(self) -> api.Disk | None:
        if self._guard is None:
            return None
        report = self._guard.report()
        return api.Disk(
            state=_DISKS[report.state],
            total_bytes=report.total_bytes,
            free_bytes=report.free_bytes,
            reserve_bytes=report.reserve_bytes,
        )

    async def _names(self) -> Mapping[Cid, str]:
        """What files belong to, for people: `minilm@1.0.0/model.onnx`."""
        return {
            decode_cid(file.root): f"{manifest.name}@{manifest.semver}/{file.path}"
            for _, manifest in await self._store.models()
            for file in manifest.files
        }


def _row(one: Judged, called: Mapping[Cid, str], *, goes: bool) -> api.GcRow:
    name, of = (
        (str(one.key), called.get(one.key, ""))
        if isinstance(one.key, Cid)
        else (one.key.hex(), "block")
    )
    why = one.why or ("cached, used least" if goes else "there is room")
    return api.GcRow(id=name, of=of, size_bytes=one.size, goes=goes, why=why)


def _absolute(path: str) -> Path:
    if not path.startswith("/") or "\0" in path:
        raise LocalError(f"{path[:80]!r} is no absolute path")
    return Path(path)
