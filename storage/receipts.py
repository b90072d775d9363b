"""A worker's receipts that are not paid yet: one small file each, durable before they are used.

Knows: files named by job and unit. Must not know: what a receipt says.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from prsm.storage.disk import disk_error
from prsm.storage.wholefile import replace_file

_SUFFIX: Final = ".receipt"
_BYTES_MAX: Final = 1024 * 1024


class ReceiptFiles:
    """Receipts in one folder, which this node alone uses."""

    def __init__(self, folder: Path) -> None:
        """Use a folder; it is made when missing, and a half-written file is removed.

        Raises:
            Conflict: a file is in the place of the folder.
            Full, StoreUnavailable: the disk refused.
        """
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in folder.glob(f".*{_SUFFIX}.*"):
                left.unlink()
        except OSError as error:
            raise disk_error(error, str(folder)) from error

    async def keep(self, job: bytes, unit: int, receipt: bytes) -> None:
        """Make a receipt durable: written, synced, named, and the name synced.

        Raises:
            Full, StoreUnavailable: the disk refused.
        """
        await trio.to_thread.run_sync(replace_file, self._path(job, unit), receipt)

    async def drop(self, job: bytes, unit: int) -> None:
        """Forget a receipt, if it is here.

        Raises:
            StoreUnavailable: the disk refused; it comes back at the next start.
        """
        await trio.to_thread.run_sync(self._drop, self._path(job, unit))

    async def load(self) -> Sequence[bytes]:
        """All receipts here, in the order of their names.

        Raises:
            StoreUnavailable: the disk refused.
        """
        return await trio.to_thread.run_sync(self._load)

    def _path(self, job: bytes, unit: int) -> Path:
        return self._folder / f"{job.hex()}-{unit}{_SUFFIX}"

    def _load(self) -> list[bytes]:
        try:
            paths = sorted(self._folder.glob(f"*{_SUFFIX}"))
            return [path.read_bytes() for path in paths if path.stat().st_size <= _BYTES_MAX]
        except OSError as error:
            raise disk_error(error, str(self._folder)) from error

    @staticmethod
    def _drop(path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise disk_error(error, str(path)) from error
