"""What the daemon and the process of vectors say to each other: one call, one answer.

A frame is u32 length, u8 kind, canonical bytes. Knows: records and bounds. Must not know: numpy.
"""

import struct
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record, encode
from prsm.protocol.errors import WireError
from prsm.protocol.ids import UInt
from prsm.protocol.limits import MIB
from prsm.protocol.registry import Registry
from prsm.storage.vectors.interface import (
    BATCH_MAX,
    ID_BYTES_MAX,
    LABELS_MAX,
    LIMIT_MAX,
    Condition,
    Entry,
    Hit,
    Label,
    Relation,
)

FRAME_BYTES_MAX: Final = 4 * MIB
HEAD: Final = struct.Struct(">IB")

_Id = Annotated[bytes, msgspec.Meta(max_length=ID_BYTES_MAX)]
_Text = Annotated[str, msgspec.Meta(max_length=1024)]
Labels = Annotated[tuple[tuple[_Text, str | int], ...], msgspec.Meta(max_length=LABELS_MAX)]


class PutEntry(Record, frozen=True):
    """An `Entry`."""

    id: _Id
    vector: bytes
    labels: Labels


class Put(Record, frozen=True):
    """Call: upsert."""

    entries: Annotated[tuple[PutEntry, ...], msgspec.Meta(max_length=BATCH_MAX)]


class Remove(Record, frozen=True):
    """Call: delete."""

    ids: Annotated[tuple[_Id, ...], msgspec.Meta(max_length=LIMIT_MAX)]


class Asked(Record, frozen=True):
    """A `Condition`."""

    label: _Text
    relation: Relation
    value: str | int


class Search(Record, frozen=True):
    """Call: search."""

    query: bytes
    limit: UInt
    where: Annotated[tuple[Asked, ...], msgspec.Meta(max_length=LABELS_MAX)]


class ListIds(Record, frozen=True):
    """Call: a page of ids with their labels."""

    after: _Id
    limit: UInt


class Rebuild(Record, frozen=True):
    """Call: rebuild."""


class Count(Record, frozen=True):
    """Call: how many entries there are."""


class Counted(Record, frozen=True):
    """Answer to everything that has no list: entries now, entries touched, the backend."""

    entries: UInt
    touched: UInt
    backend: str


class Found(Record, frozen=True):
    """A `Hit`; in a list of ids the score is 0."""

    id: _Id
    score: int
    labels: Labels


class Listed(Record, frozen=True):
    """Answer: hits, or ids."""

    found: Annotated[tuple[Found, ...], msgspec.Meta(max_length=LIMIT_MAX)]


class Refused(Record, frozen=True):
    """Answer: a typed error."""

    reason: _Text
    what: _Text
    hint: _Text


CALLS: Final[Registry[Record]] = Registry("call to vectors")
_CLASSES: Final[tuple[type[Record], ...]] = (
    *(Put, Remove, Search, ListIds, Rebuild, Count, Counted, Listed, Refused),
)
for _number, _cls in enumerate(_CLASSES, start=1):
    CALLS.add(_number, _cls)


def pack(record: Record) -> bytes:
    """A frame."""
    body = encode(record)
    return HEAD.pack(len(body), CALLS.number(type(record))) + body


def unpack_head(raw: bytes) -> tuple[int, int]:
    """Length and kind of the body that follows.

    Raises:
        WireError: more than 4 MiB.
    """
    size, kind = HEAD.unpack(raw)
    if size > FRAME_BYTES_MAX:
        raise WireError(f"a frame of {size} bytes, at most {FRAME_BYTES_MAX}")
    return size, kind


def unpack(kind: int, body: bytes) -> Record:
    """The record of a frame.

    Raises:
        WireError: no such kind, or not its canonical bytes.
    """
    return CALLS.decode(kind, body, size_max=FRAME_BYTES_MAX)


def labels_of(labels: Mapping[str, Label]) -> Labels:
    """Labels as they travel, ascending."""
    return tuple(sorted(labels.items()))


def put_of(entry: Entry) -> PutEntry:
    """An entry as it travels."""
    return PutEntry(entry.id, entry.vector, labels_of(entry.labels))


def entry_of(put: PutEntry) -> Entry:
    """An entry as it arrived."""
    return Entry(put.id, put.vector, dict(put.labels))


def asked_of(condition: Condition) -> Asked:
    """A condition as it travels."""
    return Asked(condition.label, condition.relation, condition.value)


def condition_of(asked: Asked) -> Condition:
    """A condition as it arrived."""
    return Condition(asked.label, asked.relation, asked.value)


def found_of(hit: Hit) -> Found:
    """A hit as it travels."""
    return Found(hit.id, hit.score, labels_of(hit.labels))


def hit_of(found: Found) -> Hit:
    """A hit as it arrived."""
    return Hit(found.id, found.score, dict(found.labels))
