"""What is remembered of workers, as bytes: what a home keeps between two runs.

One canonical record: counts, the newest hours, and the newest times in whole microseconds. Must not
know files. Bytes that cannot be read are refused whole: then a node begins to remember anew.
"""

from typing import Annotated, Final

import msgspec

from prsm.node.inference.serving.health import (
    ERRORS_MAX,
    PAIRS_MAX,
    Fault,
    HealthBook,
    Hour,
    Service,
)
from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.errors import WireError
from prsm.protocol.limits import MIB

VERSION: Final = 1
# The newest of each pair are kept: what is written once a minute must not hold up the loop.
HOURS_KEPT: Final = 48
TIMES_KEPT: Final = 64
HEALTH_BYTES_MAX: Final = 4 * MIB  # 512 pairs of all that are 3 MiB
WHAT_MAX: Final = 400  # characters of an error's sentence that are kept

_FIGURES: Final = 4  # of an hour
# Counts and times; a larger one could be read, and after one more not be written again.
_Figure = Annotated[int, msgspec.Meta(ge=0, le=2**60)]


class _Fault(Record, frozen=True):
    at_ms: _Figure
    reason: str
    what: str


class _Service(Record, frozen=True):
    model: bytes
    worker: bytes
    done: _Figure
    failed: _Figure
    rows: _Figure
    probes_done: _Figure
    probes_failed: _Figure
    probed_ms: _Figure
    in_row: _Figure
    struck_ms: _Figure
    errors: Annotated[tuple[_Fault, ...], msgspec.Meta(max_length=ERRORS_MAX)]
    hours: Annotated[tuple[_Figure, ...], msgspec.Meta(max_length=_FIGURES * HOURS_KEPT)]
    times_us: Annotated[tuple[_Figure, ...], msgspec.Meta(max_length=TIMES_KEPT)]


class _Book(Record, frozen=True):
    version: Annotated[int, msgspec.Meta(ge=VERSION, le=VERSION)]
    services: Annotated[tuple[_Service, ...], msgspec.Meta(max_length=PAIRS_MAX)]
    golden: Annotated[tuple[tuple[bytes, bytes], ...], msgspec.Meta(max_length=PAIRS_MAX)]


def to_bytes(book: HealthBook) -> bytes:
    """Write a book; the same book gives the same bytes."""
    services = tuple(_row(service) for service in book.list())
    return encode(_Book(VERSION, services, tuple(book.golden.items())))


def restore(book: HealthBook, raw: bytes) -> None:
    """Read into an empty book.

    Raises:
        WireError: bytes that `to_bytes` did not write; the book is as it was.
    """
    read = decode(raw, _Book, size_max=HEALTH_BYTES_MAX)
    if len({(row.model, row.worker) for row in read.services}) != len(read.services):
        raise WireError("a worker is there twice for one model")
    if odd := [len(row.hours) for row in read.services if len(row.hours) % _FIGURES]:
        raise WireError(f"{odd[0]} figures of hours, {_FIGURES} are an hour")
    for row in read.services:
        _fill(book.of(row.model, row.worker), row)
    book.golden.update(read.golden)


def _row(service: Service) -> _Service:
    return _Service(
        model=service.model,
        worker=service.worker,
        done=service.done,
        failed=service.failed,
        rows=service.rows,
        probes_done=service.probes_done,
        probes_failed=service.probes_failed,
        probed_ms=service.probed_ms,
        in_row=service.in_row,
        struck_ms=service.struck_ms,
        errors=tuple(_Fault(one.at_ms, one.reason, one.what[:WHAT_MAX]) for one in service.errors),
        hours=tuple(
            figure
            for hour in tuple(service.hours)[-HOURS_KEPT:]
            for figure in (hour.began_ms, hour.done, hour.failed, hour.total_ms)
        ),
        times_us=tuple(round(took_ms * 1000) for took_ms in tuple(service.times_ms)[-TIMES_KEPT:]),
    )


def _fill(service: Service, row: _Service) -> None:
    service.done, service.failed, service.rows = row.done, row.failed, row.rows
    service.probes_done, service.probes_failed = row.probes_done, row.probes_failed
    service.probed_ms = row.probed_ms
    service.in_row, service.struck_ms = row.in_row, row.struck_ms
    service.errors.extend(Fault(one.at_ms, one.reason, one.what) for one in row.errors)
    figures = iter(row.hours)
    service.hours.extend(Hour(*hour) for hour in zip(*[figures] * _FIGURES, strict=True))
    service.times_ms.extend(took_us / 1000 for took_us in row.times_us)
