"""How each node of a network is, once a second: height, memory, open files, answers; and probes.

Knows: methods that any node answers, /proc for open files. Must not know: faults. Lines go into
a file of the network's folder, so that a later stage can judge what an earlier one saw.
"""

import os
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import trio

from prsm.node.rpc.client import RpcError
from prsm.node.rpc.errors import NodeUnreachable
from prsm.node.rpc.methods.chain import ChainStatus
from prsm.node.rpc.methods.node import NodeStatus
from prsm.testnet import books
from prsm.testnet.asking import Asker, Door

BOOK: Final = "vitals.jsonl"
EVERY_SECONDS: Final = 1.0
PROBE_SECONDS: Final = 1.0  # an answer that comes later counts as none
UNKNOWN: Final = -1


class Vital(msgspec.Struct, frozen=True):
    """A node at one moment; `fds` is -1 where the system does not show them."""

    at_ns: int
    place: int
    pid: int
    height: int
    rss_bytes: int
    fds: int


def open_files(pid: int) -> int:
    """How many descriptors a process holds; -1 where we may not look: daemons are not dumpable."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - names are enough, and cheaper
    except OSError:
        return UNKNOWN


@dataclass(slots=True)
class Sampler:
    """Looks at every node once a second."""

    folder: Path
    doors: Sequence[Door]

    async def run(self) -> None:
        """Look and write down, until cancelled."""
        async with trio.open_nursery() as nursery:
            for place in range(len(self.doors)):
                nursery.start_soon(self._follow, place)

    async def _follow(self, place: int) -> None:
        asker = Asker(self.doors[place])
        try:
            while True:
                asked_ns = time.monotonic_ns()
                try:
                    with trio.fail_after(EVERY_SECONDS):
                        status = await asker.call("node_getStatus", result=NodeStatus)
                except (NodeUnreachable, RpcError, trio.TooSlowError):
                    pass  # dead, paused or busy: that is what faults are for
                else:
                    files = open_files(status.pid)
                    vital = Vital(
                        asked_ns, place, status.pid, status.height, status.rss_bytes, files
                    )
                    books.add(self.folder / BOOK, vital)
                await trio.sleep(EVERY_SECONDS)
        finally:
            asker.close()


def read(folder: Path) -> list[Vital]:
    """Everything that was seen, in the order it was written."""
    return books.read(folder / BOOK, Vital)


def backward(vitals: Iterable[Vital]) -> list[str]:
    """Nodes that showed a height and later a smaller one, be they killed in between or not."""
    highest: dict[int, int] = {}
    faults = []
    for each in vitals:
        if each.height < highest.get(each.place, 0):
            faults.append(f"node {each.place} went from height {highest[each.place]} to "
                          f"{each.height}")  # fmt: skip
        highest[each.place] = max(each.height, highest.get(each.place, 0))
    return faults


@dataclass(slots=True)
class Probes:
    """A client that asks any node for the height once a second, and another one if need be.

    Attributes:
        asked, answered: how many; an answer counts within a second of the question.
    """

    doors: Sequence[Door]
    dice: random.Random
    asked: int = 0
    answered: int = 0
    waited_ms: list[float] = field(default_factory=list)

    async def run(self) -> None:
        """Probe until cancelled."""
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(self._probe)
                await trio.sleep_until(began + (self.asked + 1) * EVERY_SECONDS)

    async def _probe(self) -> None:
        self.asked += 1
        began = trio.current_time()
        with trio.move_on_after(PROBE_SECONDS):
            await self._first_answer()
            self.answered += 1
            self.waited_ms.append((trio.current_time() - began) * 1000)

    async def _first_answer(self) -> None:
        """Ask nodes in a drawn order, each a quarter of the time, until one answers."""
        while True:
            for door in self.dice.sample(self.doors, len(self.doors)):
                asker = Asker(door)
                try:
                    with trio.fail_after(PROBE_SECONDS / 4):
                        await asker.call("chain_getStatus", result=ChainStatus)
                except (NodeUnreachable, RpcError, trio.TooSlowError):
                    continue
                finally:
                    asker.close()
                return
            await trio.sleep(0.02)
