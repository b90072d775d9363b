"""A node whose disk refused goes on once it takes writes; nothing else makes it begin anew."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from prsm.node.chain import mended
from prsm.node.chain.driver import Driver
from prsm.node.chain.mended import Mended, takes_writes
from prsm.storage.errors import Conflict, Full, StoreUnavailable


@pytest.mark.parametrize("failure", [Full("no room"), StoreUnavailable("I/O error")])
async def test_node_begins_anew_once_a_write_succeeds(
    failure: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Refused for some looks, then not; the stop is ordered once, and says why."""
    answers = iter([False, False, True])
    monkeypatch.setattr(mended, "takes_writes", lambda _path: next(answers))
    driver = SimpleNamespace(failure=None)
    stop = trio.Event()
    watch = Mended(cast("Driver", driver), tmp_path, stop)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        await trio.sleep(10)
        assert not stop.is_set()
        driver.failure = failure
        await stop.wait()
    assert watch.is_mended
    assert next(answers, None) is None


@pytest.mark.parametrize("failure", [None, Conflict("the guard is ahead"), RuntimeError("ours")])
async def test_other_ends_of_the_votes_are_for_good(
    failure: Exception | None, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """A guard ahead of the log, or a fault of the program: a start would not mend it."""
    stop = trio.Event()
    watch = Mended(cast("Driver", SimpleNamespace(failure=failure)), tmp_path, stop)
    with trio.move_on_after(30):
        await watch.run()
    assert not stop.is_set()
    assert not watch.is_mended


def test_write_is_tried_and_leaves_nothing(tmp_path: Path) -> None:
    """On a disk with room; in a folder that is not there; beyond the size a file may have."""
    assert takes_writes(tmp_path / "x")
    assert not takes_writes(tmp_path / "absent" / "x")
    code = (
        "import sys, pathlib; from prsm.node.chain.mended import takes_writes; "
        "sys.exit(takes_writes(pathlib.Path(sys.argv[1])))"
    )
    limit = (100_000, resource.RLIM_INFINITY)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
        check=False,
    )
    assert done.returncode == 0, "it said that a mebibyte was written"
    assert list(tmp_path.iterdir()) == []
