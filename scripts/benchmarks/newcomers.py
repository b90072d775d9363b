"""CPU that one network spends on each stranger that floods it, until that one is banned.

A network over libp2p on loopback; six strangers in another process flood it at ten times what it
grants one peer, each under a new identity half a second after its last was banned. CPU time of the
victim's process for each ban, by kind of flood: it lies little on a busy machine, times would.

Run: python scripts/benchmarks/newcomers.py [--bans 24] [--json]
"""

import argparse
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.host import libp2p_network
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.announce import STATUS
from prsm.testnet.flooders import Kind, Orders

CHAIN: Final = ChainIdentity(bytes(8), bytes(32), agent="victim")
PEERS: Final = 6
TIMES: Final = 10
BANS: Final = 24
SECONDS_MAX: Final = 60.0


async def measure(kind: Kind, bans: int) -> float:
    """CPU milliseconds of this process for each of so many bans.

    Raises:
        trio.TooSlowError: they took over a minute.
    """
    network = libp2p_network(bytes([7]) * 32, CHAIN, listen=["/ip4/127.0.0.1/tcp/0"])

    def refuse(_peer: PeerId, _record: bytes) -> bool:
        return False

    network.on_gossip(STATUS.name, refuse)
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        port = int(network.addresses[0].split("/")[4])
        orders = Orders(
            chain=CHAIN.chain,
            genesis=CHAIN.genesis,
            victims=((network.peer_id, port),),
            peers=PEERS,
            times=TIMES,
            seed=time.time_ns(),
            kinds=(kind,),
        )
        with _strangers(orders), trio.fail_after(SECONDS_MAX):
            await _wait_bans(lambda: len(network.bans()), PEERS)  # it has begun
            before, began = len(network.bans()), time.process_time()
            await _wait_bans(lambda: len(network.bans()), before + bans)
            spent, banned = time.process_time() - began, len(network.bans()) - before
        nursery.cancel_scope.cancel()
    return spent / banned * 1000


@contextmanager
def _strangers(orders: Orders) -> Iterator[None]:
    command = [sys.executable, "-m", "prsm.testnet.flooders"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:
        assert child.stdin is not None
        child.stdin.write(msgspec.json.encode(orders) + b"\n")
        child.stdin.flush()
        yield  # leaving closes its input, which ends it


async def _wait_bans(count: Callable[[], int], wanted: int) -> None:
    while count() < wanted:  # noqa: ASYNC110 - a ban is no event
        await trio.sleep(0.02)


def main() -> int:
    """Measure each kind of flood and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bans", type=int, default=BANS, help="of each kind")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # a line for each ban
    found = {kind.value: round(trio.run(measure, kind, options.bans), 1) for kind in Kind}
    if options.json:
        print(json.dumps(found))
    else:
        for kind, milliseconds in found.items():
            print(f"{kind}: {milliseconds} ms of CPU for each stranger until its ban")
    return 0


if __name__ == "__main__":
    sys.exit(main())
