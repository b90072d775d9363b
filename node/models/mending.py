"""Damaged files that somebody wants kept: fetched again from others, while nobody waits for it.

Knows: which files of the store are bad, which models they belong to. Must not know: how a leaf is
found to be bad (`ModelStore`), how bytes come (`fetching`). Only the damaged leaves are asked for.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

from prsm.node.models.fetching import Fetching
from prsm.node.models.records import Tools
from prsm.node.models.tasks import Task, Tasks
from prsm.node.net.interface import Busy
from prsm.protocol.messages.models import ModelManifest
from prsm.storage.cid import Cid
from prsm.storage.fetch.exchange import Urgency
from prsm.storage.store.index import State

PAUSE_MS: Final = 60_000  # after a try; doubles, since perhaps nobody has it now
PAUSE_MS_MAX: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class _Pause:
    until_ms: int
    length_ms: int


class Mending:
    """Starts the tasks that mend models."""

    def __init__(self, tools: Tools, fetching: Fetching, tasks: Tasks) -> None:
        self._tools = tools
        self._fetching = fetching
        self._tasks = tasks
        self._pauses: dict[Cid, _Pause] = {}

    async def look(self) -> None:
        """Start a task for each model that has a damaged file with a pin, and its time has come."""
        if self._tools.offline:
            return
        # Fetched in part, a bad file is one on its way: it is remembered by its model's pause.
        lacking = {
            one.root.raw: one.state
            for one in await self._tools.store.list()
            if one.pins and one.state is not State.SEALED
        }
        if not lacking:
            self._pauses.clear()
            return
        now_ms = self._tools.driver.clock.monotonic_ms()
        for cid, manifest in await self._tools.store.models():
            states = {lacking[file.root] for file in manifest.files if file.root in lacking}
            if State.BAD not in states and not (states and cid in self._pauses):
                self._pauses.pop(cid, None)
                continue
            pause = self._pauses.get(cid, _Pause(0, PAUSE_MS // 2))
            if now_ms < pause.until_ms:
                continue
            length_ms = min(2 * pause.length_ms, PAUSE_MS_MAX)
            self._pauses[cid] = _Pause(now_ms + length_ms, length_ms)
            called = f"{manifest.name}@{manifest.semver}"
            try:
                self._tasks.start("repair", called, partial(self._mend, cid, manifest))
            except Busy:
                return

    async def _mend(self, cid: Cid, manifest: ModelManifest, task: Task) -> None:
        await self._fetching.pull(cid, manifest, offline=False, task=task, urgency=Urgency.REPAIR)
