"""Serve or fetch one file with libp2p's own bitswap client, as its documentation says; no fences.

Run by `fetching.py`, in processes of its own. Knows libp2p. Must not import `prsm`: the fences of
`node/net` would be measured too.
"""

import json
import logging
import sys
import time
from random import Random
from typing import Final

import trio
from libp2p import new_host
from libp2p.abc import IHost
from libp2p.bitswap import BitswapClient
from libp2p.bitswap.dag import MerkleDag
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr

BYTES: Final = 32 << 20  # it holds all of it in memory, several times
SECONDS_MAX: Final = 60.0
LISTEN: Final = Multiaddr("/ip4/127.0.0.1/tcp/0")


def _node() -> tuple[IHost, BitswapClient, MerkleDag]:
    host = new_host(key_pair=create_new_key_pair())
    bitswap = BitswapClient(host)
    return host, bitswap, MerkleDag(bitswap)


async def serve() -> None:
    """Print where it listens and what it has, and serve until killed."""
    host, bitswap, dag = _node()
    async with host.run(listen_addrs=[LISTEN]), trio.open_nursery() as nursery:
        bitswap.set_nursery(nursery)
        await bitswap.start()
        data = Random(1).randbytes(BYTES)  # noqa: S311 - a file to measure with
        root = await dag.add_bytes(data)  # chunks as it likes
        address = f"{host.get_addrs()[0]}#{root.hex()}"
        print(json.dumps({"address": address}), flush=True)
        await trio.sleep_forever()


async def fetch(address: str) -> None:
    """Fetch it and print MB/s."""
    where, _, root = address.partition("#")
    host, bitswap, dag = _node()
    async with host.run(listen_addrs=[LISTEN]), trio.open_nursery() as nursery:
        bitswap.set_nursery(nursery)
        await bitswap.start()
        info = info_from_p2p_addr(Multiaddr(where))
        await host.connect(info)
        began = time.monotonic()
        data, _ = await dag.fetch_file(
            bytes.fromhex(root), peer_id=info.peer_id, timeout=SECONDS_MAX
        )
        seconds = time.monotonic() - began
        if len(data) != BYTES:
            raise SystemExit(f"{len(data)} bytes came, not {BYTES}")
        print(json.dumps({"mb_s": BYTES / seconds / 1e6}), flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    if sys.argv[1] == "serve":
        trio.run(serve)
    else:
        trio.run(fetch, sys.argv[2])
