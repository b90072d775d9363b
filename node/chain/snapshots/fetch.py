"""Fetches the chunks of one snapshot from several peers at once, each checked alone.

One call of a peer at a time, a stall timer for each; a wrong chunk bans its peer and is asked of
another, good chunks stay. What was fetched before a restart is read again and checked again. Of
chunks of several frames one is on its way at a time, a few more while it is late.
Knows: one proven list of chunks. Must not know: who proved it, what the entries mean.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from prsm.consensus.ledger.chunks import Pair, firsts, open_chunk
from prsm.node.clock import Clock
from prsm.node.net.interface import Busy, CallRefused, Channel, Network, PeerUnreachable
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
LARGE_SECONDS: Final = 20.0  # for all frames of a chunk behind its first; doubles for who was late
LARGE_MAX: Final = 4  # of those, all but one late: each fills up to `BUCKET_BYTES_MAX` of memory
_LARGE_SECONDS_MAX: Final = STALL_SECONDS * (BUCKET_BYTES_MAX // SYNC_BYTES_MAX + 1)
_BUSY_SECONDS: Final = 1.0  # then the same part is asked for again
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
    late: int = 0  # large chunks that ran out of time; a good small one makes up for none
    paused_until_ms: int = 0
    is_out: bool = False


@dataclass(slots=True)
class _Flight:
    """A chunk that a peer was asked for."""

    index: int
    began: float
    is_large: bool  # has one of the places of those
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


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
        self._flights: dict[PeerId, _Flight] = {}
        self._large: set[int] = set()  # of which somebody showed a full frame
        self._checking = trio.Lock()  # two may bring the same chunk
        self._changed = trio.Event()
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
            while not is_given_up and (self._missing or self._flights):
                if self._refused is not None:
                    nursery.cancel_scope.cancel()
                    break
                for peer in self._idle():
                    if (given := self._next()) is None:
                        break
                    self._missing.discard(given)
                    flight = _Flight(given, trio.current_time(), given in self._large)
                    self._flights[peer] = flight
                    nursery.start_soon(self._fetch, peer, flight)
                if self._flights:
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
            if peer not in self._flights and not source.is_out and source.paused_until_ms <= now:
                idle.append(peer)
        return sorted(idle, key=lambda peer: self._known[peer].stalls + self._known[peer].late)

    def _next(self) -> int | None:
        """What to ask for now: what nobody was asked for, else a large chunk that is late."""
        has_place = self._has_place
        index = min((i for i in self._missing if has_place or i not in self._large), default=None)
        if index is not None or not has_place:
            return index
        late = (
            (flight.began, flight.index)
            for flight in self._flights.values()
            if flight.is_large and flight.index not in self._done
        )
        return min(late, default=(0, None))[1]

    @property
    def _has_place(self) -> bool:
        """May one more large chunk be on its way? While none is late, one is."""
        large = [flight for flight in self._flights.values() if flight.is_large]
        late = trio.current_time() - STALL_SECONDS
        return len(large) < LARGE_MAX and all(flight.began <= late for flight in large)

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

    async def _fetch(self, peer: PeerId, flight: _Flight) -> None:
        source, index = self._known[peer], flight.index
        try:
            with flight.scope:
                raw = await self._whole(peer, flight)
                if raw is not None:
                    async with self._checking:
                        await self._take(index, raw)
                        self._call_off(flight)
                    self.fetched += 1
                    source.stalls = 0
        except trio.TooSlowError:
            source.late += flight.is_large
            self._pause(peer, f"chunk {index} did not come in time")
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
            del self._flights[peer]
            others = (other.index for other in self._flights.values())
            if index not in self._done and index not in others:
                self._missing.add(index)
            self._changed.set()

    def _call_off(self, flight: _Flight) -> None:
        """The chunk is here: whoever else was asked for it is let go, without blame."""
        for other in self._flights.values():
            if other.index == flight.index and other is not flight:
                other.scope.cancel()

    async def _whole(self, peer: PeerId, flight: _Flight) -> bytes | None:
        """A chunk as a peer gives it; only a single bucket takes more than one frame.

        None if it does while there is no place for one more: it is asked for another time. Whoever
        waits for a place would keep the chunk from others.
        """
        height, index = self._order.height, flight.index
        answer = GotChunk(height=height, index=index)
        part = await self._ask(peer, GetChunk(height=height, index=index), answer)
        if len(part) < SYNC_BYTES_MAX:
            return part
        if self._order.heads[index].level:
            raise WireError(f"chunk {index} has more than {len(part)} bytes", penalty=100)
        self._large.add(index)
        if not (flight.is_large or self._has_place):
            return None
        flight.is_large, flight.began = True, trio.current_time()
        whole = bytearray(part)
        # One deadline: parts that each come just in time would keep a place for long.
        patience = LARGE_SECONDS * 2 ** self._known[peer].late
        with trio.fail_after(min(patience, _LARGE_SECONDS_MAX)):
            while len(part) == SYNC_BYTES_MAX:
                if len(whole) >= BUCKET_BYTES_MAX:
                    raise WireError(f"chunk {index} has more than {len(whole)} bytes", penalty=100)
                part = await self._part(peer, index, len(whole))
                whole += part
        return bytes(whole)

    async def _part(self, peer: PeerId, index: int, at: int) -> bytes:
        """The next part; `busy` must not lose those that came. The caller sets the deadline."""
        height = self._order.height
        ask = GetChunkPart(height=height, index=index, offset=at)
        while True:
            try:
                return await self._ask(
                    peer, ask, GotChunkPart(height=height, index=index, offset=at)
                )
            except CallRefused as error:
                if error.refusal != Busy.reason:
                    raise
            await trio.sleep(_BUSY_SECONDS)

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
