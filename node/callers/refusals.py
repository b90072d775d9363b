"""Calls that would administer this node or sign for it, refused at the door: who tried what.

They never reach the layer that writes calls down, so they have lines of their own: the first of a
caller and a method at once, then one in ten minutes with how many there were. So somebody with a
weak token shows, and cannot fill the disk.

Knows: methods, callers, the log. Must not know: why somebody has which scopes, transports.
"""

from dataclasses import dataclass, replace
from typing import Final

import trio

from prsm.node.callers.audit import AuditLog, Note
from prsm.node.clock import Clock
from prsm.node.rpc.spec import Caller, Method, Scope
from prsm.node.telemetry import logs
from prsm.protocol.errors import LocalError

EVERY_MS: Final = 600_000
KEPT_MAX: Final = 64  # callers and methods of ten minutes; others share one line
_WATCHED: Final = frozenset((Scope.ADMIN, Scope.SIGN))
_OTHERS: Final = Note(event="refused", who="others")

log: Final = logs.get("audit")


@dataclass(slots=True)
class _Tried:
    """How often since its last line, when that was (None: it has none), the first one's trace."""

    times: int = 0
    said_ms: int | None = None
    trace_id: str = ""


class Refusals:
    """Counts what was refused, and writes it down."""

    def __init__(self, audit: AuditLog, clock: Clock) -> None:
        """Nothing is counted yet."""
        self._audit, self._clock = audit, clock
        self._tried: dict[Note, _Tried] = {}
        self._news = trio.Event()

    def note(self, method: Method, caller: Caller) -> None:
        """Count a refusal; never waits. What asks for `read` or `write` alone is not noted."""
        if method.scope not in _WATCHED:
            return
        note = Note(
            event="refused",
            who=caller.name[:128],
            subject=method.name,
            tenant=caller.tenant,
            token_id=caller.token_id,
        )
        if note not in self._tried and len(self._tried) >= KEPT_MAX:
            note = _OTHERS
        tried = self._tried.setdefault(note, _Tried())
        if not tried.times:
            tried.trace_id = caller.trace_id
        tried.times += 1
        self._news.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write lines as they are due, until cancelled; then what is left."""
        try:
            task_status.started()
            while True:
                with trio.move_on_after(EVERY_MS / 1000):
                    await self._news.wait()
                self._news = trio.Event()
                await self.write_due()
                if self._tried:
                    await trio.sleep(1)  # a burst of new callers is written once a second
        finally:
            with trio.CancelScope(shield=True):  # bounded: at most 65 lines of a local file
                await self.write_due(is_last=True)

    async def write_due(self, *, is_last: bool = False) -> None:
        """Write the lines that are due now; the last time all that were counted."""
        now_ms = self._clock.monotonic_ms()
        for note, tried in list(self._tried.items()):
            is_quiet = tried.said_ms is not None and now_ms - tried.said_ms < EVERY_MS
            if is_quiet and not is_last:
                continue
            if not tried.times:
                del self._tried[note]  # ten minutes without another: its next one is news again
                continue
            times, tried.times, tried.said_ms = tried.times, 0, now_ms
            await self._write(replace(note, trace_id=tried.trace_id), {"times": str(times)})

    async def _write(self, note: Note, fields: dict[str, str]) -> None:
        try:
            await self._audit.write(note, fields)
        except LocalError as error:
            log.error("a refusal is not noted", who=note.who, method=note.subject, why=error.what)  # noqa: TRY400 - the reason is in it
