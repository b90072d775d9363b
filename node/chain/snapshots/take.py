"""Takes a snapshot when this node is far behind: proven, fetched, put in the ledger's place.

Peers' claims are hints: who cannot prove one within a stall timer is not asked again for ten
minutes, who proves another thing is banned. Nothing becomes the state before every chunk of it
is under a root that a quorum of a known set signed. Source: docs/spec/storage.md, "Snapshots".
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.ledger.outcome import LedgerTip
from prsm.consensus.pbft.events import Distrusted, Event, Installed, Tick
from prsm.node.chain.driver import Driver
from prsm.node.chain.history import epoch_header_of, ledger_tip_of, stored_block, tip_of
from prsm.node.chain.snapshots.choice import BlocksTurn, choose
from prsm.node.chain.snapshots.evidence import Sets, Shown, certificates_in, check_snapshot, walk
from prsm.node.chain.snapshots.fetch import STALL_SECONDS, ChunkFetch, Order
from prsm.node.net.interface import CallRefused, Channel, PeerUnreachable
from prsm.node.telemetry import logs
from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.errors import RemoteError, WireError
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import BULK_FRAME_BYTES_MAX, EPOCH_HEADERS_MAX
from prsm.protocol.messages.consensus import Status
from prsm.protocol.messages.sync import (
    EpochProof,
    GetEpochHeaders,
    GetSnapshot,
    GotEpochHeaders,
    Snapshot,
    SnapshotMeta,
)
from prsm.storage.errors import Full, StoreUnavailable
from prsm.storage.ledger import EpochHeader
from prsm.storage.snapshots import SnapshotFiles

log = logs.get("snapshots")

DISTRUST_MS: Final = 600_000  # who proved another thing than it claimed
PAUSE_MS: Final = 5_000  # silence or a refusal; doubles up to that
WALK_SECONDS: Final = 15.0  # along all epochs; whose headers came in time are not asked again
_DRIPPED_PAGES: Final = int(WALK_SECONDS // STALL_SECONDS)  # come of who shows each just in time
LOOK_SECONDS: Final = 0.25
CLAIMS_MAX: Final = 1024
DISK_PAUSE_SECONDS: Final = 60.0
_HALF_DISTRUSTED: Final = "the disk refused to put the sign guard aside for a state from peers"


@dataclass(slots=True)
class _Claim:
    status: Status
    seen_ms: int
    distrusted_until_ms: int = 0
    pause_ms: int = PAUSE_MS
    stalls: int = 0  # calls that ran out of time since its last answer


@dataclass(frozen=True, slots=True)
class Ground:
    """What a taker stands on.

    Attributes:
        driver: whose ledger is replaced.
        files: where chunks wait, and where the snapshot stays.
        far: so many heights behind, a snapshot is worth more than blocks.
        rebuild: a ledger of this network over a whole state and its tip.
        distrust_log: called before the switch with the certificates of the state and their sets;
            why this node may sign nothing, None if it may.
    """

    driver: Driver
    files: SnapshotFiles
    far: int
    rebuild: Callable[[dict[bytes, bytes], LedgerTip], Ledger]
    distrust_log: Callable[[Shown], Awaitable[str | None]]


class Taker:
    """Follows what peers claim, and takes a snapshot when that is the way forward."""

    def __init__(self, ground: Ground) -> None:
        """Listen to STATUS beside whoever listens already."""
        self._ground = ground
        self._driver = driver = ground.driver
        self._clock = driver.clock
        self._claims: dict[PeerId, _Claim] = {}
        self._blocks_turn = BlocksTurn(PAUSE_MS // 2, DISTRUST_MS)
        self._verifier = Ed25519Verifier()
        self._walked: Sets | None = None  # from the ledger's epoch on, over all tries
        self._claimed = trio.Event()  # a peer says it has a snapshot above our height
        self.is_taking = False
        self.taken = 0
        before = driver.on_status

        def hear(peer: PeerId, status: Status) -> None:
            before(peer, status)
            self._hear_status(peer, status)

        driver.on_status = hear

    @property
    def is_wanted(self) -> bool:
        """Is a snapshot the way forward now? Blocks are not fetched meanwhile."""
        return self.is_taking or self._choose() is not None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take snapshots until cancelled."""
        task_status.started()
        while True:
            await self._claimed.wait()
            if not self._is_claimed():  # blocks led there meanwhile
                self._claimed = trio.Event()
                continue
            await trio.sleep(LOOK_SECONDS)
            choice = None if self._driver.is_halted else self._choose()
            if choice is None:
                continue
            self.is_taking = True
            try:
                await self._take(*choice)
            except (Full, StoreUnavailable) as error:
                log.error("no snapshot taken", why=error.what)  # noqa: TRY400 - a disk's refusal
                await trio.sleep(DISK_PAUSE_SECONDS)
            finally:
                self.is_taking = False

    def _hear_status(self, peer: PeerId, status: Status) -> None:
        claim = self._claims.setdefault(peer, _Claim(status, 0))
        claim.status, claim.seen_ms = status, self._clock.monotonic_ms()
        if status.snapshot_height > self._driver.ledger.height:
            self._claimed.set()
        if len(self._claims) > CLAIMS_MAX:
            del self._claims[min(self._claims, key=lambda known: self._claims[known].seen_ms)]

    def _trusted(self) -> dict[PeerId, Status]:
        now = self._clock.monotonic_ms()
        live = {peer.peer for peer in self._driver.network.peers()}
        return {
            peer: claim.status
            for peer, claim in self._claims.items()
            if peer in live and claim.distrusted_until_ms <= now
        }

    def _is_claimed(self) -> bool:
        own = self._driver.ledger.height
        return any(claim.status.snapshot_height > own for claim in self._claims.values())

    def _choose(self) -> tuple[PeerId, int] | None:
        """Whom to ask for which snapshot, None while blocks lead on."""
        if not self._is_claimed():
            return None  # looked at often, and mostly so
        own = self._driver.ledger.height
        settled = self._driver.state.settled
        stalls = {peer: claim.stalls for peer, claim in self._claims.items()}
        far = self._blocks_turn.far(self._ground.far, self._clock.monotonic_ms())
        return choose(own, self._trusted(), settled=settled, far=far, stalls=stalls)

    async def _take(self, peer: PeerId, height: int) -> None:
        sets = self._known_sets()
        before = len(sets.proofs)
        try:
            with trio.fail_after(STALL_SECONDS):
                found = await self._ask_snapshot(peer, height)
            with trio.fail_after(WALK_SECONDS):
                await self._learn(peer, found, sets)
            check_snapshot(found, height, sets, bits=self._bits)
            self._note_time(peer, is_kept=True)
        except trio.TooSlowError:
            shown = len(sets.proofs) - before
            is_quick = shown > _DRIPPED_PAGES * EPOCH_HEADERS_MAX  # the way is long
            self._note_time(peer, is_kept=is_quick)
            if shown and (claim := self._claims.get(peer)) is not None:
                claim.pause_ms = PAUSE_MS  # a part of a long way: soon the next one
            why = f"did not show its snapshot of height {height} in time"
            self._pause([peer], why, is_failure=not is_quick)
            return
        except (PeerUnreachable, CallRefused) as error:
            self._pause([peer], error.what)
            return
        except RemoteError as error:
            self._driver.network.penalise(peer, error)
            self._distrust(peer, error.what, for_ms=DISTRUST_MS)
            return
        await self._fetch(found, height, sets)

    @property
    def _bits(self) -> int:
        return self._driver.ledger.genesis.parameters.tree_bits

    async def _ask_snapshot(self, peer: PeerId, height: int) -> Snapshot:
        answer, tail = await self._driver.network.call(
            peer, GetSnapshot(height=height), channel=Channel.BULK
        )
        if answer != SnapshotMeta(height=height):
            raise _other(answer)
        return decode(tail, Snapshot, size_max=BULK_FRAME_BYTES_MAX)

    def _known_sets(self) -> Sets:
        """The sets of the own chain, and those that were shown of its epoch and later ones."""
        ledger = self._driver.ledger
        known = (ledger.epoch.validators, ledger.epoch.following)
        if self._walked is None or not self._walked.advance(known):
            self._walked = Sets(ledger.genesis, self._verifier, known)
        return self._walked

    async def _learn(self, peer: PeerId, found: Snapshot, sets: Sets) -> None:
        """Walk from the sets that are known to that of the snapshot's header."""
        epoch = max(sets.proofs, default=self._driver.ledger.epoch.number)
        while epoch not in sets.proofs or epoch < found.header.epoch:
            # From the last one on: the page shows whom it announced.
            ask = GetEpochHeaders(first=epoch, count=EPOCH_HEADERS_MAX)
            with trio.fail_after(STALL_SECONDS):
                answer, _ = await self._driver.network.call(peer, ask, channel=Channel.BULK)
            if not isinstance(answer, GotEpochHeaders):
                raise _other(answer)
            epoch = walk(answer.epochs, ask, found.header.epoch, sets)

    async def _fetch(self, found: Snapshot, height: int, sets: Sets) -> None:
        def sources() -> list[PeerId]:
            return [p for p, status in self._trusted().items() if status.snapshot_height >= height]

        log.info("taking a snapshot", height=height, chunks=len(found.chunks))
        staging = self._ground.files.staging("incoming")
        order = Order.of(found, self._bits, sources)
        fetch = ChunkFetch(self._driver.network, self._clock, staging, order)
        if not await fetch.run():
            self._pause(sources(), f"nobody has all chunks of height {height}")
            return
        await self._install(found, fetch.state, sets)
        if self._driver.ledger.height >= height:
            roots = [head.root for head in found.chunks]
            await trio.to_thread.run_sync(staging.publish, height, encode(found), roots)
            self._driver.held = (max(height, self._driver.held[0]), self._driver.held[1])
            self.taken = height
            self._blocks_turn.succeed()
            log.info("snapshot taken", height=height, fetched=fetch.fetched)

    async def _install(self, found: Snapshot, state: dict[bytes, bytes], sets: Sets) -> None:
        driver = self._driver
        stored = stored_block(found.block, found.block_certificate, found.receipts)
        ledger = await trio.to_thread.run_sync(self._ground.rebuild, state, ledger_tip_of(stored))
        assert ledger.state_root == found.header.state_root, "chunks that were checked"
        epochs = [kept_epoch(proof) for proof in sets.proofs.values()]
        if (first := epoch_header_of(ledger.epoch, found.header, found.certificate)) is not None:
            epochs.append(first)
        done, refused = trio.Event(), list[Full | StoreUnavailable]()

        async def switch() -> Event:
            observer: str | None = _HALF_DISTRUSTED
            try:
                if driver.ledger.height >= stored.height:
                    return Tick()
                observer = await self._ground.distrust_log(certificates_in(found, sets))
                await driver.store.install(stored, state=state, epochs=epochs)
                # Whether or not its files find room: blocks below are gone, and peers hear of it.
                driver.held = (driver.held[0], stored.height)
                driver.ledger.adopt(ledger)
                driver.mempool.recheck()
                self._walked = None
                return Installed(tip_of(driver.ledger, stored), found.certificate, observer)
            except (Full, StoreUnavailable) as error:
                refused.append(error)  # the ledger did not move: not the driver's matter
                if observer is None:
                    return Tick()
                return Distrusted(observer, found.certificate.height)  # the guard is gone already
            finally:
                done.set()

        driver.errand = switch
        await done.wait()
        if refused:
            raise refused[0]

    def _note_time(self, peer: PeerId, *, is_kept: bool) -> None:
        """Count how often in a row a peer let a call run out of time."""
        claim = self._claims.get(peer)
        if claim is not None:
            claim.stalls = 0 if is_kept else claim.stalls + 1

    def _pause(self, peers: Sequence[PeerId], why: str, *, is_failure: bool = True) -> None:
        """Silence or a refusal: they may be busy, or have dropped that snapshot meanwhile."""
        for peer in peers:
            if (claim := self._claims.get(peer)) is not None:
                self._distrust(peer, why, for_ms=claim.pause_ms)
                claim.pause_ms = min(2 * claim.pause_ms, DISTRUST_MS)
        note = self._blocks_turn.fail if is_failure else self._blocks_turn.get_on
        note(self._clock.monotonic_ms())

    def _distrust(self, peer: PeerId, why: str, *, for_ms: int) -> None:
        claim = self._claims.get(peer)
        if claim is not None:
            claim.distrusted_until_ms = self._clock.monotonic_ms() + for_ms
        log.warning("peer not asked for snapshots for a while", peer=peer, why=why)


def kept_epoch(proof: EpochProof) -> EpochHeader:
    """A checked header of an epoch, as the ledger file keeps it."""
    return EpochHeader(
        epoch=proof.header.epoch,
        height=proof.header.height,
        header=encode(proof.header),
        certificate=encode(proof.certificate),
        members=encode(proof.members),
    )


def _other(answer: Record) -> WireError:
    return WireError(f"{type(answer).__name__} is no answer to what was asked", penalty=100)
