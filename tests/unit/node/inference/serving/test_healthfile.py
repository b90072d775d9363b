"""What is remembered of workers, written and read again; nothing of it is believed blindly."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prsm.node.inference.serving.health import (
    ERRORS_MAX,
    HOUR_MS,
    HOURS_MAX,
    PAIRS_MAX,
    PAUSE_MS,
    TIMES_MAX,
    Fault,
    HealthBook,
)
from prsm.node.inference.serving.healthfile import HEALTH_BYTES_MAX, restore, to_bytes
from prsm.protocol.codec import encode
from prsm.protocol.errors import WireError

STEPS = st.lists(
    st.tuples(st.sampled_from("afp"), st.integers(0, 3), st.integers(0, 3 * HOUR_MS)), max_size=40
)


def read(raw: bytes) -> HealthBook:
    book = HealthBook()
    restore(book, raw)
    return book


def lived(steps: list[tuple[str, int, int]]) -> HealthBook:
    book = HealthBook()
    for what, worker, at_ms in steps:
        service = book.of(b"model", bytes([worker]))
        match what:
            case "a":
                book.note_answer(service, rows=worker, took_ms=at_ms / 7, now_ms=at_ms)
            case "f":
                book.note_failure(service, reason="worker_lost", what="gone", now_ms=at_ms)
            case _:
                book.note_probe(service, why="" if worker else "another answer", now_ms=at_ms)
        book.golden_of(bytes([worker]), b"root")
    return book


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_book_comes_back_as_it_was(steps: list[tuple[str, int, int]]) -> None:
    book = lived(steps)
    again = read(to_bytes(book))
    assert to_bytes(again) == to_bytes(book)
    for before, now in zip(book.list(), again.list(), strict=True):
        assert (now.errors, now.hours) == (before.errors, before.hours)
        assert now.quantile_ms(99) == pytest.approx(before.quantile_ms(99), abs=0.001)
        assert now.success_percent == before.success_percent


def test_pauses_and_golden_answers_outlive_a_restart() -> None:
    """Else a worker that lies for its class would only have to wait for one."""
    book = HealthBook()
    assert book.golden_of(b"class", b"true")
    book.note_failure(book.of(b"m", b"w"), reason="worker_lost", what="x" * 1_000, now_ms=5)
    again = read(to_bytes(book))
    assert not again.golden_of(b"class", b"a lie")
    assert again.golden_of(b"class", b"true")
    assert again.is_out(b"m", b"w", now_ms=5 + PAUSE_MS - 1)
    assert not again.is_out(b"m", b"w", now_ms=4), "the clock was set back"


@pytest.mark.slow
def test_full_book_fits_its_file() -> None:
    book = HealthBook()
    first = book.of(bytes(36), bytes(32))
    for hour in range(HOURS_MAX):
        first.hour((2**32 + hour) * HOUR_MS).total_ms = 2**32
    first.times_ms.extend([10.0**9] * TIMES_MAX)
    for _ in range(ERRORS_MAX):
        first.errors.append(Fault(2**42, "w" * 30, "x" * 1_000))
    for number in range(1, PAIRS_MAX):
        service = book.of(bytes(36), number.to_bytes(32, "big"))
        service.hours, service.times_ms = first.hours, first.times_ms
        service.errors = first.errors
    raw = to_bytes(book)
    assert HEALTH_BYTES_MAX // 2 < len(raw) < HEALTH_BYTES_MAX
    again = read(raw)
    assert again.of(bytes(36), bytes(32)).hours[-1] == first.hours[-1]


@pytest.mark.parametrize("change", [b"", b"\x00", b"\x93\x02\x90\x90"])
def test_other_bytes_are_refused(change: bytes) -> None:
    with pytest.raises(WireError):
        read(change)
    raw = to_bytes(lived([("a", 1, 5)]))
    book = HealthBook()
    with pytest.raises(WireError):
        restore(book, raw[:-1])
    assert to_bytes(book) == to_bytes(HealthBook())


@pytest.mark.parametrize(
    ("field", "value"),
    [(11, (1, 2, 3)), (11, (1, 2, 3, 4, 5)), (12, (2**64 - 1,)), (2, 2**64 - 1), (7, 2**62)],
    ids=["hour of three", "hour of five", "time", "count", "moment"],
)
def test_damaged_figures_are_refused_whole(field: int, value: object) -> None:
    """Such bytes are canonical; a book that took them could not be written again."""
    version, services, golden = msgspec.msgpack.decode(to_bytes(lived([("a", 0, 1), ("a", 1, 5)])))
    services[1][field] = value
    book = HealthBook()
    with pytest.raises(WireError):
        restore(book, encode((version, services, golden)))
    assert to_bytes(book) == to_bytes(HealthBook())


def test_pair_that_is_there_twice_is_refused() -> None:
    """Two rows would be added up into one service."""
    version, services, golden = msgspec.msgpack.decode(to_bytes(lived([("a", 1, 5)])))
    with pytest.raises(WireError, match="twice"):
        read(encode((version, services * 2, golden)))
