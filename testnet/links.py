"""The links between nodes as faults see them: a proxy in this process, or one that outlives it.

Knows: conditions of ways, the control socket in a network's folder. Must not know: faults. The
proxy's process (`proxied`) is started by `up`, found by its socket, and ended by its pid alone.
"""

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import msgspec
import trio

from prsm.node.home import write_private
from prsm.protocol.errors import LocalError
from prsm.testnet.processes import STOP_SECONDS, NotInTime, nap, pause
from prsm.testnet.proxy import Conditions, Pair, Proxy

PROXIED: Final = (sys.executable, "-m", "prsm.testnet.proxied")
DESCRIPTION: Final = "proxy.json"
SOCKET: Final = "proxy.sock"
LOG: Final = "proxy.log"
START_SECONDS: Final = 20.0
CALL_SECONDS: Final = 10.0


class NoProxy(LocalError):
    """The network's links cannot be touched: no proxy process answers in its folder."""

    reason = "timeout"


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One way and what it is to have, or what it has carried."""

    sender: int
    receiver: int
    delay_ms: int = 0
    jitter_ms: int = 0
    loss: float = 0.0
    bytes_per_s: int = 0
    is_stalled: bool = False


class Order(msgspec.Struct, frozen=True):
    """What the proxy's process is asked for, one a line."""

    impose: tuple[Row, ...] = ()
    cut: tuple[tuple[int, int], ...] = ()


class Report(msgspec.Struct, frozen=True):
    """What it answers, one a line."""

    pid: int
    cut: int = 0
    bytes_passed: int = 0
    chunks_lost: int = 0


class Links(Protocol):
    """Every way between the nodes of one network."""

    async def impose(self, ways: Mapping[Pair, Conditions]) -> None:
        """Give ways (sender, receiver) their conditions from now on."""
        ...

    async def cut(self, one: int, other: int) -> int:
        """Reset the connections between two nodes; says how many there were."""
        ...

    async def carried(self) -> Report:
        """What has passed and what was lost so far."""
        ...


def row_of(way: Pair, conditions: Conditions) -> Row:
    """Conditions on their way to the proxy."""
    return Row(
        *way,
        conditions.delay_ms,
        conditions.jitter_ms,
        conditions.loss,
        conditions.bytes_per_s,
        conditions.is_stalled,
    )


def carry_out(order: Order, proxy: Proxy) -> Report:
    """Do to a proxy what an order says."""
    for row in order.impose:
        conditions = Conditions(
            row.delay_ms, row.jitter_ms, row.loss, row.bytes_per_s, row.is_stalled
        )
        proxy.set(row.sender, row.receiver, conditions)
    ways = proxy.ways.values()
    return Report(
        pid=os.getpid(),
        cut=sum(proxy.cut(one, other) for one, other in order.cut),
        bytes_passed=sum(way.bytes_passed for way in ways),
        chunks_lost=sum(way.chunks_lost for way in ways),
    )


@dataclass(frozen=True, slots=True)
class NearLinks:
    """Links through a proxy of this process."""

    proxy: Proxy

    async def impose(self, ways: Mapping[Pair, Conditions]) -> None:
        """Give ways their conditions."""
        carry_out(Order(tuple(row_of(*each) for each in ways.items())), self.proxy)

    async def cut(self, one: int, other: int) -> int:
        """Reset connections."""
        return carry_out(Order(cut=((one, other),)), self.proxy).cut

    async def carried(self) -> Report:
        """What has passed."""
        return carry_out(Order(), self.proxy)


@dataclass(frozen=True, slots=True)
class PlainLinks:
    """Links of a network without a proxy: nothing can be done to them."""

    async def impose(self, ways: Mapping[Pair, Conditions]) -> None:
        """Refuse, unless there is nothing to do.

        Raises:
            NoProxy: some way is to be other than clear.
        """
        if any(conditions != Conditions() for conditions in ways.values()):
            raise NoProxy("this network has no proxy between its nodes", hint="make it from a "
                          "manifest with links or with faults of links")  # fmt: skip

    async def cut(self, one: int, other: int) -> int:
        """Refuse.

        Raises:
            NoProxy: always.
        """
        raise NoProxy(f"no proxy between the nodes {one} and {other}")

    async def carried(self) -> Report:
        """Nothing that anybody counted."""
        return Report(pid=0)


@dataclass(frozen=True, slots=True)
class FarLinks:
    """Links through the proxy process of a network's folder; a connection for each order."""

    folder: Path

    async def impose(self, ways: Mapping[Pair, Conditions]) -> None:
        """Give ways their conditions.

        Raises:
            NoProxy: it does not answer.
        """
        await self._ask(Order(tuple(row_of(*each) for each in ways.items())))

    async def cut(self, one: int, other: int) -> int:
        """Reset connections.

        Raises:
            NoProxy: it does not answer.
        """
        return (await self._ask(Order(cut=((one, other),)))).cut

    async def carried(self) -> Report:
        """What has passed.

        Raises:
            NoProxy: it does not answer.
        """
        return await self._ask(Order())

    async def _ask(self, order: Order) -> Report:
        return await trio.to_thread.run_sync(ask, self.folder, order)


class Described(msgspec.Struct, frozen=True):
    """`proxy.json`: ports that nodes were told, where the nodes listen, who carries."""

    seed: int
    count: int
    ports: tuple[tuple[int, int, int], ...]  # dialler, dialled, port
    targets: tuple[int, ...]
    base: tuple[Row, ...]  # what each way has without faults
    pid: int = 0

    def save(self, folder: Path) -> None:
        """Write the file."""
        write_private(folder / DESCRIPTION, msgspec.json.encode(self))


def read(folder: Path) -> Described | None:
    """The description of a network's proxy; None for a network without one."""
    try:
        raw = (folder / DESCRIPTION).read_bytes()
    except OSError:
        return None
    return msgspec.json.decode(raw, type=Described)


@contextlib.contextmanager
def socket_address(folder: Path) -> Iterator[str]:
    """A name of the control socket that fits into `sun_path`, however long the folder's is.

    Linux resolves /proc/self/fd/N of an open folder; good while the block lasts.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)


def ask(folder: Path, order: Order) -> Report:
    """Send one order to the proxy's process and wait for its report.

    Raises:
        NoProxy: it does not answer.
    """
    try:
        with socket_address(folder) as address, socket.socket(socket.AF_UNIX) as plain:
            plain.settimeout(CALL_SECONDS)
            plain.connect(address)
            plain.sendall(msgspec.json.encode(order) + b"\n")
            with plain.makefile("rb") as answers:
                return msgspec.json.decode(answers.readline(), type=Report)
    except (OSError, msgspec.MsgspecError) as error:
        raise NoProxy(
            f"the proxy in {folder} does not answer: {error}", hint="start it: prsm testnet up"
        ) from error


def is_running(folder: Path) -> bool:
    """Does the proxy of a folder answer?"""
    with contextlib.suppress(NoProxy):
        return bool(ask(folder, Order()).pid)
    return False


def start(folder: Path) -> None:
    """Start the proxy's process, unless it answers already, and wait until it carries.

    Raises:
        NotInTime: it does not answer in time; its log says why.
    """
    described = read(folder)
    if described is None or is_running(folder):
        return
    append = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    pid = os.posix_spawn(
        PROXIED[0],
        [*PROXIED, "--dir", str(folder)],
        dict(os.environ),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(folder / LOG), append, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    msgspec.structs.replace(described, pid=pid).save(folder)
    deadline = time.monotonic() + START_SECONDS
    while not is_running(folder):
        pause(deadline, f"the proxy does not answer; see {folder / LOG}")


def stop(folder: Path) -> None:
    """End the proxy's process by its pid, which it tells itself: numbers are used again.

    Raises:
        NotInTime: it survives SIGTERM.
    """
    try:
        pid = ask(folder, Order()).pid
    except NoProxy:
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while is_running(folder):
        if time.monotonic() > deadline:
            raise NotInTime(f"the proxy, process {pid}, survives SIGTERM")
        nap()
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
