"""Catching up: committed blocks from peers, and serving blocks and bodies to them.

Knows: what is being asked of whom, and in which order blocks are handed to the replica. Must not
know: what a block does. Who is asked is decided in node/chain/claims, which heights in
node/chain/ranges; single bodies are node/chain/bodies.

Invariants: one outstanding range per peer, never one fetch per vote; a claimed height is a hint;
a block reaches the replica only after its certificate was found to hold, so whoever sent one that
does not hold is known; only a peer's answer is timed, never our own disk.
Source: docs/spec/wire.md, "Catching up".
"""

from collections.abc import Callable
from typing import Final

import trio

from prsm.consensus.pbft.effects import Fetch
from prsm.consensus.pbft.events import Decided
from prsm.node.chain.bodies import Bodies
from prsm.node.chain.claims import Claims, Contradiction, Standing
from prsm.node.chain.driver import Driver
from prsm.node.chain.history import block_of
from prsm.node.chain.ranges import Ranges, Segment
from prsm.node.net.interface import (
    Answer,
    CallRefused,
    Channel,
    Incoming,
    PeerEvent,
    PeerUnreachable,
)
from prsm.node.telemetry import logs
from prsm.protocol.certificates import check_certificate
from prsm.protocol.codec import Record, decode
from prsm.protocol.errors import LocalError, RemoteError, WireError
from prsm.protocol.headers import block_hash, is_bound
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import BLOCKS_BYTES_MAX, BULK_FRAME_BYTES_MAX, KIB
from prsm.protocol.messages.consensus import Status
from prsm.protocol.messages.sync import (
    Certified,
    GetBlockByHash,
    GetBlocks,
    GotBlock,
    GotBlocks,
)
from prsm.protocol.signing import Kind

log = logs.get("sync")

LOOK_SECONDS: Final = 0.25  # pauses end and snapshots are done without a word
REST_SECONDS: Final = 2.0  # nobody claims to be ahead: a word of one wakes
RANGE_SECONDS: Final = 5.0
# Without an answer for this long, what all else waits for is asked of a second peer, a quick one.
STALL_MS: Final = 1_250
# Handed to the replica again after this long: it takes no block while it executes one.
APPLY_SECONDS: Final = 10.0
# A block decided now reaches us by votes; only a gap that lasts is fetched.
GAP_BLOCKS_MIN: Final = 2
GAP_PATIENCE_MS: Final = 700
# Below this a range is decoded where it arrives: 1 MiB takes tens of milliseconds.
INLINE_BYTES_MAX: Final = 64 * KIB


class Pruned(LocalError):
    """A block this node has forgotten; the text names the first one it holds."""

    reason = "pruned"


class Sync:
    """Follows the highest chain that peers can show.

    Args:
        driver: of the replica that follows.
        check: finds out whether a certificate of the next height holds; raises `RemoteError`.
            By the sets of the driver's ledger if None.
    """

    def __init__(self, driver: Driver, *, check: Callable[[Certified], None] | None = None) -> None:
        self._driver = driver
        self._check = check or self._check_shown
        self._network = network = driver.network
        self._store = driver.store
        self._clock = driver.clock
        self._claims = Claims()
        self._ranges = Ranges()
        self._wake = trio.Event()
        self._arrived = trio.Event()
        self._lag_since_ms: int | None = None
        self._bodies = Bodies(network, driver.deliver)
        self.is_held: Callable[[], bool] = lambda: False  # a snapshot is taken instead of blocks
        driver.on_status = self._hear_status
        driver.on_fetch = self._hear_fetch
        network.on_call(GetBlocks, self._serve_blocks)
        network.on_call(GetBlockByHash, self._serve_body)
        network.on_peer(self._hear_peer)

    @property
    def target_height(self) -> int:
        """Highest height a live, trusted peer claims; our own if nobody is ahead."""
        claimed = self._claims.target(self._live(), self._clock.monotonic_ms())
        return max(self._driver.ledger.height, claimed)

    @property
    def has_heard(self) -> bool:
        """Has any peer ever said where it stands?"""
        return len(self._claims) > 0

    @property
    def is_syncing(self) -> bool:
        """Is this node more than a few blocks behind what peers claim?"""
        return self.target_height > self._driver.ledger.height + 2 * GAP_BLOCKS_MIN

    @property
    def _is_idle(self) -> bool:
        return self._driver.is_halted or self.is_held()

    @property
    def _is_behind(self) -> bool:
        """Does anybody claim more than we have, linked and trusted or not?"""
        return self._claims.is_any_above(self._driver.ledger.height)

    @staticmethod
    def _look_s(*, is_open: bool) -> float:
        return LOOK_SECONDS if is_open else REST_SECONDS

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow until cancelled."""
        self._ranges = Ranges()  # nobody answers what was asked before a crash
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow)
            nursery.start_soon(self._apply)
            nursery.start_soon(self._bodies.run)
            task_status.started()

    async def _follow(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                with trio.move_on_after(self._look_s(is_open=self._is_behind)):
                    await self._wake.wait()
                self._wake = trio.Event()
                for segment, peer in self._plan():
                    nursery.start_soon(self._fetch, segment, peer)

    def _plan(self) -> list[tuple[Segment, PeerId]]:
        """What to ask of whom now: as much as there are gaps, peers for them, and room."""
        own, now_ms = self._driver.ledger.height, self._clock.monotonic_ms()
        self._ranges.advance(own)
        if not self._is_behind:
            self._lag_since_ms = None
            return []
        live = self._live()
        top = self._claims.top(live, own=own, now_ms=now_ms)
        if self._is_idle or not self._has_waited(top - own, now_ms):
            return []
        planned: list[tuple[Segment, PeerId]] = []
        stalled = self._ranges.stalled(own, now_ms - STALL_MS)
        if stalled is not None:
            found = self._claims.sources(live, least=stalled.first, now_ms=now_ms, is_quick=True)
            second = self._first_free(found)
            if second is not None:
                self._ranges.ask_too(stalled, second, now_ms)
                planned.append((stalled, second))
        while (gap := self._ranges.gap(own, top)) is not None:
            first, last = gap
            peer = self._first_free(self._claims.sources(live, least=first, now_ms=now_ms))
            if peer is None:
                break
            last = min(last, first + self._claims.size(peer) - 1, self._claims.height(peer))
            planned.append((self._ranges.ask(first, last, peer, now_ms), peer))
        return planned

    def _first_free(self, found: list[PeerId]) -> PeerId | None:
        busy = self._ranges.asked
        return next((peer for peer in found if peer not in busy), None)

    def _has_waited(self, lag: int, now_ms: int) -> bool:
        """Is it more than the votes will bring in a moment?"""
        if lag <= 0:
            self._lag_since_ms = None
            return False
        if self._lag_since_ms is None:
            self._lag_since_ms = now_ms
        return lag >= GAP_BLOCKS_MIN or now_ms - self._lag_since_ms >= GAP_PATIENCE_MS

    async def _fetch(self, segment: Segment, peer: PeerId) -> None:
        ask = GetBlocks(first=segment.first, count=segment.last - segment.first + 1)
        blocks: list[Certified] = []
        asked_ms = self._clock.monotonic_ms()
        try:
            with trio.fail_after(RANGE_SECONDS):
                answer, _ = await self._network.call(peer, ask, channel=Channel.BULK)
            blocks = await _read_range(answer, ask)
        except trio.TooSlowError:
            self._pause(peer, f"no answer within {RANGE_SECONDS:g} s", silent=True)
        except (PeerUnreachable, CallRefused) as error:
            self._pause(peer, error.what, silent=False)
        except RemoteError as error:
            self._blame(peer, error)  # though another answer was taken
        else:
            took_ms = self._clock.monotonic_ms() - asked_ms
            self._claims.answered(peer, blocks=len(blocks), took_ms=took_ms)
            if not blocks:
                self._distrust(peer, f"claims {segment.last} and has no block {segment.first}")
        if not blocks:
            self._ranges.fail(segment, peer)
        elif self._ranges.keep(segment, peer, blocks):
            self._arrived.set()
        self._wake.set()

    async def _apply(self) -> None:
        """Hand over one block after the other: the replica takes only the next height."""
        while True:
            with trio.move_on_after(self._look_s(is_open=len(self._ranges) > 0)):
                await self._arrived.wait()
            self._arrived = trio.Event()
            while (found := self._ranges.next_block(self._driver.ledger.height)) is not None:
                if self._is_idle:
                    break
                await self._apply_one(*found)
                self._wake.set()

    async def _apply_one(self, item: Certified, peer: PeerId) -> None:
        try:
            self._check(item)
        except RemoteError as error:
            self._ranges.drop_of(peer)
            self._blame(peer, error)
            await trio.lowlevel.checkpoint()
            return
        self._claims.showed(peer)
        await self._driver.deliver_waiting(Decided(item.block, item.certificate))
        # However long our disk takes: the peer has done its part.
        with trio.move_on_after(APPLY_SECONDS):
            await self._driver.wait_height(item.block.header.height)

    def _check_shown(self, item: Certified) -> None:
        config = self._driver.state.config
        check_certificate(
            item.certificate,
            self._driver.ledger.validators(item.block.header.height),
            chain_id=config.chain_id,
            verifier=config.verifier,
            kind=Kind.COMMIT,
        )

    def _pause(self, peer: PeerId, why: str, *, silent: bool) -> None:
        self._claims.pause(peer, self._clock.monotonic_ms(), silent=silent)
        log.warning("peer not asked for blocks for a while", peer=peer, why=why)

    def _distrust(self, peer: PeerId, why: str) -> None:
        self._claims.distrust(peer, self._clock.monotonic_ms())
        log.warning("peer not asked for blocks for ten minutes", peer=peer, why=why)

    def _blame(self, peer: PeerId, error: RemoteError) -> None:
        self._network.penalise(peer, error)
        self._distrust(peer, error.what)

    def _live(self) -> set[PeerId]:
        return {info.peer for info in self._network.peers()}

    def _hear_status(self, peer: PeerId, status: Status) -> None:
        said = Standing(status.height, status.tip_hash, status.first_height)
        now_ms = self._clock.monotonic_ms()
        try:
            self._claims.hear(peer, said, now_ms)
        except Contradiction as error:
            log.warning("peer contradicts itself", peer=peer, why=error.what)
            self._network.penalise(peer, error)
        if status.height > self._driver.ledger.height:
            self._wake.set()

    def hear_block(self, peer: PeerId, height: int) -> None:
        """A proposer announced a block: sooner known than by its next STATUS, no more believed."""
        if self._claims.announce(peer, height) and height > self._driver.ledger.height:
            self._wake.set()

    def _hear_peer(self, event: PeerEvent) -> None:
        if event.up:
            self._claims.meet(event.peer)

    def _hear_fetch(self, fetch: Fetch) -> None:
        if fetch.block_hash is None:
            self._wake.set()
            return
        self._bodies.order(fetch)

    async def _serve_blocks(self, incoming: Incoming) -> Answer:
        ask = incoming.message
        assert isinstance(ask, GetBlocks)
        found = await self._store.blocks(
            ask.first, ask.first + ask.count - 1, bytes_max=BLOCKS_BYTES_MAX
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
                committed = block_of(stored)
                if block_hash(committed.header) == ask.block_hash:
                    block = committed
        return GotBlock(block=block), b""


async def _read_range(answer: Record, ask: GetBlocks) -> list[Certified]:
    """The blocks of an answer: successive from the first, each what its certificate names.

    Whether the certificates' signatures hold is asked when their turn comes.

    Raises:
        WireError: another answer, or blocks that no honest peer sends.
    """
    if not isinstance(answer, GotBlocks):
        raise _other_answer(answer)
    if len(answer.blocks) > ask.count:
        raise WireError(f"{len(answer.blocks)} blocks, {ask.count} were asked for")
    if sum(map(len, answer.blocks)) <= INLINE_BYTES_MAX:
        return _decode_range(answer, ask.first)
    return await trio.to_thread.run_sync(_decode_range, answer, ask.first)


def _decode_range(answer: GotBlocks, first: int) -> list[Certified]:
    items = [decode(raw, Certified, size_max=BULK_FRAME_BYTES_MAX) for raw in answer.blocks]
    for height, item in enumerate(items, start=first):
        digest = block_hash(item.block.header)
        certified = item.certificate.height, item.certificate.block_hash
        if item.block.header.height != height or certified != (height, digest):
            raise WireError(
                f"block {item.block.header.height} certified as another one, or late", penalty=100
            )
        if not is_bound(item.block):
            raise WireError(
                f"block {height} with a body its header does not commit to", penalty=100
            )
    return items


def _other_answer(answer: Record) -> WireError:
    return WireError(f"{type(answer).__name__} is no answer to what was asked")


def encode_certified(block: bytes, certificate: bytes) -> bytes:
    """Join stored canonical bytes of a block and its certificate into a `Certified`."""
    # An array of two whose elements are already canonical: 0x92 and both, without decoding.
    return b"\x92" + block + certificate
