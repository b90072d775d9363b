"""One daemon as a process of this machine: started, watched, ended, by its pid alone.

Knows: a home, a program, signals. Must not know: networks.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prsm.node.home import Home
from prsm.node.rpc.client import Client, RpcError, find
from prsm.protocol.errors import LocalError, PrsmError

STOP_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.05
HONEST: Final = (sys.executable, "-m", "prsm.node")
LIAR: Final = (sys.executable, "-m", "prsm.testnet.liar")
SKEWED: Final = (sys.executable, "-m", "prsm.testnet.skewed")
RIGGED: Final = (sys.executable, "-m", "prsm.testnet.rigged")
PREVIOUS: Final = (sys.executable, "-m", "prsm.testnet.previous")


class NodeDied(LocalError):
    """A daemon ended by itself; its last words are in the text."""

    reason = "node_died"


class NotInTime(LocalError):
    """A daemon or a network did not get where it should in time."""

    reason = "timeout"


@dataclass(slots=True)
class Node:
    """One daemon: its folder, and its process while it runs."""

    name: str
    home: Home
    liar: bool = False
    pid: int = 0
    port: int = 0  # where it listens to peers
    has_own_clock: bool = False  # see `skewed`
    is_rigged: bool = False  # see `rigged`

    @property
    def program(self) -> Sequence[str]:
        """What is started: the product's daemon, or one that is composed otherwise."""
        if self.is_rigged:
            return (*RIGGED, "--liar") if self.liar else RIGGED
        return LIAR if self.liar else SKEWED if self.has_own_clock else HONEST

    def start(self, program: Sequence[str] | None = None, *, source: Path | None = None) -> None:
        """Start the daemon in a session of its own; its output goes to its log file.

        Args:
            program: another one than the node's own.
            source: folder of another version's source.
        """
        program = program or self.program
        append = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        path = {"PYTHONPATH": str(source / "src")} if source else {}
        self.pid = os.posix_spawn(
            program[0],
            [*program, "--home", str(self.home.root)],
            # Not what this machine's own nodes are told by /etc/prsm.
            {**os.environ, **path, "PRSM_SYSTEM_CONFIG": "", "OMP_NUM_THREADS": "1"},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self.home.log), append, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )

    def client(self, *, timeout_s: float = 30.0) -> Client:
        """A connection to its JSON-RPC door."""
        return Client(find(self.home), timeout_s=timeout_s)

    def is_running(self) -> bool:
        """Is the process there? Reaps it if it was ours and has ended."""
        if not self.pid:
            return False
        is_zombie = _is_zombie(self.pid)  # looked at first: it may end between two looks
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(self.pid, os.WNOHANG)[0] == self.pid:
                return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return not is_zombie

    def wait_ready(self, deadline: float) -> None:
        """Wait until `/readyz` says yes.

        Raises:
            NodeDied: the process ended.
            NotInTime: the deadline (`time.monotonic`) passed.
        """
        while True:
            if not self.is_running():
                raise NodeDied(f"{self.name} ended: {self.last_words()}")
            with contextlib.suppress(PrsmError, RpcError, OSError), self.client() as client:
                if client.get("/readyz")[0] == 200:
                    return
            pause(deadline, f"{self.name} is not ready: {self.last_words()}")

    def stop(self, deadline: float) -> bool:
        """End the daemon by SIGTERM, by SIGKILL at the deadline; was SIGTERM enough?"""
        self.signal(signal.SIGTERM)
        while self.is_running():
            if time.monotonic() > deadline:
                self.signal(signal.SIGKILL)
                deadline += STOP_SECONDS
                while self.is_running():
                    pause(deadline, f"process {self.pid} survives SIGKILL")
                return False
            nap()
        self.pid = 0
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it is there."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def last_words(self) -> str:
        """The end of its log."""
        try:
            lines = self.home.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return "no log"
        return " | ".join(lines[-3:])[-600:] or "an empty log"


def _is_zombie(pid: int) -> bool:
    """Has a process ended that nobody has waited for? Its number still takes signals."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] == "Z"


def pause(deadline: float, what: str) -> None:
    """Wait a moment, unless the deadline (`time.monotonic`) has passed.

    Raises:
        NotInTime: it has; `what` says what did not come.
    """
    if time.monotonic() > deadline:
        raise NotInTime(what, hint="look into the node's log")
    nap()


def nap() -> None:
    """Wait a moment between two questions to a process."""
    signal.sigtimedwait((), POLL_SECONDS)
