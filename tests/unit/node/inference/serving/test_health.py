"""What is remembered of workers: rates, times, last errors, hours, pauses after failures."""

from prsm.node.inference.serving.health import (
    ERRORS_MAX,
    HOUR_MS,
    HOURS_MAX,
    PAIRS_MAX,
    PAUSE_MS,
    PAUSE_MS_MAX,
    HealthBook,
)


def test_rates_and_times_are_those_of_the_answers() -> None:
    book = HealthBook()
    service = book.of(b"m", b"w")
    assert (service.success_percent, service.quantile_ms(99)) == (100.0, 0.0)
    for took in range(1, 100):
        book.note_answer(service, rows=2, took_ms=took, now_ms=HOUR_MS)
    book.note_failure(service, reason="worker_lost", what="gone", now_ms=HOUR_MS + 5)
    assert (service.done, service.failed, service.rows) == (99, 1, 198)
    assert service.success_percent == 99.0
    assert (service.quantile_ms(50), service.quantile_ms(99)) == (50, 99)
    [hour] = service.hours
    assert (hour.began_ms, hour.done, hour.failed) == (HOUR_MS, 99, 1)


def test_pause_doubles_with_each_failure_and_an_answer_ends_it() -> None:
    book, now = HealthBook(), 10 * HOUR_MS
    service = book.of(b"m", b"w")
    assert not book.is_out(b"m", b"w", now_ms=now)
    assert not book.is_out(b"m", b"nobody", now_ms=now)
    pause_ms = PAUSE_MS
    for _ in range(12):
        book.note_failure(service, reason="worker_lost", what="gone", now_ms=now)
        assert book.is_out(b"m", b"w", now_ms=now + pause_ms - 1)
        assert not book.is_out(b"m", b"w", now_ms=now + pause_ms)
        pause_ms = min(PAUSE_MS_MAX, 2 * pause_ms)
    book.note_answer(service, rows=1, took_ms=1, now_ms=now)
    assert not book.is_out(b"m", b"w", now_ms=now)


def test_memory_is_bounded() -> None:
    book = HealthBook()
    service = book.of(b"m", b"w")
    for hour in range(2 * HOURS_MAX):
        book.note_failure(service, reason="r", what=str(hour), now_ms=hour * HOUR_MS)
    assert (len(service.hours), len(service.errors)) == (HOURS_MAX, ERRORS_MAX)
    assert service.errors[-1].what == str(2 * HOURS_MAX - 1)
    for number in range(2 * PAIRS_MAX):
        book.of(b"m", number.to_bytes(4, "big"))
        book.golden_of(number.to_bytes(4, "big"), b"root")
    assert len(list(book.list())) == PAIRS_MAX
    assert len(book.golden) == PAIRS_MAX


def test_class_that_gives_other_bits_is_noticed() -> None:
    book = HealthBook()
    assert book.golden_of(b"class", b"root")
    assert book.golden_of(b"class", b"root")
    assert not book.golden_of(b"class", b"other")
    assert book.golden_of(b"another", b"other")


def test_probe_that_fails_counts_as_a_failure() -> None:
    book = HealthBook()
    service = book.of(b"m", b"w")
    book.note_probe(service, why="", now_ms=5)
    assert (service.probes_done, service.in_row, service.probed_ms) == (1, 0, 5)
    book.note_probe(service, why="other bits", now_ms=6)
    assert (service.probes_failed, service.errors[-1].reason) == (1, "probe_failed")
    assert book.is_out(b"m", b"w", now_ms=7)
