"""Range streams: blocks between peers, asked in runs of leaves on a stream of their own.

Knows calls and blocks. Must not know files or hashes: what a source returns is unverified, the
exchange hashes it. Source: docs/spec/wire.md, "Blocks".
"""

from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

import trio

from prsm.node.net.interface import (
    Answer,
    CallRefused,
    Channel,
    Incoming,
    Network,
    PeerEvent,
    PeerUnreachable,
)
from prsm.node.net.readers import Readers
from prsm.node.net.rota import Rota
from prsm.protocol.codec import Record
from prsm.protocol.errors import WireError
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import BLOCK_BYTES_MAX, BULK_FRAME_BYTES_MAX, LEAF_BYTES, MIB
from prsm.protocol.messages.models import AskHave, AskNode, AskRange, Blocks, Have
from prsm.storage.cid import Cid, decode_cid
from prsm.storage.errors import (
    NotFound,
    SourceBroken,
    SourceDown,
    SourceFailed,
    SourceSlow,
)
from prsm.storage.interfaces import Leaf
from prsm.storage.store.leases import Leases

RANGE_BYTES_MAX: Final = 3 * MIB  # of leaves in one answer, so that it fits a bulk frame
RANGE_LEAVES: Final = RANGE_BYTES_MAX // LEAF_BYTES
# A leaf an ask: four open fill a stream's window of 1 MiB, nothing is cut or joined, and a fetch
# from three peers grows by 20 MiB; with three leaves an ask it grew by 40, at the same pace.
ASK_LEAVES: Final = 1
ASKS_PER_PEER: Final = 4  # open with one peer; it has no more of ours at work
ASKS_TOTAL: Final = 8  # read at once, so that answers in memory stay below 24 MiB

assert RANGE_BYTES_MAX + BLOCK_BYTES_MAX // 4 < BULK_FRAME_BYTES_MAX
assert BLOCK_BYTES_MAX < BULK_FRAME_BYTES_MAX

_R = TypeVar("_R", bound=Record)


class BlockShelf(Protocol):
    """What the server needs of a store; `storage.store.model_store.ModelStore` has it."""

    leases: Leases

    async def have(self, root: Cid) -> Have:
        """Leaves held of a root; NotFound if none."""
        ...

    async def read_leaves(self, root: Cid, first: int, count: int) -> Sequence[bytes]:
        """Successive leaves; NotFound if the first is not held."""
        ...

    async def get_block(self, digest: bytes) -> bytes:
        """An interior node or a manifest; NotFound if not held."""
        ...


class BlockServer:
    """Answers peers' asks from a store: eight at work, the peers in turn; what is read is leased.

    Args:
        network: where the asks come from; registered before it runs. It has at most four asks of a
            peer at work until their answers are queued, and drops one that does not read them.
        shelf: where the blocks are.
    """

    def __init__(self, network: Network, shelf: BlockShelf) -> None:
        self._shelf = shelf
        self._rota = Rota(ASKS_TOTAL)
        self._readers = Readers(shelf.leases)
        network.on_call(AskHave, self._have)
        network.on_call(AskNode, self._node)
        network.on_call(AskRange, self._range)
        network.on_peer(self._forget)

    def _forget(self, event: PeerEvent) -> None:
        if not event.up:
            self._readers.forget(event.peer)

    async def _have(self, incoming: Incoming) -> Answer:
        ask = _shaped(incoming.message, AskHave)
        return await self._shelf.have(decode_cid(ask.root)), b""

    async def _node(self, incoming: Incoming) -> Answer:
        ask = _shaped(incoming.message, AskNode)
        async with self._rota.turn(incoming.peer):
            block = await self._shelf.get_block(ask.digest)
        return Blocks(sizes=(len(block),)), block

    async def _range(self, incoming: Incoming) -> Answer:
        ask = _shaped(incoming.message, AskRange)
        count = min(ask.count, RANGE_LEAVES)
        async with self._rota.turn(incoming.peer):
            root = decode_cid(ask.root)
            leaves = await self._shelf.read_leaves(root, ask.first, count)
            self._readers.note(incoming.peer, root, now_s=trio.current_time())
        return Blocks(sizes=tuple(len(leaf) for leaf in leaves)), b"".join(leaves)


class PeerSource:
    """A peer as a `Source` of blocks; its asks are pipelined on the range stream.

    Args:
        network: reaches the peer.
        peer: who is asked.
    """

    def __init__(self, network: Network, peer: PeerId) -> None:
        self._network = network
        self._peer = peer
        self._turn = trio.Semaphore(ASKS_PER_PEER)

    @property
    def name(self) -> str:
        """The peer id."""
        return self._peer

    async def have(self, root: Cid) -> Have | None:
        """Say which leaves of a root the peer holds.

        Raises:
            NotFound: nothing of it.
            SourceFailed: down, slow or broken.
        """
        have, _ = await self._ask(AskHave(root=root.raw), Have)
        if have.leaves > 8 * len(have.bitset):
            raise self._broken(f"{have.leaves} leaves in {len(have.bitset)} bytes of bitset")
        return have

    async def node(self, digest: bytes) -> bytes:
        """Return an interior node or a manifest.

        Raises:
            NotFound: the peer does not hold it.
            SourceFailed: down, slow or broken.
        """
        answer, tail = await self._ask(AskNode(digest=digest), Blocks)
        [block] = self._cut(answer, tail, most=1)
        return block

    async def fetch(self, root: Cid, wanted: Sequence[Leaf]) -> Sequence[bytes]:
        """Return the block of the first of successive leaves.

        Whoever wants the pipe full asks for the next ones meanwhile: four asks are open at once.

        Raises:
            NotFound: the peer does not hold the first.
            SourceFailed: down, slow, busy or broken before the first came.
        """
        count = min(len(wanted), ASK_LEAVES)
        ask = AskRange(root=root.raw, first=wanted[0].index, count=count)
        answer, tail = await self._ask(ask, Blocks)
        return self._cut(answer, tail, most=count)

    def _cut(self, answer: Blocks, tail: bytes, *, most: int) -> Sequence[bytes]:
        sizes = answer.sizes
        if sum(sizes) != len(tail) or not 1 <= len(sizes) <= most:
            raise self._broken(f"{len(sizes)} blocks in {len(tail)} bytes, asked for {most}")
        blocks, at = [], 0
        for size in sizes:
            blocks.append(tail[at : at + size])
            at += size
        return blocks

    def _broken(self, what: str) -> SourceBroken:
        self._network.penalise(self._peer, WireError(what, peer=self._peer, penalty=50))
        return SourceBroken(f"peer {self._peer}: {what}")

    async def _ask(self, ask: Record, expected: type[_R]) -> tuple[_R, bytes]:
        try:
            async with self._turn:
                answer, tail = await self._network.call(self._peer, ask, channel=Channel.RANGE)
        except PeerUnreachable as error:
            raise SourceDown(error.what) from error
        except CallRefused as error:
            raise _failure(error) from error
        if not isinstance(answer, expected):
            raise self._broken(f"{type(answer).__name__} as answer to {type(ask).__name__}")
        return answer, tail


def _failure(refused: CallRefused) -> SourceFailed | NotFound:
    match refused.refusal:
        case "not_found":
            return NotFound(refused.what)
        case "busy":
            pause_ms = max(1, refused.retry_after_ms)
            return SourceSlow(f"peer {refused.peer}: {refused.what}", retry_after_ms=pause_ms)
        case _:
            return SourceFailed(f"peer {refused.peer} refused ({refused.refusal}): {refused.what}")


def _shaped(message: Record, cls: type[_R]) -> _R:
    assert isinstance(message, cls)  # the network hands each class to its own handler
    return message
