"""`python -m tests.tools.crashing --home DIR`: a daemon whose network a test can crash.

The daemon is the product's own; in each incarnation of its transport runs one more task, in a
nursery of libp2p's, which raises what nobody fenced as soon as the file `crash` lies in the home.
The product has no such switch.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import trio
from libp2p.network.swarm import Swarm

from prsm.node.net.host import Libp2pTransport
from prsm.node.process import main

COMMAND: Final = (sys.executable, "-m", "tests.tools.crashing")
LOOK_SECONDS: Final = 0.05
_serve = Libp2pTransport._serve


class Planted(Exception):
    """Raised where nobody expects it."""


def crash_file(home: Path) -> Path:
    """The file whose appearance crashes the network of a home's node."""
    return home / "crash"


async def fault(path: trio.Path) -> None:
    """Wait for the file, take it away, and raise."""
    while not await path.exists():  # noqa: ASYNC110 - a file is no event
        await trio.sleep(LOOK_SECONDS)
    await path.unlink()
    raise Planted("nobody fenced this")


async def serve(
    home: Path, self: Libp2pTransport, topics: Sequence[str], status: trio.TaskStatus[None]
) -> None:
    """Serve as the product does, with the fault beside it."""
    assert self._host is not None
    swarm = self._host.get_network()
    assert isinstance(swarm, Swarm)
    swarm.manager.run_task(partial(fault, trio.Path(crash_file(home))))
    await _serve(self, topics, status)


if __name__ == "__main__":
    folder = Path(sys.argv[sys.argv.index("--home") + 1])

    async def patched(
        self: Libp2pTransport, topics: Sequence[str], status: trio.TaskStatus[None]
    ) -> None:
        await serve(folder, self, topics, status)

    setattr(Libp2pTransport, "_serve", patched)  # noqa: B010 - the planted fault
    sys.exit(main(sys.argv[1:]))
