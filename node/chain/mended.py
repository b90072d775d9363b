"""After a disk that refused a write: wait until it takes one again, then let the node begin anew.

Knows: that agreement stopped because of the disk, the folder its files lie in. Must not know: what
was written. What a failed write left behind is in doubt and must be read again, so nothing goes on
in memory: the daemon stops in order and opens everything from the disk, as at any start. Until
then it answers reads and says in its status why it does not vote.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from prsm.node.chain.driver import Driver
from prsm.node.telemetry import logs
from prsm.storage.errors import Full, StoreUnavailable

log = logs.get("mended")

TRY_SECONDS: Final = 1.0
TRY_BYTES: Final = 1024 * 1024  # less room than this would be gone after a few blocks
_NAME: Final = "write-test"


class Mended:
    """Watches one driver.

    Args:
        driver: of the node.
        folder: of its files.
        stop: set once the node is to begin anew.
    """

    def __init__(self, driver: Driver, folder: Path, stop: trio.Event) -> None:
        self._driver = driver
        self._path = folder / _NAME
        self._stop = stop
        self.is_mended = False

    async def run(self) -> None:
        """Look once a second, until the disk has refused and takes a write again."""
        while True:
            await trio.sleep(TRY_SECONDS)
            if isinstance(self._driver.failure, Full | StoreUnavailable):
                takes = await trio.to_thread.run_sync(takes_writes, self._path)
                if takes:
                    log.warning("the disk takes writes again: this node begins anew")
                    self.is_mended = True
                    self._stop.set()
                    return


def takes_writes(path: Path) -> bool:
    """Write a mebibyte, make it durable and remove it; is that possible?"""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            written = os.write(descriptor, bytes(TRY_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        return False
    finally:
        with suppress(OSError):
            path.unlink()
    return written == TRY_BYTES
