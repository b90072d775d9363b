"""Bans over restarts: the codec, the file, clocks that jump, and what an operator may do."""

import contextlib
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from prsm.node.net.bans import (
    BANS_SAVED_MAX,
    REMEMBERED_MS,
    BanFile,
    BanRow,
    Bans,
    BansUnreadable,
    decode_bans,
    encode_bans,
    is_forgotten,
    remaining_ms,
)
from prsm.node.net.interface import PeerUnreachable
from prsm.node.net.scores import BAN_FIRST_MS, BAN_LONGEST_MS
from prsm.protocol.errors import RemoteError
from prsm.protocol.ids import Millis, PeerId

PEER, OTHER = PeerId("peer"), PeerId("other")
FAULT = RemoteError("junk", peer="peer", penalty=100)
DAY_MS = 24 * 3600_000

rows = st.builds(
    BanRow,
    peer=st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=60),
    until_ms=st.integers(0, 2**53),
    times=st.integers(0, 40),
    why=st.text(st.characters(codec="utf-8"), max_size=100),
    is_ours=st.booleans(),
)


@dataclass
class Hand:
    """Both clocks, set by the test."""

    monotonic: int = 0
    wall: int = 10**12

    def monotonic_ms(self) -> Millis:
        return Millis(self.monotonic)

    def wall_ms(self) -> Millis:
        return Millis(self.wall)

    def pass_ms(self, count: int) -> None:
        self.monotonic += count
        self.wall += count


@given(st.lists(rows, max_size=20))
def test_rows_come_back(given_rows: list[BanRow]) -> None:
    assert sorted(decode_bans(encode_bans(given_rows)), key=repr) == sorted(given_rows, key=repr)


@given(st.binary(max_size=200))
def test_any_bytes_are_rows_or_a_typed_error(raw: bytes) -> None:
    with contextlib.suppress(BansUnreadable):
        assert isinstance(decode_bans(raw), tuple)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b'{"version": 2, "bans": []}',
        b'{"version": 1, "bans": [{"peer": "x"}]}',
        b'{"version": 1, "bans": [], "more": 1}',
        b"[" * 100_000,
        b" " * (1024 * 1024 + 1),
    ],
)
def test_other_documents_are_refused(raw: bytes) -> None:
    with pytest.raises(BansUnreadable):
        decode_bans(raw)


def test_of_too_many_the_longest_stay() -> None:
    many = [BanRow(f"p{n}", n, 1, "", is_ours=False) for n in range(BANS_SAVED_MAX + 5)]
    random.Random(1).shuffle(many)
    kept = decode_bans(encode_bans(many))
    assert [row.until_ms for row in kept] == list(range(BANS_SAVED_MAX + 4, 4, -1))


def test_wall_clock_set_back_makes_no_ban_longer_than_a_day_but_the_operators() -> None:
    far = BanRow("p", 10**15, 1, "", is_ours=False)
    assert remaining_ms(far, now_ms=0) == BAN_LONGEST_MS
    ours = BanRow("p", 10**15, 0, "", is_ours=True)
    assert remaining_ms(ours, now_ms=0) == 10**15
    assert remaining_ms(far, now_ms=10**16) == 0


def test_row_is_forgotten_a_week_after_its_end() -> None:
    row = BanRow("p", 5, 3, "", is_ours=False)
    assert not is_forgotten(row, now_ms=5 + REMEMBERED_MS)
    assert is_forgotten(row, now_ms=6 + REMEMBERED_MS)


def test_ban_and_its_doubling_outlive_the_process(tmp_path: Path) -> None:
    """Banned, saved, loaded by the next run: still banned; after that the next is twice as long."""
    clock, path = Hand(), tmp_path / "net" / "bans.json"
    first = Bans(clock, BanFile(path))
    assert first.penalise(PEER, FAULT) == BAN_FIRST_MS
    BanFile(path)._write(encode_bans(first.rows()))
    clock.wall += 20_000
    clock.monotonic = 77  # another boot
    second = Bans(clock, BanFile(path))
    second.load()
    assert second.banned_ms(PEER) == BAN_FIRST_MS - 20_000
    assert [(ban.peer, ban.why, ban.times) for ban in second.infos()] == [(PEER, "junk", 1)]
    with pytest.raises(PeerUnreachable, match="banned for 41 s"):
        second.refuse(PEER)
    clock.pass_ms(BAN_FIRST_MS)
    second.refuse(PEER)
    assert second.infos() == ()
    assert second.penalise(PEER, FAULT) == 2 * BAN_FIRST_MS


def test_ended_ban_still_counts_for_the_next_after_a_restart(tmp_path: Path) -> None:
    clock, path = Hand(), tmp_path / "bans.json"
    first = Bans(clock)
    first.penalise(PEER, FAULT)
    path.write_bytes(encode_bans(first.rows()))
    clock.pass_ms(DAY_MS)
    second = Bans(clock, BanFile(path))
    second.load()
    assert second.banned_ms(PEER) == 0
    assert second.penalise(PEER, FAULT) == 2 * BAN_FIRST_MS


def test_damaged_file_costs_the_bans_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "bans.json"
    path.write_bytes(b"\xff not json")
    bans = Bans(Hand(), BanFile(path))
    bans.load()
    assert bans.infos() == ()
    assert "no ban of an earlier run is known" in caplog.text


def test_operator_bans_for_as_long_as_he_says_and_pardons() -> None:
    clock = Hand()
    bans = Bans(clock)
    bans.ban(PEER, 40 * DAY_MS, "mine")
    clock.pass_ms(39 * DAY_MS)
    assert bans.banned_ms(PEER) == DAY_MS
    assert bans.infos()[0].is_ours
    assert bans.pardon(PEER)
    assert bans.banned_ms(PEER) == 0
    assert bans.rows() == ()
    assert not bans.pardon(PEER)
    assert bans.penalise(PEER, FAULT) == BAN_FIRST_MS


def test_faults_while_banned_say_nothing_new() -> None:
    bans = Bans(Hand())
    assert bans.penalise(PEER, FAULT) == BAN_FIRST_MS
    assert bans.penalise(PEER, FAULT) == 0
    assert bans.infos()[0].times == 1


async def written(path: Path) -> None:
    """The thread that writes takes real time, which the clock of the test jumps over."""
    for _ in range(50_000):
        if await trio.Path(path).exists():
            return
        await trio.sleep(0.1)
    raise AssertionError("nobody wrote the file")


async def test_file_is_written_soon_after_a_ban_and_at_the_end(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Many bans at once cost one write; one that was just made is not lost by a stop."""
    assert autojump_clock.rate == 0
    path = tmp_path / "net" / "bans.json"
    file = BanFile(path)
    bans = Bans(Hand(), file)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as inner:
            await inner.start(bans.run)
            bans.penalise(PEER, FAULT)
            bans.ban(OTHER, 1000, "mine")
            await written(path)
            assert {row.peer for row in decode_bans(path.read_bytes())} == {PEER, OTHER}
            assert path.stat().st_mode & 0o077 == 0
            bans.pardon(PEER)
            scope.cancel()
    assert {row.peer for row in decode_bans(path.read_bytes())} == {OTHER}


async def test_folder_that_cannot_be_written_stops_nothing(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    assert autojump_clock.rate == 0
    (tmp_path / "net").write_bytes(b"a file, no folder")
    bans = Bans(Hand(), BanFile(tmp_path / "net" / "bans.json"))
    async with trio.open_nursery() as inner:
        await inner.start(bans.run)
        bans.penalise(PEER, FAULT)
        while "cannot be written" not in caplog.text:  # noqa: ASYNC110 - a log line is no event
            await trio.sleep(0.1)
        inner.cancel_scope.cancel()
