"""Log and guard as one: what a start finds, and when nothing may be signed."""

from pathlib import Path

import pytest

from prsm.consensus.pbft.records import Voted, pack
from prsm.node import signlog as module
from prsm.node.signlog import Opened, open_signlog
from prsm.protocol.signing import Kind
from prsm.storage.errors import Conflict, Full, StoreUnavailable
from prsm.testnet.sim.disk import FaultyDisk

FOLDER = Path("data")
WAL, GUARD = "data/consensus.wal", "data/signguard"


def voted(height: int, *, mark: bytes = b"a") -> bytes:
    return pack(Voted(Kind.PREPARE, 0, height, 0, mark * 32))


def start(disk: FaultyDisk, *, height: int = 0) -> Opened:
    disk.kill()
    return open_signlog(disk, FOLDER, ledger_height=height)


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
    opened.signlog._wal.append((b"\xc1",))
    assert "cannot read" in str(start(disk).observer)


@pytest.mark.parametrize("error", [Full, StoreUnavailable])
async def test_refusing_disk_is_a_typed_error(error: type[Full | StoreUnavailable]) -> None:
    """Nothing may be signed: the caller hears why."""
    disk = FaultyDisk(1)
    opened = start(disk)
    disk.fail_at = {disk.operations + 1: error}
    with pytest.raises(error):
        await opened.signlog.append((voted(1),))


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
        open_signlog(disk, FOLDER, ledger_height=0)


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
