"""Keep a part of the daemon running: restart it with back-off when it crashes, and count.

Knows exceptions and delays. Must not know what a part does. A part that cannot even start
the first time is not restarted: its error goes to the caller, who can tell a person (a taken
port, a locked file). Later crashes stay inside; cancellation always passes through.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import trio

BACK_OFF_FIRST_S: Final = 0.2
BACK_OFF_LONGEST_S: Final = 10.0
HEALTHY_S: Final = 60.0  # a part that ran this long starts again from the first delay

log = logging.getLogger(__name__)


class Part(Protocol):
    """Something that runs until cancelled and says when it has started."""

    async def __call__(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Run."""
        ...


@dataclass(slots=True)
class _StartedOnce:
    """Passes the first `started` on; later ones belong to restarts nobody waits for."""

    outer: trio.TaskStatus[None]
    seen: bool = False

    def started(self, value: None = None) -> None:
        if not self.seen:
            self.seen = True
            self.outer.started(value)


class Supervisor:
    """Runs one part again and again.

    Args:
        name: of the part, for the log.
        on_crash: told of each crash, before the delay.
    """

    def __init__(
        self, name: str, *, on_crash: Callable[[BaseException], None] | None = None
    ) -> None:
        self.name = name
        self.restarts = 0
        self.last_error = ""
        self._on_crash = on_crash

    async def run(
        self, part: Part, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run the part until it returns or this task is cancelled.

        Raises:
            Exception: whatever the part raised before it ever started.
        """
        status = _StartedOnce(task_status)
        delay = BACK_OFF_FIRST_S
        while True:
            began = trio.current_time()
            crash = await self._attempt(part, status)
            if crash is None:
                return
            self.restarts += 1
            self.last_error = _describe(crash)
            log.error("%s crashed (restart %d): %s", self.name, self.restarts, self.last_error)
            log.debug("%s crashed", self.name, exc_info=crash)
            if self._on_crash is not None:
                self._on_crash(crash)
            if trio.current_time() - began >= HEALTHY_S:
                delay = BACK_OFF_FIRST_S
            await trio.sleep(delay)
            delay = min(2 * delay, BACK_OFF_LONGEST_S)

    @staticmethod
    async def _attempt(part: Part, status: _StartedOnce) -> Exception | None:
        try:
            await part(task_status=status)
        except Exception as crash:  # also groups of nothing but exceptions
            if not status.seen:
                raise
            return crash
        except BaseExceptionGroup as mixed:
            # Cancelled beside exceptions: we are being stopped, which wins.
            _, rest = mixed.split(Exception)
            if rest is None:
                raise
            raise rest from None
        return None


def _describe(crash: BaseException) -> str:
    while isinstance(crash, BaseExceptionGroup):
        crash = crash.exceptions[0]
    return f"{type(crash).__name__}: {str(crash)[:200]}"
