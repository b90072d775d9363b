"""A worker's account of its units: once each, newest first, and sums that outlive their rows."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from prsm.storage.earnings import EarningsFile, Ended, Sums


def ended(number: int, *, paid: int = 10, wrong: int = 0, is_counted: bool = True) -> Ended:
    return Ended(
        job=number.to_bytes(32, "big"),
        unit=0,
        model=b"m" * 36,
        requester=b"r" * 32,
        kind="infer",
        rows=2,
        price_per_row=5,
        paid=paid,
        wrong=wrong,
        is_counted=is_counted,
        height=number,
        time_ms=1_000 * number,
    )


@pytest.fixture
async def book(tmp_path: Path) -> AsyncIterator[EarningsFile]:
    opened = await EarningsFile.open(tmp_path / "earnings.db", rows_max=3)
    yield opened
    await opened.close()


async def test_a_unit_counts_once_whatever_is_said_of_it_later(book: EarningsFile) -> None:
    """A node that died between noting and forgetting its receipt notes the unit again."""
    await book.put(ended(1))
    await book.put(ended(1, paid=99))
    assert await book.sums() == Sums(units=1, rows=2, paid=10, wrong=0, unpaid=0)
    assert [one for _, one in await book.page(9)] == [ended(1)]


async def test_pages_go_from_the_newest_on_and_stop_at_a_time(book: EarningsFile) -> None:
    units = [ended(1), ended(2, paid=4, wrong=1), ended(3, paid=0, is_counted=False)]
    for unit in units:
        await book.put(unit)
    first = await book.page(2)
    assert [one for _, one in first] == [units[2], units[1]]
    assert [one for _, one in await book.page(2, before=first[-1][0])] == [units[0]]
    assert [one for _, one in await book.page(9, since_ms=2_000)] == [units[2], units[1]]
    assert await book.sums(since_ms=2_000) == Sums(units=2, rows=4, paid=4, wrong=1, unpaid=1)


async def test_what_old_rows_came_to_stays_in_the_sums(book: EarningsFile, tmp_path: Path) -> None:
    """Three rows are kept of five, and a unit that is told twice pushes nothing out."""
    for number in range(1, 6):
        await book.put(ended(number))
    await book.put(ended(5))
    assert [one.height for _, one in await book.page(9)] == [5, 4, 3]
    assert (await book.sums()).paid == 50
    await book.close()
    again = await EarningsFile.open(tmp_path / "earnings.db")
    assert (await again.sums()).units == 5
    await again.close()
