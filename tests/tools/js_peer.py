"""A js-libp2p peer as a process: one JSON command a line, one answer or event a line."""

import json
import math
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from prsm.node.net.handshake import ChainIdentity

FOLDER: Final = Path(__file__).parents[1] / "interop" / "libp2p"
WAIT_SECONDS: Final = 20.0

Fields = dict[str, object]


def missing() -> str:
    """Why the peer cannot run here; empty if it can."""
    if shutil.which("node") is None:
        return "node is not here"
    if not (FOLDER / "node_modules" / "libp2p").is_dir():
        return "js-libp2p is not installed: python scripts/libp2p_peer.py"
    return ""


@dataclass
class JsPeer:
    """What a test asks of the peer, and what it said by itself."""

    process: trio.Process
    events: list[Fields] = field(default_factory=list)
    answers: dict[int, Fields] = field(default_factory=dict)
    changed: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)
    last_id: int = 0
    peer: str = ""
    address: str = ""

    async def ask(self, command: str, **fields: object) -> Fields:
        """Send a command and wait for its answer; fails with the peer's own words."""
        self.last_id += 1
        number = self.last_id
        line = json.dumps({"id": number, "command": command} | fields) + "\n"
        assert self.process.stdin is not None
        await self.process.stdin.send_all(line.encode())
        await self._wait(lambda: number in self.answers)
        said = self.answers[number]
        assert "error" not in said, said
        answer = said["answer"]
        assert isinstance(answer, dict)
        return answer

    async def event(self, name: str, **like: object) -> Fields:
        """Wait for an event with these fields; one that came before counts."""
        wanted = {"event": name} | like
        await self._wait(lambda: self._find(wanted) is not None)
        found = self._find(wanted)
        assert found is not None
        return found

    def _find(self, wanted: Fields) -> Fields | None:
        return next((event for event in self.events if wanted.items() <= event.items()), None)

    async def _wait(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(WAIT_SECONDS):
            while not condition():
                await self.changed.park()

    async def listen(self) -> None:
        """Read what it says until it ends."""
        assert self.process.stdout is not None
        waiting = b""
        async for data in self.process.stdout:
            *lines, waiting = (waiting + bytes(data)).split(b"\n")
            for line in lines:
                said = json.loads(line)
                if "event" in said:
                    # Lists are no part of a comparison by items.
                    self.events.append(said)
                else:
                    self.answers[said["id"]] = said
            self.changed.unpark_all()


@asynccontextmanager
async def js_peer(chain: ChainIdentity, *, topics: tuple[str, ...] = ()) -> AsyncIterator[JsPeer]:
    """Run a peer that says it belongs to a network; it is ended with the block."""
    settings = {
        "chain": chain.chain.hex(),
        "genesis": chain.genesis.hex(),
        "schema": chain.schema,
        "topics": topics,
    }
    command = ["node", "--require", "./polyfill.cjs", "peer.mjs", json.dumps(settings)]
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(
            command, cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            js = JsPeer(process)
            nursery.start_soon(js.listen)
            listening = await js.event("listening")
            addresses = listening["addresses"]
            assert isinstance(addresses, list)
            js.peer, js.address = str(listening["peer"]), str(addresses[0])
            yield js
        finally:
            process.kill()
            with trio.CancelScope(deadline=math.inf, shield=True):
                await process.wait()
            nursery.cancel_scope.cancel()
