"""A disk that refuses: no room, or an I/O error, at the n-th operation of the ledger or the log."""

from dataclasses import dataclass

import apsw

from prsm.storage.errors import Full, StoreUnavailable


@dataclass
class Refusal:
    """Which operation is refused, and what follows.

    Attributes:
        of: "ledger" (the calls of SQLite's VFS) or "log" (those of log and guard).
        at: number of the operation, from 1.
        full: no room; otherwise an I/O error.
        lasting: every later operation on any file of that store is refused too.
    """

    of: str
    at: int
    full: bool
    lasting: bool
    seen: int = 0

    def of_ledger(self, call: str) -> type[Exception] | None:
        """What this call of SQLite ends with; a removal and a cut need no room."""
        if self.of != "ledger" or not self._is_refused(call):
            return None
        return apsw.FullError if self.full else apsw.IOError

    def of_log(self, call: str) -> type[Full | StoreUnavailable] | None:
        """What this operation of log or guard ends with."""
        if self.of != "log" or not self._is_refused(call):
            return None
        return Full if self.full else StoreUnavailable

    def _is_refused(self, call: str) -> bool:
        if self.full and call not in {"write", "create", "sync"}:
            return False
        self.seen += 1
        return self.seen == self.at or (self.lasting and self.seen > self.at)
