"""The consensus log: what this node has promised, durable before a message says so.

Knows: framing, checksums, segments, and which damage an ordinary power cut leaves behind. Must
not know: what a payload means. Format and rules: docs/spec/storage.md, "Consensus log".

Invariants: one turn is one record, one write and one fdatasync, so a torn turn is absent as a
whole and records after it cannot exist; a record carries the unguessable number of its segment,
so neither a stale record of an older file nor a payload that imitates one is taken for a record;
after any error of the disk the log refuses to write until it is opened again.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from struct import Struct
from typing import Final

from prsm.storage.disk import Disk, DiskFile
from prsm.storage.errors import Full, StoreUnavailable

_RECORD: Final = Struct(">IIQ")  # payload length, crc32 of (segment, payload), segment
_ENTRY: Final = Struct(">I")
_HEAD: Final = Struct(">8sQ")  # magic, low mark; payload of a segment's first record
_SEGMENT: Final = Struct(">Q")
_MAGIC: Final = b"prsmwal1"
_LENGTH_SIZE: Final = 4
_SECTOR: Final = 512  # what a disk writes as a whole or not at all
_NOT_OPEN: Final = "not open"
_DAMAGED: Final = "damaged"

# A turn holds at most some blocks with their certificates (0.6 MiB each); a segment is dropped
# at each height, so 256 MiB means that nothing was decided for a very long time.
TURN_BYTES_MAX: Final = 16 * 1024 * 1024
SEGMENT_BYTES_MAX: Final = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Replay:
    """What the log held when it was opened.

    `damaged` is None, or why this node must become an observer: the log has lost something that
    it had promised to keep. Then `records` ends before the damage.
    """

    low_mark: int
    records: tuple[bytes, ...]
    torn_tail: bool
    damaged: str | None
    created: bool


class Wal:
    """The log of one validator; used by one task, synchronously."""

    def __init__(self, disk: Disk, path: str) -> None:
        """Name the log; `open` and `create` are the ways in."""
        self._disk = disk
        self._path = path
        self._file: DiskFile | None = None
        self._segment = 0
        self._end = 0
        self._refused = _NOT_OPEN

    @classmethod
    def open(cls, disk: Disk, path: str) -> tuple["Wal", Replay]:
        """Read the log, cutting off what a crash left unfinished; make an empty one if absent.

        Raises:
            StoreUnavailable: the disk refused.
            Full: no room for a first segment.
        """
        wal = cls(disk, path)
        disk.remove(_new(path))
        if not disk.exists(path):
            wal.rotate(0, [])
            return wal, Replay(0, (), torn_tail=False, damaged=None, created=True)
        file = disk.open(path)
        try:
            replay = wal._adopt(file)
            # A rotation that was cut off may have left its rename in the cache only: what is
            # appended from here on would be lost with the name.
            disk.sync_folder(path)
        except BaseException:
            file.close()
            raise
        return wal, replay

    def append(self, payloads: Sequence[bytes]) -> None:
        """Make the records of one turn durable: all of them or, after a crash, none.

        Raises:
            Full: no room; nothing was promised.
            StoreUnavailable: the disk refused, or the log is damaged (then only `rotate` works).
        """
        if not payloads:
            return
        file = self._writable()
        record = _frame(self._segment, _pack(payloads))
        if self._end + len(record) > SEGMENT_BYTES_MAX:
            raise Full(f"log segment of {self._end} bytes, at most {SEGMENT_BYTES_MAX}")
        self._refused = "an earlier write failed: open the log again"
        file.pwrite(self._end, record)
        file.fdatasync()
        self._refused = ""
        self._end += len(record)

    def rotate(self, low_mark: int, keep: Sequence[bytes], *, aside: str | None = None) -> None:
        """Start a new segment headed by `low_mark` that holds `keep`; the old one is dropped.

        The caller has made durable elsewhere what the old segment promised. A damaged segment is
        kept beside the new one as `.quarantine`.

        Args:
            low_mark: nothing is signed at this height or below.
            keep: records that bind on.
            aside: keep the old segment under this name; it must be free.

        Raises:
            Full: no room; the old segment stays in use.
            StoreUnavailable: the disk refused; open the log again.
        """
        damaged = self.damaged is not None
        if self._refused and not damaged and self._refused != _NOT_OPEN:
            raise StoreUnavailable(f"{self._path}: {self._refused}")
        segment = self._disk.nonce()
        start = _frame(segment, _HEAD.pack(_MAGIC, low_mark))
        if keep:
            start += _frame(segment, _pack(keep))
        self._disk.remove(_new(self._path))
        fresh = self._disk.create(_new(self._path))
        try:
            fresh.pwrite(0, start)
            fresh.fdatasync()
            # From here on an error leaves open which of the two segments is the log.
            self._refused = "a rotation failed: open the log again"
            if aside is not None or damaged:
                self._disk.rename(self._path, aside or self._path + ".quarantine")
            self._disk.rename(_new(self._path), self._path)
            self._disk.sync_folder(self._path)
        except BaseException:
            fresh.close()
            raise
        self.close()
        self._file, self._segment, self._end, self._refused = fresh, segment, len(start), ""

    @property
    def size(self) -> int:
        """Bytes in the segment."""
        return self._end

    @property
    def damaged(self) -> str | None:
        """What is wrong with the segment: it takes no record until `rotate`; None if nothing."""
        return self._refused if self._refused.startswith(_DAMAGED) else None

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._file is not None:
            self._file.close()
        self._file, self._refused = None, "closed"

    def _writable(self) -> DiskFile:
        if self._file is None or self._refused:
            raise StoreUnavailable(f"{self._path}: {self._refused}")
        return self._file

    def _adopt(self, file: DiskFile) -> Replay:
        size = file.size()
        raw = file.read(0, min(size, SEGMENT_BYTES_MAX + 1))
        scan = _scan(raw)
        self._file, self._segment, self._end = file, scan.segment, scan.end
        self._refused = f"{_DAMAGED}: {scan.damaged}" if scan.damaged else ""
        if scan.torn:
            file.truncate(scan.end)
        if scan.frame is not None and scan.damaged is None:
            file.pwrite(*scan.frame)
        # What a killed process wrote and did not sync is in the page cache only, yet from now on
        # it counts as promised.
        file.fdatasync()
        return Replay(scan.low_mark, scan.records, scan.torn, scan.damaged, created=False)


@dataclass(frozen=True, slots=True)
class _Scan:
    """The segment as far as it is good, and what follows."""

    segment: int
    low_mark: int
    records: tuple[bytes, ...]
    end: int
    torn: bool
    damaged: str | None
    frame: tuple[int, bytes] | None = None  # what to write where, so that the last record is good


def _scan(raw: bytes) -> _Scan:
    head = _read_head(raw)
    if head is None:
        return _Scan(0, 0, (), 0, torn=False, damaged="the segment has no readable head")
    segment, low_mark, end = head
    records: list[bytes] = []
    damaged, frame = None, None
    while end < len(raw):
        payload = _read_frame(raw, end, segment)
        if payload is None:
            if _has_record_after(raw, end, segment):
                damaged = f"a bad record at byte {end} with good ones after it"
            elif (payload := _read_rest(raw, end, segment)) is not None:
                frame = end, _frame(segment, payload)[: _RECORD.size]
            elif _was_whole(raw, end, segment):
                damaged = f"a bad record at byte {end} that was written to its end"
        if payload is None:
            break
        entries = _unpack(payload)
        if entries is None:
            damaged = f"a record at byte {end} whose checksum is right and whose content is not"
            break
        records += entries
        end += _RECORD.size + len(payload)
    torn = end < len(raw) and damaged is None
    return _Scan(segment, low_mark, tuple(records), end, torn, damaged, frame)


def _read_head(raw: bytes) -> tuple[int, int, int] | None:
    """Return segment number, low mark and the offset behind the head."""
    if len(raw) < _RECORD.size + _HEAD.size:
        return None
    segment: int = _RECORD.unpack_from(raw)[2]
    payload = _read_frame(raw, 0, segment)
    if payload is None or len(payload) != _HEAD.size:
        return None
    magic, low_mark = _HEAD.unpack(payload)
    return (segment, low_mark, _RECORD.size + _HEAD.size) if magic == _MAGIC else None


def _read_frame(raw: bytes, offset: int, segment: int) -> bytes | None:
    if offset + _RECORD.size > len(raw):
        return None
    length, checksum, number = _RECORD.unpack_from(raw, offset)
    start = offset + _RECORD.size
    if number != segment or length > TURN_BYTES_MAX or start + length > len(raw):
        return None
    payload = raw[start : start + length]
    return payload if checksum == _checksum(segment, payload) else None


def _has_record_after(raw: bytes, offset: int, segment: int) -> bool:
    """Look for a good record at any later byte: the segment's number marks where one may be."""
    mark = _SEGMENT.pack(segment)
    # The bad record's own number stands 8 bytes in; a good record may start one byte later.
    found = raw.find(mark, offset + 9)
    while found >= 0:
        if _read_frame(raw, found - 8, segment) is not None:
            return True
        found = raw.find(mark, found + 1)
    return False


def _read_rest(raw: bytes, offset: int, segment: int) -> bytes | None:
    """The payload of the last record if only its length or its number is wrong: all that follows.

    A power cut may leave out the sector that ends behind the length and no other, which looks as
    a flipped bit in a length of one set bit does. The checksum says what the record is.
    """
    payload = raw[offset + _RECORD.size :]
    if not 0 < len(payload) <= TURN_BYTES_MAX:
        return None
    _, checksum, _ = _RECORD.unpack_from(raw, offset)
    return payload if checksum == _checksum(segment, payload) else None


def _was_whole(raw: bytes, offset: int, segment: int) -> bool:
    """Is the bad last record one that was written and harmed later, not one that a crash cut off?

    A cut write is short, or some sector of it is still zeros. Without this a harmed last record
    passes for a cut one, and where the guard trails after a power cut nothing else tells that a
    promise is lost.
    """
    if offset + _RECORD.size > len(raw):
        return False
    length, _, number = _RECORD.unpack_from(raw, offset)
    if number != segment or offset + _RECORD.size + length != len(raw):
        return False
    edges = [offset, *range((offset // _SECTOR + 1) * _SECTOR, len(raw), _SECTOR), len(raw)]
    if edges[1] - offset < _LENGTH_SIZE:
        del edges[0]  # zeros of a length that fits
    return all(any(raw[first:last]) for first, last in pairwise(edges))


def _frame(segment: int, payload: bytes) -> bytes:
    return _RECORD.pack(len(payload), _checksum(segment, payload), segment) + payload


def _checksum(segment: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(_SEGMENT.pack(segment)))


def _pack(payloads: Sequence[bytes]) -> bytes:
    packed = b"".join(_ENTRY.pack(len(payload)) + payload for payload in payloads)
    if len(packed) > TURN_BYTES_MAX:
        raise Full(f"a turn of {len(packed)} bytes, at most {TURN_BYTES_MAX}")
    return packed


def _unpack(packed: bytes) -> list[bytes] | None:
    entries, offset = [], 0
    while offset < len(packed):
        if offset + _ENTRY.size > len(packed):
            return None
        (length,) = _ENTRY.unpack_from(packed, offset)
        offset += _ENTRY.size
        if offset + length > len(packed):
            return None
        entries.append(packed[offset : offset + length])
        offset += length
    return entries


def _new(path: str) -> str:
    return path + ".new"
