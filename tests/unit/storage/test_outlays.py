"""Outlays of tokens: reserved within limits, settled, folded, against a dumb twin."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from prsm.storage.outlays import DAY_MS, Limits, Outlays, Reserved, Sums
from prsm.storage.tenancy import open_database

NOW = 1_700_000_000_000


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Outlays]:
    database = await open_database(folder / "tenancy.db")
    try:
        yield Outlays(database)
    finally:
        await database.close()


async def take(
    outlays: Outlays, amount: int | None, limits: Limits, *, now_ms: int = NOW, token: str = "t"
) -> Reserved | Sums:
    return await outlays.reserve(token, "infer_run", amount, limits=limits, now_ms=now_ms)


async def test_two_at_once_never_pass_the_limit(tmp_path: Path) -> None:
    """Twenty tasks ask for 10 of a limit of 95: nine get it."""
    got: list[Reserved] = []
    async with opened(tmp_path) as outlays, trio.open_nursery() as nursery:

        async def ask() -> None:
            found = await take(outlays, 10, Limits(95))
            if isinstance(found, Reserved):
                got.append(found)

        for _ in range(20):
            nursery.start_soon(ask)
    assert len(got) == 9


async def test_what_is_left_is_taken_when_nothing_is_named(tmp_path: Path) -> None:
    """No price named: all that is left, of limit and cap the smaller; 0 without a limit."""
    async with opened(tmp_path) as outlays:
        assert await take(outlays, 30, Limits(100, 50)) == Reserved(1, 30)
        assert await take(outlays, None, Limits(100, 50)) == Reserved(2, 20)
        full = await take(outlays, None, Limits(100, 50))
        assert isinstance(full, Sums)
        assert full.left(Limits(100, 50)) == 0
        free = await take(outlays, None, Limits(), token="other")
        assert isinstance(free, Reserved)
        assert free.amount == 0


async def test_cap_frees_after_a_day_limit_never(tmp_path: Path) -> None:
    """Spent yesterday: today's cap is whole, the limit is not."""
    async with opened(tmp_path) as outlays:
        first = await take(outlays, 50, Limits(80, 50))
        assert isinstance(first, Reserved)
        await outlays.settle(first.id, 50)
        later = NOW + DAY_MS + 1
        assert isinstance(await take(outlays, 40, Limits(80, 50), now_ms=later), Sums)
        assert isinstance(await take(outlays, 30, Limits(80, 50), now_ms=later), Reserved)


async def test_final_amounts_stand(tmp_path: Path) -> None:
    """Settled or dropped again, a final outlay stays what it is; so it does when it is folded."""
    async with opened(tmp_path) as outlays:
        first = await take(outlays, 50, Limits())
        assert isinstance(first, Reserved)
        await outlays.settle(first.id, 40)
        await outlays.settle(first.id, 0)
        await outlays.drop(first.id)
        assert (await outlays.sums("t", now_ms=NOW)) == Sums(40, 40, 0)
        await outlays.fold(now_ms=NOW + 3 * DAY_MS)
        assert (await outlays.sums("t", now_ms=NOW + 3 * DAY_MS)) == Sums(40, 0, 0)


async def test_restart_keeps_bound_and_closes_unbound(tmp_path: Path) -> None:
    """A crash after the reservation: what was bound is settled later, what was not counts."""
    async with opened(tmp_path) as outlays:
        bound, lost = await take(outlays, 7, Limits(10)), await take(outlays, 3, Limits(10))
        assert isinstance(bound, Reserved)
        assert isinstance(lost, Reserved)
        await outlays.bind(bound.id, "job", "0xab")
    async with opened(tmp_path) as outlays:
        await outlays.close_unbound()
        rows = await outlays.unfinished()
        assert [(row.id, row.kind, row.subject) for row in rows] == [(bound.id, "job", "0xab")]
        assert isinstance(await take(outlays, 1, Limits(10)), Sums)


@pytest.mark.parametrize("wanted", [2**62, 10**19 - 1])
async def test_absurd_amounts_are_refused(tmp_path: Path, wanted: int) -> None:
    """The largest text an amount may be is no overflow, with a limit it is refused."""
    async with opened(tmp_path) as outlays:
        assert isinstance(await take(outlays, wanted, Limits(2**53)), Sums)
        for _ in range(3):
            assert isinstance(await take(outlays, wanted, Limits()), Reserved)
        assert (await outlays.sums("t", now_ms=NOW)).spent == 3 * 2**53


@dataclass
class Twin:
    """The same in a list."""

    rows: list[list[int]] = field(default_factory=list)  # amount, made, is_final

    def left(self, limits: Limits, now_ms: int) -> int | None:
        spent = sum(row[0] for row in self.rows)
        today = sum(row[0] for row in self.rows if row[1] > now_ms - DAY_MS)
        rooms = [
            limit - used
            for limit, used in ((limits.spend_limit, spent), (limits.daily_cap, today))
            if limit is not None
        ]
        return max(0, min(rooms)) if rooms else None


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(("take", "settle", "drop", "wait", "fold")),
        st.integers(0, 120),
        st.integers(0, 5),
    ),
    max_size=25,
)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(_STEPS, st.none() | st.integers(0, 200), st.none() | st.integers(0, 100))
def test_sums_are_those_of_a_list(
    steps: list[tuple[str, int, int]], limit: int | None, cap: int | None
) -> None:
    """Any order of reserving, settling for less, dropping, waiting, folding."""
    with TemporaryDirectory() as folder:
        trio.run(_compare, Path(folder), steps, Limits(limit, cap))


async def _compare(folder: Path, steps: list[tuple[str, int, int]], limits: Limits) -> None:
    twin, now_ms, ids = Twin(), NOW, list[int]()
    async with opened(folder) as outlays:
        for what, amount, which in steps:
            is_open = bool(ids) and not twin.rows[which % len(ids)][2]
            at = which % len(ids) if ids else 0
            if what == "take" and amount:
                left = twin.left(limits, now_ms)
                found = await take(outlays, amount, limits, now_ms=now_ms)
                assert isinstance(found, Reserved) == (left is None or amount <= left)
                if isinstance(found, Reserved):
                    ids.append(found.id)
                    twin.rows.append([amount, now_ms, 0])
            elif what == "settle" and is_open:
                twin.rows[at][0] = min(amount, twin.rows[at][0])
                twin.rows[at][2] = 1
                await outlays.settle(ids[at], twin.rows[at][0])
            elif what == "drop" and is_open:
                twin.rows[at] = [0, 0, 1]
                await outlays.drop(ids[at])
            elif what == "wait":
                now_ms += amount * DAY_MS // 50
            elif what == "fold":
                await outlays.fold(now_ms=now_ms)
            sums = await outlays.sums("t", now_ms=now_ms)
            assert sums.left(limits) == twin.left(limits, now_ms)
            assert sums.spent == sum(row[0] for row in twin.rows)
