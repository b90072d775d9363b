"""A door under sixteen peers that send what they like: nothing stored, little kept, still served."""

import gc
from contextlib import AsyncExitStack
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
from prsm.node.net.bitswap.door import PEERS_MAX, Door, DoorRules, open_line, split_address
from prsm.node.net.guard import make_host
from prsm.node.net.muxed import close_connection
from prsm.storage.cid import Cid, Codec
from tests.tools.bitswap_peers import DictShelf, block_message, lanes, raw_cid, until, wantlist

MIB = 1 << 20
GROWTH_MAX = 32 * MIB
ENTRIES = 1_000_000
BLOCKS = 5_000
PIECE = 128 * 1024


def resident() -> int:
    """Bytes of this process in memory, attackers included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


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


async def attack(host: BasicHost, door: Door, number: int, done: trio.Event) -> None:
    """Send everything on one stream, and stay connected."""
    dice = Random(number)
    line = await open_line(await dial(host, door))
    block = block_message(dice.randbytes(20_000))
    blocks = [block] * (BLOCKS // PEERS_MAX + 1)
    for message in (million_wants(), many_wants(dice), *blocks, million_wants()):
        for at in range(0, len(message), PIECE):
            await line.write_all(message[at : at + PIECE])
    done.set()


async def dial(host: BasicHost, door: Door) -> SwarmConn:
    peer, where = split_address(door.addresses[0])
    made = await host.get_network().dial_addr(Multiaddr(where), ID.from_string(peer))
    assert isinstance(made, SwarmConn)
    return made


@pytest.mark.long
async def test_sixteen_peers_that_send_what_they_like(capsys: pytest.CaptureFixture[str]) -> None:
    served = b"still served"
    shelf = DictShelf(served)
    rules = DoorRules(listen=("/ip4/127.0.0.1/tcp/0",))
    door = Door(bytes(32), shelf, lanes=lanes(), clock=TrioClock(), rules=rules)
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        await nursery.start(door.run)
        hosts = [
            make_host(bytes([number + 1]) * 32, lambda _peer, _error: None, is_foreign=True)
            for number in range(PEERS_MAX)
        ]
        for host in hosts:
            await stack.enter_async_context(host.run([]))
        gc.collect()
        before = most = resident()
        ended = [trio.Event() for _ in hosts]
        with trio.fail_after(150):
            for number, (host, done) in enumerate(zip(hosts, ended, strict=True)):
                nursery.start_soon(attack, host, door, number, done)
            while not all(done.is_set() for done in ended):
                await trio.sleep(0.02)
                most = max(most, resident())
            expected = PEERS_MAX * (BLOCKS // PEERS_MAX + 1)
            await until(lambda: door.bitswap.counts().get("blocks_dropped", 0) == expected)
            counts = door.bitswap.counts()
            # One of them asks for something that is there.
            [connection] = hosts[0].get_network().get_connections()
            assert isinstance(connection, SwarmConn)
            line = await open_line(connection)
            await line.write_all(wantlist(wire.Entry(raw_cid(served))))
            await until(lambda: door.bitswap.counts().get("blocks_served", 0) == 1)
        with capsys.disabled():
            grown = f"{(most - before) / MIB:.1f} MiB more, attackers included"
            print(f"\n{PEERS_MAX} peers, {dict(counts)}: {grown}")  # noqa: T201 - a figure
        assert counts["messages_skipped"] == 2 * PEERS_MAX
        assert not counts.get("blocks_taken")
        assert list(shelf.blocks.values()) == [served]
        assert most - before <= GROWTH_MAX
        for host in hosts:
            for each in host.get_network().get_connections():
                await close_connection(each)
        nursery.cancel_scope.cancel()
