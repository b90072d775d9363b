"""The repair loop: who holds what, what is missing, and this node's part in mending it.

Joins `plan` (pure) to announcements, links and the store of models. A holder counts while it is
linked, or, in a network too large for that, while its beacon is younger than its last loss; so a
killed holder is noticed when its link breaks, within seconds. Only models somebody vouches for
(on the ledger, not halted) are copied for others. Must not know: blocks, transactions.
Source: docs/spec/storage.md, "Copies".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from prsm.node.clock import Clock
from prsm.node.net.interface import Network, PeerEvent
from prsm.node.peers.announce import Announcement, Announcer
from prsm.node.replication.census import Census, Heard
from prsm.node.replication.placement import room_told
from prsm.node.replication.plan import (
    COPIES_DEFAULT,
    GRACE_MS,
    Clocks,
    Duty,
    Subject,
    View,
    assigned,
    duty,
)
from prsm.node.telemetry import logs
from prsm.protocol.errors import LocalError, PrsmError
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import COPIES_MAX
from prsm.protocol.messages.announce import (
    BEACON_MODELS_MAX,
    MODELS,
    STORAGE,
    CopyWish,
    ModelOffer,
    StorageBeacon,
)

log = logs.get("repair")

LOOK_SECONDS: Final = 2.0
BEACON_MS: Final = 30_000
FETCHES_MAX: Final = 2
BACK_OFF_FIRST_MS: Final = 15_000
BACK_OFF_LONGEST_MS: Final = 600_000
assert STORAGE.ttl_ms > 2 * BEACON_MS  # one may be lost
assert GRACE_MS > LOOK_SECONDS * 1000


class UnknownCopies(LocalError):
    """Nobody offers such a model, and this node does not hold it."""

    reason = "model_not_found"


class Shelf(Protocol):
    """The models of this node, as copies."""

    def held(self) -> tuple[bytes, ...]:
        """CIDs of the manifests whose files are all here."""
        ...

    def kept(self) -> frozenset[bytes]:
        """Of them, those that are here only to repair."""
        ...

    def wishes(self) -> Mapping[bytes, int]:
        """How many copies the operator wants of some models."""
        ...

    async def wish(self, manifest: bytes, copies: int) -> None:
        """Note such a wish; 0 takes it back. Durable."""
        ...

    async def fetch(self, manifest: bytes, size_bytes: int | None) -> None:
        """Bring a model here whole, and keep it.

        Args:
            manifest: its CID.
            size_bytes: as the network vouches, of what room is left; None: a person wants it.

        Raises:
            PrsmError: it is not to be had, or has no room.
        """
        ...

    async def give_back(self, manifest: bytes) -> None:
        """Let a copy go that was kept only to repair; the store may still cache it.

        Raises:
            PrsmError: the store refuses.
        """
        ...

    async def room_bytes(self) -> int:
        """Bytes free for copies, the whole of those that this node makes among them."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What repair works with.

    Attributes:
        announcer: of this node.
        network: links.
        clock: of the node.
        shelf: its models.
        size_of: bytes of a model the network vouches for; None for any other.
        bonded: peers whose operators have a stake.
        region: as the operator calls it.
        copies: of each model that nobody wishes more or fewer of.
        is_willing: does this node keep copies for others?
    """

    announcer: Announcer
    network: Network
    clock: Clock
    shelf: Shelf
    size_of: Callable[[bytes], int | None]
    bonded: Callable[[], frozenset[PeerId]]
    region: str
    copies: int = COPIES_DEFAULT
    is_willing: bool = True


@dataclass(frozen=True, slots=True)
class Copies:
    """Where a model stands.

    Attributes:
        manifest: its CID.
        copies: how many there should be.
        holders: live nodes that have it, this one too.
        assigned: who should fetch what is missing.
        short_ms: for how long copies have been missing; None if none are.
        is_here: whole, at this node.
        is_fetched: by this node, now.
        why: what the last try of this node ended with; empty if it did not fail.
    """

    manifest: bytes
    copies: int
    holders: tuple[PeerId, ...]
    assigned: tuple[PeerId, ...]
    short_ms: int | None
    is_here: bool
    is_fetched: bool
    why: str


@dataclass(slots=True)
class _Failure:
    why: str
    until_ms: int
    pause_ms: int


class Repair:
    """Keeps as many copies of each model as there should be.

    Args:
        parts: what it works with; handlers are registered here, before the network runs.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._clocks = Clocks()
        self._census = Census()
        self._fetching: set[bytes] = set()
        self._failures: dict[bytes, _Failure] = {}
        self._due_ms = 0
        self._said: StorageBeacon | None = None
        self._news = trio.Event()
        parts.network.on_peer(self._see_peer)
        parts.announcer.listen(MODELS.name, self._hear)
        parts.announcer.listen(STORAGE.name, self._hear)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Announce, look and mend until cancelled."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                await self._say_room()
                for manifest, what in self.look().items():
                    if what is Duty.FETCH:
                        self._fetching.add(manifest)
                        nursery.start_soon(self._fetch, manifest)
                    elif what is Duty.RELEASE:
                        await self._give_back(manifest)
                with trio.move_on_after(LOOK_SECONDS):
                    await self._news.wait()
                self._news = trio.Event()

    def look(self) -> dict[bytes, Duty]:
        """Count all copies anew; returns what this node should begin now."""
        now_ms = self._parts.clock.monotonic_ms()
        self._census.forget(self._parts.clock.wall_ms())
        view, subjects = self._view(), self._subjects()
        self._clocks.look(subjects, now_ms)
        self._failures = {
            cid: failure for cid, failure in self._failures.items() if cid in subjects
        }
        kept, room = self._parts.shelf.kept(), FETCHES_MAX - len(self._fetching)
        duties: dict[bytes, Duty] = {}
        for cid, subject in subjects.items():
            found = duty(
                view,
                subject,
                short_ms=self._clocks.short_ms(cid, now_ms),
                over_ms=self._clocks.over_ms(cid, now_ms),
                is_mine=cid in kept,
            )
            if found is Duty.FETCH:
                failure = self._failures.get(cid)
                if cid in self._fetching or (failure and failure.until_ms > now_ms) or room <= 0:
                    continue
                room -= 1
            if found is not Duty.NOTHING:
                duties[cid] = found
        return duties

    def status(self) -> tuple[Copies, ...]:
        """Where each model stands that the network vouches for, by CID."""
        now_ms = self._parts.clock.monotonic_ms()
        view, held = self._view(), frozenset(self._parts.shelf.held())
        return tuple(
            Copies(
                manifest=cid,
                copies=subject.copies,
                holders=tuple(sorted(subject.holders)),
                assigned=tuple(keeper.peer for keeper in assigned(view, subject)),
                short_ms=self._clocks.short_ms(cid, now_ms),
                is_here=cid in held,
                is_fetched=cid in self._fetching,
                why=self._failures[cid].why if cid in self._failures else "",
            )
            for cid, subject in sorted(self._subjects().items())
        )

    async def wish(self, manifest: bytes, copies: int) -> None:
        """Want so many copies of a model, 0 for the usual number; told with the next beacon.

        Raises:
            UnknownCopies: this node does not hold it: only holders are listened to.
        """
        if manifest not in self._parts.shelf.held():
            raise UnknownCopies(
                "only a holder may wish for more copies", hint="fetch it first: prsm model pull"
            )
        await self._parts.shelf.wish(manifest, copies)
        self._due_ms = 0
        self._news.set()

    async def repair(self, manifest: bytes) -> None:
        """Bring a copy here now, whoever's turn it is.

        Raises:
            UnknownCopies: nobody offers it.
            PrsmError: it is not to be had.
        """
        if manifest in self._parts.shelf.held():
            return
        if not self._holders().get(manifest):
            raise UnknownCopies("nobody here or among the peers offers that model")
        await self._parts.shelf.fetch(manifest, None)
        self._failures.pop(manifest, None)

    # -- what is known

    def _view(self) -> View:
        parts = self._parts
        return View(parts.network.peer_id, self._census.keepers(parts.bonded()))

    def _holders(self) -> dict[bytes, frozenset[PeerId]]:
        return self._census.holders(self._parts.network.peer_id, self._parts.shelf.held())

    def _subjects(self) -> dict[bytes, Subject]:
        holders = self._holders()
        wishes = self._census.wishes(holders)
        subjects: dict[bytes, Subject] = {}
        for cid, live in holders.items():
            size = self._parts.size_of(cid)
            if size is not None:
                subjects[cid] = Subject(cid, size, live, wishes.get(cid, self._parts.copies))
        return subjects

    def _hear(self, announcement: Announcement) -> None:
        heard = Heard(announcement.made_ms, announcement.expires_ms)
        match announcement.content:
            case ModelOffer() as offer:
                self._census.hear_offer(announcement.peer, offer, heard)
            case StorageBeacon() as beacon:
                self._census.hear_beacon(announcement.peer, beacon, heard)
            case other:
                raise AssertionError(other)

    def _see_peer(self, event: PeerEvent) -> None:
        now_ms = self._parts.clock.wall_ms()
        self._census.see(event.peer, is_up=event.up, now_ms=now_ms)
        self._news.set()

    # -- what is done

    async def _say_room(self) -> None:
        parts, now_ms = self._parts, self._parts.clock.monotonic_ms()
        room = await parts.shelf.room_bytes() if parts.is_willing else 0
        wishes = sorted(parts.shelf.wishes().items())[:BEACON_MODELS_MAX]
        beacon = StorageBeacon(
            region=parts.region,
            room_bytes=room_told(room),
            wishes=tuple(CopyWish(cid, min(COPIES_MAX, copies)) for cid, copies in wishes),
        )
        if now_ms < self._due_ms and beacon == self._said:
            return
        self._said, self._due_ms = beacon, now_ms + BEACON_MS
        await parts.announcer.publish(STORAGE.name, beacon)

    async def _fetch(self, manifest: bytes) -> None:
        started_ms = self._parts.clock.monotonic_ms()
        try:
            size_bytes = self._parts.size_of(manifest)
            if size_bytes is None:
                raise UnknownCopies("nobody vouches for that model any more")
            await self._parts.shelf.fetch(manifest, size_bytes)
        except PrsmError as error:
            self._fail(manifest, error)
        else:
            self._failures.pop(manifest, None)
            took_ms = self._parts.clock.monotonic_ms() - started_ms
            log.info("a copy was made", manifest=manifest.hex()[:16], ms=took_ms)
        finally:
            self._fetching.discard(manifest)
            self._news.set()

    async def _give_back(self, manifest: bytes) -> None:
        try:
            await self._parts.shelf.give_back(manifest)
        except PrsmError as error:
            self._fail(manifest, error)
        else:
            log.info("a copy too many was given back", manifest=manifest.hex()[:16])

    def _fail(self, manifest: bytes, error: PrsmError) -> None:
        before = self._failures.get(manifest)
        pause_ms = BACK_OFF_FIRST_MS if before is None else before.pause_ms * 2
        pause_ms = min(BACK_OFF_LONGEST_MS, pause_ms)
        until_ms = self._parts.clock.monotonic_ms() + pause_ms
        self._failures[manifest] = _Failure(error.what, until_ms, pause_ms)
        log.warning("no copy made", manifest=manifest.hex()[:16], why=error.what)
