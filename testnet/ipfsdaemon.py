"""An IPFS program beside the peers of `fetches`: started, told to take files, killed.

Knows a command line, a repository, and the lines of JSON such a program speaks
(`tests/interop/ipfs/kubo`). Must not know what it is taken for.
"""

import os
import socket
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Final

import trio

from prsm.testnet.linechild import LineChild
from prsm.testnet.processes import NodeDied, NotInTime

START_SECONDS: Final = 90.0
TAKE_SECONDS: Final = 10.0  # its own download has no deadline


class IpfsDaemon:
    """One process with one repository and one port, however often it is started.

    Args:
        folder: for the repository, and for what it takes.
        program: how it is started, without repository and port.
    """

    def __init__(self, folder: Path, program: Sequence[str]) -> None:
        self.address = ""  # with `/p2p/`; the same after every start
        self.is_up = False
        self._folder = folder
        # It is started in its own folder, since it leaves a log where it is started.
        self._program = [str(Path(w).absolute()) if Path(w).exists() else w for w in program]
        self._port = _free_port()
        self._ids = count(1)
        self._answers: dict[int, dict[str, object]] = {}
        self._child = LineChild("the IPFS daemon", self._hear)

    async def start(self, nursery: trio.Nursery) -> None:
        """Start it, and wait until it says who it is.

        Raises:
            NodeDied: it ended at once.
            NotInTime: it said nothing.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._answers.clear()
        # A repository without bootstrap peers is all it may read.
        environment = {"HOME": str(self._folder), "PATH": os.environ["PATH"]}
        with (self._folder / "log").open("ab") as log:
            await self._child.start(
                nursery,
                [*self._program, str(self._folder / "repo"), str(self._port)],
                cwd=self._folder,
                env=environment | {"IPFS_PATH": str(self._folder / "repo")},
                log=log,
            )
        with trio.move_on_after(START_SECONDS):
            await self._child.until(lambda: 0 in self._answers or not self._child.is_up)
            said = self._answer(0)
            assert isinstance(said, dict), said
            self.address = str(said["addresses"][0])
            self.is_up = True
            return
        raise NotInTime(f"the IPFS daemon did not start within {START_SECONDS:g} s")

    async def take(self, root: str, number: int) -> bytes:
        """Have it fetch a file from whoever is connected to it, and return what it got.

        Raises:
            NodeDied: it is down, died, or did not get it.
            NotInTime: it did not get it in time.
        """
        target = self._folder / f"out-{number}"
        with trio.move_on_after(TAKE_SECONDS):
            await self._ask("cat", {"cid": root, "target": str(target)})
            data = await trio.Path(target).read_bytes()
            await trio.Path(target).unlink()
            return data
        raise NotInTime(f"the IPFS daemon had no {root} within {TAKE_SECONDS:g} s")

    async def kill(self) -> None:
        """SIGKILL, by its pid."""
        self.is_up = False
        await self._child.kill()

    async def _ask(self, command: str, fields: dict[str, object]) -> object:
        if not self.is_up:
            raise NodeDied("the IPFS daemon is down")
        number = next(self._ids)
        order = {"id": number, "command": command} | fields
        await self._child.tell(order, lambda: number in self._answers)
        return self._answer(number)

    def _answer(self, number: int) -> object:
        said = self._answers.pop(number, {"error": "it ended at once"})
        if "error" in said:
            raise NodeDied(f"the IPFS daemon: {said['error']}")
        return said["answer"]

    def _hear(self, said: dict[str, object]) -> None:
        number = said["id"]
        assert isinstance(number, int), said
        self._answers[number] = said


def _free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        port: int = made.getsockname()[1]
        return port
