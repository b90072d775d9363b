"""The state of a ledger file at one moment, read at leisure while blocks go on.

A read transaction of its own over SQLite's log: what is committed later is not in it. Until it
is closed the log cannot be shortened. Knows: keys and values. Must not know: what they mean.
"""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self, final

from prsm.storage.database import open_view
from prsm.storage.trio_sqlite import database_error


@final
class LedgerView:
    """One state, whole; used by one thread at a time."""

    def __init__(self, connection: sqlite3.Connection, height: int) -> None:
        """Wrap a connection inside a read transaction; `open` is the way in."""
        self._connection = connection
        self.height = height  # of the last block in this state; 0 for none

    @classmethod
    def open(cls, path: Path) -> Self:
        """Begin the read transaction; blocks for less than a millisecond.

        Raises:
            StoreUnavailable, Corrupt: what sqlite refused.
        """
        connection = open_view(path)
        try:
            connection.execute("BEGIN")
            (height,) = connection.execute("SELECT max(height) FROM block").fetchone()
        except sqlite3.Error as error:
            connection.close()
            raise database_error(error) from error
        return cls(connection, height or 0)

    def pairs(self, place: Callable[[bytes], int]) -> Iterator[tuple[bytes, bytes]]:
        """All entries, ascending by `place` of the key, then by key; sorted outside memory.

        Raises:
            StoreUnavailable, Corrupt: what sqlite refused.
        """
        try:
            self._connection.create_function("place", 1, place, deterministic=True)
            yield from self._connection.execute(
                "SELECT key, value FROM state ORDER BY place(key), key"
            )
        except sqlite3.Error as error:
            raise database_error(error) from error

    def close(self) -> None:
        """End the transaction; once is enough."""
        self._connection.close()
