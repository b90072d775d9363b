"""ENOSPC and EIO at the n-th operation of the real stores: loud, and nothing promised is lost."""

from pathlib import Path

import pytest
import trio

from tests.tools.power.record import record_refusal
from tests.tools.power.refusal import Refusal
from tests.tools.power.tape import Note, Platter
from tests.tools.power.verdict import Promises, start

CASES = [
    ("ledger", 3, True, True),
    ("ledger", 20, False, False),
    ("ledger", 41, False, True),
    ("log", 2, True, True),
    ("log", 15, False, True),
    ("log", 34, True, False),
]


def refused(refusal: Refusal, seed: int, folder: Path) -> tuple[str, str]:
    """Why the node stopped, and what a start finds after the process was ended."""
    recording, stopped = record_refusal(seed, refusal, blocks=12)
    platter, promises = Platter(), Promises()
    for operation in recording.tape.operations:
        platter.play(operation)
        if isinstance(operation, Note):
            promises.note(operation)
    found = trio.run(start, recording, platter.whole(), promises, folder)
    words = [found.refused, found.observer, found.wrong, found.forgotten, found.lost]
    return stopped, " ".join(str(word) for word in words if word)


@pytest.mark.slow
@pytest.mark.parametrize(("of", "at", "full", "lasting"), CASES)
def test_disk_that_refuses_stops_the_votes_and_loses_nothing(
    of: str, at: int, full: bool, lasting: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """After the refusal no vote leaves; started again, ledger and votes are as promised."""
    refusal = Refusal(of, at, full, lasting)
    folder = tmp_path_factory.mktemp("data") / "data"
    stopped, found = refused(refusal, 7, folder)
    assert refusal.seen >= at
    assert "the disk refused a write" in stopped
    assert not found
