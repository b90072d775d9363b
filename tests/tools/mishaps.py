"""Crashes and refusals of the disk at the n-th step a store makes towards it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

from prsm.storage.database import Database
from prsm.storage.disk import disk_error

STEPS = [
    *("fdatasync", "fsync", "posix_fallocate", "ftruncate", "truncate", "pwrite"),
    *("replace", "unlink", "chmod", "link", "mkdir"),
]
chmod_unseen = os.chmod


class Crash(BaseException):
    """The process is gone; nothing it would have cleaned up happens."""


class Mishap:
    """What happens at which step.

    Attributes:
        at: number of the step, from 1; steps are writes, syncs, names and transactions.
        error: an errno that the step alone ends with; 0: the process ends before it.
        seen: steps so far.
    """

    def __init__(self, at: int, error: int = 0) -> None:
        self.at, self.error, self.seen = at, error, 0

    @property
    def happened(self) -> bool:
        return self.seen >= self.at

    def step(self, name: str) -> None:
        self.seen += 1
        if not self.error and self.seen >= self.at:
            raise Crash
        if self.error and self.seen == self.at and name != "unlink":
            raise OSError(self.error, os.strerror(self.error))


@contextmanager
def mishaps(mishap: Mishap) -> Iterator[Mishap]:
    """Let a mishap happen inside the block, in every thread."""
    patches = [patch.object(os, name, _stepping(mishap, name)) for name in STEPS]
    write = Database.write

    async def counted(self: Database, fn: Callable[..., object]) -> object:
        try:
            mishap.step("transaction")
        except OSError as error:
            raise disk_error(error, "index") from error
        return await write(self, fn)

    patches.append(patch.object(Database, "write", counted))
    for one in patches:
        one.start()
    try:
        yield mishap
    finally:
        for one in patches:
            one.stop()


def _stepping(mishap: Mishap, name: str) -> Callable[..., object]:
    real = getattr(os, name)

    def call(*args: object, **kwargs: object) -> object:
        mishap.step(name)
        return real(*args, **kwargs)

    return call
