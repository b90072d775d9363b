"""The audit log: JSON lines, each naming the hash of the one before, on disk before it counts.

`hash` is SHA-256 over the line's other members as they are written, `prev` among them. So a line
that is changed, left out or put in breaks the chain at that place; only an end that is cut off
does not show in the file, and for that its root is anchored elsewhere (`node/callers/auditing`).
Source: docs/spec/rpc.md, "Audit log".

Knows: lines, hashes, files. Must not know: calls, callers, ledgers.

Invariants: numbers run from 1 without a gap over all segments; one task writes at a time; a
segment that was closed is never written again, and none is ever removed here.
"""

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import trio

from prsm.node.clock import Clock, utc_text
from prsm.node.telemetry import logs
from prsm.protocol.errors import PrsmError
from prsm.protocol.jsontext import UNREADABLE
from prsm.storage.disk import PosixDisk, disk_error
from prsm.storage.errors import Corrupt

SEGMENT_BYTES_MAX: Final = 8 * 1024 * 1024
LINE_BYTES_MAX: Final = 16 * 1024
FIRST: Final = "0x" + "00" * 32  # what the first line names as the one before
_DAMAGED: Final = ".damaged"

log: Final = logs.get("audit")


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line. `fields` are texts; what is secret never gets here."""

    seq: int
    ts: str  # RFC 3339, UTC
    event: str
    who: str
    tenant: str
    token_id: str
    subject: str
    trace_id: str
    fields: dict[str, str]
    prev: str
    hash: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """What is to be written: everything of a line but its place in the chain."""

    event: str
    who: str
    subject: str = ""
    tenant: str = ""
    token_id: str = ""
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class Root:
    """The end of the chain: number and hash of the last line; 0 and zeros while it is empty."""

    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What reading every line found: `broken_at` is 0 where all of it holds."""

    first: int
    root: Root
    broken_at: int
    why: str


class AuditLog:
    """The segments of one folder; `open` is the way in."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        """Nothing is read yet."""
        self._folder, self._clock = folder, clock
        self._turn = trio.Lock()
        self._root = Root(0, FIRST)
        self._is_unsure = False  # a line that was refused may be in the file
        self._is_named = False  # the open file's name is durable, as this process knows

    @classmethod
    async def open(cls, folder: Path, clock: Clock) -> "AuditLog":
        """Find the end of the chain.

        A line the last process did not finish is cut off, and said in a line of its own. A segment
        whose end cannot be read is put aside: the node runs, and `verify` says what happened.

        Raises:
            Full, StoreUnavailable: the disk refused.
        """
        opened = cls(folder, clock)
        found = await trio.to_thread.run_sync(opened._find_end)
        if found:
            await opened.write(Note("repaired", "node", "audit.log"), {"what": found})
        return opened

    @property
    def root(self) -> Root:
        """Number and hash of the last line."""
        return self._root

    async def write(self, note: Note, fields: Mapping[str, str]) -> Entry:
        """Append a line; it is on disk when this returns.

        Raises:
            Full, StoreUnavailable: the disk refused, and nothing was noted.
        """
        async with self._turn:
            if self._is_unsure:
                await trio.to_thread.run_sync(self._find_end)
                self._is_unsure = False
            entry = _chained(note, fields, self._root, utc_text(self._clock.wall_ms()))
            with trio.CancelScope(shield=True):  # bounded: one write to a local file
                await trio.to_thread.run_sync(self._append, encode_line(entry))
            self._root = Root(entry.seq, entry.hash)
            return entry

    async def newest(self, limit: int, *, before: int | None = None) -> list[Entry]:
        """Lines from the newest on; `before` goes on after a page.

        Raises:
            Corrupt: a line cannot be read; `verify` says which.
        """
        last = self._root.seq if before is None else min(before - 1, self._root.seq)
        return await trio.to_thread.run_sync(self._page, last, limit)

    async def entry(self, seq: int) -> Entry | None:
        """One line by number.

        Raises:
            Corrupt: it cannot be read.
        """
        found = await trio.to_thread.run_sync(self._page, seq, 1)
        return found[0] if found and found[0].seq == seq else None

    async def verify(self) -> Verdict:
        """Read every line and follow the chain."""
        return await trio.to_thread.run_sync(check_files, self._folder)

    async def anchors(self) -> list[Entry]:
        """The lines that say where a root was anchored, oldest first.

        Raises:
            Corrupt: a line cannot be read.
        """
        return await trio.to_thread.run_sync(self._events, "anchor")

    def _find_end(self) -> str:
        path, found = self._folder / "audit.log", ""
        if path.exists():
            found = _cut_torn_line(path)
            try:
                self._root = _last_of(path) or self._last_closed()
            except Corrupt as error:
                aside = path.with_name(f"{path.name}{_DAMAGED}-{self._clock.wall_ms()}")
                PosixDisk().rename(str(path), str(aside))
                log.error("audit log put aside", file=aside.name, why=error.what)  # noqa: TRY400 - the reason is in it
                found = f"{aside.name}: {error.what}"
                self._root = self._last_closed()
        else:
            self._root = self._last_closed()
        return found

    def _last_closed(self) -> Root:
        closed = segments(self._folder)[:-1]
        return (_last_of(closed[-1]) if closed else None) or Root(0, FIRST)

    def _append(self, line: bytes) -> None:
        path = self._folder / "audit.log"
        try:
            if path.exists() and path.stat().st_size + len(line) > SEGMENT_BYTES_MAX:
                first = next(_lines(path))
                closed = path.with_name(f"audit-{_decode(first, path).seq:012d}.log")
                PosixDisk().rename(str(path), str(closed))
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._write_whole(descriptor, line, path)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise disk_error(error, str(path)) from error

    def _write_whole(self, descriptor: int, line: bytes, path: Path) -> None:
        """Write and sync a line; one that was refused is not left in front of the next."""
        size = os.fstat(descriptor).st_size
        try:
            _write_all(descriptor, line)
            os.fdatasync(descriptor)
            if not (size and self._is_named):  # new, or of a line or process that got no further
                PosixDisk().sync_folder(str(path))
                self._is_named = True
        except (OSError, PrsmError):
            self._is_unsure, self._is_named = True, False
            os.ftruncate(descriptor, size)
            self._is_unsure = False
            raise

    def _page(self, last: int, limit: int) -> list[Entry]:
        found: list[Entry] = []
        for path in reversed(segments(self._folder)):
            lines = list(_lines(path)) if path.exists() else []
            if not lines:
                continue
            first = _decode(lines[0], path).seq
            stop = min(last - first + 1, len(lines))
            start = max(0, stop - (limit - len(found)))
            found += [_decode(line, path) for line in reversed(lines[start : max(stop, 0)])]
            if len(found) >= limit:
                break
        return found

    def _events(self, event: str) -> list[Entry]:
        mark = f'"event":"{event}"'.encode()
        return [
            entry
            for path in segments(self._folder)
            if path.exists()
            for line in _lines(path)
            if mark in line and (entry := _decode(line, path)).event == event
        ]


def _write_all(descriptor: int, line: bytes) -> None:
    if os.write(descriptor, line) != len(line):
        raise OSError(errno.ENOSPC, "No space left on device")


def segments(folder: Path) -> list[Path]:
    """Files of the log, oldest first; the last one is the open one, there or not."""
    return [*sorted(folder.glob("audit-*.log")), folder / "audit.log"]


def encode_line(entry: Entry) -> bytes:
    """The line of an entry, with its newline.

    Raises:
        AssertionError: a line over 16 KiB: its fields are bounded by who makes them.
    """
    line = msgspec.json.encode(entry) + b"\n"
    assert len(line) <= LINE_BYTES_MAX, entry.subject
    return line


def hash_of(entry: Entry) -> str:
    """What its `hash` must be: over the other members, as they are written."""
    bare = msgspec.json.encode(msgspec.structs.replace(entry, hash=""))
    return "0x" + hashlib.sha256(bare).hexdigest()


def check_files(folder: Path) -> Verdict:
    """Follow the chain over the files of a folder; needs no running node."""
    first, root = 0, Root(0, FIRST)
    aside = sorted(path.name for path in folder.glob(f"audit.log{_DAMAGED}-*"))
    if aside:
        return Verdict(0, root, 1, f"{aside[0]} was put aside, since its end could not be read")
    for path in segments(folder):
        for line in _lines(path) if path.exists() else ():
            seq = root.seq + 1
            try:
                entry = _decode(line, path)
            except Corrupt as error:
                return Verdict(first, root, max(seq, 1), error.what)
            if not first:
                # Older segments may have been moved away; then the chain begins where it does.
                first, root = entry.seq, Root(entry.seq - 1, entry.prev)
                if entry.seq == 1 and entry.prev != FIRST:
                    return Verdict(first, root, 1, "the first line names one before it")
            why = _why_not(entry, root, line)
            if why:
                return Verdict(first, root, root.seq + 1, why)
            root = Root(entry.seq, entry.hash)
    return Verdict(first, root, 0, "")


def _why_not(entry: Entry, before: Root, line: bytes) -> str:
    if entry.seq != before.seq + 1:
        return f"line {entry.seq} follows line {before.seq}"
    if entry.prev != before.hash:
        return f"line {entry.seq} does not name the hash of line {before.seq}"
    if entry.hash != hash_of(entry) or encode_line(entry) != line + b"\n":
        return f"line {entry.seq} was changed"
    return ""


def _chained(note: Note, fields: Mapping[str, str], root: Root, ts: str) -> Entry:
    entry = Entry(
        seq=root.seq + 1,
        ts=ts,
        event=note.event,
        who=note.who,
        tenant=note.tenant,
        token_id=note.token_id,
        subject=note.subject,
        trace_id=note.trace_id,
        fields=dict(fields),
        prev=root.hash,
    )
    return msgspec.structs.replace(entry, hash=hash_of(entry))


def _lines(path: Path) -> Iterator[bytes]:
    """Whole lines of a file, without their newlines."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise disk_error(error, str(path)) from error
    yield from raw.split(b"\n")[:-1]


def _decode(line: bytes, path: Path) -> Entry:
    try:
        return msgspec.json.decode(line, type=Entry)
    except UNREADABLE as error:
        raise Corrupt(f"{path.name} has a line that is none: {str(error)[:120]}") from error


def _last_of(path: Path) -> Root | None:
    lines = list(_lines(path))
    if not lines:
        return None
    entry = _decode(lines[-1], path)
    return Root(entry.seq, entry.hash)


def _cut_torn_line(path: Path) -> str:
    """Remove what a crash left of an unfinished line; what was done, or nothing."""
    try:
        with path.open("r+b") as file:
            raw = file.read()
            kept = raw.rfind(b"\n") + 1
            if kept == len(raw):
                return ""
            file.truncate(kept)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise disk_error(error, str(path)) from error
    return f"an unfinished line of {len(raw) - kept} bytes was cut off"
