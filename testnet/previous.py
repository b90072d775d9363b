"""`python -m prsm.testnet.previous --home DIR`: a daemon that knows one schema less on the wire.

The product's own daemon with a table without the newest messages, whose hello names the schema
before this one, judged as programs of that schema judge: those of the first take no other number.
For networks of two versions where no older program is at hand; a real one is the better test.
A `rigged` node is one while its home has a mark, which an upgrade takes away.
"""

import functools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from prsm.node import daemon
from prsm.node.home import Home, write_private
from prsm.node.net import handshake
from prsm.node.process import main
from prsm.protocol.messages import table
from prsm.protocol.messages.net import SCHEMA_VERSION, Hello
from prsm.testnet.processes import Node

SCHEMA: Final = SCHEMA_VERSION - 1
STOP_SECONDS: Final = 15.0


def mark_of(home: Home) -> Path:
    """The file that makes a rigged node of this home start as the older program."""
    return home.root / "previous"


def mark(home: Home, *, is_older: bool) -> None:
    """Make the next start of a rigged node one of the older program, or of this one."""
    if is_older:
        write_private(mark_of(home), b"")
    else:
        mark_of(home).unlink(missing_ok=True)


async def upgrade(nodes: Sequence[Node]) -> None:
    """End each node as an operator does and start it as this program."""
    for node in nodes:
        mark(node.home, is_older=False)
        await trio.to_thread.run_sync(node.stop, time.monotonic() + STOP_SECONDS)
        node.start()


def forget() -> None:
    """Make this process one of the schema before; for a process of its own."""
    identity = functools.partial(handshake.ChainIdentity, schema=SCHEMA, agent="prsm/previous")
    setattr(daemon, "ChainIdentity", lambda *chain, **_rest: identity(*chain))  # noqa: B010 - patched
    for number in dict(table.MESSAGES.items()):
        if table.since(number) > SCHEMA:
            # Its number is still known to who would send it: the link's schema keeps it here.
            del table.MESSAGES._classes[number]  # noqa: SLF001 - patched
    if SCHEMA <= handshake.STRICT_SCHEMA:
        setattr(handshake, "_are_neighbours", _are_equal)  # noqa: B010 - patched


def _are_equal(ours: Hello, theirs: Hello) -> bool:
    return ours.schema == theirs.schema


if __name__ == "__main__":
    forget()
    sys.exit(main(sys.argv[1:]))
