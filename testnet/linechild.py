"""A program that is told what to do, and answers, by lines of JSON on its pipes; it may be killed.

Knows processes and pipes. Must not know what a line means.
"""

import json
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import trio

from prsm.testnet.processes import NodeDied


class LineChild:
    """One program, however often it is started.

    Args:
        name: of it, in errors.
        take: hears what each of its lines says.
    """

    def __init__(self, name: str, take: Callable[[dict[str, object]], None]) -> None:
        self._name = name
        self._take = take
        self._changed = trio.Event()
        self._sending = trio.Lock()
        self._process: trio.Process | None = None

    @property
    def is_up(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.returncode is None

    async def start(
        self,
        nursery: trio.Nursery,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        log: IO[bytes] | None = None,
    ) -> None:
        """Start it; `log` gets what it writes to its standard error."""
        self._process = await trio.lowlevel.open_process(
            list(command),
            cwd=cwd,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        nursery.start_soon(self._listen, self._process)

    async def tell(self, order: object, is_answered: Callable[[], bool]) -> None:
        """Write a line, and wait until what it asks for was heard.

        Raises:
            NodeDied: it is down, or ended before.
        """
        process = self._process
        if process is None or process.stdin is None or not self.is_up:
            raise NodeDied(f"{self._name} is down")
        try:
            async with self._sending:
                await process.stdin.send_all(json.dumps(order).encode() + b"\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise NodeDied(f"{self._name} died") from error
        # This very process: it may be killed and started again meanwhile.
        await self.until(lambda: is_answered() or process.returncode is not None)
        if not is_answered():
            raise NodeDied(f"{self._name} died before it answered")

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until something is so that lines, or an end, make so."""
        while not is_so():
            self._changed = changed = trio.Event() if self._changed.is_set() else self._changed
            await changed.wait()

    async def kill(self) -> None:
        """SIGKILL, by its pid."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()
            self._changed.set()

    async def _listen(self, process: trio.Process) -> None:
        assert process.stdout is not None
        buffer = b""
        async for data in process.stdout:
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                self._take(json.loads(line))
            self._changed.set()
        await process.wait()
        self._changed.set()
