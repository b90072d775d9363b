"""What the store lacks of what somebody wants: fetched from others, while nobody waits for it.

That is damaged files with a pin, of which only the damaged leaves are asked for, and models that
were being fetched when the last run of this node ended, which go on from what is verified.

Knows: which files of the store are bad, which models they belong to, which tasks were cut short.
Must not know: how a leaf is found to be bad (`ModelStore`), how bytes come (`fetching`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from prsm.node.models.fetching import Fetching
from prsm.node.models.records import Tools
from prsm.node.models.tasks import Task, TaskInterrupted, Tasks
from prsm.node.net.interface import Busy
from prsm.protocol.messages.models import ModelManifest
from prsm.storage.cid import Cid
from prsm.storage.fetch.exchange import Urgency
from prsm.storage.store.index import State

PAUSE_MS: Final = 60_000  # after a try; doubles, since perhaps nobody has it now
PAUSE_MS_MAX: Final = 3_600_000
ASKS_NOBODY: Final = " (offline)"  # behind the reference, in the subject of such a pull
_FETCHES: Final = ("pull", "repair")  # kinds of tasks that go on by themselves


@dataclass(frozen=True, slots=True)
class _Pause:
    until_ms: int = 0
    length_ms: int = PAUSE_MS // 2

    def next(self, now_ms: int) -> "_Pause":
        """After one more try."""
        length_ms = min(2 * self.length_ms, PAUSE_MS_MAX)
        return _Pause(now_ms + length_ms, length_ms)


class Mending:
    """Starts the tasks that mend models.

    Args:
        tools: store, clock, whether anybody is asked.
        fetching: brings what lacks.
        tasks: of this node, those of its last run among them.
        resolve: the manifest of a reference.
    """

    def __init__(
        self, tools: Tools, fetching: Fetching, tasks: Tasks, resolve: Callable[[str], Cid]
    ) -> None:
        self._tools = tools
        self._fetching = fetching
        self._tasks = tasks
        self._resolve = resolve
        self._pauses: dict[Cid, _Pause] = {}
        self._cut_short: dict[str, _Pause] | None = None  # by reference; None: not looked yet

    async def look(self) -> None:
        """Start a task for each model that lacks something, and its time has come."""
        if self._tools.offline:
            return
        try:
            self._go_on()
            await self._mend_damage()
        except Busy:  # the next look is soon
            return

    def _go_on(self) -> None:
        """Start what the last run of this node was fetching when it ended."""
        if self._cut_short is None:
            self._cut_short = {
                task.subject: _Pause()
                for task in self._tasks.list()
                if task.kind in _FETCHES
                and isinstance(task.error, TaskInterrupted)
                and not task.subject.endswith(ASKS_NOBODY)
            }
        now_ms = self._tools.driver.clock.monotonic_ms()
        for ref, pause in list(self._cut_short.items()):
            if now_ms >= pause.until_ms:
                self._tasks.start("repair", ref, partial(self._finish, ref))
                self._cut_short[ref] = pause.next(now_ms)

    async def _finish(self, ref: str, task: Task) -> None:
        assert self._cut_short is not None
        try:
            cid = self._resolve(ref)
            manifest = await self._fetching.manifest(cid)
            await self._mend(cid, manifest, task)
            self._cut_short.pop(ref, None)
        finally:
            if task.scope.cancel_called:  # somebody does not want it any more
                self._cut_short.pop(ref, None)

    async def _mend_damage(self) -> None:
        """Start a task for each model that has a damaged file with a pin, and its time has come."""
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
            pause = self._pauses.get(cid, _Pause())
            if now_ms < pause.until_ms:
                continue
            self._pauses[cid] = pause.next(now_ms)
            called = f"{manifest.name}@{manifest.semver}"
            self._tasks.start("repair", called, partial(self._mend, cid, manifest))

    async def _mend(self, cid: Cid, manifest: ModelManifest, task: Task) -> None:
        await self._fetching.pull(cid, manifest, offline=False, task=task, urgency=Urgency.REPAIR)
