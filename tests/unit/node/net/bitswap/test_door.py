"""The door for IPFS peers over real sockets of loopback: who is let in and dialled, what ends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from libp2p.host.basic_host import BasicHost
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from prsm.node.clock import TrioClock
from prsm.node.net.bitswap import door as module
from prsm.node.net.bitswap.door import Door, DoorRules, door_seed, split_address
from prsm.node.net.bitswap.peer import Shelf
from prsm.node.net.bitswap.source import BitswapSource
from prsm.node.net.guard import make_host, peer_of
from prsm.node.net.interface import PeerEvent
from prsm.node.net.muxed import close_connection
from prsm.protocol.errors import LocalError
from prsm.protocol.ids import PeerId
from prsm.storage.cid import hash_block
from prsm.storage.errors import NotFound, SourceDown
from prsm.storage.interfaces import TIER_BITSWAP, Leaf, Source, traits_of
from prsm.storage.store.model_store import ModelStore
from tests.tools.bitswap_peers import DictShelf, lanes
from tests.tools.source_battery import check_source

ANY = ("/ip4/127.0.0.1/tcp/0",)
BLOCKS = [bytes([number]) * 70_000 for number in range(20)]


class Watched:
    """A door, and what it told."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.events: list[PeerEvent] = []
        self.up, self.down = trio.Event(), trio.Event()
        door.on_peer(self._note)

    def _note(self, event: PeerEvent) -> None:
        self.events.append(event)
        (self.up if event.up else self.down).set()


@asynccontextmanager
async def opened(
    number: int, rules: DoorRules, *blocks: bytes, shelf: Shelf | None = None
) -> AsyncIterator[Watched]:
    shelf = shelf or DictShelf(*blocks)
    made = Door(bytes([number]) * 32, shelf, lanes=lanes(), clock=TrioClock(), rules=rules)
    watched = Watched(made)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(made.run)
            yield watched
            nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_blocks_go_both_ways_between_two_doors() -> None:
    async with (
        opened(1, DoorRules(listen=ANY), *BLOCKS) as serving,
        opened(2, DoorRules(listen=ANY, peers=serving.door.addresses), b"back") as asking,
    ):
        await asking.up.wait()
        [source] = asking.door.sources()
        assert source.name == f"bitswap:{serving.door.peer_id}"
        assert traits_of(source).tier == TIER_BITSWAP
        leaves = [
            Leaf(index, hash_block(block).digest, len(block)) for index, block in enumerate(BLOCKS)
        ]
        root = hash_block(BLOCKS[0])
        assert list(await source.fetch(root, leaves)) == BLOCKS
        assert await source.node(leaves[3].digest) == BLOCKS[3]
        assert await source.have(root) is None
        with pytest.raises(NotFound):
            await source.have(hash_block(b"not there"))
        with pytest.raises(NotFound):
            await source.fetch(root, [Leaf(0, bytes(32), 1)])
        await serving.up.wait()
        back = BitswapSource(serving.door.bitswap, asking.door.peer_id)
        assert await back.node(hash_block(b"back").digest) == b"back"


@pytest.mark.slow
async def test_bitswap_is_a_source(tmp_path: Path) -> None:
    """The battery of the port, over two doors and the store of a node."""

    @asynccontextmanager
    async def make(store: ModelStore) -> AsyncIterator[Source]:
        async with (
            opened(1, DoorRules(listen=ANY), shelf=store.blocks) as serving,
            opened(2, DoorRules(peers=serving.door.addresses)) as asking,
        ):
            await asking.up.wait()
            [source] = asking.door.sources()
            yield source

    await check_source(tmp_path, make)


@pytest.mark.slow
async def test_configured_peer_is_dialled_again_and_its_loss_is_told() -> None:
    async with opened(1, DoorRules(listen=ANY), *BLOCKS) as first:
        address = first.door.addresses[0]
    async with opened(2, DoorRules(peers=[address])) as asking:
        source = BitswapSource(asking.door.bitswap, first.door.peer_id)
        with pytest.raises(SourceDown):
            await source.node(bytes(32))
        where = address.rpartition("/p2p/")[0]
        async with opened(1, DoorRules(listen=[where]), *BLOCKS):
            await asking.up.wait()
            assert await source.node(hash_block(BLOCKS[0]).digest) == BLOCKS[0]
        await asking.down.wait()
        assert asking.door.sources() == []
        with pytest.raises(SourceDown):
            await source.node(bytes(32))


@asynccontextmanager
async def stranger(number: int) -> AsyncIterator[BasicHost]:
    """A host of another program."""
    host = make_host(bytes([number]) * 32, lambda _peer, _error: None, is_foreign=True)
    async with host.run([]):
        yield host
        for connection in host.get_network().get_connections():
            await close_connection(connection)  # leaving keeps those it dialled


async def dial(host: BasicHost, door: Door) -> None:
    peer, where = split_address(door.addresses[0])
    await host.get_network().dial_addr(Multiaddr(where), ID.from_string(peer))


@pytest.mark.slow
async def test_stranger_that_is_not_admitted_is_closed() -> None:
    rules = DoorRules(listen=ANY, admits=lambda peer: peer == peer_of(bytes([8]) * 32))
    async with opened(1, rules) as watched, stranger(9) as out, stranger(8) as good:
        await dial(out, watched.door)
        await dial(good, watched.door)
        await watched.up.wait()
        assert watched.door.peers() == [peer_of(bytes([8]) * 32)]


@pytest.mark.slow
async def test_newcomer_takes_the_place_of_one_that_does_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PEERS_MAX", 1)
    async with opened(1, DoorRules(listen=ANY)) as watched, stranger(8) as one, stranger(9) as two:
        await dial(one, watched.door)
        await watched.up.wait()
        await dial(two, watched.door)
        await watched.down.wait()
        assert watched.door.peers() == [peer_of(bytes([9]) * 32)]


@pytest.mark.slow
async def test_connection_nobody_uses_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.0)
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    async with opened(1, DoorRules(listen=ANY)) as watched, stranger(8) as one:
        await dial(one, watched.door)
        await watched.up.wait()
        await watched.down.wait()
        assert watched.door.peers() == []


def test_identity_is_another_one() -> None:
    assert door_seed(bytes(32)) != bytes(32)
    assert door_seed(bytes(32)) != door_seed(bytes([1]) * 32)


@pytest.mark.parametrize(
    "peer",
    [
        "12D3KooWG28Y8A9k2RZWgWCeoLEwZrR1GxZ1FgTmBkgrNw7CsLuP",
        "QmQ3qK5DHp9ZejBwtX18h38FVujPyWS6HvP8Md2jWBVWez",  # RSA, as Kubo's older ones
    ],
)
def test_address_of_any_kind_of_key_is_read(peer: str) -> None:
    text = f"/ip4/127.0.0.1/tcp/4001/p2p/{peer}"
    assert split_address(text) == (PeerId(peer), "/ip4/127.0.0.1/tcp/4001")


@pytest.mark.parametrize(
    "text", ["", "junk", "/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/udp/1/p2p/Qm", "/p2p/Qm"]
)
def test_no_address_is_refused(text: str) -> None:
    with pytest.raises(LocalError):
        split_address(text)
