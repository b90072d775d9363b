"""Strangers that flood nodes of a network for a while, as one of its faults.

Knows: how the flooding program (`flooders`) is ordered: one JSON on its standard input, whose end
ends it; a line for each stranger that was sent away. Must not know: the wire, or how nodes bear it.
"""

import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec
import trio

from prsm.node.keys import read_public_keys
from prsm.protocol.genesis import from_json
from prsm.testnet.launch import Network
from prsm.testnet.processes import Node

PROGRAM: Final = (sys.executable, "-m", "prsm.testnet.flooders")
PEERS: Final = 5  # at a time; the measurement of floods (`flood`) has twenty
TIMES: Final = 10  # what a node grants one peer


async def flood(network: Network, victims: Sequence[Node], seconds: float, *, seed: int) -> str:
    """Flood some nodes for a while; says how many strangers were sent away."""
    genesis = from_json(network.genesis.read_bytes())
    orders = {
        "chain": genesis.chain_id,
        "genesis": genesis.digest,
        "victims": [(read_public_keys(node.home).peer_id, node.port) for node in victims],
        "peers": PEERS,
        "times": TIMES,
        "seed": seed,
    }
    process = await trio.lowlevel.open_process(
        PROGRAM, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdin is not None
    assert process.stdout is not None
    lines = bytearray()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_collect, process.stdout, lines)
            with suppress(trio.BrokenResourceError):  # it ended by itself: nobody was sent away
                await process.stdin.send_all(msgspec.json.encode(orders) + b"\n")
            await trio.sleep(seconds)
            await process.stdin.aclose()
            await process.wait()
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
    return f"{len(lines.splitlines())} strangers were sent away"


async def _collect(source: trio.abc.ReceiveStream, lines: bytearray) -> None:
    async for data in source:
        lines += data
