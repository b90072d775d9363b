"""Memory that nobody uses goes back to the machine, without being asked each time."""

import ctypes
import subprocess
import sys
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from prsm.node import memory
from prsm.node.memory import GROWN_BYTES, LOOK_SECONDS, give_back, keep_giving_back, rss_bytes

MIB = 1024 * 1024


def leave_holes() -> list[bytes]:
    """Fill 64 MiB and free all but what pins its end, so that the allocator keeps the pages."""
    blocks = [bytes(60_000) for _ in range(64 * MIB // 60_000)]
    return blocks[-1:]


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library than glibc"
)
def test_holes_go_back_to_the_machine() -> None:
    before = rss_bytes()
    pin = leave_holes()
    assert rss_bytes() - before > 32 * MIB
    give_back()
    assert rss_bytes() - before < 8 * MIB
    assert pin


async def test_only_growth_is_worth_a_walk(
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,  # noqa: ARG001 - asked for by name, nothing reads it
) -> None:
    grown_mib = [100, 103, 105, 105, 101, 104, 106]  # at each look
    began = trio.current_time()
    looks: list[int] = []
    given: list[int] = []

    def seen() -> int:
        looks.append(round((trio.current_time() - began) / LOOK_SECONDS))
        return grown_mib[looks[-1]] * MIB

    monkeypatch.setattr(memory, "rss_bytes", seen)

    async def here(work: Callable[[], None]) -> None:  # a thread is no part of virtual time
        work()

    monkeypatch.setattr(memory, "give_back", lambda: given.append(looks[-1]))
    monkeypatch.setattr(trio.to_thread, "run_sync", here)
    with trio.move_on_after((len(grown_mib) - 0.5) * LOOK_SECONDS):
        await keep_giving_back()
    assert GROWN_BYTES == 4 * MIB
    assert given == [0, 2, 6]  # 106 is more than 4 above the 101 in between


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library than glibc"
)
def test_large_blocks_stay_mapped_however_many_were_freed() -> None:
    """In a process of its own, for it is the whole process that is told."""
    program = (
        "from prsm.node.memory import keep_compact, rss_bytes\n"
        "keep_compact()\n"
        "del (large := [bytearray(b'x') * (8 << 20)])[:]\n"  # by its own rule all up to 8 MiB
        "before = rss_bytes()\n"
        "blocks = [bytearray(b'x') * (1 << 20) for _ in range(32)]\n"
        "pin = bytes(60_000)\n"  # the allocator gives back no more than what is above it
        "del blocks\n"
        "print(rss_bytes() - before)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert int(run.stdout) < 8 * MIB
