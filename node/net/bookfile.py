"""The address book as bytes: what a home keeps between two runs.

Knows the layout: a SHA-256 over the rest, then one canonical record. Must not know files. The
bytes may be torn, changed or hostile: they are refused whole, or every row is checked like an
address of a stranger.
"""

from typing import Annotated, Final

import msgspec

from prsm.node.net.addresses import (
    ANCHORS_MAX,
    BUCKET_SIZE,
    KEY_BYTES,
    NEW_BUCKETS,
    REGION_MAX,
    TRIED_BUCKETS,
    AddressBook,
    Entry,
    Kind,
)
from prsm.node.net.places import place_of
from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.errors import LocalError, WireError
from prsm.protocol.ids import U32, PeerId, UInt
from prsm.protocol.limits import ADDRESS_TEXT_MAX, MIB, NAME_BYTES_MAX
from prsm.protocol.signing import sha256

VERSION: Final = 1
BOOK_BYTES_MAX: Final = 2 * MIB
_DIGEST_BYTES: Final = 32

_Text = Annotated[str, msgspec.Meta(max_length=ADDRESS_TEXT_MAX)]


class _Row(Record, frozen=True):
    address: _Text
    source: Annotated[str, msgspec.Meta(max_length=NAME_BYTES_MAX)]
    kind: Annotated[int, msgspec.Meta(ge=0, le=int(max(Kind)))]
    added_ms: UInt
    first_success_ms: UInt
    last_success_ms: UInt
    last_attempt_ms: UInt
    failures: U32
    rtt_ms: U32
    region: Annotated[str, msgspec.Meta(max_length=REGION_MAX)]


class _Book(Record, frozen=True):
    version: U32
    key: Annotated[bytes, msgspec.Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
    anchors: Annotated[tuple[_Text, ...], msgspec.Meta(max_length=ANCHORS_MAX)]
    tried: Annotated[tuple[_Row, ...], msgspec.Meta(max_length=TRIED_BUCKETS * BUCKET_SIZE)]
    new: Annotated[tuple[_Row, ...], msgspec.Meta(max_length=NEW_BUCKETS * BUCKET_SIZE)]


def to_bytes(book: AddressBook) -> bytes:
    """Write a book; the same book gives the same bytes."""
    rows = sorted(book, key=lambda entry: entry.place.text)
    raw = encode(
        _Book(
            version=VERSION,
            key=book.key,
            anchors=book.anchors,
            tried=tuple(_row(entry) for entry in rows if entry.tried),
            new=tuple(_row(entry) for entry in rows if not entry.tried),
        )
    )
    assert len(raw) + _DIGEST_BYTES <= BOOK_BYTES_MAX
    return sha256(raw) + raw


def from_bytes(raw: bytes, *, us: PeerId | None, now_ms: int) -> AddressBook:
    """Read a book; times in the future become now, rows that find no room are lost.

    Args:
        raw: as `to_bytes` wrote them.
        us: never an entry.
        now_ms: wall time.

    Raises:
        WireError: cut, changed, of another version, or a row that is no address.
    """
    if len(raw) > BOOK_BYTES_MAX:
        raise WireError(f"an address book of {len(raw)} bytes, at most {BOOK_BYTES_MAX}")
    digest, body = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
    if sha256(body) != digest:
        raise WireError("the address book is torn: its hash differs")
    saved = decode(body, _Book, size_max=BOOK_BYTES_MAX)
    if saved.version != VERSION:
        raise WireError(f"an address book of version {saved.version}, this node reads {VERSION}")
    book = AddressBook(saved.key, us=us)
    try:
        for rows, tried in ((saved.tried, True), (saved.new, False)):
            for row in rows:
                book.restore(_entry(row, now_ms, tried=tried), now_ms)
        for text in saved.anchors:
            place_of(text)
    except LocalError as error:
        raise WireError(f"the address book has a row nobody can dial: {error.what}") from error
    book.set_anchors(saved.anchors)
    return book


def _row(entry: Entry) -> _Row:
    return _Row(
        address=entry.place.text,
        source=entry.source,
        kind=int(entry.kind),
        added_ms=entry.added_ms,
        first_success_ms=entry.first_success_ms,
        last_success_ms=entry.last_success_ms,
        last_attempt_ms=entry.last_attempt_ms,
        failures=entry.failures,
        rtt_ms=entry.rtt_ms,
        region=entry.region,
    )


def _entry(row: _Row, now_ms: int, *, tried: bool) -> Entry:
    last_success_ms = min(row.last_success_ms, now_ms)
    return Entry(
        place=place_of(row.address),
        source=row.source,
        kind=Kind(row.kind),
        added_ms=min(row.added_ms, now_ms),
        first_success_ms=min(row.first_success_ms, last_success_ms),
        last_success_ms=last_success_ms,
        last_attempt_ms=min(row.last_attempt_ms, now_ms),
        failures=row.failures,
        rtt_ms=row.rtt_ms,
        region=row.region,
        tried=tried and last_success_ms > 0,
    )
