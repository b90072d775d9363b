"""What every test stands on: hypothesis draws the same examples each time, without a clock.

`--hypothesis-profile=explore` draws new ones, ten times as many.
"""

from collections.abc import Callable
from typing import TypeVar

import pytest
import trio
from hypothesis import settings

T = TypeVar("T")

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
