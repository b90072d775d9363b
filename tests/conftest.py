"""What every test stands on: hypothesis draws the same examples each time, without a clock.

`--hypothesis-profile=explore` draws new ones, ten times as many.
"""

import os
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

import pytest
import trio
from hypothesis import settings

T = TypeVar("T")
os.environ["PRSM_SYSTEM_CONFIG"] = ""  # not what this machine's own nodes are told by /etc/prsm

_STATUS = pytest.StashKey[int]()

settings.register_profile("gate", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile("gate")


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do the work of threads in place: beside `autojump_clock`, deadlines pass while a disk works.

    That clock jumps when all tasks wait, and a task that waits for a thread is one of them.
    """

    async def run_sync(work: Callable[..., T], *args: object, **_options: object) -> T:
        await trio.lowlevel.checkpoint()
        return work(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remember how it ended for `pytest_unconfigure`."""
    session.config.stash[_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End a failed run although threads of failed tests are left: Python would wait for ever.

    A store that a test could not close, because it failed before, keeps its thread.
    """
    status = config.stash.get(_STATUS, 0)
    left = [one.name for one in threading.enumerate() if one.is_alive() and not one.daemon]
    if status and len(left) > 1:
        print(f"threads of failed tests are left: {', '.join(left[1:6])}", file=sys.stderr)  # noqa: T201 - to the reader of the report
        sys.stdout.flush()
        os._exit(status)
