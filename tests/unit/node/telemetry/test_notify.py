"""What the service manager hears."""

import os
import socket
from pathlib import Path

import pytest
import trio
import trio.testing

from prsm.node.telemetry.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> socket.socket:
    """A socket as systemd has one."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(tmp_path / "notify"))
    listening.setblocking(False)
    return listening


def test_ready_is_one_datagram(manager: socket.socket) -> None:
    Notifier(manager.getsockname()).tell("READY=1", "STATUS=height 7")
    assert manager.recv(1024) == b"READY=1\nSTATUS=height 7"
    with pytest.raises(BlockingIOError):
        manager.recv(1024)
    manager.close()


def test_variables_are_taken_out_so_that_no_child_has_them() -> None:
    environ = {
        "NOTIFY_SOCKET": "/run/notify",
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/root",
    }
    assert Notifier.from_environ(environ) == Notifier("/run/notify", 30.0)
    assert environ == {"HOME": "/root"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, Notifier()),
        ({"NOTIFY_SOCKET": "relative"}, Notifier()),
        ({"NOTIFY_SOCKET": "/" + "x" * 200}, Notifier()),
        ({"NOTIFY_SOCKET": "@abstract", "WATCHDOG_USEC": "junk"}, Notifier("@abstract")),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}, Notifier("/n")),
    ],
)
def test_what_is_no_address_or_not_for_us_is_nothing(
    environ: dict[str, str], expected: Notifier
) -> None:
    assert Notifier.from_environ(environ) == expected


def test_a_manager_that_is_gone_is_no_fault_of_ours(tmp_path: Path) -> None:
    Notifier(str(tmp_path / "nobody")).tell("READY=1")
    Notifier().tell("READY=1")


async def test_the_watchdog_hears_a_loop_that_turns(
    manager: socket.socket,
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001 - it moves the time
) -> None:
    notifier = Notifier(manager.getsockname(), watchdog_s=30.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(notifier.beat, lambda: "height 7")
        await trio.sleep(29.0)
        nursery.cancel_scope.cancel()
    heard = [manager.recv(1024) for _ in range(3)]
    assert heard == [b"WATCHDOG=1\nSTATUS=height 7"] * 3
    manager.close()


async def test_nobody_is_told_where_nobody_asked() -> None:
    await Notifier().beat(lambda: "never asked")
    await Notifier("/somewhere").beat(lambda: "no watchdog")
