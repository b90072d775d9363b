"""Log and guard as one: what a start finds, and when nothing may be signed."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pytest

from prsm.consensus.pbft.records import LowMark, Voted, pack, replay
from prsm.node.chain import signlog as module
from prsm.node.chain.signfiles import open_signfiles, records_from
from prsm.node.chain.signlog import SignLog
from prsm.protocol.signing import Kind
from prsm.storage.errors import Conflict, Full, StoreUnavailable
from prsm.storage.quickness import QUICK_MIN, QUICK_S, REMEMBERED
from prsm.testnet.sim.disk import FaultyDisk, PowerCut

FOLDER = Path("data")
WAL, GUARD = "data/consensus.wal", "data/signguard"


def voted(height: int, *, mark: bytes = b"a") -> bytes:
    return pack(Voted(Kind.PREPARE, 0, height, 0, mark * 32))


@dataclass
class Started:
    """What a start finds, and the log as a driver uses it."""

    signlog: SignLog
    records: tuple[bytes, ...]
    observer: str | None
    settled: int
    spoken_of: int


def start(disk: FaultyDisk, *, height: int = 0) -> Started:
    disk.kill()
    found = open_signfiles(disk, FOLDER, ledger_height=height)
    signlog = SignLog(found.files)
    return Started(signlog, found.records, found.observer, found.settled, found.spoken_of)


async def test_first_start_may_sign_and_the_next_one_remembers() -> None:
    """Two votes are written; the process is killed; both are there and nothing is lost."""
    disk = FaultyDisk(1)
    first = start(disk)
    assert (first.records, first.observer) == ((), None)
    await first.signlog.append((voted(1), voted(2)))
    again = start(disk)
    assert (again.records, again.observer) == ((voted(1), voted(2)), None)
    again.signlog.close()


async def test_votes_survive_a_power_cut() -> None:
    """What `append` returned for is there, whatever the platter did with the rest."""
    for seed in range(20):
        disk = FaultyDisk(seed)
        await start(disk).signlog.append((voted(1),))
        disk.power_cut()
        found = start(disk)
        assert (found.records, found.observer) == ((voted(1),), None), seed


@pytest.mark.parametrize(
    ("gone", "height", "why"),
    [
        ((WAL,), 3, "consensus log is gone while the ledger has 3 blocks"),
        ((GUARD,), 3, "sign guard is gone"),
        ((GUARD,), 0, "sign guard is gone"),
        ((WAL, GUARD), 3, "consensus log is gone"),
    ],
)
async def test_node_is_an_observer_when_a_file_is_gone(
    gone: tuple[str, ...], height: int, why: str
) -> None:
    """A restored backup without one of the files: nothing is signed, and it says which."""
    disk = FaultyDisk(1)
    await start(disk).signlog.append((voted(1),))
    for path in gone:
        disk.remove(path)
    found = start(disk, height=height)
    assert why in str(found.observer)


async def test_node_is_an_observer_when_the_guard_is_ahead_of_the_log() -> None:
    """An older log beside the present guard: a vote was forgotten."""
    disk = FaultyDisk(1)
    opened = start(disk)
    await opened.signlog.append((voted(1),))
    disk.copy(WAL, "old")
    await opened.signlog.append((voted(2),))
    disk.kill()
    disk.remove(WAL)
    disk.rename("old", WAL)
    assert "the guard saw a vote at (0, 2, 0, 2)" in str(start(disk).observer)


async def test_low_mark_above_the_ledger_in_a_new_segment_explains_the_guard() -> None:
    """The ledger lost blocks: the segment begun then has its height in the head, the mark behind.

    Nothing is signed at or below that mark, so the guard's vote there need not be remembered.
    """
    disk = FaultyDisk(1)
    opened = start(disk)
    await opened.signlog.append((voted(1), voted(2)))
    opened.signlog._begun_bytes = -module.SEGMENT_BYTES  # any length is long
    await opened.signlog.forget(1, (pack(LowMark(2, None)),))
    disk.kill()
    found = start(disk, height=1)
    assert found.observer is None
    assert found.settled == 2
    assert replay(found.records, committed=1).low == 2


async def test_node_is_an_observer_when_the_log_is_damaged() -> None:
    """A bit flips in the middle of the log: the records in front of it are kept, no vote goes."""
    disk = FaultyDisk(1)
    opened = start(disk)
    for height in (1, 2, 3):
        await opened.signlog.append((voted(height),))
    disk.flip(WAL, 8 * (len(disk.contents(WAL)) // 2))
    assert start(disk).observer


async def test_log_of_a_newer_version_makes_an_observer() -> None:
    """A record this version cannot read may be a vote."""
    disk = FaultyDisk(1)
    opened = start(disk)
    opened.signlog._files._wal.append((b"\xc1",))
    assert "cannot read" in str(start(disk).observer)


@pytest.mark.parametrize("error", [Full, StoreUnavailable])
async def test_refusing_disk_is_a_typed_error(error: type[Full | StoreUnavailable]) -> None:
    """Nothing may be signed: the caller hears why."""
    disk = FaultyDisk(1)
    opened = start(disk)
    disk.fail_at = {disk.operations + 1: error}
    with pytest.raises(error):
        await opened.signlog.append((voted(1),))


async def appended(
    opened: Started, monkeypatch: pytest.MonkeyPatch, took_s: Sequence[float]
) -> list[bool]:
    """Append a vote for each time that the disk takes: was it waited for on the loop?"""
    readings: Iterator[float] = accumulate(part for took in took_s for part in (0.0, took))
    monkeypatch.setattr(module, "perf_counter", readings.__next__)
    on_loop: list[bool] = []
    wal, loop = opened.signlog._files._wal, threading.get_ident()
    append = wal.append

    def watched(payloads: Sequence[bytes]) -> None:
        on_loop.append(threading.get_ident() == loop)
        append(payloads)

    monkeypatch.setattr(wal, "append", watched)
    first = len(opened.records) + 1
    for height in range(first, first + len(took_s)):
        await opened.signlog.append((voted(height),))
    return on_loop


async def test_disk_is_waited_for_on_the_loop_only_while_it_is_quick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is known at the start; once all of the latest were slow the rest is in a thread."""
    quick, slow = QUICK_S / 2, QUICK_S * 2
    took_s = [quick] * (REMEMBERED + 2) + [slow] * (REMEMBERED + 2)
    on_loop = await appended(start(FaultyDisk(1)), monkeypatch, took_s)
    taken = 2 + REMEMBERED - (QUICK_MIN - 1)
    assert on_loop == [False] * REMEMBERED + [True] * taken + [False] * (QUICK_MIN + 1)


@pytest.mark.parametrize("error", [Full, StoreUnavailable])
async def test_refusing_disk_is_a_typed_error_on_the_loop_too(
    error: type[Full | StoreUnavailable], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FaultyDisk(1)
    opened = start(disk)
    assert (await appended(opened, monkeypatch, [0.0] * (REMEMBERED + 1)))[-1]
    disk.fail_at = {disk.operations + 1: error}
    monkeypatch.setattr(module, "perf_counter", lambda: 0.0)
    with pytest.raises(error):
        await opened.signlog.append((voted(99),))


async def test_guard_refuses_another_vote_at_the_same_place() -> None:
    """The last line of defence: a second hash of one height, view and kind is a conflict."""
    opened = start(FaultyDisk(1))
    await opened.signlog.append((voted(1),))
    with pytest.raises(Conflict):
        await opened.signlog.append((voted(1, mark=b"b"),))


def test_second_process_is_refused() -> None:
    """Two processes of one home: the guard's lock tells."""
    disk = FaultyDisk(1)
    start(disk)
    with pytest.raises(Conflict):
        open_signfiles(disk, FOLDER, ledger_height=0)


async def test_old_heights_are_forgotten_when_the_segment_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Below the bound nothing moves; above it the log starts anew with what binds on."""
    disk = FaultyDisk(1)
    opened = start(disk)
    await opened.signlog.append((voted(1),))
    await opened.signlog.forget(1, ())
    assert voted(1) in disk.contents(WAL)
    monkeypatch.setattr(module, "SEGMENT_BYTES", 1)
    await opened.signlog.forget(1, (voted(2),))
    again = start(disk, height=1)
    assert (again.records, again.observer) == ((voted(2),), None)


async def test_log_that_is_gone_makes_an_observer_at_every_start() -> None:
    """The first start without the log makes an empty one; the second must not trust it.

    The guard is as a power cut may leave it: it never saw a vote.
    """
    disk = FaultyDisk(1)
    start(disk).signlog.close()
    disk.remove(WAL)
    for height in (0, 0, 3):
        found = start(disk, height=height)
        assert found.observer
        found.signlog.close()
    assert disk.exists(GUARD + ".kept-1")


async def test_damaged_log_takes_nothing_and_stays_as_it_is() -> None:
    """An observer goes on with the chain: neither a record nor a full segment stops it."""
    disk = FaultyDisk(1)
    opened = start(disk)
    for height in (1, 2, 3):
        await opened.signlog.append((voted(height),))
    disk.flip(WAL, 8 * (len(disk.contents(WAL)) // 2))
    before = disk.contents(WAL)
    observer = start(disk, height=1).signlog
    await observer.append((pack(LowMark(9, None)),))
    await observer.forget(9, ())
    assert disk.contents(WAL) == before


async def test_observer_never_drops_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new segment would forget why it observes."""
    monkeypatch.setattr(module, "SEGMENT_BYTES", 1)
    disk = FaultyDisk(1)
    await start(disk).signlog.append((voted(1),))
    disk.remove(GUARD)
    observer = start(disk).signlog
    await observer.append((pack(LowMark(9, None)),))
    await observer.forget(9, ())
    assert start(disk, height=9).observer


async def lost(how: str, disk: FaultyDisk) -> Started:
    """An observer: of a damaged log, a missing log, a missing guard or a copied guard."""
    opened = start(disk)
    for height in (1, 2, 3):
        await opened.signlog.append((voted(height),))
    match how:
        case "damaged log":
            disk.flip(WAL, 8 * (len(disk.contents(WAL)) // 2))
        case "no log":
            disk.remove(WAL)
        case "no guard":
            disk.remove(GUARD)
        case _:
            disk.copy(GUARD, "copy")
            disk.rename("copy", GUARD)
    disk.sync_folder(GUARD)
    return start(disk, height=2)


WAYS = ("damaged log", "no log", "no guard", "copied guard")


@pytest.mark.parametrize("how", WAYS)
async def test_renewed_log_signs_from_its_height_on(how: str) -> None:
    """After `renew` the next start may sign, its low mark is there, the old files are kept."""
    disk = FaultyDisk(1)
    observer = await lost(how, disk)
    assert observer.observer
    kept = await observer.signlog.renew(7)
    assert kept
    assert all(disk.exists(path) for path in kept)
    for records in ((), (voted(7),)):
        await observer.signlog.append(records)
        again = start(disk, height=2)
        assert (again.observer, again.settled) == (None, 6)
        assert replay(again.records, committed=2).low == 6
        observer = again
    with pytest.raises(Conflict):
        await observer.signlog.append((voted(6),))


@pytest.mark.parametrize("how", WAYS)
async def test_power_cut_while_renewing_leaves_an_observer_or_all_of_it(how: str) -> None:
    """Each operation of `renew` is cut, with eight platters: never a log that forgot its mark."""
    cuts = 0
    for operation in range(1, 40):
        for seed in range(8):
            disk = FaultyDisk(seed)
            observer = await lost(how, disk)
            disk.cut_at = disk.operations + operation
            try:
                await observer.signlog.renew(7)
            except PowerCut:
                cuts += 1
            disk.power_cut()
            for _ in range(2):
                found = start(disk, height=2)
                low = replay(found.records, committed=2).low
                assert found.observer or low == 6, (operation, seed)
    assert cuts > 40


async def test_settled_is_what_an_operator_must_go_beyond() -> None:
    """Ledger, low mark, and a guard ahead of the log; a vote in a whole log binds by itself."""
    disk = FaultyDisk(1)
    assert start(disk).settled == 0
    opened = start(disk, height=5)
    assert opened.settled == 5
    await opened.signlog.append((voted(7),))
    assert start(disk, height=5).settled == 5
    disk.remove(WAL)
    disk.sync_folder(WAL)
    assert start(disk, height=5).settled == 5  # the guard was put aside: nothing is known
    assert start(disk, height=5).observer


async def test_guard_ahead_of_the_log_is_settled_and_records_above_are_kept() -> None:
    """The log was cut to its first half: what the guard saw later is ruled out."""
    disk = FaultyDisk(1)
    opened = start(disk)
    await opened.signlog.append((voted(1), voted(2)))
    disk.copy(WAL, "old")
    await opened.signlog.append((voted(3),))
    disk.kill()
    disk.rename("old", WAL)
    found = start(disk)
    assert found.observer
    assert found.settled == 3
    assert records_from((*found.records, b"\xc1", voted(9)), 2) == (voted(2),)


async def test_log_given_up_for_a_state_of_peers_stays_so_until_it_begins_afresh() -> None:
    """The state was not installed at once: whoever asks again hears the same."""
    disk = FaultyDisk(1)
    opened = start(disk)
    why = await opened.signlog.forbid_if_blank()
    assert why is not None
    assert await opened.signlog.forbid_if_blank() == why
    await opened.signlog.append((pack(LowMark(6, None)),))  # of an observer that follows
    assert await opened.signlog.forbid_if_blank() == why
    await opened.signlog.renew(9)
    assert await opened.signlog.forbid_if_blank() is None
    again = start(disk, height=8)
    assert again.observer is None
    await again.signlog.append((voted(9),))
    assert await again.signlog.forbid_if_blank() is None


async def test_disk_that_refuses_to_put_a_blank_guard_aside_is_asked_again() -> None:
    """Whichever of the steps it refused: no state of peers is installed before all are done."""
    steps = 0
    for operation in range(1, 12):
        disk = FaultyDisk(operation)
        opened = start(disk)
        disk.fail_at = {disk.operations + operation: Full}
        try:
            why = await opened.signlog.forbid_if_blank()
        except Full:
            steps += 1
            why = await opened.signlog.forbid_if_blank()
        assert why is not None
        disk.fail_at.clear()
        assert start(disk).observer is not None
    assert steps >= 4
