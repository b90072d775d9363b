"""What systemd is told: ready, alive, stopping. One datagram each (sd_notify(3)).

Knows: the variables of the service manager. Must not know: the node's rooms. Where nobody asked to
be told, nothing happens.
"""

import os
import socket
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import trio

_SHARE: Final = 3  # beats in the time the watchdog allows: two may be late
_PATH_MAX: Final = 107


@dataclass(frozen=True, slots=True)
class Notifier:
    """Tells the service manager that started this process.

    Attributes:
        address: of its socket; `@` in front means an abstract one; empty: nobody asked.
        watchdog_s: it ends this process when it hears nothing for so long; 0: never.
    """

    address: str = ""
    watchdog_s: float = 0.0

    @classmethod
    def from_environ(cls, environ: MutableMapping[str, str]) -> "Notifier":
        """Take the variables out, so that no child of this process speaks for it."""
        address = environ.pop("NOTIFY_SOCKET", "")
        micros = environ.pop("WATCHDOG_USEC", "")
        pid = environ.pop("WATCHDOG_PID", "")
        is_ours = pid in ("", str(os.getpid()))
        watchdog_s = int(micros) / 1_000_000 if micros.isdecimal() and is_ours else 0.0
        is_sound = address[:1] in ("/", "@") and len(address) <= _PATH_MAX
        return cls(address if is_sound else "", watchdog_s)

    def tell(self, *lines: str) -> None:
        """Send `READY=1` and the like; a manager that is gone is no fault of ours."""
        if not self.address:
            return
        name = "\0" + self.address[1:] if self.address[0] == "@" else self.address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)  # noqa: FBT003 - socket
            sender.sendto("\n".join(lines).encode(), name)

    async def beat(self, status: Callable[[], str]) -> None:
        """Say until cancelled that the loop turns, and what the node does.

        Args:
            status: one line for `systemctl status`.
        """
        if not self.address or not self.watchdog_s:
            return
        while True:
            self.tell("WATCHDOG=1", f"STATUS={status()[:200]}")
            await trio.sleep(self.watchdog_s / _SHARE)
