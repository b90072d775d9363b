"""Changes of config.toml, one at a time: who reads it, changes it and writes it undoes no other.

Knows: the folder, flock. Must not know: what is changed.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from prsm.node.home import Home


@contextmanager
def turn(home: Home) -> Iterator[None]:
    """Wait until nobody changes the configuration of a home; nobody begins while the block runs.

    The lock is of the folder, since the file is replaced. On a file system without such locks,
    and in a folder that is not there, nobody waits.
    """
    with ExitStack() as held:
        with suppress(OSError):
            fd = os.open(home.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            held.callback(os.close, fd)
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
