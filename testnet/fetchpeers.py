"""Processes of `blockpeer`: started, told, killed, started again on the same port.

Knows pids, orders and answers. Must not know what an order does.
"""

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Final

import trio

from prsm.testnet.processes import NodeDied, NotInTime

START_SECONDS: Final = 60.0
Answer = dict[str, object]


def number_of(answer: Answer, key: str) -> float:
    """A number out of an answer."""
    value = answer[key]
    assert isinstance(value, int | float), answer
    return value


class Peer:
    """One process: started, told, killed."""

    def __init__(self, folder: Path, number: int, *flags: str) -> None:
        self.folder = folder
        self.number = number
        self.address = ""
        self.port = 0
        self.verified = 0
        self._flags = flags
        self._ids = count(1)
        self._answers: dict[str, Answer] = {}
        self._changed = trio.Event()
        self._sending = trio.Lock()
        self._process: trio.Process | None = None

    @property
    def is_up(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.returncode is None

    async def start(self, nursery: trio.Nursery) -> None:
        """Start it, on the port it had before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process = await trio.lowlevel.open_process(
            [
                *(sys.executable, "-W", "ignore", "-m", "prsm.testnet.blockpeer"),
                *(str(self.folder), str(self.number), "--port", str(self.port), *self._flags),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.address = ""
        nursery.start_soon(self._listen, self._process)
        with trio.move_on_after(START_SECONDS):
            await self._until(lambda: bool(self.address))
            self.port = int(self.address.split("/")[4])
            return
        raise NotInTime(f"peer {self.number} did not start within {START_SECONDS:g} s")

    async def ask(self, word: str, *words: object) -> Answer:
        """Give an order and wait for its answer.

        Raises:
            NodeDied: it died before it answered.
        """
        process = self._process
        if process is None or process.stdin is None or not self.is_up:
            raise NodeDied(f"peer {self.number} is down")
        number = str(next(self._ids))
        line = json.dumps([number, word, *map(str, words)]) + "\n"
        try:
            async with self._sending:
                await process.stdin.send_all(line.encode())
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise NodeDied(f"peer {self.number} died") from error
        await self._until(lambda: number in self._answers or process.returncode is not None)
        answer = self._answers.pop(number, None)
        if answer is None:
            raise NodeDied(f"peer {self.number} died before it answered")
        return answer

    async def wait_verified(self, size: int) -> None:
        """Wait until its fetch has come so far."""
        await self._until(lambda: self.verified >= size)

    async def kill(self) -> None:
        """SIGKILL, by its pid."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()
            self._changed.set()

    async def _until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            self._changed = changed = trio.Event() if self._changed.is_set() else self._changed
            await changed.wait()

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

    def _take(self, answer: Answer) -> None:
        match answer:
            case {"id": str() as number}:
                self._answers[number] = answer
            case {"address": str() as address}:
                self.address = address
            case {"verified": int() as verified}:
                self.verified = verified
            case _:
                pass


@asynccontextmanager
async def peers_of(peers: Sequence[Peer]) -> AsyncIterator[trio.Nursery]:
    """Start peers; kill all that run at the end."""
    async with trio.open_nursery() as nursery:
        try:
            for peer in peers:
                await peer.start(nursery)
            yield nursery
        finally:
            with trio.CancelScope(shield=True):
                for peer in peers:
                    if peer.is_up:
                        await peer.kill()
        nursery.cancel_scope.cancel()
