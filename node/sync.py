"""Catching up: committed blocks and missing bodies from peers, and serving them to peers.

Knows: who claims which height, what is being asked of whom. Must not know: how a block is judged:
the replica checks every certificate and hash, so nothing here is believed.

Invariants: one outstanding range per peer, never one fetch per vote; a claimed height is a hint,
and a peer that cannot show a certificate for its claim is not asked again for a while.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from prsm.consensus.pbft.effects import Fetch
from prsm.consensus.pbft.events import Decided, Fetched
from prsm.node import logs
from prsm.node.driver import Driver
from prsm.node.net.interface import (
    Answer,
    CallRefused,
    Channel,
    Incoming,
    PeerUnreachable,
)
from prsm.protocol.codec import Record, decode
from prsm.protocol.errors import LocalError, PrsmError, RemoteError, WireError
from prsm.protocol.headers import Block, block_hash, is_bound
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import BULK_FRAME_BYTES_MAX, SYNC_BLOCKS_MAX, SYNC_BYTES_MAX
from prsm.protocol.messages.consensus import Status
from prsm.protocol.messages.sync import (
    Certified,
    GetBlockByHash,
    GetBlocks,
    GotBlock,
    GotBlocks,
)

log = logs.get("sync")

RANGE_SECONDS: Final = 5.0
APPLY_SECONDS: Final = 10.0
DISTRUST_MS: Final = 600_000  # a claim without a certificate behind it
# Silence or a refusal: a busy or dying peer is no liar. Doubles up to DISTRUST_MS.
PAUSE_MS: Final = 5_000
# A block decided now reaches us by votes; only a gap that lasts is fetched.
GAP_BLOCKS_MIN: Final = 2
GAP_PATIENCE_MS: Final = 700


class Pruned(LocalError):
    """A block this node has forgotten; the text names the first one it holds."""

    reason = "pruned"


@dataclass(slots=True)
class _Claim:
    height: int
    seen_ms: int
    first: int = 1  # height of the first block it holds
    distrusted_until_ms: int = 0
    pause_ms: int = PAUSE_MS


class Sync:
    """Follows the highest chain that peers can show."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._network = network = driver.network
        self._store = driver.store
        self._clock = driver.clock
        self._claims: dict[PeerId, _Claim] = {}
        self._wake = trio.Event()
        self._lag_since_ms: int | None = None
        self._bodies_in, self._bodies_out = trio.open_memory_channel[Fetch](8)
        self.is_held: Callable[[], bool] = lambda: False  # a snapshot is taken instead of blocks
        driver.on_status = self._hear_status
        driver.on_fetch = self._hear_fetch
        network.on_call(GetBlocks, self._serve_blocks)
        network.on_call(GetBlockByHash, self._serve_body)

    @property
    def target_height(self) -> int:
        """Highest height a live, trusted peer claims; our own if nobody is ahead."""
        now = self._clock.monotonic_ms()
        live = {peer.peer for peer in self._network.peers()}
        claims = (
            claim.height
            for peer, claim in self._claims.items()
            if peer in live and claim.distrusted_until_ms <= now
        )
        return max((self._driver.ledger.height, *claims))

    @property
    def has_heard(self) -> bool:
        """Has any peer ever said where it stands?"""
        return bool(self._claims)

    @property
    def is_syncing(self) -> bool:
        """Is this node more than a few blocks behind what peers claim?"""
        return self.target_height > self._driver.ledger.height + 2 * GAP_BLOCKS_MIN

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow)
            nursery.start_soon(self._fetch_bodies)
            task_status.started()

    async def _follow(self) -> None:
        while True:
            with trio.move_on_after(0.25):
                await self._wake.wait()
            self._wake = trio.Event()
            peer = self._source()
            if peer is not None:
                await self._fetch_range(peer)

    def _source(self) -> PeerId | None:
        """The peer to ask now, or None while we keep up or have not waited long enough."""
        if self._driver.is_halted or self.is_held():
            return None
        own, now = self._driver.ledger.height, self._clock.monotonic_ms()
        gap = self.target_height - own
        if gap <= 0:
            self._lag_since_ms = None
            return None
        if self._lag_since_ms is None:
            self._lag_since_ms = now
        if gap < GAP_BLOCKS_MIN and now - self._lag_since_ms < GAP_PATIENCE_MS:
            return None
        live = {peer.peer for peer in self._network.peers()}
        ahead = [
            (claim.height, peer)
            for peer, claim in self._claims.items()
            if peer in live and claim.height > own and claim.distrusted_until_ms <= now
            if claim.first <= own + 1  # it holds the next block
        ]
        return max(ahead)[1] if ahead else None

    async def _fetch_range(self, peer: PeerId) -> None:
        own = self._driver.ledger.height
        ask = GetBlocks(first=own + 1, count=SYNC_BLOCKS_MAX)
        try:
            with trio.fail_after(RANGE_SECONDS):
                answer, _ = await self._network.call(peer, ask, channel=Channel.BULK)
            blocks = _read_range(answer, first=own + 1)
        except trio.TooSlowError:
            self._pause(peer, "no answer in time")
            return
        except (PeerUnreachable, CallRefused) as error:
            self._pause(peer, error.what)
            return
        except RemoteError as error:
            self._network.penalise(peer, error)
            self._distrust(peer, error.what, for_ms=DISTRUST_MS)
            return
        # One after the other is applied: the replica takes only the next height.
        for item in blocks:
            await self._driver.deliver_waiting(Decided(item.block, item.certificate))
            with trio.move_on_after(APPLY_SECONDS) as scope:
                await self._driver.wait_height(item.block.header.height)
            if scope.cancelled_caught:
                break
        if self._driver.is_halted:
            return  # our own disk, not the peer
        if blocks and self._driver.ledger.height > own:
            if peer in self._claims:
                self._claims[peer].pause_ms = PAUSE_MS
            return
        self._distrust(
            peer, f"claimed more than height {own} and could not show it", for_ms=DISTRUST_MS
        )

    def _pause(self, peer: PeerId, why: str) -> None:
        claim = self._claims.get(peer)
        if claim is not None:
            self._distrust(peer, why, for_ms=claim.pause_ms)
            claim.pause_ms = min(2 * claim.pause_ms, DISTRUST_MS)

    def _distrust(self, peer: PeerId, why: str, *, for_ms: int) -> None:
        claim = self._claims.get(peer)
        if claim is not None and claim.height > self._driver.ledger.height:
            claim.distrusted_until_ms = self._clock.monotonic_ms() + for_ms
            log.warning("peer not asked for blocks for a while", peer=peer, why=why)

    async def _fetch_bodies(self) -> None:
        async for fetch in self._bodies_out:
            assert fetch.block_hash is not None
            ask = GetBlockByHash(height=fetch.first, block_hash=fetch.block_hash)
            for peer in fetch.peers:
                block = await self._ask_body(PeerId(peer), ask)
                if block is not None:
                    self._driver.deliver(Fetched(block))
                    break

    async def _ask_body(self, peer: PeerId, ask: GetBlockByHash) -> Block | None:
        try:
            with trio.fail_after(RANGE_SECONDS):
                answer, _ = await self._network.call(peer, ask, channel=Channel.BULK)
        except (trio.TooSlowError, PrsmError):
            return None
        if not isinstance(answer, GotBlock):
            self._network.penalise(peer, _other_answer(answer))
            return None
        if answer.block is None or block_hash(answer.block.header) != ask.block_hash:
            return None
        return answer.block

    def _hear_status(self, peer: PeerId, status: Status) -> None:
        claim = self._claims.setdefault(peer, _Claim(0, 0))
        claim.height, claim.seen_ms = status.height, self._clock.monotonic_ms()
        claim.first = status.first_height
        if len(self._claims) > 1024:
            oldest = min(self._claims, key=lambda known: self._claims[known].seen_ms)
            del self._claims[oldest]
        if status.height > self._driver.ledger.height:
            self._wake.set()

    def _hear_fetch(self, fetch: Fetch) -> None:
        if fetch.block_hash is None:
            self._wake.set()
            return
        try:
            self._bodies_in.send_nowait(fetch)
        except trio.WouldBlock:
            log.debug("body fetch dropped; retransmission asks again")

    async def _serve_blocks(self, incoming: Incoming) -> Answer:
        ask = incoming.message
        assert isinstance(ask, GetBlocks)
        found = await self._store.blocks(
            ask.first, ask.first + ask.count - 1, bytes_max=SYNC_BYTES_MAX
        )
        if not found and ask.first < (first := self._driver.held[1]):
            raise Pruned(f"block {ask.first} was pruned here, the first one held is {first}")
        parts = tuple(encode_certified(item.block, item.certificate) for item in found)
        return GotBlocks(blocks=parts), b""

    async def _serve_body(self, incoming: Incoming) -> Answer:
        ask = incoming.message
        assert isinstance(ask, GetBlockByHash)
        block = self._driver.proposed(ask.height, ask.block_hash)
        if block is None:
            stored = await self._store.block(ask.height)
            if stored is not None:
                committed = decode(stored.block, Block, size_max=BULK_FRAME_BYTES_MAX)
                if block_hash(committed.header) == ask.block_hash:
                    block = committed
        return GotBlock(block=block), b""


def _read_range(answer: Record, *, first: int) -> list[Certified]:
    """The blocks of an answer: successive from `first`, each what its certificate names.

    Whether the certificate's signatures hold is the replica's question.

    Raises:
        WireError: another answer, or blocks that no honest peer sends.
    """
    if not isinstance(answer, GotBlocks):
        raise _other_answer(answer)
    items = [decode(raw, Certified, size_max=BULK_FRAME_BYTES_MAX) for raw in answer.blocks]
    for height, item in enumerate(items, start=first):
        digest = block_hash(item.block.header)
        certified = item.certificate.height, item.certificate.block_hash
        if item.block.header.height != height or certified != (height, digest):
            raise WireError(f"block {item.block.header.height} certified as another one, or late")
        if not is_bound(item.block):
            raise WireError(f"block {height} with a body its header does not commit to")
    return items


def _other_answer(answer: Record) -> WireError:
    return WireError(f"{type(answer).__name__} is no answer to what was asked")


def encode_certified(block: bytes, certificate: bytes) -> bytes:
    """Join stored canonical bytes of a block and its certificate into a `Certified`."""
    # An array of two whose elements are already canonical: 0x92 and both, without decoding.
    return b"\x92" + block + certificate
