"""Processes of `blockpeer`: started, told, killed, started again on the same port.

Knows pids, orders and answers. Must not know what an order does.
"""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Final

import trio

from prsm.testnet.linechild import LineChild
from prsm.testnet.processes import NotInTime

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
        self._child = LineChild(f"peer {number}", self._take)

    @property
    def is_up(self) -> bool:
        """Whether it runs."""
        return self._child.is_up

    async def start(self, nursery: trio.Nursery) -> None:
        """Start it, on the port it had before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.address = ""
        command = [
            *(sys.executable, "-W", "ignore", "-m", "prsm.testnet.blockpeer"),
            *(str(self.folder), str(self.number), "--port", str(self.port), *self._flags),
        ]
        await self._child.start(nursery, command)
        with trio.move_on_after(START_SECONDS):
            await self._child.until(lambda: bool(self.address))
            self.port = int(self.address.split("/")[4])
            return
        raise NotInTime(f"peer {self.number} did not start within {START_SECONDS:g} s")

    async def ask(self, word: str, *words: object) -> Answer:
        """Give an order and wait for its answer.

        Raises:
            NodeDied: it died before it answered.
        """
        number = str(next(self._ids))
        await self._child.tell([number, word, *map(str, words)], lambda: number in self._answers)
        return self._answers.pop(number)

    async def wait_verified(self, size: int) -> None:
        """Wait until its fetch has come so far."""
        await self._child.until(lambda: self.verified >= size)

    async def kill(self) -> None:
        """SIGKILL, by its pid."""
        await self._child.kill()

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
