"""A door under sixteen peers that send what they like: nothing stored, little kept, yet served."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random

import pytest
import trio
from libp2p.host.basic_host import BasicHost
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from prsm.node.clock import TrioClock
from prsm.node.net.bitswap import wire
from prsm.node.net.bitswap.door import PEERS_MAX, Door, DoorRules, NetLine, open_line, split_address
from prsm.node.net.guard import make_host
from prsm.node.net.muxed import close_connection
from prsm.storage.cid import Cid, Codec, hash_block
from tests.tools.bitswap_peers import DictShelf, block_message, lanes, wantlist
from tests.tools.door_process import SERVED

MIB = 1 << 20
GROWTH_MAX = 32 * MIB
ENTRIES = 1_000_000
BLOCKS = 5_000
PIECE = 128 * 1024


class DoorProcess:
    """The door under attack, in a process of its own."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout, self._pid = process.stdin, process.stdout, process.pid
        self._said = b""

    async def line(self) -> str:
        """The next line it prints."""
        while b"\n" not in self._said:
            self._said += await self._stdout.receive_some()
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()

    async def counts(self) -> dict[str, int]:
        """What it has counted."""
        await self._stdin.send_all(b"\n")
        found: dict[str, int] = json.loads(await self.line())
        return found

    def resident(self) -> int:
        """Its bytes in memory."""
        return int(Path(f"/proc/{self._pid}/statm").read_text().split()[1]) * 4096


@asynccontextmanager
async def door_process() -> AsyncIterator[DoorProcess]:
    root = Path(__file__).parents[4]
    environment = dict(os.environ) | {"PYTHONPATH": f"{root / 'src'}:{root}"}
    start = partial(
        trio.run_process,
        [sys.executable, "-W", "ignore", "-m", "tests.tools.door_process"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        check=False,
    )
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(start)
        yield DoorProcess(process)
        process.kill()


def million_wants() -> bytes:
    """A wantlist of a million entries of two bytes each."""
    return wire.framed(b"\x0a" + wire._sized(b"\x0a\x00" * ENTRIES))


def many_wants(dice: Random) -> bytes:
    """As many wants as a message may hold, of blocks nobody has."""
    entries = [
        wire.Entry(Cid(Codec.RAW, dice.randbytes(32)).raw, send_dont_have=True)
        for _ in range(wire.ITEMS_MAX)
    ]
    return wantlist(*entries)


async def attack(line: NetLine, messages: Sequence[bytes], done: trio.Event) -> None:
    """Send everything on one stream, and stay connected."""
    for message in messages:
        for at in range(0, len(message), PIECE):
            await line.write_all(message[at : at + PIECE])
    done.set()


async def dial(host: BasicHost, address: str) -> SwarmConn:
    peer, where = split_address(address)
    made = await host.get_network().dial_addr(Multiaddr(where), ID.from_string(peer))
    assert isinstance(made, SwarmConn)
    return made


@pytest.mark.long
async def test_sixteen_peers_that_send_what_they_like(capsys: pytest.CaptureFixture[str]) -> None:
    million, dice = million_wants(), Random(1)
    blocks = [block_message(dice.randbytes(20_000))] * (BLOCKS // PEERS_MAX + 1)
    with trio.fail_after(120):
        async with (
            door_process() as door,
            trio.open_nursery() as nursery,
            AsyncExitStack() as stack,
        ):
            address = await door.line()
            hosts = [
                make_host(bytes([number + 1]) * 32, lambda _peer, _error: None, is_foreign=True)
                for number in range(PEERS_MAX)
            ]
            for host in hosts:
                await stack.enter_async_context(host.run([]))
            lines = [await open_line(await dial(host, address)) for host in hosts]
            before = most = door.resident()
            ended = [trio.Event() for _ in hosts]
            for line, done in zip(lines, ended, strict=True):
                messages = [million, many_wants(dice), *blocks, million]
                nursery.start_soon(attack, line, messages, done)
            counts = await door.counts()
            while counts.get("messages_skipped", 0) < 2 * PEERS_MAX:
                await trio.sleep(0.02)
                most = max(most, door.resident())
                counts = await door.counts()
            # A peer that comes later takes the place of one of them, and gets what it asks for.
            rules = DoorRules(peers=(address,))
            asker = Door(
                bytes([99]) * 32, DictShelf(), lanes=lanes(), clock=TrioClock(), rules=rules
            )
            up = trio.Event()
            asker.on_peer(lambda _event: up.set())
            await nursery.start(asker.run)
            await up.wait()
            [source] = asker.sources()
            assert await source.node(hash_block(SERVED).digest) == SERVED
            with capsys.disabled():
                grown = f"{(most - before) / MIB:.1f} MiB more"
                print(f"\n{PEERS_MAX} peers, {counts}: {grown}")  # noqa: T201 - a figure
            assert counts["blocks_dropped"] == PEERS_MAX * len(blocks)
            assert not counts.get("blocks_taken")
            assert most - before <= GROWTH_MAX
            for host in hosts:
                for each in host.get_network().get_connections():
                    await close_connection(each)
            nursery.cancel_scope.cancel()
