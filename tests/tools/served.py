"""A fake node behind a real door, for commands of the client."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio
from click.testing import CliRunner, Result

from prsm.node.cli.main import prsm
from tests.tools.rpc_door import OpenDoor, open_door
from tests.tools.rpc_node import FakeNode


@dataclass
class Served:
    """A fake node served by a trio loop in another thread."""

    door: OpenDoor

    @property
    def node(self) -> FakeNode:
        return self.door.node

    @property
    def home(self) -> Path:
        return self.door.home.root

    def run(self, *words: str, input: str | None = None) -> Result:  # noqa: A002 - click's
        return CliRunner().invoke(prsm, ["--home", str(self.home), *words], input=input)


@contextmanager
def serve_node(folder: Path) -> Iterator[Served]:
    """Serve while the block runs."""
    ready, doors = threading.Event(), list[OpenDoor]()
    tokens: list[trio.lowlevel.TrioToken] = []

    async def main() -> None:
        async with open_door(folder) as door:
            doors.append(door)
            tokens.append(trio.lowlevel.current_trio_token())
            ready.set()
            await trio.sleep_forever()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert ready.wait(10)
    try:
        yield Served(doors[0])
    finally:
        tokens[0].run_sync_soon(doors[0].nursery.cancel_scope.cancel)
        thread.join(10)
