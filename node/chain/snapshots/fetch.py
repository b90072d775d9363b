"""Fetches the chunks of one snapshot from several peers at once, each checked alone.

One call of a peer at a time, a stall timer for each; a wrong chunk bans its peer and is asked of
another, good chunks stay. What was fetched before a restart is read again and checked again.
Knows: one proven list of chunks. Must not know: who proved it, what the entries mean.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from prsm.consensus.ledger.chunks import Pair, firsts, open_chunk
from prsm.node.clock import Clock
from prsm.node.net.interface import CallRefused, Channel, Network, PeerUnreachable
from prsm.node.telemetry import logs
from prsm.protocol.codec import Record, encode
from prsm.protocol.errors import RemoteError, WireError
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import BUCKET_BYTES_MAX, SYNC_BYTES_MAX
from prsm.protocol.messages.sync import (
    ChunkHead,
    GetChunk,
    GetChunkPart,
    GotChunk,
    GotChunkPart,
    Snapshot,
)
from prsm.protocol.proofs import BadProof
from prsm.storage.errors import Full, StoreUnavailable
from prsm.storage.snapshots import Staging

log = logs.get("snapshots")

STALL_SECONDS: Final = 5.0  # for a whole chunk, or a full frame of it: a slow drip is a stall
PAUSE_MS: Final = 2_000  # after a stall or refusal; doubles
STALLS_MAX: Final = 4  # then a peer is not asked for this snapshot any more
PATIENCE_SECONDS: Final = 30.0  # without anybody to ask
_LOOK_SECONDS: Final = 0.25  # for peers that came or whose pause is over
_NOTHING: Final = encode(())  # the chunk of an empty subtree


@dataclass(frozen=True, slots=True)
class Order:
    """Which snapshot, and from whom.

    Attributes:
        height: of the snapshot.
        heads: its chunks, in order.
        bits: of the state's tree.
        sources: live peers that say they have it, asked again and again.
    """

    height: int
    heads: Sequence[ChunkHead]
    bits: int
    sources: Callable[[], Sequence[PeerId]]

    @classmethod
    def of(cls, found: Snapshot, bits: int, sources: Callable[[], Sequence[PeerId]]) -> "Order":
        """The order for a snapshot whose list is proven."""
        return cls(found.block.header.height, found.chunks, bits, sources)


@dataclass(slots=True)
class _Source:
    stalls: int = 0
    paused_until_ms: int = 0
    is_out: bool = False


class ChunkFetch:
    """One snapshot on its way."""

    def __init__(self, network: Network, clock: Clock, staging: Staging, order: Order) -> None:
        self.state: dict[bytes, bytes] = {}  # entries of the chunks that are here
        self.fetched = 0  # chunks that came from peers
        self._network = network
        self._clock = clock
        self._staging = staging
        self._order = order
        self._firsts = firsts(order.heads)
        self._missing = set(range(len(order.heads)))
        self._done: set[int] = set()
        self._known: dict[PeerId, _Source] = {}
        self._busy: set[PeerId] = set()
        self._changed = trio.Event()
        self._large = trio.Lock()  # many liars at once would fill the memory
        self._refused: Full | StoreUnavailable | None = None  # by our disk: of no peer's making

    async def run(self) -> bool:
        """Fetch what is missing; False if for long there is nobody left to ask.

        Raises:
            Full, StoreUnavailable: the disk refused.
        """
        for index in sorted(self._missing):
            await self._resume(index)
        asked_at, is_given_up = trio.current_time(), False
        async with trio.open_nursery() as nursery:
            while not is_given_up and (self._missing or self._busy):
                if self._refused is not None:
                    nursery.cancel_scope.cancel()
                    break
                for peer in self._idle()[: len(self._missing)]:
                    index = min(self._missing)
                    self._missing.discard(index)  # given out
                    self._busy.add(peer)
                    nursery.start_soon(self._fetch, peer, index)
                if self._busy:
                    asked_at = trio.current_time()
                elif trio.current_time() - asked_at > PATIENCE_SECONDS:
                    is_given_up = True
                with trio.move_on_after(_LOOK_SECONDS):
                    await self._changed.wait()
                self._changed = trio.Event()
        if self._refused is not None:
            raise self._refused
        return not is_given_up

    def _idle(self) -> list[PeerId]:
        """Whom to ask now, those that never stalled first."""
        now = self._clock.monotonic_ms()
        idle = []
        for peer in self._order.sources():
            source = self._known.setdefault(peer, _Source())
            if peer not in self._busy and not source.is_out and source.paused_until_ms <= now:
                idle.append(peer)
        return sorted(idle, key=lambda peer: self._known[peer].stalls)

    async def _resume(self, index: int) -> None:
        """Take a chunk that is empty, or was fetched before a restart."""
        head = self._order.heads[index]
        for raw in (_NOTHING, await trio.to_thread.run_sync(self._staging.get, head.root)):
            try:
                if raw is not None:
                    await self._take(index, raw)
                    return
            except BadProof:
                continue

    async def _fetch(self, peer: PeerId, index: int) -> None:
        source = self._known[peer]
        try:
            await self._take(index, await self._whole(peer, index))
            self.fetched += 1
            source.stalls = 0
        except trio.TooSlowError:
            self._pause(peer, f"no chunk within {STALL_SECONDS} s")
        except CallRefused as error:
            source.is_out = error.refusal == "not_found"
            self._pause(peer, error.what)
        except PeerUnreachable as error:
            self._pause(peer, error.what)
        except (Full, StoreUnavailable) as error:
            self._refused = error  # raised behind the nursery: from inside it comes in a group
        except RemoteError as error:
            source.is_out = True
            self._network.penalise(peer, error)
            log.warning("wrong chunk", peer=peer, chunk=index, why=error.what)
        finally:
            if index not in self._done:
                self._missing.add(index)
            self._busy.discard(peer)
            self._changed.set()

    async def _whole(self, peer: PeerId, index: int) -> bytes:
        """A chunk as a peer gives it; only a single bucket takes more than one frame."""
        height = self._order.height
        answer = GotChunk(height=height, index=index)
        part = await self._ask(peer, GetChunk(height=height, index=index), answer)
        if len(part) < SYNC_BYTES_MAX:
            return part
        async with self._large:
            whole = bytearray(part)
            while len(part) == SYNC_BYTES_MAX:
                at = len(whole)
                if self._order.heads[index].level or at >= BUCKET_BYTES_MAX:
                    raise WireError(f"chunk {index} has more than {at} bytes", penalty=100)
                ask = GetChunkPart(height=height, index=index, offset=at)
                expected = GotChunkPart(height=height, index=index, offset=at)
                part = await self._ask(peer, ask, expected)
                whole += part
        return bytes(whole)

    async def _ask(self, peer: PeerId, ask: Record, expected: Record) -> bytes:
        with trio.fail_after(STALL_SECONDS):
            answer, tail = await self._network.call(peer, ask, channel=Channel.BULK)
        if answer != expected or len(tail) > SYNC_BYTES_MAX:
            raise WireError(f"{type(answer).__name__} is no answer to {ask}", penalty=100)
        return tail

    async def _take(self, index: int, raw: bytes) -> None:
        head, first = self._order.heads[index], self._firsts[index]

        def check() -> list[Pair]:
            pairs = open_chunk(raw, head, first=first, bits=self._order.bits)
            self._staging.put(head.root, raw)
            return pairs

        self.state.update(await trio.to_thread.run_sync(check))
        self._done.add(index)
        self._missing.discard(index)

    def _pause(self, peer: PeerId, why: str) -> None:
        source = self._known[peer]
        source.paused_until_ms = self._clock.monotonic_ms() + (PAUSE_MS << source.stalls)
        source.stalls += 1
        source.is_out = source.is_out or source.stalls >= STALLS_MAX
        log.info("peer not asked for chunks for a while", peer=peer, why=why)
