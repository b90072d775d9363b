"""A door for IPFS peers as a process of its own, so that its memory is its own.

Prints its address; then, for each line it reads, its counts as JSON. It serves one block.
"""

import json
import sys

import trio

from prsm.node.clock import TrioClock
from prsm.node.net.bitswap.door import Door, DoorRules
from tests.tools.bitswap_peers import DictShelf, lanes

SERVED = b"still served"


async def main() -> None:
    """Serve until standard input ends."""
    rules = DoorRules(listen=("/ip4/127.0.0.1/tcp/0",))
    door = Door(bytes(32), DictShelf(SERVED), lanes=lanes(), clock=TrioClock(), rules=rules)
    async with trio.open_nursery() as nursery:
        await nursery.start(door.run)
        print(door.addresses[0], flush=True)  # noqa: T201 - read by the test
        while await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            print(json.dumps(dict(door.bitswap.counts())), flush=True)  # noqa: T201 - same
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
