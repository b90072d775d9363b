"""The book of a load, and what vitals tell; the work itself needs daemons."""

from pathlib import Path

import msgspec

from prsm.testnet import load, vitals
from prsm.testnet.histories.record import Outcome
from prsm.testnet.load import BALANCE, PULSES, Entry, allocations, entries
from prsm.testnet.vitals import Vital, backward, open_files


def test_later_line_of_a_transfer_counts_and_a_torn_one_does_not(tmp_path: Path) -> None:
    """Sent, then acknowledged; the process was ended in the middle of a line."""
    assert entries(tmp_path) == []
    lines = [
        Entry(1, 0, "aa", 5),
        Entry(0, 0, "bb", 6),
        Entry(1, 0, "aa", 5, done_ns=9, node=2, height=3, done=True),
    ]
    raw = b"\n".join(msgspec.json.encode(line) for line in lines)
    (tmp_path / load.BOOK).write_bytes(raw + b'\n{"account": 1, "no')
    first, second = entries(tmp_path)
    assert (first.account, first.is_open) == (0, True)
    assert (second.account, second.is_open, second.height) == (1, False, 3)
    assert first.write().outcome is Outcome.UNKNOWN
    assert second.write().outcome is Outcome.OK
    assert second.write().raw == b"\xaa"


def test_accounts_of_pulses_and_load_have_money() -> None:
    """All different, by seed."""
    made = allocations(3, 5)
    assert len({each.account for each in made}) == PULSES + 5
    assert {each.amount for each in made} == {BALANCE}
    assert made != allocations(4, 5)


def vital(place: int, height: int) -> Vital:
    return Vital(1, place, 7, height, 100, 10)


def test_height_that_falls_is_named() -> None:
    """Of one node; others may be lower, and standing still is no fault."""
    sound = [vital(0, 5), vital(1, 3), vital(0, 5), vital(1, 4)]
    assert backward(sound) == []
    assert backward([*sound, vital(1, 3), vital(1, 9)]) == ["node 1 went from height 4 to 3"]


def test_vitals_are_found_again(tmp_path: Path) -> None:
    """A torn line is left out; no file is no vitals."""
    assert vitals.read(tmp_path) == []
    line = msgspec.json.encode(vital(0, 5))
    (tmp_path / vitals.BOOK).write_bytes(line + b"\n" + line[:9])
    assert vitals.read(tmp_path) == [vital(0, 5)]


def test_open_files_of_a_process_nobody_has() -> None:
    """Unknown is no number."""
    assert open_files(2**22 + 1) == vitals.UNKNOWN
