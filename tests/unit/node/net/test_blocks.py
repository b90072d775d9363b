"""Blocks between two memory nodes: runs, prefixes, refusals, a peer that lies about sizes."""

from collections.abc import Sequence
from hashlib import sha256

import pytest
import trio
import trio.lowlevel

from prsm.node.net.blocks import RANGE_LEAVES, BlockServer, PeerSource
from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.interface import Answer, Busy, Channel, Incoming, Network
from prsm.node.net.memory import MemoryHub
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import LEAF_BYTES
from prsm.protocol.messages.models import AskHave, AskNode, AskRange, Blocks, Have
from prsm.storage.cid import Cid, Codec
from prsm.storage.errors import NotFound, SourceBroken, SourceDown, SourceFailed, SourceSlow
from prsm.storage.interfaces import Leaf
from prsm.storage.store.leases import Leases

CHAIN = ChainIdentity(chain=b"testnet1", genesis=b"g" * 32)
LEAVES = [bytes([number]) * LEAF_BYTES for number in range(7)] + [b"end"]
ROOT = Cid(Codec.DAG_PB, sha256(b"root").digest())
NODE = b"an interior node"


class Shelf:
    """A store of one file; notes how many reads ran at once."""

    def __init__(self, held: int = len(LEAVES)) -> None:
        self.held = held
        self.leases = Leases(lambda: 0)
        self.running = self.most = 0

    async def have(self, root: Cid) -> Have:
        await trio.lowlevel.checkpoint()
        if root != ROOT:
            raise NotFound(f"{root} is not here")
        return Have(size=7 * LEAF_BYTES + 3, leaves=len(LEAVES), bitset=b"\xff")

    async def read_leaves(self, root: Cid, first: int, count: int) -> Sequence[bytes]:
        self.running += 1
        self.most = max(self.most, self.running)
        await trio.lowlevel.checkpoint()
        self.running -= 1
        if root != ROOT or first >= self.held:
            raise NotFound(f"leaf {first} of {root} is not here")
        return LEAVES[first : min(first + count, self.held)]

    async def get_block(self, digest: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        if digest != sha256(NODE).digest():
            raise NotFound("no such block")
        return NODE


def wanted(first: int, count: int) -> list[Leaf]:
    return [
        Leaf(index=number, digest=sha256(LEAVES[number]).digest(), size=len(LEAVES[number]))
        for number in range(first, first + count)
    ]


async def pair(nursery: trio.Nursery, shelf: Shelf) -> tuple[Network, PeerId]:
    hub = MemoryHub()
    here, there = hub.network(b"1" * 32, CHAIN), hub.network(b"2" * 32, CHAIN)
    BlockServer(there, shelf)
    await nursery.start(here.run)
    await nursery.start(there.run)
    await here.connect(hub.address(there.peer_id))
    return here, there.peer_id


async def source(nursery: trio.Nursery, shelf: Shelf) -> PeerSource:
    return PeerSource(*await pair(nursery, shelf))


async def liar(nursery: trio.Nursery, blocks: Blocks, tail: bytes) -> PeerSource:
    """A source whose peer answers every ask with the same words."""
    hub = MemoryHub()
    here, there = hub.network(b"1" * 32, CHAIN), hub.network(b"2" * 32, CHAIN)

    async def answer(_incoming: Incoming) -> Answer:
        await trio.lowlevel.checkpoint()
        return blocks, tail

    for ask in (AskHave, AskNode, AskRange):
        there.on_call(ask, answer)
    await nursery.start(here.run)
    await nursery.start(there.run)
    await here.connect(hub.address(there.peer_id))
    return PeerSource(here, there.peer_id)


async def test_fetch_returns_the_first_leaf(nursery: trio.Nursery) -> None:
    peer = await source(nursery, Shelf())
    assert await peer.fetch(ROOT, wanted(0, 8)) == LEAVES[:1]
    assert await peer.fetch(ROOT, wanted(7, 1)) == LEAVES[7:]


async def test_server_sends_several_leaves_and_a_prefix_when_it_holds_less() -> None:
    for held in (1, RANGE_LEAVES, RANGE_LEAVES + 1):
        async with trio.open_nursery() as inner:
            here, there = await pair(inner, Shelf(held))
            ask = AskRange(root=ROOT.raw, first=0, count=8)
            answer, tail = await here.call(there, ask, channel=Channel.RANGE)
            sent = LEAVES[: min(held, RANGE_LEAVES)]
            assert isinstance(answer, Blocks)
            assert (list(answer.sizes), tail) == ([len(leaf) for leaf in sent], b"".join(sent))
            inner.cancel_scope.cancel()


async def test_busy_peer_names_a_time(nursery: trio.Nursery) -> None:
    hub = MemoryHub()
    here, there = hub.network(b"1" * 32, CHAIN), hub.network(b"2" * 32, CHAIN)

    async def refuse(_incoming: Incoming) -> Answer:
        await trio.lowlevel.checkpoint()
        raise Busy("eight asks of others are at work", retry_after_ms=300)

    there.on_call(AskRange, refuse)
    await nursery.start(here.run)
    await nursery.start(there.run)
    await here.connect(hub.address(there.peer_id))
    with pytest.raises(SourceSlow) as caught:
        await PeerSource(here, there.peer_id).fetch(ROOT, wanted(0, 1))
    assert caught.value.retry_after_ms == 300


async def test_fetch_of_what_the_peer_lacks_is_not_found(nursery: trio.Nursery) -> None:
    peer = await source(nursery, Shelf(held=4))
    with pytest.raises(NotFound, match="leaf 5"):
        await peer.fetch(ROOT, wanted(5, 2))
    with pytest.raises(NotFound):
        await peer.have(Cid(Codec.RAW, b"x" * 32))
    with pytest.raises(NotFound):
        await peer.node(b"x" * 32)


async def test_have_and_node_are_answered(nursery: trio.Nursery) -> None:
    peer = await source(nursery, Shelf())
    have = await peer.have(ROOT)
    assert have == Have(size=7 * LEAF_BYTES + 3, leaves=8, bitset=b"\xff")
    assert await peer.node(sha256(NODE).digest()) == NODE


async def test_one_peer_has_at_most_four_reads_at_work(nursery: trio.Nursery) -> None:
    shelf = Shelf()
    peer = await source(nursery, shelf)
    async with trio.open_nursery() as inner:
        for first in range(8):
            inner.start_soon(peer.fetch, ROOT, wanted(first, 1))
    assert 1 < shelf.most <= 4


@pytest.mark.parametrize(
    ("sizes", "tail"), [((), b""), ((3,), b"ab"), ((1, 1, 1, 1), b"abcd"), ((2**40,), b"a")]
)
async def test_answer_of_wrong_sizes_is_broken(
    nursery: trio.Nursery, sizes: tuple[int, ...], tail: bytes
) -> None:
    peer = await liar(nursery, Blocks(sizes=sizes), tail)
    with pytest.raises(SourceBroken, match="blocks in"):
        await peer.fetch(ROOT, wanted(0, 3))


async def test_answer_of_another_kind_is_broken(nursery: trio.Nursery) -> None:
    peer = await liar(nursery, Blocks(sizes=(1,)), b"a")
    with pytest.raises(SourceBroken, match="Blocks as answer to AskHave"):
        await peer.have(ROOT)


async def test_lost_peer_is_a_source_that_is_down(nursery: trio.Nursery) -> None:
    hub = MemoryHub()
    here = hub.network(b"1" * 32, CHAIN)
    await nursery.start(here.run)
    peer = PeerSource(here, hub.network(b"2" * 32, CHAIN).peer_id)
    with pytest.raises(SourceDown):
        await peer.fetch(ROOT, wanted(0, 1))


async def test_peer_without_a_store_is_a_source_that_failed(nursery: trio.Nursery) -> None:
    hub = MemoryHub()
    here, there = hub.network(b"1" * 32, CHAIN), hub.network(b"2" * 32, CHAIN)
    await nursery.start(here.run)
    await nursery.start(there.run)
    await here.connect(hub.address(there.peer_id))
    with pytest.raises(SourceFailed, match="unsupported"):
        await PeerSource(here, there.peer_id).have(ROOT)
