"""Bitswap over pipes in memory, and peers that write whatever a test says."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256

import trio
import trio.testing

from prsm.node.net.bitswap import wire
from prsm.node.net.bitswap.lines import MessageReader
from prsm.node.net.bitswap.peer import Bitswap, OpenLine
from prsm.node.net.budgets import NO_LIMITS
from prsm.node.net.interface import PeerUnreachable
from prsm.node.net.lanes import Lanes
from prsm.node.net.streams import StreamLost
from prsm.protocol.errors import PrsmError
from prsm.protocol.ids import PeerId
from prsm.storage.cid import Cid, Codec
from prsm.storage.errors import NotFound

PEER = PeerId("peer")
MemoryStream = trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]


class DictShelf:
    """Blocks by digest."""

    def __init__(self, *blocks: bytes) -> None:
        self.blocks = {sha256(block).digest(): block for block in blocks}
        self.reads = 0

    async def held(self, digests: Sequence[bytes]) -> Mapping[bytes, int]:
        await trio.lowlevel.checkpoint()
        return {each: len(self.blocks[each]) for each in digests if each in self.blocks}

    async def get(self, digest: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        self.reads += 1
        if digest not in self.blocks:
            raise NotFound(f"no block {digest.hex()[:16]}")
        return self.blocks[digest]


class PipeLine:
    """A duplex in memory as a bitswap line."""

    def __init__(self, stream: MemoryStream) -> None:
        self._stream = stream

    async def read_some(self, bytes_max: int) -> bytes:
        try:
            return bytes(await self._stream.receive_some(bytes_max))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise StreamLost("cut") from error

    async def write_all(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise StreamLost("cut") from error

    async def close(self) -> None:
        await self._stream.aclose()


def line_pair() -> tuple[PipeLine, PipeLine]:
    one, two = trio.testing.memory_stream_pair()
    return PipeLine(one), PipeLine(two)


def lanes() -> Lanes:
    return Lanes(NO_LIMITS, now_ms=lambda: int(trio.current_time() * 1000))


class Scripted:
    """The far side of one conversation: what a test writes, and what ours wrote.

    Attributes:
        bitswap: ours.
        opened: how many streams ours opened to the peer.
    """

    def __init__(self, shelf: DictShelf) -> None:
        self.bitswap = Bitswap(shelf, self._open, lanes())
        self.opened = 0
        self.is_gone = False
        self._sent, self._far = trio.open_memory_channel[PipeLine](8)
        self._reader: MessageReader | None = None
        self.ended: PrsmError | None = None

    async def _open(self, peer: PeerId) -> PipeLine:
        await trio.lowlevel.checkpoint()
        if self.is_gone:
            raise PeerUnreachable(f"{peer} is gone")
        near, far = line_pair()
        self.opened += 1
        self._sent.send_nowait(far)
        return near

    async def read(self) -> wire.Message:
        """The next message ours writes."""
        if self._reader is None:
            with lanes().lane(PEER) as lane:
                self._reader = MessageReader(await self._far.receive(), lane)
        raw = await self._reader.read(wire.MESSAGE_BYTES_MAX)
        assert raw is not None
        return wire.decode_message(raw)

    async def drop_line(self) -> None:
        """End the stream ours writes to."""
        assert self._reader is not None
        line = self._reader._line
        self._reader = None
        await line.close()

    async def serve(self, near: PipeLine) -> None:
        """Have ours read a stream the peer opened."""
        try:
            await self.bitswap.handle(PEER, near)
        except PrsmError as error:
            self.ended = error
            await near.close()


@asynccontextmanager
async def scripted(shelf: DictShelf) -> AsyncIterator[tuple[Scripted, PipeLine]]:
    """Run ours beside a scripted peer; yields it and the stream the peer writes to."""
    peer = Scripted(shelf)
    async with trio.open_nursery() as nursery:
        await nursery.start(peer.bitswap.run)
        near, far = line_pair()
        nursery.start_soon(peer.serve, near)  # noqa: ASYNC113 - what comes early waits in the pipe
        yield peer, far
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def pair(shelf: DictShelf) -> AsyncIterator[tuple[Bitswap, Bitswap]]:
    """Two of ours, connected: the one that serves, and the one that asks (peer ids a, b)."""
    sides: dict[str, Bitswap] = {}
    async with trio.open_nursery() as nursery:

        def opener(other: str, us: str) -> OpenLine:
            async def open_line(_peer: PeerId) -> PipeLine:
                await trio.lowlevel.checkpoint()
                near, far = line_pair()
                nursery.start_soon(_serve, sides[other], PeerId(us), far)
                return near

            return open_line

        sides["a"] = Bitswap(shelf, opener("b", "a"), lanes())
        sides["b"] = Bitswap(DictShelf(), opener("a", "b"), lanes())
        await nursery.start(sides["a"].run)
        await nursery.start(sides["b"].run)
        yield sides["a"], sides["b"]
        nursery.cancel_scope.cancel()


async def _serve(bitswap: Bitswap, peer: PeerId, line: PipeLine) -> None:
    try:
        await bitswap.handle(peer, line)
    except StreamLost:
        await line.close()


def wantlist(*entries: wire.Entry, is_full: bool = False) -> bytes:
    """A message of wants as a peer writes it, with its length."""
    parts = []
    for entry in entries:
        raw = b"\x0a" + wire._sized(entry.cid) + b"\x10\x01"
        raw += b"\x18\x01" * entry.is_cancel + b"\x20\x01" * entry.is_have
        raw += b"\x28\x01" * entry.send_dont_have
        parts.append(b"\x0a" + wire._sized(raw))
    body = b"".join(parts) + (b"\x10\x01" if is_full else b"")
    return wire.framed(b"\x0a" + wire._sized(body))


def raw_cid(block: bytes) -> bytes:
    return Cid(Codec.RAW, sha256(block).digest()).raw


def block_message(block: bytes, prefix: bytes = b"\x01\x55\x12\x20") -> bytes:
    head, data = wire.encode_block(prefix + bytes(32), block)
    return head + data


def counts(bitswap: Bitswap, *names: str) -> Mapping[str, int]:
    found = bitswap.counts()
    return {name: found.get(name, 0) for name in names}


async def until(condition: Callable[[], bool]) -> None:
    """Turn the loop until something is so; the caller sets the deadline."""
    while not condition():  # noqa: ASYNC110 - nothing tells of a count
        await trio.lowlevel.checkpoint()
