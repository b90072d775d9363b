"""Log and guard of a node that was shown a vote which they lack."""

from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from prsm.consensus.pbft.records import LowMark, Voted, pack
from prsm.node.chain.chain import distrust
from prsm.node.chain.signfiles import Opened, open_signfiles
from prsm.node.chain.signlog import SignLog
from prsm.protocol.signing import Kind
from prsm.storage.errors import Conflict, Full
from prsm.testnet.sim.disk import FaultyDisk
from prsm.testnet.sim.stage import Bench

FOLDER: Final = Path("data")
WAL: Final = "data/consensus.wal"


def voted(height: int) -> bytes:
    return pack(Voted(Kind.PREPARE, 0, height, 0, b"a" * 32))


def start(disk: FaultyDisk, *, height: int = 0) -> Opened:
    disk.kill()
    return open_signfiles(disk, FOLDER, ledger_height=height)


def test_vote_that_was_shown_is_known_at_the_next_start_beside_a_new_ledger() -> None:
    disk = FaultyDisk(1)
    found = open_signfiles(disk, FOLDER, ledger_height=0, ledger_lost="damaged")
    assert found.observer == "damaged"
    found.files.forbid("shown")
    assert start(disk, height=3).observer is not None


def test_guard_that_is_ahead_of_the_log_is_kept_when_a_vote_is_shown() -> None:
    """It makes an observer at each start, of higher votes than the one that was shown, perhaps."""
    disk = FaultyDisk(1)
    files = start(disk).files
    files.append((voted(1),))
    disk.copy(WAL, "old")
    files.append((voted(7),))
    disk.kill()
    disk.remove(WAL)
    disk.rename("old", WAL)
    before = start(disk)
    assert before.observer is not None
    before.files.forbid("shown")
    after = start(disk)
    assert (after.observer, after.spoken_of) == (before.observer, 7)
    after.files.renew(9)
    after.files.forbid("shown")
    assert start(disk).observer not in (None, before.observer)


def test_log_of_an_observer_does_not_grow_for_ever() -> None:
    """It begins no new segment; each block that others decide would add a low mark to it."""
    disk = FaultyDisk(1)
    files = start(disk).files
    files.append((voted(1),))
    files.forbid("shown")
    size = files.size
    for height in range(2, 200):
        files.append((pack(LowMark(height, None)),))
    assert files.size == size
    with pytest.raises(Conflict, match="takes no vote"):
        files.append((voted(200),))
    files.renew(300)
    files.append((voted(300),))
    assert start(disk, height=300).records[-1] == voted(300)


def test_guard_that_was_put_aside_and_not_replaced_is_no_new_home() -> None:
    """The disk was full between the two; nothing else here says that there was a guard."""
    found = []
    for operation in range(1, 12):
        disk = FaultyDisk(operation)
        files = start(disk).files
        disk.fail_at = {disk.operations + operation: Full}
        with suppress(Full):
            files.forbid("shown")
        disk.fail_at.clear()
        found.append((disk.exists("data/signguard.kept-1"), start(disk).observer is not None))
    assert set(found) == {(False, False), (True, True)}  # the first was refused at once


@pytest.mark.parametrize(("signers", "forgot"), [((0, 1, 3), True), ((0, 1, 2), False)])
async def test_state_of_peers_shows_a_vote_that_an_old_log_lacks(
    signers: tuple[int, ...], *, forgot: bool
) -> None:
    """An old backup: its log held a vote once, so it is not blank, and no block of then comes."""
    bench, disk = Bench(), FaultyDisk(1)
    files = start(disk).files
    files.append((voted(1),))
    shown = bench.certificate(Kind.COMMIT, b"b" * 32, height=9, signers=signers)
    why = await distrust(SignLog(files), bench.state, ((shown, bench.state.validators),))
    assert bool(why) is forgot
    assert bool(start(disk, height=8).observer) is forgot
    assert await distrust(SignLog(start(FaultyDisk(1)).files), bench.state, ()), "it is blank"
