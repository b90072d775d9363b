"""Who is banned, and the small file by which bans outlive the process, written off the hot path.

Knows points, reasons, wall-clock times and the file. Must not know connections. A wall clock that
was set back never makes a ban longer than a day, unless an operator made it; a file that cannot be
read costs the bans in it, never the start of a node.

Invariants: the file is whole or absent (temporary file, fsync, rename); a ban is on disk at most
`SETTLE_S + REST_S` and one write after it was made; rows are bounded.
"""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Final

import msgspec
import trio

from prsm.node.clock import Clock
from prsm.node.home import write_private
from prsm.node.net.interface import BanInfo, PeerUnreachable
from prsm.node.net.scores import BAN_LONGEST_MS, PEERS_REMEMBERED_MAX, Scores
from prsm.protocol.errors import LocalError, RemoteError
from prsm.protocol.ids import PeerId
from prsm.protocol.jsontext import UNREADABLE
from prsm.protocol.limits import INT_MAX

BANS_SAVED_MAX: Final = 1024
BANS_FILE_BYTES_MAX: Final = 1024 * 1024
# How often a peer was banned is forgotten a week after its last ban: by then it starts anew.
REMEMBERED_MS: Final = 7 * 24 * 3600_000
WHY_MAX: Final = 200
SETTLE_S: Final = 0.1  # bans of one attack come together and are written together
# Each write makes the file system commit, beside the log of votes; a flood brings three a second.
REST_S: Final = 3.0
LAST_WRITE_S: Final = 2.0
VERSION: Final = 1

log = logging.getLogger(__name__)

_Text = Annotated[str, msgspec.Meta(max_length=WHY_MAX)]
_Peer = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
_Natural = Annotated[int, msgspec.Meta(ge=0, le=INT_MAX)]


class BansUnreadable(LocalError):
    """The file of bans is damaged, of another version, or cannot be opened."""

    reason = "bans_unreadable"


class BanRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is remembered of one peer.

    Attributes:
        peer: its PeerId, base58.
        until_ms: wall clock; in the past when only the count matters.
        times: how often it was banned by its faults; the next ban is so often doubled.
        why: the fault that led to the last ban.
        is_ours: an operator said so; such a ban may be longer than a day.
    """

    peer: _Peer
    until_ms: _Natural
    times: _Natural
    why: _Text
    is_ours: bool


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    bans: Annotated[tuple[BanRow, ...], msgspec.Meta(max_length=BANS_SAVED_MAX)]


def encode_bans(rows: Iterable[BanRow]) -> bytes:
    """Write rows as JSON, those that end last first, at most `BANS_SAVED_MAX`."""
    worst = sorted(rows, key=lambda row: (-row.until_ms, -row.times, row.peer))
    shortened = tuple(
        msgspec.structs.replace(row, why=row.why[:WHY_MAX]) for row in worst[:BANS_SAVED_MAX]
    )
    document = _Document(VERSION, shortened)
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def decode_bans(raw: bytes) -> tuple[BanRow, ...]:
    """Read what `encode_bans` wrote.

    Raises:
        BansUnreadable: anything else.
    """
    if len(raw) > BANS_FILE_BYTES_MAX:
        raise BansUnreadable(f"{len(raw)} bytes of bans, at most {BANS_FILE_BYTES_MAX}")
    try:
        document = msgspec.json.decode(raw, type=_Document)
    except UNREADABLE as error:
        raise BansUnreadable(f"the bans are damaged: {str(error)[:100]}") from error
    if document.version != VERSION:
        raise BansUnreadable(f"bans of version {document.version}, this node reads {VERSION}")
    return document.bans


def remaining_ms(row: BanRow, *, now_ms: int) -> int:
    """Milliseconds a ban lasts from now on; one of ours alone may exceed the longest.

    Args:
        row: as it was saved.
        now_ms: wall clock.
    """
    left = max(0, row.until_ms - now_ms)
    return left if row.is_ours else min(left, BAN_LONGEST_MS)


def is_forgotten(row: BanRow, *, now_ms: int) -> bool:
    """Whether nothing of a row counts any more (wall clock)."""
    return row.until_ms + REMEMBERED_MS < now_ms


class BanFile:
    """The file of one node's bans.

    Args:
        path: where it lies; its folder is made when first needed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = trio.Event()

    def load(self) -> tuple[BanRow, ...]:
        """Read the file once, before the node runs; none, with a warning, if that fails."""
        try:
            with self._path.open("rb") as file:
                return decode_bans(file.read(BANS_FILE_BYTES_MAX + 1))
        except FileNotFoundError:
            return ()
        except (OSError, BansUnreadable) as error:
            log.warning("%s: no ban of an earlier run is known: %s", self._path, error)
            return ()

    def note_change(self) -> None:
        """Say that the file should be written soon; never waits."""
        self._changed.set()

    async def run(
        self,
        rows: Callable[[], Iterable[BanRow]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Write after changes until cancelled, and what is still to be written then.

        Args:
            rows: what to write now.
            task_status: started at once.
        """
        task_status.started()
        try:
            while True:
                await self._changed.wait()
                await trio.sleep(SETTLE_S)
                await self._save(rows)
                await trio.sleep(REST_S)
        finally:
            if self._changed.is_set():
                with trio.move_on_after(LAST_WRITE_S, shield=True):
                    await self._save(rows)

    async def _save(self, rows: Callable[[], Iterable[BanRow]]) -> None:
        self._changed = trio.Event()
        raw = encode_bans(rows())
        try:
            await trio.to_thread.run_sync(self._write, raw)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._path, error)

    def _write(self, raw: bytes) -> None:
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        write_private(self._path, raw)


class Bans:
    """The faults of every peer and what follows from them.

    Args:
        clock: of the node.
        file: where bans are kept; None keeps them in memory only.
    """

    def __init__(self, clock: Clock, file: BanFile | None = None) -> None:
        self.scores = Scores()
        self._clock = clock
        self._file = file
        self._infos: dict[PeerId, BanInfo] = {}
        self._kept: dict[PeerId, BanRow] = {}  # as saved, of this run and the one before

    def load(self) -> None:
        """Take up the bans of the run before; once, when the clock runs."""
        now_ms, wall_ms = self._clock.monotonic_ms(), self._clock.wall_ms()
        for row in self._file.load() if self._file else ():
            if is_forgotten(row, now_ms=wall_ms):
                continue
            peer, left_ms = PeerId(row.peer), remaining_ms(row, now_ms=wall_ms)
            self.scores.restore(peer, times=row.times, left_ms=left_ms, now_ms=now_ms)
            self._kept[peer] = row
            if left_ms:
                self._infos[peer] = BanInfo(
                    peer, now_ms + left_ms, row.until_ms, row.why, row.times, row.is_ours
                )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the file up to date until cancelled."""
        if self._file is None:
            task_status.started()
            await trio.sleep_forever()
        else:
            await self._file.run(self.rows, task_status=task_status)

    def penalise(self, peer: PeerId, error: RemoteError) -> int:
        """Count a fault.

        Returns:
            Milliseconds of a ban that begins now; 0 when none does.
        """
        now_ms = self._clock.monotonic_ms()
        if self.scores.banned_ms(peer, now_ms=now_ms):
            return 0
        banned_ms = self.scores.penalise(peer, error.penalty, now_ms=now_ms)
        log.info("peer %s: %s (%d points)", peer, error.what, error.penalty)
        if banned_ms:
            log.warning("peer %s is banned for %d s: %s", peer, banned_ms // 1000, error.what)
            self._note(peer, banned_ms, error.what, is_ours=False)
        return banned_ms

    def ban(self, peer: PeerId, length_ms: int, why: str) -> None:
        """Ban a peer because the operator says so, for as long as he says."""
        self.scores.ban(peer, length_ms, now_ms=self._clock.monotonic_ms())
        self._note(peer, length_ms, why, is_ours=True)

    def pardon(self, peer: PeerId) -> bool:
        """End a ban and forget the faults behind it; False when there was neither."""
        known = bool(self.banned_ms(peer)) or peer in self._kept
        self.scores.pardon(peer)
        self._infos.pop(peer, None)
        self._kept.pop(peer, None)
        if self._file is not None:
            self._file.note_change()
        return known

    def banned_ms(self, peer: PeerId) -> int:
        """Milliseconds until the peer's ban ends; 0 when it has none."""
        return self.scores.banned_ms(peer, now_ms=self._clock.monotonic_ms())

    def refuse(self, peer: PeerId) -> None:
        """Let a peer pass that is not banned.

        Raises:
            PeerUnreachable: it is, and for how long.
        """
        if banned_ms := self.banned_ms(peer):
            raise PeerUnreachable(f"peer {peer} is banned for {banned_ms // 1000 + 1} s")

    def infos(self) -> tuple[BanInfo, ...]:
        """The bans that run now, in order of their peers' ids."""
        now_ms = self._clock.monotonic_ms()
        self._infos = {peer: ban for peer, ban in self._infos.items() if ban.until_ms > now_ms}
        return tuple(self._infos[peer] for peer in sorted(self._infos))

    def rows(self) -> tuple[BanRow, ...]:
        """What is worth keeping over a restart."""
        now_ms = self._clock.wall_ms()
        return tuple(row for row in self._kept.values() if not is_forgotten(row, now_ms=now_ms))

    def _note(self, peer: PeerId, length_ms: int, why: str, *, is_ours: bool) -> None:
        until_ms, shown_ms = (
            now_ms + length_ms for now_ms in (self._clock.monotonic_ms(), self._clock.wall_ms())
        )
        times = self.scores.times(peer)
        self._infos[peer] = BanInfo(peer, until_ms, shown_ms, why, times, is_ours)
        self._kept[peer] = BanRow(
            peer=peer,
            until_ms=shown_ms,
            times=times,
            why=why[:WHY_MAX],
            is_ours=is_ours,
        )
        if len(self._infos) > PEERS_REMEMBERED_MAX:
            del self._infos[min(self._infos, key=lambda known: self._infos[known].until_ms)]
        if len(self._kept) > PEERS_REMEMBERED_MAX:
            del self._kept[min(self._kept, key=lambda known: self._kept[known].until_ms)]
        if self._file is not None:
            self._file.note_change()
